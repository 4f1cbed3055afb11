"""Where the code under test reaches outside by name, and what stands there instead.

The state's files, and what a command does where no agent runs: those look for their kernel and
their disk themselves. One simulation runs at a time in a process; ``at`` says whose machine it is
that the code runs on.
"""

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from neti import durable, files
from neti.agent import kept_out, loop, preview, record_file, shadow_evidence, shadow_log
from neti.agent import kernel as agent_kernel
from neti.dataplane import boot_note, forwarding, malloc, reconciler, way_out
from neti.host import surroundings
from neti.identity import preflight
from neti.oneshot import down, relax, restore, up, word
from neti.ruleset import plan
from neti.ruleset.objects import RELAXED_MARK
from neti.stage.shadow import Listener
from neti.state import folder, journal, marks, public
from simulation import remembered
from simulation.disk import SIMULATED_OS
from simulation.kernel import ROOM
from simulation.remembered import Rules

if TYPE_CHECKING:
    from simulation.host import SimulatedHost

_here: "list[SimulatedHost]" = []


def here() -> "SimulatedHost":
    return _here[-1]


class _At:
    __slots__ = ("_host",)

    def __init__(self, host: "SimulatedHost") -> None:
        self._host = host

    def __enter__(self) -> None:
        _here.append(self._host)

    def __exit__(self, *_: object) -> None:
        _here.pop()


def at(host: "SimulatedHost") -> _At:
    """The code runs on this machine meanwhile."""
    return _At(host)


class WayOut:
    """``neti.dataplane.way_out`` of the machine that the command runs on."""

    is_down_mark = staticmethod(way_out.is_down_mark)

    def disarm(self) -> bool:
        return here().kernel.disarm()

    def remove_table(self) -> bool:
        return here().kernel.remove()

    def remove_routes(self) -> list[Any]:
        here().tunnel.links.delete_routes()
        return []

    def remove_rules(self) -> int:
        return here().tunnel.links.delete_rules()

    def remove_device(self) -> bool:
        return here().tunnel.links.delete_link()

    def leave_down_mark(self) -> None:
        here().kernel.mark_down()

    def has_down_mark(self) -> bool:
        return here().kernel.marked_down()

    def held(self) -> way_out.Held | None:
        kernel = here().kernel
        if kernel.table is None:
            return None
        return way_out.Held(
            drops=bool(kernel.drops),
            trial=kernel.stage == "trial",
            relaxed=RELAXED_MARK in kernel.enforce(),
        )


class _Caller:
    def note(self, command: str, *, agent: str) -> None: ...


def _nothing(*_: Any, **__: Any) -> list[Any]:
    return []


def _listeners() -> list[Listener]:
    return here().machine.listeners()


@contextlib.contextmanager
def shut() -> Iterator[None]:
    """Nothing leads outside meanwhile."""
    by_hand, rules = WayOut(), Rules(lambda: here().newer)
    stands_in: list[tuple[Any, dict[str, Any]]] = [
        *((module, {"os": SIMULATED_OS}) for module in (files, durable, folder, journal, marks)),
        *remembered.stands_in(),
        (agent_kernel, {"structure": rules.structure}),
        *((module, {"digest": rules.digest}) for module in (reconciler, plan)),
        (malloc, {"give_back": _nothing}),
        (shadow_log, {"SEEN_SIZE": ROOM}),
        (kept_out, {"listeners": _listeners}),
        (record_file, {"listeners": _listeners}),
        (shadow_evidence, {"listeners": _listeners}),
        (loop, {"expiring": _nothing}),
        (preview, {"listeners": _listeners, "with_owners": list}),
        *((module, {"resolvers_of_this_host": _nothing}) for module in (surroundings, preflight)),
        (public, {"fingerprint": lambda _: here().machine_id if _here else ""}),
        (relax, {"way_out": by_hand}),
        (down, {"way_out": by_hand, "_end_connections": lambda *_: ()}),
        (up, {"way_out": by_hand, "caller": _Caller()}),
        (word, {"os": SIMULATED_OS}),
        (
            restore,
            {
                "switched_off": lambda: None,
                "load_or_last_good": lambda *_: (here().settings, None),
                "SystemClock": lambda: here().clock,
                "boot_id": lambda: here().boot_id,
                "fingerprint": lambda: here().machine_id,
                "only_one": contextlib.nullcontext,
                "structure": rules.structure,
                "open_sessions": lambda _: [],
                "NftablesDataplane": lambda: here().kernel,
                "Conntrack": lambda: here().connections,
                "ConntrackLimit": lambda *_, **__: None,
                "RealMachine": lambda: here().machine,
                "registry_addresses": lambda *_, **__: here().reserved,
            },
        ),
        (forwarding, {"KernelInterfaces": lambda: here().machine.interfaces_}),
        (boot_note, {"boot_id": lambda _: here().boot_id}),
    ]
    logger = logging.getLogger("neti")
    silent, logger.disabled = logger.disabled, True
    try:
        with contextlib.ExitStack() as stack:
            for module, names in stands_in:
                for name, double in names.items():
                    stack.enter_context(patch.object(module, name, double))
            yield
    finally:
        logger.disabled = silent

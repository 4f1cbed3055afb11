"""Starts probes inside the lab's hosts and collects what they found."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

from neti_lab import LabError, namespaces
from neti_lab.probe import Reply, fetch
from neti_lab.topology import LabHost, LabPlan

H = TypeVar("H")
R = TypeVar("R")

_EVERY_SECONDS: Final = {"watch": 0.02, "talk": 0.1}
_AT_ONCE: Final = 32


class ProbeProcess:
    """A program that says ``ready``, measures until its input ends, and prints JSON.

    Leaving the ``with`` block ends it, whatever happened inside.
    """

    def __init__(self, namespace: str, arguments: Sequence[str], *, node: str) -> None:
        self.node = node
        self._process = subprocess.Popen(
            namespaces.command_inside(namespace, arguments),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_until_ready(self) -> None:
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != "ready":
            raise LabError(f"the probe on {self.node} did not start: {self._finish()[1]}")

    def ask(self, word: str) -> Any:
        """One line to a program that answers each by a line of JSON."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(f"{word}\n")
            process.stdin.flush()
        if not (answer := process.stdout.readline()):
            raise LabError(f"{self.node} has ended: {self._finish()[1]}")
        return json.loads(answer)

    def result(self, *, seconds: float | None = None) -> Any:
        """What it found. With ``seconds`` it is given that long to find it, else it ends now."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            if seconds is not None:
                self._process.wait(seconds)
        output, complaint = self._finish()
        if self._process.returncode != 0:
            raise LabError(f"the probe on {self.node} failed: {complaint}")
        return json.loads(output)

    def _finish(self) -> tuple[str, str]:
        """End it; what it still said, and the last line of its complaints."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        with process.stdin, process.stdout, process.stderr:
            process.stdin.close()
            # Not communicate(): that one would miss what came in the same breath as "ready".
            output, errors = process.stdout.read(), process.stderr.read()
        process.wait()
        return output, (errors.strip().splitlines() or ["no word from it"])[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._finish()


class Probe(ProbeProcess):
    """``neti_lab.probe`` on a node of the lab."""

    def __init__(self, plan: LabPlan, node: str, mode: str, address: str) -> None:
        arguments = [sys.executable, "-m", "neti_lab.probe", mode, address]
        if mode in _EVERY_SECONDS:
            arguments.append(str(_EVERY_SECONDS[mode]))
        super().__init__(plan.namespace(node), arguments, node=node)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Not reached: why."""

    reason: str


def ask_from(
    plan: LabPlan, node: str, addresses: Iterable[str], *, seconds: float = 1.0
) -> dict[str, Reply | Refusal]:
    """One request from the node to each address's web service, all at once."""

    def attempt(address: str) -> Reply | Refusal:
        try:
            return fetch(address, seconds=seconds)
        except (OSError, ValueError) as error:
            return Refusal(f"{type(error).__name__}: {error}")

    def attempt_all() -> dict[str, Reply | Refusal]:
        # Threads that are started in here are in the namespace too.
        targets = list(addresses)
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return dict(zip(targets, pool.map(attempt, targets), strict=True))

    return namespaces.call_inside(plan.namespace(node), attempt_all)


def unreached(
    plan: LabPlan, overlays: Mapping[str, str], hosts: Iterable[LabHost]
) -> list[tuple[str, str]]:
    """The pairs (from, to) that do not reach each other by overlay address at this moment."""

    def from_host(host: LabHost) -> list[tuple[str, str]]:
        replies = ask_from(plan, host.name, overlays.values())
        return [
            (host.name, name)
            for name, overlay in overlays.items()
            if not _is_from(replies[overlay], name)
        ]

    return [pair for pairs in each(hosts, from_host) for pair in pairs]


def each(hosts: Iterable[H], function: Callable[[H], R], *, at_once: int = 8) -> list[R]:
    """The function of each host, several at once, in order."""
    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(function, hosts))


def _is_from(reply: Reply | Refusal, host: str) -> bool:
    return isinstance(reply, Reply) and reply.host == host

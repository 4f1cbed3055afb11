"""The kernel's side of one host: the dictionaries of ``neti.dataplane.memory``, with time-outs that
run by the host's own clock, connections, and packets that are judged by what the table holds.

It passes the dataplane's contract tests. Must never do: judge by what an agent believes.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from neti.dataplane.conntrack import GoesOn
from neti.dataplane.memory import MemoryDataplane, _Table
from neti.errors import DataplaneError
from neti.model import IPAddress
from neti.ruleset.objects import (
    FAMILIES,
    FOREIGN,
    TIMED,
    AddTimed,
    Command,
    CreateTable,
    DeleteTable,
    Drop,
    KernelState,
    Require,
    RewriteChains,
    Transaction,
)
from neti.ruleset.set_names import SetName
from neti.stage.in_the_clear import UDP, Tracked
from neti.stage.shadow import Sighting
from simulation.clock import HostClock
from simulation.gate import Gate
from simulation.verdicts import Walk

ROOM: Final = 16  # sources and ports that each room of the record takes; the real one: 16,384
_FROM_MEMBERS: Final[tuple[SetName, ...]] = ("peers4", "tunnel_peers")
_RULES: Final = (CreateTable, DeleteTable, RewriteChains)


class SimulatedKernel(MemoryDataplane):
    """Time-outs are kept as milliseconds of CLOCK_MONOTONIC at which they end."""

    def __init__(self, clock: HostClock, gate: Gate) -> None:
        super().__init__()
        self._clock = clock
        self._gate = gate
        self.rules_refused: str | None = None  # why new rules are refused, and nothing else
        self._ended_at = -1  # when what is over was last taken out, and nothing came since
        self._listed: tuple[_Table, int, str] | None = None
        self._last: dict[tuple[IPAddress, int], int] = {}  # when each was recorded last

    def _now(self) -> int:
        return int(self._clock.monotonic() * 1000)

    # --- looks ---

    def structure(self) -> str | None:
        table = self.table
        if table is None:
            return None
        held = self._listed
        if held is None or held[0] is not table or held[1] != len(table.chains):
            text = super().structure()
            assert text is not None
            self._listed = held = (table, len(table.chains), text)
        return held[2]

    def read(self) -> KernelState:
        self._gate.look("kernel.read")
        self._let_end()
        return super().read()

    def enforce(self) -> dict[str, int | None]:
        if self.table is None:
            return {}
        self._let_end()
        return self._left(self.table.enforce)

    def require(self) -> dict[str, int | None]:
        if self.table is None:
            return {}
        self._let_end()
        return self._left(self.table.require)

    def narrowed(self) -> dict[str, int | None]:
        if self.table is None:
            return {}
        self._let_end()
        return self._left(self.table.narrowed)

    def _left(self, held: Mapping[str, int | None]) -> dict[str, int | None]:
        now = self._now()
        return {
            key: left if left is None or left == FOREIGN else (left - now) // 1000
            for key, left in held.items()
        }

    def timed(self, where: SetName) -> dict[str, int]:
        if self.table is None:
            return {}
        self._let_end()
        held = self.table.timed.get(where)
        if not held:
            return {}
        now = self._now()
        return {k: (until - now) // 1000 for k, until in held.items()}

    def sightings(self) -> list[Sighting]:
        return [] if self.table is None else self._aged(self.seen)

    def unasked(self) -> list[Sighting]:
        return [] if self.table is None else self._aged(self.unasked_seen)

    def _aged(self, seen: list[Sighting]) -> list[Sighting]:
        if not seen:
            return []
        now = self._now()
        return [
            Sighting(
                *(one.source, one.protocol, one.port, one.packets if self.counts else 0),
                (now - self._last[one.source, one.port]) / 1000,
                heard=one.heard,
            )
            for one in seen
        ]

    def _let_end(self) -> None:
        table = self.table
        if table is None:
            return
        now = self._now()
        if now == self._ended_at:
            return
        self._ended_at = now
        for held in table.timed.values():
            if held:
                for key in [key for key, until in held.items() if until <= now]:
                    del held[key]
        for armed in table.switches().values():
            if armed:
                ends = armed.items()
                for key in [k for k, u in ends if u is not None and u != FOREIGN and u <= now]:
                    del armed[key]

    # --- changes ---

    def disarm(self) -> bool:
        self._gate.effect("kernel.disarm")
        return super().disarm()

    def mark_down(self) -> None:
        self._gate.effect("kernel.mark down")
        super().mark_down()

    def remove(self) -> bool:
        self._gate.effect("kernel.remove")
        return super().remove()

    def apply(self, transaction: Transaction) -> None:
        if not transaction:
            return
        self._gate.effect("kernel.apply")
        if self.failing is not None:
            raise DataplaneError(self.failing)
        rules = any(isinstance(command, _RULES) for command in transaction.commands)
        if rules and self.rules_refused is not None:
            raise DataplaneError(self.rules_refused)
        self._let_end()
        self._ended_at = -1
        before, seen = self.table.copied() if self.table else None, (self.seen, self.unasked_seen)
        try:
            for command in transaction.commands:
                self._command(command)
        except DataplaneError:
            self.table, (self.seen, self.unasked_seen) = before, seen
            raise
        self._listed = None

    def _command(self, command: Command) -> None:
        now = self._now()
        match command:
            case AddTimed(where, timeouts):
                super()._command(
                    AddTimed(where, {key: now + left * 1000 for key, left in timeouts.items()})
                )
            case Drop(milliseconds, where) if milliseconds is not None:
                table = self._existing()
                super()._command(Drop(None, where))  # refused where either is there
                table.switches()[where].update(dict.fromkeys(FAMILIES, now + milliseconds))
            case Require(milliseconds) if milliseconds is not None:
                table = self._existing()
                super()._command(Require(None))
                table.require.update(dict.fromkeys(FAMILIES, now + milliseconds))
            case _:
                super()._command(command)

    # --- what others do ---

    def boot(self) -> None:
        self.flush()
        self.counted.clear()

    def flush(self) -> None:
        """All tables, with all that they hold."""
        self.table, self.seen, self.unasked_seen, self._listed = None, [], [], None

    def tamper(self) -> None:
        """Somebody puts a rule into a chain of ours."""
        if self.table is not None and "input" in self.table.chains:
            self.table.chains["input"] += "\ncounter accept"
            self._listed = None

    # --- packets ---

    @property
    def drops(self) -> frozenset[str]:
        """Families of which a stranger's packet is dropped."""
        if self.table is None or not self.table.enforce:
            return frozenset()
        held = self.enforce()
        return frozenset(f for f in FAMILIES if held.get(f, FOREIGN) != FOREIGN)

    @property
    def stage(self) -> str:
        """What the kernel does."""
        if self.table is None or self.marked_down():
            return "down"
        if not self.drops:
            return "shadow"
        held = self.enforce()
        return "enforced" if all(held.get(f, 0) is None for f in FAMILIES) else "trial"

    def admits(self, source: IPAddress) -> bool:
        """Whether a packet of this source to some port that is not open gets in."""
        if self.table is None:
            return True
        family = "4" if source.version == 4 else "6"
        armed = f"ipv{family}" in self.drops
        if f"{source}" in self.timed("revoked4" if family == "4" else "revoked6"):
            return not armed
        peers: SetName = "peers4" if family == "4" else "peers6"
        return str(source) in self.table.elements.get(peers, {}) or not armed

    def call(self, source: IPv4Address, port: int) -> bool:
        """Whether a connection to a TCP port that is not open to everybody gets in: a member's, or
        a stranger's. What no rule lets in is recorded where there is room: one for ports with a
        listener, and one for all others; and one for members."""
        table = self.table
        if table is None or self.marked_down():
            return True
        heard = str(port) in table.elements.get("tcp_listening", {})
        verdict, recorded = self._of_member(source, port)
        if recorded:
            self._note(self.unasked_seen, source, port, heard=heard)
        if verdict is not None:
            return verdict
        self._note(self.seen, source, port, heard=heard)
        return "ipv4" not in self.drops

    def _note(self, seen: list[Sighting], source: IPv4Address, port: int, *, heard: bool) -> None:
        self._last[source, port] = self._now()
        for number, one in enumerate(seen):
            if (one.source, one.port, one.heard) == (source, port, heard):
                seen[number] = replace(one, packets=one.packets + 1)
                return
        of_members = seen is self.unasked_seen
        if sum(of_members or one.heard is heard for one in seen) < ROOM:
            seen.append(Sighting(source, "tcp", port, 1, 0.0, heard=heard))
        else:
            missed = "unheard" if heard and not of_members else "unseen"
            self.counted[missed] = self.counted.get(missed, 0) + 1

    def _of_member(self, source: IPv4Address, port: int) -> tuple[bool | None, bool]:
        """What the rules for members say (None: it is judged as anybody's), and whether they
        record it."""
        table = self.table
        if table is None or not self._is_member(source):
            return None, False
        if "members" not in table.chains:
            return True, False
        walk = Walk(table, self.narrowed(), source, port)
        for chain in ("members", "members_before"):
            verdict = walk.chain(chain) if chain in table.chains else None
            if verdict is not None:
                return verdict == "accept", walk.recorded
        return None, walk.recorded

    def _is_member(self, source: IPv4Address) -> bool:
        table = self.table
        return table is not None and any(
            str(source) in table.elements.get(name, {}) for name in _FROM_MEMBERS
        )

    def members(self) -> set[IPv4Address]:
        """From where members come, by either road."""
        if self.table is None:
            return set()
        every = (self.table.elements.get(name, {}) for name in _FROM_MEMBERS)
        return {IPv4Address(text) for held in every for text in held}

    def reaches(self, source: IPv4Address, port: int) -> bool:
        """As ``call``, but nothing is sent and so nothing is recorded."""
        if self.table is None or self.marked_down():
            return True
        verdict, _ = self._of_member(source, port)
        return "ipv4" not in self.drops if verdict is None else verdict

    def reached(self) -> dict[str, str]:
        """Overlay addresses that lead anywhere, by whichever road."""
        if self.table is None:
            return {}
        peers = self.table.elements.get("tunnel_peers", {})
        return {**dict.fromkeys(peers, ""), **self.table.elements.get("overlay", {})}

    def admits_ssh(self, whitelist: Iterable[object]) -> bool:
        """By the rules as they stand: one of them names the operators' network."""
        if self.table is None or not self.drops:
            return True
        rules = self.table.chains.get("input", "")
        return any(str(network) in rules for network in whitelist)


@dataclass(slots=True)
class Flow:
    """A connection to an overlay address that keeps sending. ``leads``: where the kernel translated
    its first packet to; None: nowhere, so it is dead for as long as it is tracked."""

    overlay: IPv4Address
    leads: str | None


@dataclass(slots=True)
class SimulatedConnections:
    """``neti.agent.core.Connections``. A flow that is ended begins again with its next packet. It
    passes the contract tests of tracked connections."""

    kernel: SimulatedKernel
    gate: Gate
    flows: list[Flow] = field(default_factory=list)

    def open(self, overlay: IPv4Address) -> None:
        """With a table that does not know the address it is refused at once, and never tracked."""
        leads = self._leads(overlay)
        if leads is not None or self.kernel.table is None or self.kernel.marked_down():
            self.flows = [*self.flows[-7:], Flow(overlay, leads)]

    def _leads(self, overlay: IPv4Address) -> str | None:
        table = self.kernel.table
        return None if table is None else table.elements.get("overlay", {}).get(str(overlay))

    def end_connections_to(
        self, destinations: list[IPv4Address], goes_on: GoesOn | None = None
    ) -> int:
        return self._end(
            lambda flow: flow.overlay in destinations and not _may_go_on(flow, goes_on)
        )

    def end_stale(
        self,
        overlay: IPv4Network,
        leads: Callable[[IPv4Address], IPv4Address | None],
        goes_on: GoesOn | None = None,
    ) -> int:
        def stale(flow: Flow) -> bool:
            to = leads(flow.overlay)
            return (to is None or flow.leads != str(to)) and not _may_go_on(flow, goes_on)

        return self._end(stale)

    def _end(self, which: Callable[[Flow], bool]) -> int:
        self.gate.effect("connections.end")
        ended = [flow for flow in self.flows if which(flow)]
        for flow in ended:
            flow.leads = self._leads(flow.overlay)
        if self.kernel.table is not None:  # refused at once from now on, and not tracked
            self.flows = [flow for flow in self.flows if flow.leads or flow not in ended]
        return len(ended)

    def sources_with_connections(self, sources: list[IPAddress]) -> set[IPAddress]:
        """By the addresses with which they were opened, which are overlay addresses here."""
        opened = {flow.overlay for flow in self.flows}
        return {source for source in sources if source in opened}

    def ending_in(self, addresses: Collection[bytes]) -> list[Tracked]:
        """Connections are known by where they lead, and not by their ports."""
        led = ((flow.overlay, IPv4Address(flow.leads)) for flow in self.flows if flow.leads)
        return [
            Tracked(protocol=UDP, source=to, to=to, answers=real)
            for to, real in led
            if real.packed in addresses
        ]

    def opened_by(self, sources: Collection[bytes]) -> list[Tracked]:
        """Flows are known by where they lead: nobody's are opened to this host."""
        return []

    def end_those(self, which: Callable[[Tracked], bool]) -> int:
        def ends(flow: Flow) -> bool:
            to = flow.overlay
            real = to if flow.leads is None else IPv4Address(flow.leads)
            return which(Tracked(protocol=UDP, source=to, to=to, answers=real))

        return self._end(ends)


def _may_go_on(flow: Flow, goes_on: GoesOn | None) -> bool:
    answers = flow.overlay if flow.leads is None else IPv4Address(flow.leads)
    return goes_on is not None and goes_on(flow.overlay, answers, flow.leads is not None)


def held(state: Mapping[SetName, Mapping[str, str]], where: SetName) -> Mapping[str, str]:
    return state.get(where, {})


__all__ = ["TIMED", "Flow", "SimulatedConnections", "SimulatedKernel", "held"]

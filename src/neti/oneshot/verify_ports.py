"""``neti verify --ports``: who reaches ports of this host, by its rules and in fact, and where this
host reaches the same ports of the others.

What this host's rules say is asked of its agent, which answers ``neti explain`` by the same
function. What is so in fact, each member's own agent is asked: it connects to this host, and says
what came of it. Must never do: connect to more ports than were asked for, or take a member's word
for what this host's rules say.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from neti.agent.dialling import AT_MOST, SECONDS, Outcome, dial
from neti.agent.member_talk import NoAnswer, asking, talk
from neti.agent.verify import explained
from neti.errors import NetiError
from neti.host.listeners import listeners, with_owners
from neti.model.settings import Settings
from neti.monitoring.explained import Pair, pair_of
from neti.monitoring.status import Status
from neti.stage.shadow import Listener, Port, port_name

# Members times ports in one question to the agent, whose loop answers it in one go: among 16,000
# members that takes it some 0.15 s.
_PAIRS: Final = 500
_SOCKETS: Final = 512  # of this process at once
_WORKERS: Final = 128
_NO_HELP: Final = "its agent is of a version before, which connects to nobody"
_LEFT_OUT: Final = "its agent's answer leaves this port out"
_UNKNOWN_THERE: Final = "its agent does not know this host at the address from which it was asked"

# The agent's answer to "explain_many".
Explain = Callable[[list[str], list[str]], Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class PortRow:
    """One member and one port. ``admitted``: by this host's rules, as its agent knows them (None:
    it depends on the address from which it comes, or it has none); ``by``, ``ahead``: see
    ``neti.monitoring.explained.Answer``. ``inward``: what came of the member's connection to this
    host, as its agent says (None: ``unknown`` says why not, or it is UDP, which cannot be asked).
    ``outward``, ``milliseconds``: of this host's connection to it. ``disagrees``: what is not as
    the rules say, and the next step; empty: nothing is."""

    id: str
    protocol: str
    port: int
    admitted: bool | None
    by: str
    ahead: str = ""
    inward: Outcome | None = None
    unknown: str = ""
    outward: Outcome | None = None
    milliseconds: float | None = None
    disagrees: str = ""

    @property
    def name(self) -> str:
        return f"{self.port}/{self.protocol}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A socket of this host that waits at the port."""

    protocol: str
    port: int
    address: str
    process: str | None = None
    pid: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PortsVerified:
    """What ``neti verify --ports --json`` prints. ``rows``: those that disagree first, then those
    of which it is not known, then by member and port."""

    host: str
    stage: str
    ports: tuple[str, ...]
    listeners: tuple[Heard, ...]
    rows: tuple[PortRow, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """``itself``, ``members``: as this host's agent tells them. ``ids``: of these members only;
    empty: of all. ``timeout``: seconds that a member's agent may take, beside those in which it
    connects to this host."""

    settings: Settings
    itself: Status
    members: Sequence[Mapping[str, Any]]
    ids: Collection[str]
    ports: tuple[Port, ...]
    timeout: float


def verify_ports(
    asked: Asked,
    explain: Explain,
    done: Callable[[int, int], None] = lambda _done, _all: None,
) -> PortsVerified:
    """``done`` hears how many of how many members were asked. Raises NetiError."""
    ids, ports, itself = asked.ids, asked.ports, asked.itself
    heard = with_owners(one for one in listeners() if (one.protocol, one.port) in ports)
    others = {m["id"]: m for m in asked.members if m["id"] != itself.id}
    chosen = [host_id for host_id in others if not ids or host_id in ids]
    check = _Checking(asked, tuple(heard))
    rows: list[PortRow] = []
    with ThreadPoolExecutor(min(_WORKERS, _SOCKETS // len(ports))) as pool:
        step = max(1, _PAIRS // len(ports))
        for start in range(0, len(chosen), step):
            # Rules and facts together, as both may change meanwhile.
            part = chosen[start : start + step]
            pairs = _pairs(explain(part, [port_name(one) for one in ports]))
            facts = pool.map(check.facts, [others[one] for one in part])
            for number, (host_id, fact) in enumerate(zip(part, facts, strict=True), start + 1):
                rows += check.rows(host_id, pairs, fact)
                done(number, len(chosen))
    for missing in sorted(set(ids) - others.keys()):
        what = "it is this host itself" if missing == itself.id else "it is no member here"
        rows += [_row(missing, one, by=what, unknown=what) for one in ports]
    return PortsVerified(
        host=itself.id,
        stage=itself.stage,
        ports=tuple(map(port_name, ports)),
        listeners=tuple(map(_heard, heard)),
        rows=tuple(sorted(rows, key=_order)),
    )


def _order(row: PortRow) -> tuple[bool, bool, str, int, str]:
    return not row.disagrees, not row.unknown, row.id, row.port, row.protocol


def _heard(one: Listener) -> Heard:
    return Heard(
        protocol=one.protocol,
        port=one.port,
        address=str(one.address),
        process=one.process,
        pid=one.pid,
    )


def _row(host_id: str, port: Port, **more: Any) -> PortRow:
    return PortRow(
        **{"id": host_id, "protocol": port[0], "port": port[1], "admitted": None, **more}
    )


def _pairs(document: Any) -> dict[tuple[str, Port], Pair]:
    """Raises NetiError."""
    said = document.get("pairs") if isinstance(document, dict) else None
    if not isinstance(said, list):
        raise NetiError("the agent's answer cannot be read\n→ systemctl restart neti")
    every = map(pair_of, said)
    return {(one.source, (one.protocol, one.port)): one for one in every}


@dataclass(frozen=True, slots=True)
class _Facts:
    """Of one member. ``inward`` None: ``unknown`` says why."""

    outward: Mapping[int, tuple[Outcome, float]]
    inward: Mapping[int, Outcome] | None = None
    unknown: str = ""


@dataclass(frozen=True, slots=True)
class _Checking:
    asked: Asked
    heard: tuple[Listener, ...]

    def facts(self, member: Mapping[str, Any]) -> _Facts:
        tcp = [number for proto, number in self.asked.ports if proto == "tcp"]
        if not tcp:
            return _Facts({}, {})
        verify_port = self.asked.settings.verify_port
        outward: Mapping[int, tuple[Outcome, float]] = {}
        try:
            outward = dial(member["overlay"], tcp)
            begin = asking(self.asked.itself.id, tcp)
            seconds = self.asked.timeout + SECONDS
            answer = talk(member["overlay"], verify_port, seconds, begin=begin)
        except (OSError, NoAnswer) as error:
            why = explained(error, verify_port)
            return _Facts(outward, unknown=f"its agent cannot be asked: {why}")
        if answer.id != member["id"]:
            return _Facts(outward, unknown=f"another host answered: {answer.id}")
        if answer.dialled is None:
            return _Facts(outward, unknown=_NO_HELP)
        if not answer.dialled:
            return _Facts(outward, unknown=_UNKNOWN_THERE)
        return _Facts(outward, answer.dialled)

    def rows(
        self, host_id: str, pairs: Mapping[tuple[str, Port], Pair], facts: _Facts
    ) -> Iterator[PortRow]:
        for port in self.asked.ports:
            row = _predicted(host_id, port, pairs.get((host_id, port)))
            if port[0] == "tcp":
                outcome, seconds = facts.outward.get(port[1], (None, 0.0))
                inward = facts.inward.get(port[1]) if facts.inward is not None else None
                row = replace(
                    row,
                    inward=inward,
                    unknown=facts.unknown or ("" if inward else _LEFT_OUT),
                    outward=outcome,
                    milliseconds=round(seconds * 1000, 2) if outcome == "answered" else None,
                )
            yield replace(row, disagrees=disagreement(row, listens=self._listens(port)))

    def _listens(self, port: Port) -> bool:
        """At every address: a socket that waits at one only may well refuse at another."""
        return any(
            (one.protocol, one.port) == port and one.address.is_unspecified for one in self.heard
        )


def _predicted(host_id: str, port: Port, pair: Pair | None) -> PortRow:
    if pair is None:
        return _row(host_id, port, by="it is no member here any more")
    if not pair.answers:
        return _row(host_id, port, by="it has no address by which it could come to this host")
    first = pair.answers[0]
    if any(one.admitted != first.admitted for one in pair.answers):
        said = "; ".join(f"from {one.address}: {one.by}" for one in pair.answers)
        return _row(host_id, port, by=f"it depends on its address: {said}")
    return _row(host_id, port, admitted=first.admitted, by=first.by, ahead=first.ahead)


def disagreement(row: PortRow, *, listens: bool) -> str:
    """What is in fact not as this host's rules say, and the next step. ``listens``: a socket of
    this host waits at the port, at every address. Empty: nothing; or it is not known."""
    if row.admitted is None or row.inward is None:
        return ""
    lets = "this host's rules let it in" if row.admitted else "this host's rules keep it out"
    said = f"{row.inward}, but {lets}"
    if row.admitted:
        if row.inward == "answered" or (row.inward == "refused" and not listens):
            return ""
        if row.inward == "refused":
            return (
                f"{said}, and something listens there\n→ does it listen on IPv6 only ('ss -ltn')? "
                f"Other programs' rules that reject, here ('neti check') or on {row.id}"
            )
        return (
            f"{said}\n→ what else drops on the way: security groups and firewalls between the two, "
            f"other programs' rules here ('neti check'), rules for what leaves {row.id}"
        )
    if row.inward == "answered":
        return (
            f"{said}\n→ 'neti check' says whether the kernel has the rules; a container's or a "
            f"balancer's port may come before them; then 'neti explain {row.id} here {row.port}'"
        )
    if row.inward == "refused":
        return (
            f"{said}, and answer nothing\n→ something refuses it before these rules, or they do "
            "not judge it: 'neti check', and rules that reject between the two"
        )
    return ""


def parse_ports(text: str) -> list[Port]:
    """``5432,9100/tcp,53/udp``; without a protocol it is TCP. ValueError says what was expected."""
    found: list[Port] = []
    for word in text.split(","):
        number, _, protocol = word.strip().partition("/")
        if not (number.isascii() and number.isdigit() and len(number) <= 5):
            raise ValueError(f"{word.strip()!r}: expected a port, such as 5432, 5432/tcp or 53/udp")
        if not 1 <= int(number) <= 65535 or (protocol or "tcp") not in ("tcp", "udp"):
            raise ValueError(f"{word.strip()!r}: expected a port from 1 to 65535, with tcp or udp")
        found.append((protocol or "tcp", int(number)))
    found = list(dict.fromkeys(found))
    if len(found) > AT_MOST:
        raise ValueError(f"{len(found)} ports: expected {AT_MOST} at most in one run")
    return found

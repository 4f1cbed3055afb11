"""What becomes of one first packet, by the text of the rules and the elements that a table holds.

It reads the rules as nft(8) does, and knows only what Neti writes. Must never do: pass over an
expression that it does not know, or look at anything but the table.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any, Final, Literal

from neti.dataplane.memory import MemoryDataplane
from neti.model import IPAddress

BRIDGE: Final = "docker0"  # where a published port leads
_HOOK: Final = re.compile(r"type filter hook (\w+) priority (-?\d+); policy accept;")
Verdict = Literal["accept", "drop", "return", ""]


@dataclass(frozen=True, slots=True)
class Packet:
    """The first of its connection: a SYN, or a datagram, from a port that no service has.

    ``port``: the one that was asked for; ``dport``: a container's, to which that is published;
    None: it is for this machine itself. ``tracked`` False: another program says so (notrack).
    """

    source: IPAddress
    proto: Literal["tcp", "udp"]
    port: int
    device: str = "eth0"
    dport: int | None = None
    tracked: bool = True

    @property
    def family(self) -> str:
        return "ipv4" if self.source.version == 4 else "ipv6"


class Table:
    """What a dataplane holds now."""

    def __init__(self, dataplane: MemoryDataplane) -> None:
        table = dataplane.table
        assert table is not None
        self.chains = {name: text.split("\n") for name, text in table.chains.items()}
        self.held: dict[str, Mapping[str, object]] = {}
        for held in (table.elements, table.timed, table.switches()):
            self.held.update({str(where): elements for where, elements in held.items()})
        hooks = ((_HOOK.fullmatch(rules[0]), name) for name, rules in self.chains.items())
        self._hooks = sorted((int(found[2]), found[1], name) for found, name in hooks if found)

    def admits(self, packet: Packet) -> bool:
        """Whether it passes each hook on its way."""
        on_its_way = ("prerouting", "input" if packet.dport is None else "forward")
        judged = _Judged(self, packet)
        return all(
            judged.chain(name) != "drop"
            for hook in on_its_way
            for _, here, name in self._hooks
            if here == hook
        )


class _Judged:
    def __init__(self, table: Table, packet: Packet) -> None:
        self._packet, self._tracked = packet, packet.tracked
        self._chains, self._held = table.chains, table.held
        self._source = str(packet.source)

    def chain(self, name: str) -> Verdict:
        for rule in self._chains[name][1:]:
            if verdict := self._rule(rule):
                return "" if verdict == "return" else verdict
        return ""

    def _rule(self, rule: str) -> Verdict:
        """Empty: the next rule is looked at."""
        rest = rule
        while rest:
            found, said = _expression(rest, rule)
            verdict = said(self, found)
            if verdict is not True:
                return verdict or ""
            rest = rest[found.end() :]
        return ""

    def _has(self, where: str, key: str) -> bool:
        return key in self._held.get(where, {})

    @property
    def _dport(self) -> int:
        return self._packet.port if self._packet.dport is None else self._packet.dport

    # Each says True: go on in this rule; False: not in this rule; or what becomes of the packet.

    def source(self, found: re.Match[str]) -> bool:
        word, unequal, said = found.groups()
        source = self._packet.source
        if word != ("ip" if source.version == 4 else "ip6"):
            return False
        named = said.startswith("@")
        has = (
            self._has(said[1:], self._source)
            if named
            else any(source in n for n in _networks(said))
        )
        return has != bool(unequal)

    def opening(self, found: re.Match[str]) -> bool:
        """Looked up is the address cut to a length, with protocol and port."""
        word, mask, asked, where = found.groups()
        source = self._packet.source
        if word != ("ip" if source.version == 4 else "ip6") or (asked and not self._tracked):
            return False
        cut = type(source)(int(source) & int(ip_address(mask))) if mask else source
        port = self._packet.port if asked else self._dport
        return self._has(where, f"{cut} . {self._packet.proto} . {port}")

    def dport(self, found: re.Match[str]) -> bool:
        proto, unequal, said = found.groups()
        if proto != self._packet.proto:
            return False
        named = said.startswith("@")
        has = self._has(said[1:], str(self._dport)) if named else _spans(said, self._dport)
        return has != bool(unequal)

    def asked_for(self, found: re.Match[str]) -> bool:
        return self._tracked and _spans(found[1], self._packet.port)

    def by_asked(self, found: re.Match[str]) -> bool | Verdict:
        return self._tracked and self._by_port(found, self._packet.port)

    def by_dport(self, found: re.Match[str]) -> bool | Verdict:
        return not self._tracked and self._by_port(found, self._dport)

    def _by_port(self, found: re.Match[str], port: int) -> bool | Verdict:
        if found[1] != self._packet.proto:
            return False
        for element in found[2].strip("{ }").split(", "):
            span, _, then = element.partition(" : ")
            if _spans(span, port):
                return self._leads(*then.split(" "))
        return False

    def state(self, found: re.Match[str]) -> bool:
        return ("new" if self._tracked else "untracked") in found[1].split(",")

    def flags(self, found: re.Match[str]) -> bool:
        equal = "syn" in found[1].split("|") and found[3] == "syn"
        return self._packet.proto == "tcp" and equal == (found[2] == "==")

    def proto(self, found: re.Match[str]) -> bool:
        return (self._packet.proto == found[2]) != bool(found[1])

    def family(self, found: re.Match[str]) -> bool:
        return self._packet.family == found[1]

    def armed(self, found: re.Match[str]) -> bool:
        return self._has(found[1], self._packet.family)

    def verdict(self, found: re.Match[str]) -> Verdict:
        return "drop" if self._has(found[1], self._packet.family) else ""

    def device(self, found: re.Match[str]) -> bool:
        way, unequal, said = found.groups()
        to = BRIDGE if self._packet.dport is not None else ""
        return (f'"{self._packet.device if way == "i" else to}"' in said) != bool(unequal)

    def kind(self, found: re.Match[str]) -> bool:
        return found[1] == "o" and self._packet.dport is not None

    def published(self, _: re.Match[str]) -> bool:
        return self._packet.dport is not None

    def local(self, _: re.Match[str]) -> bool:
        return self._packet.dport is None

    def original(self, _: re.Match[str]) -> bool:
        return self._tracked

    def untrack(self, _: re.Match[str]) -> bool:
        self._tracked = False
        return True

    def leads(self, found: re.Match[str]) -> bool | Verdict:
        return self._leads(found[1], found[2])

    def _leads(self, word: str, chain: str) -> bool | Verdict:
        # Who is sent by goto does not come back to the rules behind it.
        return self.chain(chain) or ("return" if word == "goto" else False)

    def ends(self, found: re.Match[str]) -> Verdict:
        verdict: Any = found[1]
        return verdict  # type: ignore[no-any-return]

    def true(self, _: re.Match[str]) -> bool:
        return True

    def false(self, _: re.Match[str]) -> bool:
        return False


_Said = Callable[[_Judged, re.Match[str]], bool | Verdict]
_BRACES: Final = r"\{[^}]*\}"
_EXPRESSIONS: Final[tuple[tuple[str, _Said], ...]] = (
    (r"(ip6?) saddr (!= )?(@\w+|\{[^}]*\}|[0-9a-f.:]+/\d+)", _Judged.source),
    (
        r"(ip6?) saddr(?: & (\S+))? \. meta l4proto \. (?:(ct original proto-dst)|th dport) @(\w+)",
        _Judged.opening,
    ),
    # All that is judged is for this machine, by its own address, and for none of the overlay's.
    (r"ip daddr [\d.]+", _Judged.true),
    (r"ip daddr (?:@\w+|[\d.]+/\d+)", _Judged.false),
    (r"(tcp|udp) dport (!= )?(@\w+|[\d-]+)", _Judged.dport),
    (r"(?:tcp|udp) sport [\d-]+", _Judged.false),
    (rf"meta l4proto (tcp|udp) ct original proto-dst vmap ({_BRACES})", _Judged.by_asked),
    (rf"ct state invalid,untracked (tcp|udp) dport vmap ({_BRACES})", _Judged.by_dport),
    (r"ct original proto-dst ([\d-]+)", _Judged.asked_for),
    (r"ct state ([a-z,]+)", _Judged.state),
    (r"ct direction original", _Judged.original),
    (r"ct direction reply", _Judged.false),
    (r"ct status dnat", _Judged.published),
    (r"tcp flags & \(([a-z|]+)\) (==|!=) (\w+)", _Judged.flags),
    (r"meta l4proto (!= )?(tcp|udp)", _Judged.proto),
    (r"meta l4proto \{ icmp, icmpv6 \}", _Judged.false),
    (r"meta l4proto \{ tcp, udp \}", _Judged.true),
    (r"meta nfproto (ipv4|ipv6)", _Judged.family),
    (r"meta nfproto vmap @(enforce|narrowed)", _Judged.verdict),
    (r"meta nfproto @(require|grace)", _Judged.armed),
    (rf'([io])if(?:name)? (!= )?("[^"]*"|{_BRACES})', _Judged.device),
    (rf"meta ([io])ifkind {_BRACES}", _Judged.kind),
    (r"fib daddr type local", _Judged.local),
    (r"icmp(?:v6)? type .*|ip protocol igmp .*", _Judged.false),
    (r"notrack", _Judged.untrack),
    # Neither these nor the record change what becomes of it.
    (r'counter name "\w+"|tcp option maxseg size set \d+', _Judged.true),
    (r"meta mark set meta mark \| 0x[0-9a-f]+|ip daddr set [\d.]+", _Judged.true),
    (r"jump (?:record|record_unasked|clamp|first_\w+)", _Judged.false),
    (r"(jump|goto) (\w+)", _Judged.leads),
    (r"(accept|drop|return)", _Judged.ends),
)
_COMPILED: Final = tuple((re.compile(rf"(?:{text})(?: |$)"), said) for text, said in _EXPRESSIONS)


@lru_cache(maxsize=4096)
def _expression(rest: str, rule: str) -> tuple[re.Match[str], _Said]:
    for pattern, said in _COMPILED:
        if found := pattern.match(rest):
            return found, said
    raise AssertionError(f"the model does not know {rest!r} of the rule {rule!r}")


def _spans(said: str, port: int) -> bool:
    first, _, last = said.partition("-")
    return int(first) <= port <= int(last or first)


@lru_cache(maxsize=256)
def _networks(said: str) -> tuple[Any, ...]:
    return tuple(map(ip_network, said.strip("{ }").split(", ")))

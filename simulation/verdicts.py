"""What a table's rules say to a member's first TCP packet to this machine: their text, followed.

Held to a real kernel by ``tests/contract/test_calls.py``. Must never do: pass over a rule that it
does not understand.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, Literal

from neti.dataplane.memory import _Table
from neti.ruleset.objects import FOREIGN
from neti.ruleset.set_names import SetName

Verdict = Literal["accept", "drop"] | None

_FIRST: Final = "tcp flags & (fin|syn|rst|ack) == syn "
# What no first TCP packet of IPv4 that is tracked and wants this machine meets.
_NEVER: Final = (
    *("tcp flags & (fin|syn|rst|ack) != syn", "tcp flags & (fin|syn|rst|ack) == ack"),
    *("meta l4proto != tcp", "meta l4proto { icmp", "meta l4proto udp", "ct state established"),
    *("ct state invalid", "ct direction reply", "ip6 "),
)
_SOURCE: Final = re.compile(r"ip saddr @(\w+) (.+)")
_BY_PORT: Final = re.compile(r"meta l4proto tcp ct original proto-dst vmap { (.+) }")
_COUNTED: Final = re.compile(r'(?:fib daddr type local )?counter name "\w+" ?(.*)')
_BY_MAP: Final = re.compile(r"meta nfproto vmap @(\w+)")


@dataclass(slots=True)
class Walk:
    """``recorded``: it came by where packets are recorded that the file does not admit."""

    table: _Table
    narrowed: Mapping[str, int | None]
    source: IPv4Address
    port: int
    recorded: bool = False

    def chain(self, name: str) -> Verdict:
        """None: it returns."""
        for rule in self.table.chains[name].split("\n")[1:]:
            verdict, ends = self._rule(rule)
            if verdict is not None or ends:
                return verdict
        return None

    def _rule(self, rule: str) -> tuple[Verdict, bool]:
        """And whether the chain ends here, without a verdict."""
        if rule.startswith(_NEVER):
            return None, False
        if rule.startswith(_FIRST):
            return self._rule(rule.removeprefix(_FIRST))
        if found := _SOURCE.fullmatch(rule):
            held = self.table.elements.get(_set(found[1]), {})
            return self._rule(found[2]) if str(self.source) in held else (None, False)
        if found := _BY_PORT.fullmatch(rule):
            then = self._listed(found[1])
            return self._rule(then) if then else (None, False)
        if found := _COUNTED.fullmatch(rule):
            return self._rule(found[1]) if found[1] else (None, False)
        if found := _BY_MAP.fullmatch(rule):
            held_back = found[1] == "narrowed" and self.narrowed.get("ipv4", FOREIGN) != FOREIGN
            return ("drop" if held_back else None), False
        word, _, where = rule.partition(" ")
        if rule == "accept":
            return "accept", True
        if rule == "jump record_unasked":
            self.recorded = True
            return None, False
        if word in ("jump", "goto") and where in self.table.chains:
            return self.chain(where), word == "goto"
        raise AssertionError(f"the simulation cannot follow the rule {rule!r}")

    def _listed(self, lines: str) -> str:
        for line in lines.split(", "):
            ports, _, then = line.partition(" : ")
            first, _, last = ports.partition("-")
            if int(first) <= self.port <= int(last or first):
                return then
        return ""


def _set(name: str) -> SetName:
    return name  # type: ignore[return-value]

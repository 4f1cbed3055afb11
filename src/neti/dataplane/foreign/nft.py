"""Other programs' nftables rules, out of the kernel's own messages. Pure.

It finds out where a rule's packets go, whether the rule has any condition, and which new
connections it can match. What is not understood counts as a condition that any packet may meet.

Must never do: raise, whatever a rule contains.
"""

import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from neti.dataplane.foreign import Ports, Rule, Verdict
from neti.dataplane.listing import Held
from neti.dataplane.netlink import attributes
from neti.dataplane.nf_tables import (
    CHAIN_HOOK,
    CHAIN_NAME,
    CHAIN_POLICY,
    CHAIN_TABLE,
    CHAIN_TYPE,
    EXPRESSION_DATA,
    EXPRESSION_NAME,
    HOOK_NUMBER,
    NF_DROP,
    RULE_EXPRESSIONS,
    VALUE,
    verdict,
)

FAMILIES: Final = {1: "inet", 2: "ip", 5: "netdev", 7: "bridge", 10: "ip6"}
_HOOKS: Final = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
_INCOMING: Final = frozenset({"ingress", "prerouting", "input", "forward"})

# Of a set's element: key, verdict data, flags.
SetElement = tuple[bytes, bytes, int]
# The elements of a set in the same table; None: not known, or more than we read.
Sets = Callable[[bytes], "list[SetElement] | None"]
INTERVAL_END: Final = 1

_VERDICTS: Final[dict[int, Verdict]] = {
    0: "drop",
    1: "accept",
    -3: "jump",
    -4: "goto",
    -5: "return",
}
_NO_PORTS: Final = frozenset({1, 2, 58})  # ICMP, IGMP, ICMPv6
_COUNTER: Final = 1  # a kind of object
_NEW: Final = 8  # the bit of ct state; established 2, related 4, invalid 1
# After these expressions every packet goes on to the next one: they only load, write or count.
_LOADS: Final = frozenset(
    {"exthdr", "fib", "rt", "socket", "numgen", "hash", "osf", "xfrm", "tunnel"}
)
_LOOK_AT_NOTHING: Final = _LOADS | {"counter", "log", "notrack", "byteorder", "last"}
_CMP_EQ, _CMP_NEQ, _CMP_LT, _CMP_LTE, _CMP_GT, _CMP_GTE = range(6)
_ALL: Final[Ports] = ((0, 65535),)
# Of a packet: header (1 network, 2 transport), offset, length.
_FIELDS: Final = {(2, 2, 2): "dport", (1, 9, 1): "l4proto", (1, 6, 1): "l4proto"}
_META: Final = {4: "iif", 6: "iifname", 15: "nfproto", 16: "l4proto"}


@dataclass(frozen=True, slots=True)
class BaseChain:
    """A chain at a hook, as the kernel lists it. Names are bytes, since anybody may have chosen
    them."""

    family: str
    table: bytes
    name: bytes
    kind: str
    hook: str
    drops: bool

    @property
    def may_drop_incoming(self) -> bool:
        """Not for a NAT chain, except for its policy: it could drop too, but no program is known to
        do that, and there may be very many rules."""
        return self.hook in _INCOMING and (self.kind != "nat" or self.drops)


def base_chain(family: int, held: Held) -> BaseChain | None:
    """None: not at a hook, or of a family that does not matter here."""
    hook = dict(attributes(held.get(CHAIN_HOOK, b"")))
    name = FAMILIES.get(family)
    if HOOK_NUMBER not in hook or name is None:
        return None
    number = int.from_bytes(hook[HOOK_NUMBER])
    if name == "netdev":
        where = "ingress" if number == 0 else "egress"
    else:
        where = _HOOKS[number] if number < len(_HOOKS) else "?"
    return BaseChain(
        name,
        held.get(CHAIN_TABLE, b""),
        held.get(CHAIN_NAME, b""),
        held.get(CHAIN_TYPE, b"").rstrip(b"\0").decode("ascii", "backslashreplace"),
        where,
        CHAIN_POLICY in held and int.from_bytes(held[CHAIN_POLICY]) == NF_DROP,
    )


def rule(held: Held, sets: Sets, named: Callable[[bytes], str]) -> Rule | None:
    """A rule's verdict; None: it has none. ``named``: turns a chain's name into text."""
    walk = _Expressions(sets, named)
    for _, expression in attributes(held.get(RULE_EXPRESSIONS, b"")):
        one = dict(attributes(expression))
        kind = one.get(EXPRESSION_NAME, b"").rstrip(b"\0").decode("ascii", "backslashreplace")
        walk.expression(kind, dict(attributes(one.get(EXPRESSION_DATA, b""))))
        if walk.verdicts is not None:
            return Rule(walk.verdicts, walk.always, walk.only) if walk.verdicts else None
    return None


class _Expressions:
    """Walks a rule's expressions, and keeps track of the registers, until there is a verdict."""

    def __init__(self, sets: Sets, named: Callable[[bytes], str]) -> None:
        self._sets = sets
        self._named = named
        self._registers: dict[int, str] = {}
        self._understood = True
        self._ports: Ports | None = None  # None: at any port
        self.always = True
        self.verdicts: tuple[tuple[Verdict, str], ...] | None = None

    @property
    def only(self) -> Ports | None:
        if self._ports == ():
            return ()  # whatever else it asks
        return self._ports if self._understood else None

    def expression(self, kind: str, held: Held) -> None:
        match kind:
            case "immediate":
                self._immediate(held)
            case "reject":
                self.verdicts = (("drop", ""),)
            case "target" if _text(held.get(1, b"")) == "REJECT":
                self.verdicts = (("drop", ""),)
            case "meta" | "ct" | "payload" | "bitwise":
                self._load(kind, held)
            case _ if _lets_on(kind, held):
                if kind in _LOADS and 1 in held:
                    self._registers.pop(_register(held[1]), None)
            case _:
                self.always = False
                self._condition(kind, held)

    def _condition(self, kind: str, held: Held) -> None:
        match kind:
            case "cmp":
                self._compared(held)
            case "range":
                self._in_range(held)
            case "lookup":
                self._looked_up(held)
            case "limit":
                pass  # can only match fewer packets
            case _:
                self._understood = False

    def _immediate(self, held: Held) -> None:
        code, chain = verdict(held.get(2, b""))
        if code in _VERDICTS:
            self.verdicts = ((_VERDICTS[code], self._named(chain)),)

    def _load(self, kind: str, held: Held) -> None:
        """Which register gets what; nothing if the expression writes from a register."""
        match kind:
            case "meta":
                what = _META.get(_number(held.get(2, b"")), "?")
            case "ct":
                what = "state" if _number(held.get(2, b"")) == 0 else "?"
            case "payload":
                base, offset, length = (_number(held.get(n, b"")) for n in (2, 3, 4))
                what = _FIELDS.get((base, offset, length), "?")
            case _:
                mask = dict(attributes(held.get(4, b""))).get(VALUE, b"")
                before = self._registers.get(_register(held.get(1, b"")), "?")
                masked = before == "state" and len(mask) == 4
                what = f"state&{int.from_bytes(mask, sys.byteorder)}" if masked else "?"
                self._registers[_register(held.get(2, b""))] = what
                return
        if 1 in held:
            self._registers[_register(held[1])] = what

    def _compared(self, held: Held) -> None:
        what = self._registers.get(_register(held.get(1, b"")), "?")
        operation = _number(held.get(2, b""))
        value = dict(attributes(held.get(3, b""))).get(VALUE, b"")
        if what.startswith("state&") and operation == _CMP_NEQ and not any(value):
            self._states(int(what.removeprefix("state&")))
        elif what == "dport" and len(value) == 2:
            number = int.from_bytes(value)
            first = number + (operation == _CMP_GT) if operation >= _CMP_GT else 0
            last = number - (operation == _CMP_LT) if operation in (_CMP_LT, _CMP_LTE) else 65535
            if operation == _CMP_EQ:
                first = last = number
            self._to_ports(((first, last),) if operation != _CMP_NEQ else None)
        elif operation == _CMP_EQ:
            self._one_of(what, [value])
        else:
            self._understood = False

    def _in_range(self, held: Held) -> None:
        what = self._registers.get(_register(held.get(1, b"")), "?")
        first, last = (dict(attributes(held.get(n, b""))).get(VALUE, b"") for n in (3, 4))
        if what == "dport" and _number(held.get(2, b"")) == 0:
            self._to_ports(((int.from_bytes(first), int.from_bytes(last)),))
        else:
            self._understood = False

    def _looked_up(self, held: Held) -> None:
        elements = self._sets(held.get(1, b""))
        what = self._registers.get(_register(held.get(2, b"")), "?")
        inverted = _number(held.get(5, b"")) & 1
        if 3 in held and _register(held[3]) < 0:
            self._verdict_map(what, elements)
        elif elements is None or inverted or 3 in held:
            self._understood = False
        elif what == "dport" and all(len(key) == 2 for key, _, _ in elements):
            self._to_ports(_ranges(elements))
        else:
            self._one_of(what, [key for key, _, _ in elements])

    def _verdict_map(self, what: str, elements: list[SetElement] | None) -> None:
        if elements is None:  # anything may be in it
            self._understood = False
            self.verdicts = (("drop", ""), ("accept", ""))
            return
        found: dict[tuple[Verdict, str], None] = {}
        on = 0
        for key, data, _ in elements:
            code, chain = verdict(data)
            if code in _VERDICTS:
                found[_VERDICTS[code], self._named(chain)] = None
                if code != NF_DROP and len(key) == 4:
                    on |= int.from_bytes(key, sys.byteorder)
        if what == "state":
            self._states(on)
        else:
            self._understood = False
        self.verdicts = tuple(found)

    def _one_of(self, what: str, values: list[bytes]) -> None:
        if what == "l4proto" and all(len(value) == 1 for value in values):
            if all(value[0] in _NO_PORTS for value in values):
                self._ports = ()
        elif what == "state" and all(len(value) == 4 for value in values):
            bits = 0
            for value in values:
                bits |= int.from_bytes(value, sys.byteorder)
            self._states(bits)
        elif what in ("iif", "iifname") and values and all(map(_is_loopback, values)):
            self._ports = ()
        elif what != "nfproto":
            self._understood = False

    def _states(self, bits: int) -> None:
        if not bits & _NEW:
            self._ports = ()

    def _to_ports(self, ports: Ports | None) -> None:
        if ports is None:
            self._understood = False
            return
        held = self._ports if self._ports is not None else _ALL
        self._ports = tuple(
            (max(a, first), min(b, last))
            for a, b in held
            for first, last in ports
            if max(a, first) <= min(b, last)
        )


def _ranges(elements: Iterable[SetElement]) -> Ports:
    """The ports in a set. In a set of intervals, the element behind the end of one has a mark."""
    ordered = sorted((int.from_bytes(key), flags) for key, _, flags in elements)
    intervals = any(flags & INTERVAL_END for _, flags in ordered)
    if not intervals:
        return tuple((port, port) for port, _ in ordered)
    found, first = [], None
    for port, flags in ordered:
        if flags & INTERVAL_END:
            if first is not None:
                found.append((first, port - 1))
            first = None
        else:
            first = port
    if first is not None:
        found.append((first, 65535))
    return tuple(found)


def _lets_on(kind: str, held: Held) -> bool:
    """Whether every packet goes on to the next expression."""
    if kind == "objref":
        return _number(held.get(1, b"")) == _COUNTER
    if kind == "match":
        return _text(held.get(1, b"")) == "comment"
    return kind == "target" or kind in _LOOK_AT_NOTHING


def _is_loopback(value: bytes) -> bool:
    name = value.startswith(b"lo\0") and not any(value[3:])
    return name or (len(value) == 4 and int.from_bytes(value, sys.byteorder) == 1)


def _register(value: bytes) -> int:
    """The number of a register, counted in words of four bytes; negative: the verdict's."""
    number = _number(value)
    if number == 0:
        return -1
    return (number - 1) * 4 if number <= 4 else number - 8


def _number(value: bytes) -> int:
    return int.from_bytes(value)


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("ascii", "backslashreplace")

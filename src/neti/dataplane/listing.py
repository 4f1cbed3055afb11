"""What the kernel holds of our table except elements, in a form that can be compared. Pure.

One line for the table and for each set, object, chain and rule, without what changes by itself:
handles and counters. The contents of an anonymous set stand in the rule that uses it, because the
kernel numbers such sets as it likes. The lines serve to compare, and to tell rules apart; nobody
reads out of them what a rule means.

Must never do: leave out what changes a packet's fate.
"""

import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from neti.dataplane.netlink import Order, attributes
from neti.dataplane.nf_tables import (
    ANONYMOUS,
    CHAIN_HOOK,
    CHAIN_NAME,
    CHAIN_POLICY,
    CHAIN_TYPE,
    EXPRESSION_DATA,
    EXPRESSION_NAME,
    NEWCHAIN,
    NEWOBJ,
    NEWRULE,
    NEWSET,
    NEWSETELEM,
    NFGEN_BYTES,
    OBJECT_NAME,
    OBJECT_TYPE,
    RULE_CHAIN,
    RULE_EXPRESSIONS,
    SET_FLAGS,
    SET_NAME,
    TABLE_FLAGS,
    TABLE_HANDLE,
    TABLE_USE,
    verdict,
)
from neti.dataplane.way_out import is_down_mark

# Of a set: key type and length, data type and length, policy, size and fields, time-out, object
# type, expressions. The rest is a name, a handle, or nft's note of how it was written.
_OF_A_SET: Final = (4, 5, 6, 7, 8, 9, 11, 15, 17, 18)
_OF_A_CHAIN: Final = (CHAIN_TYPE, CHAIN_HOOK, CHAIN_POLICY, 10)  # 10: flags
_RULE_COMPAT, _RULE_USERDATA = 5, 7
# Expressions whose state changes with the packets.
_MOVING: Final = frozenset({"counter", "quota", "last", "connlimit"})
# Expressions whose first attribute names a set.
_NAMING_SETS: Final = frozenset({"lookup", "dynset"})
_SET_ID: Final = {"lookup": 4, "dynset": 2}  # of a transaction, not of the set
_DATA_TYPE, _DATA_LENGTH, _VERDICT_DATA = 6, 7, b"\xff\xff\xff\0"

_VERDICTS: Final = {0: "drop", 1: "accept", -3: "jump", -4: "goto", -5: "return"}
_LEADING: Final = frozenset({"jump", "goto"})

Held = dict[int, bytes]


@dataclass(frozen=True, slots=True)
class Listing:
    """``definitions``: the lines of named sets and objects, and of the table's flags, if it has
    any; ``chains``, ``sets``: names; ``handle``, ``marked_down``: see ``KernelState``."""

    lines: tuple[str, ...]
    chains: tuple[str, ...]
    definitions: frozenset[str]
    sets: frozenset[str] = frozenset()
    handle: int | None = None
    marked_down: bool = False

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def held(body: bytes) -> Held:
    """A message's attributes."""
    return dict(attributes(body[NFGEN_BYTES:]))


@functools.lru_cache(maxsize=2048)
def name(value: bytes) -> str:
    """A name in the kernel, which may have any bytes, as printable ASCII."""
    text = value.rstrip(b"\0").decode("ascii", "backslashreplace")
    return "".join(c if " " <= c <= "~" else f"\\x{ord(c):02x}" for c in text)


def definitions(orders: Iterable[Order]) -> frozenset[str]:
    """Of the named sets and objects that compiled rules would make."""
    found = set()
    for kind, _, body in orders:
        if kind == NEWSET:
            one = held(body)
            if not is_anonymous(one):
                found.add(_set(one))
        elif kind == NEWOBJ:
            found.add(_object(held(body)))
    return frozenset(found)


def chains_only(orders: Iterable[Order]) -> list[Order]:
    """Of compiled rules: chains, rules, and the anonymous sets that come with the rules. A rule
    finds named sets by their names."""
    kept = []
    for kind, flags, body in orders:
        anonymous = kind == NEWSET and is_anonymous(held(body))
        if anonymous or kind in (NEWCHAIN, NEWRULE, NEWSETELEM):
            kept.append((kind, flags, body))
    return kept


def listing(
    table: Held,
    sets: Iterable[Held],
    objects: Iterable[Held],
    chains: Iterable[Held],
    rules: Iterable[Held],
    elements: Callable[[bytes], Iterable[bytes]],
) -> Listing:
    """``elements``: a set's elements as the kernel lists them; called for anonymous sets only."""
    inline: dict[bytes, str] = {}
    named, names = [], set()
    for one in sets:
        if is_anonymous(one):
            contents = sorted(
                e.hex() for part in elements(one[SET_NAME]) for _, e in attributes(part)
            )
            inline[one[SET_NAME]] = f"{_what(one, _OF_A_SET)} {{{','.join(contents)}}}"
        else:
            named.append(_set(one))
            names.add(name(one[SET_NAME]))
    named += map(_object, objects)
    by_chain: dict[bytes, list[str]] = {one[CHAIN_NAME]: [] for one in chains}
    heads = {one[CHAIN_NAME]: _chain(one) for one in chains}
    for rule in rules:
        by_chain.setdefault(rule.get(RULE_CHAIN, b""), []).append(_rule(rule, inline))
    # The use count covers what is not listed here, such as flow tables.
    lines = [f"table {_what(table, (TABLE_FLAGS, TABLE_USE))}", *sorted(named)]
    for chain, listed in by_chain.items():
        lines += [heads.get(chain, f"chain {name(chain)}"), *listed]
    flags = table.get(TABLE_FLAGS, b"").hex()
    # Rewriting the chains would leave the table's flags as they are. No wanted structure has this
    # line, so a table that somebody made dormant is replaced as a whole.
    asleep = [f"table {flags}"] if flags.strip("0") else []
    return Listing(
        tuple(lines),
        tuple(map(name, heads)),
        frozenset([*named, *asleep]),
        frozenset(names),
        int.from_bytes(table[TABLE_HANDLE]) if TABLE_HANDLE in table else None,
        is_down_mark(table),
    )


def is_anonymous(one: Held) -> bool:
    return bool(int.from_bytes(one.get(SET_FLAGS, b"")) & ANONYMOUS)


def is_rule(line: str) -> bool:
    return line.startswith("rule ")


def fingerprint(line: str) -> str:
    """The kinds of expressions in a rule, and where it leads, for rules of which nft's words are
    not known. Two with the same words differ by the digest."""
    words = [
        f"{kind} {more}" if more.startswith("@") or kind in _LEADING else kind
        for kind, more in re.findall(r"\[(\w+) ?([^ \]]*)", line)
    ]
    digest = hashlib.sha256(line.encode()).hexdigest()
    alone = len(words) == 1 and words[0].split()[0] in _VERDICTS.values()
    return " ".join(words) if alone else f"{' '.join(words)} (rule {digest[:12]})"


def _set(one: Held) -> str:
    """The same for a set that we ask for and for what the kernel then lists."""
    flags = int.from_bytes(one.get(SET_FLAGS, b""))
    # The kernel omits an empty description, and knows by itself how long a verdict is.
    rest = {kind: value for kind, value in one.items() if value}
    if rest.get(_DATA_TYPE) == _VERDICT_DATA:
        rest.pop(_DATA_LENGTH, None)
    return f"set {name(one[SET_NAME])} {flags:#x} {_what(rest, _OF_A_SET)}"


def _object(one: Held) -> str:
    return f"object {name(one[OBJECT_NAME])} {one.get(OBJECT_TYPE, b'').hex()}"


def _chain(one: Held) -> str:
    return f"chain {name(one[CHAIN_NAME])} {_what(one, _OF_A_CHAIN)}"


def _rule(rule: Held, inline: Mapping[bytes, str]) -> str:
    words = [
        word if isinstance(word, str) else word.shown(inline)
        for word in _expressions(rule.get(RULE_EXPRESSIONS, b""))
    ]
    more = _what(rule, (_RULE_COMPAT, _RULE_USERDATA))
    return f"rule {name(rule.get(RULE_CHAIN, b''))} {' '.join(words)} {more}".rstrip()


@dataclass(frozen=True, slots=True)
class _SetUse:
    """An expression that uses a set. It shows what an anonymous set holds at that moment."""

    kind: str
    which: bytes
    rest: str

    def shown(self, inline: Mapping[bytes, str]) -> str:
        held_there = inline.get(self.which) or f"@{name(self.which)}"
        return f"[{self.kind} {held_there} {self.rest}]"


# Every look finds the same rules again, and parsing them is most of what a look costs.
@functools.lru_cache(maxsize=2048)
def _expressions(written: bytes) -> tuple[str | _SetUse, ...]:
    return tuple(_expression(dict(attributes(one))) for _, one in attributes(written))


def _expression(one: Held) -> str | _SetUse:
    kind, data = name(one.get(EXPRESSION_NAME, b"")), one.get(EXPRESSION_DATA, b"")
    if kind in _MOVING:
        return f"[{kind}]"
    if kind in _NAMING_SETS:
        parts = dict(attributes(data))
        which = parts.pop(1, b"")
        parts.pop(_SET_ID[kind], None)
        return _SetUse(kind, which, _what(parts, parts))
    if kind == "immediate":
        code, chain = verdict(dict(attributes(data)).get(2, b""))
        if code in _VERDICTS:
            return f"[{_VERDICTS[code]}{' ' + name(chain) if chain else ''}]"
    return f"[{kind} {data.hex()}]"


def _what(one: Held, kinds: Iterable[int]) -> str:
    return " ".join(f"{kind}={one[kind].hex()}" for kind in sorted(kinds) if kind in one)

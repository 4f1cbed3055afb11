"""Reads other programs' chains and rules out of the kernel, by raw netlink, within limits.

Elements of their sets are not read, except for anonymous sets and verdict maps, and of these not
more than a limit. Names are bytes that anybody may have chosen.

Must never do: read on when a limit is reached, or change anything.
"""

import errno
from collections.abc import Callable, Iterator
from typing import Final

from neti.dataplane.foreign import Chain, Table
from neti.dataplane.foreign import nft as parser
from neti.dataplane.foreign.nft import FAMILIES, BaseChain, SetElement, Sets
from neti.dataplane.listing import Held, held, is_anonymous, name
from neti.dataplane.netlink import NETLINK_NETFILTER, NetlinkSocket, attribute, attributes
from neti.dataplane.nf_tables import (
    ANY,
    DATA,
    FLAGS,
    GETCHAIN,
    GETGEN,
    GETRULE,
    GETSET,
    GETSETELEM,
    GETTABLE,
    INET,
    KEY,
    LIST_ELEMENTS,
    LIST_SET,
    LIST_TABLE,
    NFGEN_BYTES,
    RULE_CHAIN,
    RULE_TABLE,
    SET_NAME,
    SET_TABLE,
    TABLE_BYTES,
    TABLE_FLAGS,
    TABLE_NAME,
    VALUE,
)
from neti.errors import DataplaneError, KernelRefused
from neti.ruleset.objects import FAMILY_TABLE

RULES_AT_MOST: Final = 20_000  # of one look
_CHAINS_AT_MOST: Final = 100_000
_ELEMENTS_AT_MOST: Final = 1_000  # of one set
_GENERATION_ID: Final = 1
_DORMANT: Final = 1
_VERDICT_MAP: Final = b"\xff\xff\xff\0"
_SET_DATA_TYPE: Final = 6
_GONE: Final = frozenset({errno.ENOENT})
_OURS: Final = (INET[0], attribute(RULE_TABLE, TABLE_BYTES))  # family; a chain's first attribute
_NUMBERS: Final = {word: number for number, word in FAMILIES.items()}


class TooMuch(DataplaneError):
    """There is more than we look at."""


class RulesReader:
    """Works in the network namespace of the thread that made it. Raises DataplaneError."""

    def __init__(self) -> None:
        self._socket = NetlinkSocket(NETLINK_NETFILTER)
        self._left = RULES_AT_MOST

    def close(self) -> None:
        self._socket.close()

    def begin(self) -> None:
        """Begin a new look, with the whole allowance."""
        self._left = RULES_AT_MOST

    def generation(self) -> int | None:
        """Of the ruleset: it changes with every transaction, whoever's."""
        for body in self._socket.ask(GETGEN, ANY):
            value = held(body).get(_GENERATION_ID)
            if value is not None:
                return int.from_bytes(value)
        return None

    def base_chains(self, *, ours: bool = False) -> list[BaseChain]:
        """Chains at hooks, of all tables but ours (or of ours alone)."""
        found = []
        for number, body in enumerate(self._bounded(GETCHAIN, ANY)):
            if number >= _CHAINS_AT_MOST:
                self._abandon()
                raise TooMuch("other programs have more chains than are looked at")
            # Most chains on most machines. The first attribute is enough to tell, without parsing.
            if not ours and body[0] == _OURS[0] and body.startswith(_OURS[1], NFGEN_BYTES):
                continue
            chain = parser.base_chain(body[0], held(body))
            if chain is not None and ours == (
                f"{chain.family} {name(chain.table)}" == FAMILY_TABLE
            ):
                found.append(chain)
        return found

    def dormant(self, family: str, which: bytes) -> bool:
        """Whether a table is dormant, or not there."""
        flags = self._one(GETTABLE, _family(family) + attribute(TABLE_NAME, which)).get(TABLE_FLAGS)
        return flags is None or bool(int.from_bytes(flags) & _DORMANT)

    def table(
        self,
        family: str,
        which: bytes,
        bases: list[BaseChain],
        only: Callable[[bytes], bool] = lambda _: True,
    ) -> Table:
        """What can be reached from ``bases``, chains of that table. ``only``: of named verdict maps
        read only elements with such keys. Raises TooMuch."""
        head = _family(family)
        sets = self.sets(head, which, only)
        chains: dict[str, Chain] = {}
        waiting = []
        for base in bases:
            chains[name(base.name)] = Chain(name(base.name), base.hook, base.drops)
            waiting.append(base.name)
        led: dict[str, bytes] = {}

        def named(chain: bytes) -> str:
            text = name(chain)
            if text:
                led[text] = chain + b"\0"
            return text

        while waiting:
            chain = waiting.pop()
            into = chains.setdefault(name(chain), Chain(name(chain)))
            for body in self._rules(head, which, chain):
                rule = parser.rule(held(body), sets, named)
                if rule is not None:
                    into.rules.append(rule)
            waiting += [raw for text, raw in led.items() if text not in chains]
            for text in led.keys() - chains.keys():
                chains[text] = Chain(text)
        return Table(family, name(which), "nft", chains)

    def _rules(self, head: bytes, table: bytes, chain: bytes) -> Iterator[bytes]:
        """All of them at once, because the same socket is needed to ask what a set holds."""
        asked = head + attribute(RULE_TABLE, table) + attribute(RULE_CHAIN, chain)
        found = []
        for body in self._bounded(GETRULE, asked):
            self._left -= 1
            if self._left < 0:
                self._abandon()
                raise TooMuch(f"more than {RULES_AT_MOST} rules")
            found.append(body)
        yield from found

    def sets(self, head: bytes, table: bytes, only: Callable[[bytes], bool]) -> Sets:
        return _Sets(self, head, table, only).elements

    def elements(self, head: bytes, table: bytes, which: bytes) -> list[SetElement] | None:
        """None: there are more than we read."""
        found: list[SetElement] = []
        asked = head + attribute(LIST_TABLE, table) + attribute(LIST_SET, which)
        for body in self._bounded(GETSETELEM, asked):
            for kind, value in attributes(body[4:]):
                if kind == LIST_ELEMENTS:
                    found += (element(dict(attributes(one))) for _, one in attributes(value))
            if len(found) > _ELEMENTS_AT_MOST:
                self._abandon()
                return None
        return found

    def set(self, head: bytes, table: bytes, which: bytes) -> Held:
        return self._one(GETSET, head + attribute(SET_TABLE, table) + attribute(SET_NAME, which))

    def _one(self, kind: int, asked: bytes) -> Held:
        """Empty: there is no such set."""
        try:
            return held(self._socket.ask(kind, asked)[0])
        except KernelRefused as error:
            if error.number == errno.ENOENT:
                return {}
            raise

    def _bounded(self, kind: int, asked: bytes) -> Iterator[bytes]:
        return self._socket.dump(kind, asked, ignore=_GONE)

    def _abandon(self) -> None:
        """End a listing that is not read to its end: the kernel does that when the socket
        closes."""
        self._socket.close()
        self._socket = NetlinkSocket(NETLINK_NETFILTER)


class _Sets:
    """The sets of one table. Each is requested once."""

    def __init__(
        self, reader: RulesReader, head: bytes, table: bytes, only: Callable[[bytes], bool]
    ) -> None:
        self._reader = reader
        self._only = only
        self._head = head
        self._table = table
        self._known: dict[bytes, list[SetElement] | None] = {}

    def elements(self, which: bytes) -> list[SetElement] | None:
        if which not in self._known:
            self._known[which] = self._asked(which)
        return self._known[which]

    def _asked(self, which: bytes) -> list[SetElement] | None:
        one = self._reader.set(self._head, self._table, which)
        if not (is_anonymous(one) or one.get(_SET_DATA_TYPE) == _VERDICT_MAP):
            return None  # somebody's list: we do not ask who is on it
        found = self._reader.elements(self._head, self._table, which)
        if found is None or is_anonymous(one):
            return found
        return [member for member in found if self._only(member[0])]


def _family(word: str) -> bytes:
    return bytes((_NUMBERS[word], 0, 0, 0))


def element(one: Held) -> SetElement:
    key = dict(attributes(one.get(KEY, b""))).get(VALUE, b"")
    return key, one.get(DATA, b""), int.from_bytes(one.get(FLAGS, b""))

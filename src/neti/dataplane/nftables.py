"""``table inet neti`` in the real kernel, by raw netlink: read it back, apply to it.

Elements are requested only for sets of our own table. Of other tables only the names of chains are
read, because the kernel lists the chains of a family together.

Must never do: load libnftables (``compiler`` has it in another process), or read others' elements.
"""

import bisect
import errno
import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final, TypeVar

from neti.dataplane import malloc, way_out
from neti.dataplane import nf_tables as nf
from neti.dataplane.compiler import compile_rules, printed
from neti.dataplane.in_words import Words, in_words
from neti.dataplane.listing import (
    Held,
    Listing,
    chains_only,
    definitions,
    held,
    is_anonymous,
    listing,
)
from neti.dataplane.netlink import (
    NETLINK_NETFILTER,
    NLM_F_EXCL,
    NOT_PERMITTED,
    NetlinkSocket,
    Order,
    attribute,
    attributes,
)
from neti.dataplane.sightings import SightingsReader
from neti.errors import DataplaneError, DataplaneUnavailable, KernelMoved, KernelRefused
from neti.ruleset.objects import (
    FAMILY_TABLE,
    NO_TABLE,
    OPTIONAL,
    ORDERED,
    TIMED,
    AddElements,
    AddTimed,
    Command,
    CreateTable,
    DeleteElements,
    DeleteTable,
    Drop,
    KernelState,
    Require,
    RewriteChains,
    Structure,
    Transaction,
)
from neti.ruleset.set_names import SetName, group_set, opening_set
from neti.stage.leftovers import Call
from neti.stage.shadow import Sighting
from neti.text import printable

_GONE: Final = frozenset({errno.ENOENT})
# Errors that mean: the kernel is not as it was read. EBUSY: a verdict that is there already, before
# Linux 5.10.
_MOVED: Final = frozenset({errno.ENOENT, errno.EEXIST, errno.EBUSY, errno.ERESTART})
_UNKNOWN: Final = frozenset({errno.EPROTONOSUPPORT, errno.EOPNOTSUPP})
# NAT in a table of family inet came with Linux 5.2; 5.4 is the first long-term version with it.
OLDEST_LINUX: Final = "5.4"
_SHOWN: Final = 300  # characters of a command that was refused
_LARGE: Final = 2000  # elements; after so many, memory is given back
# How often a set that the kernel is still growing is listed. The last list is believed, because the
# keys of an interval set that somebody put in place of ours may be there twice for good.
_LISTS: Final = 5
_OF_TABLE: Final = nf.INET + attribute(1, nf.TABLE_BYTES)  # how every request begins


_SET_COUNT: Final = 20  # NFTA_SET_COUNT: how many elements a set has, from newer kernels
_HEADLESS: Final = bytes(nf.NFGEN_BYTES)
V = TypeVar("V")


def _plain(body: bytes) -> bytes:
    """Without the header, which has the number of the machine's last transaction."""
    return body[nf.NFGEN_BYTES :]


def _attributes(plain: bytes) -> Held:
    return dict(attributes(plain))


class NftablesDataplane:
    """Works in the network namespace of the thread that made it."""

    def __init__(self) -> None:
        self._kernel = NetlinkSocket(NETLINK_NETFILTER)
        self._sightings = SightingsReader()
        self._last: tuple[object, Listing] | None = None  # what was read, and what it came to

    def close(self) -> None:
        self._kernel.close()
        self._sightings.close()

    # --- reading ---

    def structure(self) -> str | None:
        found = self._listing()
        return None if found is None else found.text

    def definitions(self, structure: Structure) -> frozenset[str]:
        return definitions(compile_rules(structure.text()))

    def read(self) -> KernelState:
        found = self._listing()
        if found is None:
            return NO_TABLE
        return KernelState(
            structure=found.text,
            chain_names=found.chains,
            definitions=found.definitions,
            elements={
                where: self._elements(where, partial(nf.plain, where))
                if where in found.sets
                else {}
                for where in ORDERED
            }
            | {
                where: self._elements(where, partial(nf.plain, where))
                for where in filter(None, map(group_set, found.sets))
            },
            timed={
                where: self.timed(where)
                for where in (*TIMED, *filter(None, map(opening_set, found.sets)))
            },
            enforce=self.enforce(),
            require=self.require() if "require" in found.sets else None,
            narrowed=self.narrowed() if "narrowed" in found.sets else None,
            missing=OPTIONAL - found.sets,
            handle=found.handle,
            marked_down=found.marked_down,
        )

    def timed(self, where: SetName) -> dict[str, int]:
        return self._elements(where, nf.timed)

    def enforce(self) -> dict[str, int | None]:
        return self._elements("enforce", nf.enforced)

    def require(self) -> dict[str, int | None]:
        return self._elements("require", nf.required)

    def narrowed(self) -> dict[str, int | None]:
        return self._elements("narrowed", nf.enforced)

    def counters(self) -> dict[str, int]:
        return self._counted(nf.COUNTER_PACKETS)

    def counted_bytes(self) -> dict[str, int]:
        return self._counted(nf.COUNTER_BYTES)

    def _counted(self, what: int) -> dict[str, int]:
        found = {}
        for one in self._all(nf.GETOBJ):
            if int.from_bytes(one.get(nf.OBJECT_TYPE, b"")) == nf.COUNTER_OBJECT:
                counted = dict(attributes(one.get(nf.OBJECT_DATA, b"")))
                name = one[nf.OBJECT_NAME].rstrip(b"\0").decode(errors="backslashreplace")
                found[name] = int.from_bytes(counted.get(what, b""))
        return found

    def sightings(self) -> list[Sighting]:
        return self._sightings.read()

    def unasked(self) -> list[Sighting]:
        return self._sightings.unasked()

    def leftovers(self) -> list[Call]:
        return self._sightings.leftovers()

    def _listing(self) -> Listing | None:
        """Nearly every look finds everything unchanged: then nothing that was read is parsed."""
        try:
            table = self._raw_table()
        except KernelRefused as error:
            if error.number == errno.ENOENT:
                return None
            raise
        sets = self._all(nf.GETSET)
        for one in sets:
            one.pop(_SET_COUNT, None)  # changes with each member
        anonymous = [one[nf.SET_NAME] for one in sets if is_anonymous(one)]
        inline = {which: self._raw(nf.GETSETELEM, which) for which in anonymous}
        objects = self._all(nf.GETOBJ)
        chains, rules = self._raw(nf.GETCHAIN), self._raw(nf.GETRULE)
        # Of objects only what never changes: a counter's packets do.
        named = [(one.get(nf.OBJECT_NAME), one.get(nf.OBJECT_TYPE)) for one in objects]
        read = (table, sets, inline, named, chains, rules)
        if self._last is not None and self._last[0] == read:
            return self._last[1]
        found = listing(
            _attributes(table),
            sets,
            objects,
            # The kernel lists the chains of all tables of the family.
            [one for one in map(_attributes, chains) if one.get(1) == nf.TABLE_BYTES],
            map(_attributes, rules),
            lambda name: nf.elements(_HEADLESS + body for body in inline.get(name, ())),
        )
        self._last = read, found
        return found

    def words(self) -> Words:
        """The table as the kernel holds it, in nft's words. Raises DataplaneError."""
        sets = self._raw(nf.GETSET)
        anonymous = [one[nf.SET_NAME] for one in map(_attributes, sets) if is_anonymous(one)]
        chains = [
            one for one in self._raw(nf.GETCHAIN) if _attributes(one).get(1) == nf.TABLE_BYTES
        ]
        held_there = [
            (nf.NEWTABLE, self._raw_table()),
            *((nf.NEWSET, one) for one in sets),
            *((nf.NEWSETELEM, one) for name in anonymous for one in self._raw(nf.GETSETELEM, name)),
            *((nf.NEWOBJ, one) for one in self._raw(nf.GETOBJ)),
            *((nf.NEWCHAIN, one) for one in chains),
            *((nf.NEWRULE, one) for one in self._raw(nf.GETRULE)),
        ]
        command = f"list table {FAMILY_TABLE}"
        return in_words(printed(command, ((kind, nf.INET + body) for kind, body in held_there)))

    def _raw_table(self) -> bytes:
        return _plain(self._kernel.ask(nf.GETTABLE, _OF_TABLE)[0])

    def _raw(self, kind: int, which: bytes | None = None) -> list[bytes]:
        asked = _OF_TABLE if which is None else _OF_TABLE + attribute(nf.LIST_SET, which)
        return [_plain(body) for body in self._kernel.listed(kind, asked, ignore=_GONE)]

    def _all(self, kind: int) -> list[Held]:
        return [_attributes(body) for body in self._raw(kind)]

    def _elements(
        self, where: SetName, parsed: Callable[[Iterable[bytes]], list[tuple[str, V]]]
    ) -> dict[str, V]:
        """Nothing if somebody removed the set: the structure differs then too, and is replaced.

        A list without a repetition is whole. The kernel sends it in parts of some 2,000 elements,
        and begins each anew behind as many as it has sent (``nft_rhash_walk``). A set that was just
        filled is still being spread over a larger table (``lib/rhashtable.c``), which changes its
        order, and no flag says so. For each element that this moves to where the list has been,
        another one moves the other way, and is sent a second time.
        """
        for _ in range(_LISTS):
            bodies = self._kernel.listed(nf.GETSETELEM, nf.asked(where), ignore=_GONE)
            pairs = parsed(nf.elements(bodies))
            found = dict(pairs)
            if len(found) == len(pairs):
                break
        return found

    def marked_down(self) -> bool:
        return way_out.has_down_mark()

    # --- writing ---

    def disarm(self) -> bool:
        return way_out.disarm()

    def mark_down(self) -> None:
        way_out.leave_down_mark()

    def remove(self) -> bool:
        return way_out.remove_table()

    def apply(self, transaction: Transaction) -> None:
        orders: list[Order] = []
        starts = []
        for command in transaction.commands:
            starts.append(len(orders))
            orders += _orders(command)
        if not orders:
            return
        refused = self._kernel.batch(nf.SUBSYSTEM, orders)
        if refused is not None:
            place, number = refused
            command = transaction.commands[max(0, bisect.bisect_right(starts, place) - 1)]
            raise _explained(command, place, number, orders)
        if sum(len(body) for _, _, body in orders) > _LARGE * 16:
            del orders
            malloc.give_back()


def _orders(command: Command) -> Iterator[Order]:
    match command:
        case AddElements(where, items):
            yield from nf.add(where, items)
        case AddTimed(where, timeouts):
            yield from nf.add_timed(where, {key: left * 1000 for key, left in timeouts.items()})
        case DeleteElements(where, keys):
            yield from nf.delete(where, keys)
        case Drop(milliseconds, where):
            yield from nf.add_drop(milliseconds, where)
        case Require(milliseconds):
            yield from nf.add_require(milliseconds)
        case DeleteTable(handle):
            yield nf.delete_table(handle)
        case CreateTable(structure):
            for kind, flags, body in compile_rules(structure.text()):
                # If somebody has made the table meanwhile, ours must not be written into it.
                yield kind, flags | (NLM_F_EXCL if kind == nf.NEWTABLE else 0), body
        case RewriteChains(structure, chains):
            yield from nf.delete_chains(chains)
            yield from chains_only(compile_rules(structure.text()))


def _explained(command: Command, place: int, number: int, orders: list[Order]) -> DataplaneError:
    why = os.strerror(number)
    if number in (errno.EPERM, errno.EACCES):
        return DataplaneUnavailable(NOT_PERMITTED)
    what = _named(command, place, orders)
    # A new table brings along all that its rules and chains name, so what is missing there is a
    # kind of chain or expression that this kernel does not know.
    unknown = place >= 0 and number == errno.ENOENT and isinstance(command, CreateTable)
    if unknown or number in _UNKNOWN:
        return DataplaneError(
            f"this kernel, Linux {os.uname().release}, does not have a part of nftables that Neti "
            f"needs: {what!r}: {why}. Neti needs Linux {OLDEST_LINUX} or later, with the modules "
            "of nftables"
        )
    if number in _MOVED:
        return KernelMoved(f"nftables refused {what!r}: {why}")
    return DataplaneError(f"nftables refused {what!r}: {why}")


def _named(command: Command, place: int, orders: list[Order]) -> str:
    """The rule or chain that was refused, where it was one; otherwise the command's first line."""
    kind, _, body = orders[place]
    if place >= 0 and isinstance(command, CreateTable | RewriteChains):
        if kind == nf.NEWRULE:
            chain = held(body)[nf.RULE_CHAIN]
            before = sum(
                1
                for k, _, b in orders[:place]
                if k == nf.NEWRULE and held(b)[nf.RULE_CHAIN] == chain
            )
            name = chain.rstrip(b"\0").decode()
            return f"chain {name}: {command.structure.rule(name, before)}"
        if kind == nf.NEWCHAIN:
            name = held(body)[nf.CHAIN_NAME].rstrip(b"\0").decode()
            hooks = (one.hook for one in command.structure.chains if one.name == name)
            return f"chain {name}: {next(hooks, None) or 'a plain one'}"
    return printable(str(command).lstrip().partition("\n")[0], _SHOWN)

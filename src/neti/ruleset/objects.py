"""What ``table inet neti`` may hold, and what can be done to it, as inert data. Pure.

The table has two parts that change at very different rates. Its *structure* (sets and chains, a
page of text) changes with the configuration and the host's interfaces. Its *elements* (who is a
member) change with the fleet, one at a time: see ``neti.ruleset.delta``. ``neti.ruleset.enforce``
has the map that makes the difference between shadow and enforced, and the set that makes the one
between preferred and required encryption.

It promises that nothing reaches the kernel but a Transaction, which prints as nft would take it.
Commands are strict: what is added must be absent, and what is deleted must be there. So a kernel
that is not as it was read refuses the whole transaction.

Must never do: read or write anything, or name a table that is not ours.
"""

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, get_args

from neti.ruleset.set_names import KeptSet, SetName, group_set, opening_set

FAMILY_TABLE: Final = "inet neti"

ORDERED: Final[tuple[SetName, ...]] = get_args(KeptSet)
# Of a port, an address or UDP: where it leads (see ``neti.ruleset.policy_gateway``).
_GATEWAY_MAPS: Final[frozenset[SetName]] = frozenset(
    {
        "gateway_near",
        "gateway_far",
        "gateway_inside",
        "gateway_own",
        "gateway_direct",
        "gateway_public",
    }
)
GATEWAY_SETS: Final[frozenset[SetName]] = _GATEWAY_MAPS | {"gateways"}
# Not in every structure: only hosts that encrypt have them, and those that use gateways.
OPTIONAL: Final[frozenset[SetName]] = GATEWAY_SETS | {
    "tunnel_peers",
    "tunneled",
    "clear4",
    "clear6",
    "outside4",
}
# What is in these is refused on its way out too, so an address that must be reached is never there.
REFUSED: Final[frozenset[SetName]] = frozenset({"clear4", "clear6"})
# The value of a wish that keeps a key out of these, whoever else wishes for it.
SPARED: Final = "spared"
LISTENING: Final[Mapping[str, SetName]] = {"tcp": "tcp_listening", "udp": "udp_listening"}
TIMED: Final[tuple[SetName, ...]] = ("revoked4", "revoked6", "grace")
MAPS: Final[frozenset[SetName]] = frozenset({"overlay", "enforce", "narrowed", *_GATEWAY_MAPS})
FAMILIES: Final = ("ipv4", "ipv6")  # the keys of maps enforce and narrowed, and of set require
FOREIGN: Final = -1  # in place of the seconds left, where the map holds what we never write
RELAXED_MARK: Final = "78"  # the key of what dataplane.way_out leaves in a map that it emptied
FOREVER: Final = 10**9  # seconds of an element that has no end, in a set where each should have one
REVOKED_BY: Final[Mapping[SetName, SetName]] = {"peers4": "revoked4", "peers6": "revoked6"}
# How long the kernel keeps an element of the shadow's sets after the last packet, and how many of
# them one of these sets has room for.
SEEN_SECONDS: Final = 3600
SEEN_SIZE: Final = 16384


@dataclass(frozen=True, slots=True)
class Chain:
    """``hook``: the whole ``type … hook … priority …; policy …;`` line; None: a plain chain."""

    name: str
    hook: str | None
    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Structure:
    """Everything but the elements, in nft's own words. ``sets``: name and body of each set."""

    sets: tuple[tuple[str, str], ...]
    chains: tuple[Chain, ...]

    def text(self) -> str:
        """The table as a file that ``nft -f`` takes."""
        return f"table {FAMILY_TABLE} {{\n{self._sets()}{self._chains()}}}\n"

    def chains_text(self) -> str:
        return f"table {FAMILY_TABLE} {{\n{self._chains()}}}\n"

    def defines(self, where: SetName) -> bool:
        kind = "map" if where in MAPS else "set"
        named = group_set(where) or opening_set(where)
        always = where not in OPTIONAL and named is None
        return always or self.has(f"{kind} {where}")

    def has(self, named: str) -> bool:
        """``named``: kind and name of a set, map or counter."""
        return any(name == named for name, _ in self.sets)

    def rule(self, chain: str, place: int) -> str | None:
        """The rule's own words, by its place in its chain."""
        for one in self.chains:
            if one.name == chain and place < len(one.rules):
                return one.rules[place]
        return None

    def _sets(self) -> str:
        return "".join(f"\t{name} {{\n\t\t{body}\n\t}}\n\n" for name, body in self.sets)

    def _chains(self) -> str:
        blocks = []
        for chain in self.chains:
            lines = ([chain.hook] if chain.hook else []) + list(chain.rules)
            blocks.append(
                f"\tchain {chain.name} {{\n" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"
            )
        return "\n".join(blocks)


@dataclass(frozen=True, slots=True)
class KernelState:
    """What was read back. ``structure``: table, sets, chains and rules in our own form, which stays
    the same as long as nobody changes them; None: no table. ``definitions``: those of the named
    sets, maps and counters, to compare with what a structure would define.

    ``timed`` are elements with the seconds that they have left: of ``TIMED``, and of each set of
    openings that the table has. ``enforce``: by key, the seconds
    that its drop has left (0: less than one); None: no end; FOREIGN: something that we never write.
    ``require``: the same of set ``require``, whose elements have no value, and ``narrowed`` of that
    map; None: the table has no such set. ``missing``: those of ``OPTIONAL`` that it does not have.
    ``handle``: the kernel's number of this very table; one of the same name that is made later has
    another. ``marked_down``: it is the mark that ``neti down`` leaves where no disk takes its word.
    """

    structure: str | None
    chain_names: tuple[str, ...] = ()
    definitions: frozenset[str] = frozenset()
    elements: Mapping[SetName, Mapping[str, str]] = field(default_factory=dict)
    timed: Mapping[SetName, Mapping[str, int]] = field(default_factory=dict)
    enforce: Mapping[str, int | None] = field(default_factory=dict)
    require: Mapping[str, int | None] | None = None
    narrowed: Mapping[str, int | None] | None = None
    missing: frozenset[SetName] = frozenset()
    handle: int | None = None
    marked_down: bool = False

    @property
    def armed(self) -> bool:
        """Whether both families are dropped, with or without an end."""
        held = [self.enforce.get(family, FOREIGN) for family in FAMILIES]
        return all(left != FOREIGN for left in held)

    @property
    def drops(self) -> bool:
        """Whether anybody is kept out, on trial or for good."""
        return any(left != FOREIGN for left in self.enforce.values())

    @property
    def armed_for_good(self) -> bool:
        return all(self.enforce.get(family, 0) is None for family in FAMILIES)

    @property
    def requires(self) -> bool:
        """Whether what is in the clear is refused, with or without an end, by both families."""
        return self.require is not None and self.require.keys() >= set(FAMILIES)

    @property
    def requires_for_good(self) -> bool:
        held = self.require or {}
        return all(held.get(family, 0) is None for family in FAMILIES)

    @property
    def narrows(self) -> bool:
        """Whether members are kept out on trial, by both families, of what ``member_ports`` takes
        away."""
        held = self.narrowed or {}
        return all(held.get(family, FOREIGN) != FOREIGN for family in FAMILIES)

    @property
    def relaxed_by_hand(self) -> bool:
        """An operator emptied map ``enforce`` without the agent (see dataplane.way_out)."""
        return RELAXED_MARK in self.enforce


NO_TABLE: Final = KernelState(structure=None)


# --- commands: what is done to the table, one after the other; each prints as nft would take it ---


@dataclass(frozen=True, slots=True)
class AddElements:
    """Elements without a time-out; each must be absent. ``items``: value by key, in maps."""

    where: SetName
    items: Mapping[str, str]

    def __str__(self) -> str:
        if self.where in MAPS:
            return _element("add", self.where, (f"{k} : {v}" for k, v in self.items.items()))
        return _element("add", self.where, self.items)


@dataclass(frozen=True, slots=True)
class AddTimed:
    """Elements that the kernel takes out after so many seconds; each must be absent."""

    where: SetName
    timeouts: Mapping[str, int]

    def __str__(self) -> str:
        listed = (f"{key} timeout {left}s" for key, left in self.timeouts.items())
        return _element("add", self.where, listed)


@dataclass(frozen=True, slots=True)
class DeleteElements:
    """Each must be there."""

    where: SetName
    keys: tuple[str, ...]

    def __str__(self) -> str:
        return _element("delete", self.where, self.keys)


@dataclass(frozen=True, slots=True)
class Drop:
    """Both families into map ``enforce``, or another one of verdicts, for good or for so many
    milliseconds; each absent."""

    milliseconds: int | None = None
    where: SetName = "enforce"

    def __str__(self) -> str:
        until = "" if self.milliseconds is None else f" timeout {self.milliseconds}ms"
        return _element("add", self.where, (f"{family}{until} : drop" for family in FAMILIES))


@dataclass(frozen=True, slots=True)
class Require:
    """Both families into set ``require``, for good or for so many milliseconds; each absent."""

    milliseconds: int | None = None

    def __str__(self) -> str:
        until = "" if self.milliseconds is None else f" timeout {self.milliseconds}ms"
        return _element("add", "require", (f"{family}{until}" for family in FAMILIES))


@dataclass(frozen=True, slots=True)
class DeleteTable:
    """``handle``: only the table with this number, which must be there: by its name alone, one that
    somebody put in its place after it was read would go too. None: by its name."""

    handle: int | None = None

    def __str__(self) -> str:
        if self.handle is None:
            return f"delete table {FAMILY_TABLE}"
        return f"delete table {FAMILY_TABLE.split()[0]} handle {self.handle}"


@dataclass(frozen=True, slots=True)
class CreateTable:
    """Sets and chains of a table that is absent."""

    structure: Structure

    def __str__(self) -> str:
        return self.structure.text()


@dataclass(frozen=True, slots=True)
class RewriteChains:
    """Take out the chains that are ``held`` and write those of ``structure``; sets stay."""

    structure: Structure
    held: tuple[str, ...]

    def __str__(self) -> str:
        # All are flushed first, because a chain that a rule jumps to cannot be deleted.
        gone = [f"{verb} chain {FAMILY_TABLE} {n}\n" for verb in _AWAY for n in self.held]
        return "".join(gone) + self.structure.chains_text()


_AWAY: Final = ("flush", "delete")
Command = (
    AddElements
    | AddTimed
    | DeleteElements
    | Drop
    | Require
    | DeleteTable
    | CreateTable
    | RewriteChains
)


@dataclass(frozen=True, slots=True)
class Transaction:
    """Commands for the kernel, all or nothing, in order. Falsy when there is nothing to do."""

    commands: tuple[Command, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.commands)

    def text(self) -> str:
        """As nft would take it."""
        lines = map(str, self.commands)
        return "".join(line if line.endswith("\n") else line + "\n" for line in lines)


def set_timeouts(
    where: SetName, timeouts: Mapping[str, int], held: Container[str]
) -> Iterator[Command]:
    """Set the keys' time-outs. ``held``: keys that are there. Those are deleted first, because
    adding an element again does not refresh its time-out."""
    there = tuple(key for key in timeouts if key in held)
    if there:
        yield DeleteElements(where, there)
    yield AddTimed(where, timeouts)


def _element(verb: str, where: SetName, elements: Iterable[str]) -> str:
    return f"{verb} element {FAMILY_TABLE} {where} {{ {', '.join(elements)} }}"

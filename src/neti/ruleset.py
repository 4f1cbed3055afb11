"""What ``table inet neti`` may hold, in nft's own words, as inert data. Pure.

The table has two parts of very different tempo. Its *structure* (sets and chains, a page of text)
changes with the configuration and the host's interfaces. Its *elements* (who is a member) change
with the fleet, one at a time: those stand in ``neti.elements``, and ``neti.enforcement`` says what
the one map holds that makes the difference between shadow and enforced.

It promises that a Transaction is all that would be sent to the kernel, and prints as that.

Must never do: read or write anything, or name a table that is not ours.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

FAMILY_TABLE: Final = "inet neti"

SetName = Literal[
    "overlay",
    "peers4",
    "peers6",
    "across4",
    "across6",
    "tcp_listening",
    "udp_listening",
    "revoked4",
    "revoked6",
    "grace",
    "enforce",
]

# Whose elements are this program's to order. The others' elements end by the kernel's own clock.
ORDERED: Final[tuple[SetName, ...]] = (
    "overlay",
    "peers4",
    "peers6",
    "across4",
    "across6",
    "tcp_listening",
    "udp_listening",
)
LISTENING: Final[Mapping[str, SetName]] = {"tcp": "tcp_listening", "udp": "udp_listening"}
TIMED: Final[tuple[SetName, ...]] = ("revoked4", "revoked6", "grace")
MAPS: Final = frozenset({"overlay", "enforce"})
FAMILIES: Final = ("ipv4", "ipv6")  # the keys of map enforce
FOREIGN: Final = -1  # in place of the seconds left, where the map holds what we never write
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
    """What was read back. ``structure`` is nft's own listing without elements; None: no table.

    ``timed`` are elements with the seconds that they have left. ``enforce``: by key, the seconds
    that its drop has left (0: less than one); None: no end; FOREIGN: something that we never write.
    """

    structure: str | None
    chain_names: tuple[str, ...] = ()
    elements: Mapping[SetName, Mapping[str, str]] = field(default_factory=dict)
    timed: Mapping[SetName, Mapping[str, int]] = field(default_factory=dict)
    enforce: Mapping[str, int | None] = field(default_factory=dict)

    @property
    def armed(self) -> bool:
        """Whether both families are dropped, with or without an end."""
        held = [self.enforce.get(family, FOREIGN) for family in FAMILIES]
        return all(left != FOREIGN for left in held)

    @property
    def armed_for_good(self) -> bool:
        return all(self.enforce.get(family, 0) is None for family in FAMILIES)


NO_TABLE: Final = KernelState(structure=None)


@dataclass(frozen=True, slots=True)
class Transaction:
    """Commands for the kernel, all or nothing, in order. Falsy when there is nothing to do."""

    commands: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.commands)

    def text(self) -> str:
        return "".join(
            command if command.endswith("\n") else command + "\n" for command in self.commands
        )


def add_command(where: SetName, items: Mapping[str, str]) -> str:
    if where in MAPS:
        return element_command("add", where, (f"{key} : {value}" for key, value in items.items()))
    return element_command("add", where, items)


def timed_commands(where: SetName, timeouts: Mapping[str, int]) -> Iterator[str]:
    """Set the keys' time-outs (seconds), whether or not they are there."""
    yield element_command("add", where, timeouts)
    yield element_command("delete", where, timeouts)
    yield element_command(
        "add", where, (f"{key} timeout {left}s" for key, left in timeouts.items())
    )


def element_command(verb: str, where: SetName, elements: Iterable[str]) -> str:
    return f"{verb} element {FAMILY_TABLE} {where} {{ {', '.join(elements)} }}"

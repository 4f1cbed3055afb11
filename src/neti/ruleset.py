"""What ``table inet neti`` should hold, as inert data; the difference to what it holds; no I/O.

A Ruleset has two parts of very different tempo. Its *structure* (sets and chains, a page of text)
changes with the configuration and the host's interfaces. Its *elements* (who is a member) change
with the fleet, one at a time, and must cost the same with ten members and with sixteen thousand:
``Elements`` keeps desired and kernel state apart and remembers which keys may differ, so that a
change touches only itself. A Transaction is what would be sent to the kernel, and prints as that.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final, Literal

FAMILY_TABLE: Final = "inet neti"

SetName = Literal["overlay", "peers4", "peers6", "revoked4", "revoked6", "grace", "enforce"]

# Whose elements are this program's to order. The others' elements end by the kernel's own clock.
ORDERED: Final[tuple[SetName, ...]] = ("overlay", "peers4", "peers6")
TIMED: Final[tuple[SetName, ...]] = ("revoked4", "revoked6", "grace")
MAPS: Final = frozenset({"overlay", "enforce"})
FAMILIES: Final = ("ipv4", "ipv6")  # the keys of map enforce
REVOKED_BY: Final[Mapping[SetName, SetName]] = {"peers4": "revoked4", "peers6": "revoked6"}
# How long the kernel keeps an element of seen4, seen6, forwarded, redirected after the last packet.
SEEN_SECONDS: Final = 3600


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
class Enforcement:
    """What map ``enforce`` should hold: nothing, drop for good, or drop for ``seconds``, after
    which the kernel itself goes back to shadow."""

    permanent: bool = False
    seconds: float = 0

    def __bool__(self) -> bool:
        return self.permanent or self.seconds > 0

    def elements(self) -> str:
        until = "" if self.permanent else f" timeout {max(1, int(self.seconds * 1000))}ms"
        return ", ".join(f"{family}{until} : drop" for family in FAMILIES)


FOREIGN: Final = -1
OFF: Final = Enforcement()
PERMANENT: Final = Enforcement(permanent=True)


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


class Elements:
    """Desired and kernel elements of the ordered sets, and the keys in which they may differ.

    A key may be wanted several times (two members behind one public address); it goes when the
    last wish goes. Values are held per wish: the map shows the smallest, so that the outcome does
    not depend on the order in which wishes came. Not thread-safe: the agent's loop owns it.
    """

    def __init__(self, *, revoke_seconds: int) -> None:
        self.revoke_seconds = revoke_seconds
        self.enforcement = OFF  # compared with the kernel only where the kernel was read
        self._wishes: dict[SetName, dict[str, Counter[str] | str]] = {s: {} for s in ORDERED}
        self._kernel: dict[SetName, dict[str, str]] = {s: {} for s in ORDERED}
        self._revoked: dict[SetName, set[str]] = {"revoked4": set(), "revoked6": set()}
        self._dirty: dict[SetName, set[str]] = {s: set() for s in ORDERED}

    # --- wishes ---

    def want(self, where: SetName, key: str, value: str = "") -> None:
        wishes = self._wishes[where]
        held = wishes.get(key)
        if held is None:
            wishes[key] = value  # nearly every key is wanted once: no Counter for those
        elif isinstance(held, str):
            wishes[key] = Counter((held, value))
        else:
            held[value] += 1
        self._dirty[where].add(key)

    def unwant(self, where: SetName, key: str, value: str = "") -> None:
        """Take back one ``want`` with these very arguments."""
        wishes = self._wishes[where]
        held = wishes[key]
        if isinstance(held, str):
            if held != value:
                raise KeyError(value)
            del wishes[key]
        else:
            if held[value] == 1:  # a Counter keeps a key that was counted down to nothing
                del held[value]
            elif held[value] > 1:
                held[value] -= 1
            else:
                raise KeyError(value)
            if held.total() == 1:
                wishes[key] = next(iter(held))
        self._dirty[where].add(key)

    def wants(self, where: SetName, key: str) -> bool:
        return key in self._wishes[where]

    def leads(self, overlay: IPv4Address) -> IPv4Address | None:
        """Where the overlay address should lead."""
        held = self._wishes["overlay"].get(str(overlay))
        return None if held is None else IPv4Address(_shown(held))

    def desired(self, where: SetName) -> dict[str, str]:
        return {key: _shown(held) for key, held in self._wishes[where].items()}

    # --- the kernel's side ---

    def kernel_is(self, state: KernelState) -> None:
        """Believe what was read back: from now on the difference to this is what is pending."""
        for where in ORDERED:
            self._kernel[where] = dict(state.elements.get(where, {}))
            self._dirty[where] = self._kernel[where].keys() ^ self._wishes[where].keys()
            self._dirty[where] |= {k for k in self._kernel[where] if self._differs(where, k)}
        for revoked in self._revoked:
            self._revoked[revoked] = set(state.timed.get(revoked, {}))

    def believe(self, other: "Elements") -> None:
        """The same belief about the kernel; wishes are each's own."""
        self.enforcement = other.enforcement
        held = {revoked: dict.fromkeys(keys, 0) for revoked, keys in other._revoked.items()}
        self.kernel_is(KernelState(structure=None, elements=other._kernel, timed=held))

    def differences(self, state: KernelState) -> dict[SetName, int]:
        """How many keys of each set the kernel holds otherwise than it is believed to."""
        counts = {}
        for where in ORDERED:
            held, believed = state.elements.get(where, {}), self._kernel[where]
            if held != believed:
                counts[where] = len(dict(held.items() ^ believed.items()))
        return counts

    @property
    def kernel(self) -> Mapping[SetName, Mapping[str, str]]:
        return self._kernel

    @property
    def revoked(self) -> Mapping[SetName, frozenset[str]]:
        return {name: frozenset(keys) for name, keys in self._revoked.items()}

    @property
    def pending(self) -> bool:
        return any(self._dirty.values())

    def changes(self) -> "Changes":
        """What must be done to the kernel. Costs what the keys that may differ number."""
        changes = Changes()
        for where in ORDERED:
            wishes, kernel = self._wishes[where], self._kernel[where]
            for key in tuple(self._dirty[where]):
                if not self._differs(where, key):
                    self._dirty[where].discard(key)
                    continue
                if key in kernel:
                    changes.remove(where, key)
                if key in wishes:
                    changes.add(where, key, _shown(wishes[key]))
            self._shrink(where)
        self._revocations(changes)
        return changes

    def _differs(self, where: SetName, key: str) -> bool:
        held = self._wishes[where].get(key)
        return (None if held is None else _shown(held)) != self._kernel[where].get(key)

    def _shrink(self, where: SetName) -> None:
        """A set that was once large stays a large table, and every look walks all of it: after a
        start with 16,000 members that costs each change 0.2 ms."""
        if not self._dirty[where]:
            self._dirty[where].clear()

    def _revocations(self, changes: "Changes") -> None:
        for peers, revoked in REVOKED_BY.items():
            added = changes.added.get(peers, {})
            for key in changes.removed.get(peers, ()):
                if key not in added:
                    changes.revoke(revoked, key, self.revoke_seconds)
            for key in added:
                if key in self._revoked[revoked]:
                    changes.pardon(revoked, key)

    def applied(self, changes: "Changes") -> None:
        """The kernel took ``changes``; keys that were not among them may still differ."""
        for where, keys in changes.removed.items():
            for key in keys:
                self._kernel[where].pop(key, None)
        for where, items in changes.added.items():
            self._kernel[where].update(items)
        for where in changes.removed.keys() | changes.added.keys():
            touched = (*changes.removed.get(where, ()), *changes.added.get(where, ()))
            self._dirty[where].difference_update(
                key for key in touched if not self._differs(where, key)
            )
            self._shrink(where)
        for revoked, timeouts in changes.revoked.items():
            self._revoked[revoked].update(timeouts)
        for revoked, keys in changes.pardoned.items():
            self._revoked[revoked].difference_update(keys)

    def forget_revoked(self, where: SetName, keys: Iterable[str]) -> None:
        """These are no longer in the kernel's set of removed sources."""
        self._revoked[where].difference_update(keys)


def _shown(held: Counter[str] | str) -> str:
    return held if isinstance(held, str) else min(held)


@dataclass(slots=True)
class Changes:
    """Element changes of one transaction."""

    removed: dict[SetName, list[str]] = field(default_factory=dict)
    added: dict[SetName, dict[str, str]] = field(default_factory=dict)
    revoked: dict[SetName, dict[str, int]] = field(default_factory=dict)
    pardoned: dict[SetName, list[str]] = field(default_factory=dict)

    def remove(self, where: SetName, key: str) -> None:
        self.removed.setdefault(where, []).append(key)

    def add(self, where: SetName, key: str, value: str) -> None:
        self.added.setdefault(where, {})[key] = value

    def revoke(self, where: SetName, key: str, seconds: int) -> None:
        self.revoked.setdefault(where, {})[key] = seconds

    def pardon(self, where: SetName, key: str) -> None:
        self.pardoned.setdefault(where, []).append(key)

    def count(self) -> int:
        return sum(map(len, self.removed.values())) + sum(map(len, self.added.values()))

    def commands(self) -> Iterator[str]:
        """In the order that the kernel needs: what goes first, since re-adding a key with another
        value is ``File exists``. An address counts as removed before it stops being a peer."""
        for where, timeouts in self.revoked.items():
            # An element that is there already keeps its old timeout unless it is deleted, and one
            # that expired meanwhile cannot be deleted: add, delete, add serves all cases.
            yield from timed_commands(where, timeouts)
        for where, keys in self.removed.items():
            yield _command("delete", where, keys)
        for where, items in self.added.items():
            yield add_command(where, items)
        for where, keys in self.pardoned.items():
            yield _command("add", where, keys)
            yield _command("delete", where, keys)


def add_command(where: SetName, items: Mapping[str, str]) -> str:
    if where in MAPS:
        return _command("add", where, (f"{key} : {value}" for key, value in items.items()))
    return _command("add", where, items)


def timed_commands(where: SetName, timeouts: Mapping[str, int]) -> Iterator[str]:
    """Set the keys' time-outs (seconds), whether or not they are there."""
    yield _command("add", where, timeouts)
    yield _command("delete", where, timeouts)
    yield _command("add", where, (f"{key} timeout {left}s" for key, left in timeouts.items()))


def _command(verb: str, where: SetName, elements: Iterable[str]) -> str:
    return f"{verb} element {FAMILY_TABLE} {where} {{ {', '.join(elements)} }}"


# Two seconds: the kernel tells whole seconds, and time passes between reading and applying.
_TRIAL_SLACK: Final = 2


def enforce_commands(wanted: Enforcement, held: Mapping[str, int | None]) -> tuple[str, ...]:
    """What makes map ``enforce``, which holds ``held``, as it is wanted.

    A trial whose elements are gone is over, and is not begun again here: only ``begin_trial`` may.
    """
    as_it_is = set(held) == set(FAMILIES)
    if wanted.permanent:
        if as_it_is and all(left is None for left in held.values()):
            return ()
        return begin_trial(wanted, held)
    if wanted.seconds and as_it_is and FOREIGN not in held.values():
        most = wanted.seconds + _TRIAL_SLACK
        if all(left is not None and left <= most for left in held.values()):
            return ()
        return begin_trial(wanted, held)
    ours = [key for key, left in held.items() if left != FOREIGN]
    return (*_without_foreign(held), *(_surely_deleted(ours) if ours else ()))


def begin_trial(wanted: Enforcement, held: Mapping[str, int | None]) -> tuple[str, ...]:
    """Commands that arm the kernel as ``wanted``, its time-out counted from now."""
    return (
        *_without_foreign(held),
        *_surely_deleted(FAMILIES),
        _command("add", "enforce", (wanted.elements(),)),
    )


def confirm_trial() -> tuple[str, ...]:
    """Commands that take the time-out off a trial. They fail as a whole once it is over, however
    long this process was stopped between deciding and applying."""
    return (
        _command("delete", "enforce", FAMILIES),
        _command("add", "enforce", (PERMANENT.elements(),)),
    )


def _surely_deleted(families: Iterable[str]) -> tuple[str, str]:
    """One that ends by the kernel's clock just now cannot be deleted: add it first. And adding
    alone would not refresh a time-out."""
    keys = tuple(families)
    drops = [f"{family} : drop" for family in keys]
    return _command("add", "enforce", drops), _command("delete", "enforce", keys)


def _without_foreign(held: Mapping[str, int | None]) -> tuple[str, ...]:
    foreign = [key for key, left in held.items() if left == FOREIGN]
    return (_command("delete", "enforce", foreign),) if foreign else ()


def replacement(
    structure: Structure, elements: Elements, kernel: KernelState, *, grace_seconds: int
) -> Transaction:
    """The whole table anew in one transaction: no packet meets a moment without it.

    Removed sources and what is left of the grace time are carried over, and who is no peer in the
    new table becomes a removed source with it; a table that is made for the first time starts its
    grace time now.
    """
    commands: list[str] = []
    armed = elements.enforcement
    if not armed.permanent:
        # A trial is carried over with what the kernel says is left of it, and only if it is not
        # over by the time that this is applied: the deletion fails then, and all of it with it.
        left = min(kernel.enforce.get(family) or 0 for family in FAMILIES)
        armed = Enforcement(seconds=max(0, min(armed.seconds, left)))
        if armed:
            commands.append(_command("delete", "enforce", FAMILIES))
    if kernel.structure is not None:
        commands.append(f"delete table {FAMILY_TABLE}")
    commands.append(structure.text())
    if armed:
        commands.append(_command("add", "enforce", (armed.elements(),)))
    for where in ORDERED:
        wanted = elements.desired(where)
        if wanted:
            commands.append(add_command(where, wanted))
    timed: dict[SetName, dict[str, int]] = {k: dict(v) for k, v in kernel.timed.items()}
    for peers, revoked in REVOKED_BY.items():
        wanted = elements.desired(peers)
        carried = {k: left for k, left in timed.get(revoked, {}).items() if k not in wanted}
        gone = kernel.elements.get(peers, {}).keys() - wanted.keys()
        timed[revoked] = carried | dict.fromkeys(sorted(gone), elements.revoke_seconds)
    if kernel.structure is None and grace_seconds > 0:
        timed["grace"] = {"ipv4": grace_seconds, "ipv6": grace_seconds}
    for where, timeouts in timed.items():
        current = {key: left for key, left in timeouts.items() if left > 0}
        if current:
            commands.extend(timed_commands(where, current))
    return Transaction(tuple(commands))


def rewrite_chains(structure: Structure, kernel: KernelState) -> tuple[str, ...]:
    """Commands that replace every chain and leave the sets alone. Jumps are flushed first."""
    flush = [f"flush chain {FAMILY_TABLE} {name}" for name in kernel.chain_names]
    delete = [f"delete chain {FAMILY_TABLE} {name}" for name in kernel.chain_names]
    return (*flush, *delete, structure.chains_text())


def set_definitions(listing: str) -> str:
    """The part of nft's listing of the table that defines its sets: all that precedes chains."""
    return listing.partition("\n\tchain ")[0]

"""``neti group``: operators' groups in the registry, and whom a change concerns.

Must never do: write them but by compare-and-set, or unless ``group_trust`` lets it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from neti.errors import NetiError
from neti.fleet import group_subjects
from neti.fleet.group_edits import Lines, next_edition
from neti.fleet.groups import GroupIndex, taken_in, without
from neti.fleet.registered import Registered
from neti.model import Member
from neti.model.groups import GroupLine, Groups
from neti.model.settings import Settings
from neti.oneshot import registered
from neti.oneshot.group_trust import Trust, check_size, needs_admission
from neti.registry import OperatorRegistry
from neti.registry.groups import GroupsUnreadable, decode, encode
from neti.words import some

# What becomes of all lines, by group. Raises NetiError where it cannot be so.
Edit = Callable[[Groups], dict[str, Lines]]


@dataclass(frozen=True, slots=True)
class Seen:
    """``who``: by group the ids of registered members that are in it now, sorted. ``unsure``: on
    what else membership in a group rests, with the next step; empty: on operators alone.
    ``taken_in``: of the groups that were looked at, the same by line, in the lines' order.
    ``sites``: of the members that lines name by id. ``unheard_of``: ids in lines that nobody has:
    no host is registered under them or has a lease, and no operator admitted one. ``released``:
    those with a record, but no lease any more, and no host. ``stale``: by group ids that fit a
    subject of it and are not in by that, and ids that are and do not fit: a command of a version
    that knows no subjects admitted them, or one did not finish."""

    groups: Groups
    who: Mapping[str, tuple[str, ...]]
    unsure: str = ""
    taken_in: Mapping[str, Sequence[tuple[str, ...]]] = field(default_factory=dict)
    sites: Mapping[str, str] = field(default_factory=dict)
    unheard_of: frozenset[str] = frozenset()
    released: frozenset[str] = frozenset()
    stale: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Changed:
    """``joins``, ``leaves``: ids of registered members, sorted. ``unheard_of``: ids of the group
    that nobody has, sorted: no host registered under them, and no operator admitted one."""

    changed: bool
    joins: tuple[str, ...]
    leaves: tuple[str, ...]
    after: Seen
    unheard_of: tuple[str, ...] = ()


def look(
    settings: Settings, registry: OperatorRegistry, now: float, name: str | None = None
) -> Seen:
    """At all groups, or the lines of one. ``now``: Unix seconds. Raises GroupsUnreadable."""
    groups = decode(registry.setting("groups"))
    fleet = registered.read(settings, registry, documents=False)
    members = fleet.members
    lines = groups.lines if name is None else {name: groups.lines.get(name, ())}
    ids = _named(line for of in lines.values() for line in of if not line.has_ended(now))
    missing = ids - members.keys() - fleet.present
    unheard_of = _unheard_of(missing, fleet, registry.records)
    holders = frozenset(registry.leases().values()) if missing else frozenset()
    owners = _owners(settings, registry) if group_subjects.has_subjects(lines) else None
    return replace(
        _seen(groups, members, now),
        taken_in={one: taken_in(of, members.values(), now) for one, of in lines.items()},
        sites={one: members[one].site for one in ids & members.keys()},
        unheard_of=unheard_of,
        released=frozenset(missing - holders - unheard_of),
        stale={
            one: both
            for one, of in lines.items()
            if owners is not None and any(both := group_subjects.differing(of, owners, now))
        },
    )


def _owners(settings: Settings, registry: OperatorRegistry) -> Mapping[str, str] | None:
    """By id, whose it is; None: who makes a record may say that of it as he likes."""
    closed = settings.registry_tls is not None and needs_admission(registry)
    return registry.owners() if closed else None


def _unheard_of(
    ids: Set[str],
    fleet: Registered,
    records: Callable[[Iterable[str]], Mapping[str, object]],
) -> frozenset[str]:
    missing = ids - fleet.members.keys() - fleet.leases.keys() - fleet.present
    return frozenset(missing - records(missing).keys()) if missing else frozenset()


def left_behind(registry: OperatorRegistry, old: str, new: str, now: float) -> tuple[str, ...]:
    """Groups that ``new``, which takes the place of ``old``, is not in. ``now``: Unix seconds.
    Raises GroupsUnreadable."""
    groups = decode(registry.setting("groups"))
    return without(groups, old, new, registered.site_of(registry, new), now)


def named_in(
    registry: OperatorRegistry, ids: Collection[str], now: float
) -> dict[str, tuple[str, ...]] | None:
    """By id the groups with a line that an operator wrote for it, of those that have any; None:
    that cannot be read now. ``now``: Unix seconds."""
    try:
        groups = decode(registry.setting("groups"))
    except NetiError:
        return None
    return _naming(groups, ids, now, by_subject=False)


def _naming(
    groups: Groups, ids: Collection[str], now: float, *, by_subject: bool = True
) -> dict[str, tuple[str, ...]]:
    named = {host_id: groups.naming(host_id, now, by_subject=by_subject) for host_id in ids}
    return {host_id: held for host_id, held in named.items() if held}


@dataclass(frozen=True, slots=True)
class Heirs:
    """Who would be in an id's groups once its lease is released. ``groups``: by id, those that name
    it; ``unread``: why that is not known. ``by_certificate``: an id is its owner's until then, and
    then the first certificate's that registers under it; otherwise it is nobody's, ever."""

    groups: Mapping[str, tuple[str, ...]]
    by_certificate: bool
    unread: str = ""

    def risk(self, host_id: str) -> str | None:
        """Whom the id would let into a group, as a sentence without its end; None: nobody."""
        groups = self.groups.get(host_id, ())
        if not self.by_certificate or not (groups or self.unread):
            return None
        which = (
            "whether a group has a line for it is not known"
            if self.unread
            else f"{_having(groups)} a line for it"
        )
        may = f"may be in there: {self.unread}" if self.unread else "would be in there"
        return (
            f"{which}, and admission is off, so the first certificate that registers under that id "
            f"{may}"
        )

    def refusal(self, host_id: str) -> NetiError | None:
        """Why its lease is not to be released as long as this is so; None: it may be."""
        if (risk := self.risk(host_id)) is None:
            return None
        steps = _out_of(host_id, self.groups.get(host_id, ()))
        return NetiError("\n".join([f"{host_id} was not released: {risk}", *steps]))

    def still_in(self, host_id: str) -> tuple[str, ...] | None:
        """Groups that name it; None: it is not known."""
        return None if self.unread else self.groups.get(host_id, ())

    def left(self, host_id: str) -> list[str]:
        """What to say of one that was released."""
        groups = self.groups.get(host_id, ())
        if self.unread:
            return [f"whether a group has a line for {host_id} is not known: {self.unread}"]
        if not groups:
            return []
        said = f"{having_line(groups, host_id)}: whoever registers under that id is in there"
        return [said, *_out_of(host_id, groups)]


def heirs(
    settings: Settings, registry: OperatorRegistry, ids: Collection[str], now: float
) -> Heirs:
    """Where only operators let an id begin, nobody inherits anything, and there are none. ``now``:
    Unix seconds."""
    by_certificate = settings.registry_tls is not None
    if by_certificate and needs_admission(registry):
        return Heirs({}, by_certificate)
    try:
        groups = decode(registry.setting("groups"))
    except GroupsUnreadable as error:
        return Heirs({}, by_certificate, str(error))  # agents may follow the last that they could
    return Heirs(_naming(groups, ids, now), by_certificate)


def heirs_of_moved(settings: Settings, registry: OperatorRegistry, old: str, now: float) -> Heirs:
    """As ``heirs``, before the lease of ``old`` goes to another id: if its record stays, it is its
    owner's."""
    if _stays_owned(registry, old):
        return Heirs({}, settings.registry_tls is not None)
    return heirs(settings, registry, [old], now)


def having_line(groups: Collection[str], host_id: str) -> str:
    return f"{_having(groups)} a line for {host_id}"


def _having(groups: Collection[str]) -> str:
    return f"group {some(groups)} has" if len(groups) == 1 else f"groups {some(groups)} have"


def _out_of(host_id: str, groups: Collection[str]) -> list[str]:
    return [f"→ neti group remove {name} {host_id}" for name in groups]


def change(
    settings: Settings,
    registry: OperatorRegistry,
    name: str,
    edit: Edit,
    *,
    now: float,
    shrink: bool = False,
    dry_run: bool = False,
) -> Changed:
    """Raises NetiError, and then nothing has been changed."""
    fleet = registered.read(settings, registry, documents=False)
    asked = edit(decode(registry.setting("groups"))).get(name, ())
    members, ids = fleet.members, _named(asked)
    held = registry.records(ids)
    trust = Trust.of(settings, registry, frozenset(held))
    done: list[Changed] = []
    by_subject = trust.admission and group_subjects.has_subjects({name: asked})
    owners = registry.owners() if by_subject else None

    def replaced(raw: bytes | None) -> bytes | None:
        before = decode(raw)
        lines = _resolved(edit(before), name, owners, now)
        after = next_edition(before, lines, shrink=shrink, now=now)
        if after is not None:
            trust.check(before, after, name)
            check_size(before, after, members.values(), now, shrink=shrink)
        done.append(_changed(before, after or before, name, members, now, after is not None))
        return raw if after is None else encode(after, before)

    if dry_run:
        replaced(registry.setting("groups"))
    else:
        registry.edit_setting("groups", replaced)
        # Who was admitted just before the subject stood there was put into no group by that.
        if by_subject and (later := registry.owners()) != owners:
            owners = later
            registry.edit_setting("groups", replaced)
    last = done[-1]
    seen = Seen(last.after.groups, last.after.who, trust.unsure)
    return replace(
        last,
        changed=any(one.changed for one in done),
        after=seen,
        unheard_of=tuple(sorted(_unheard_of(ids, fleet, lambda _ids: held))),
    )


def _named(lines: Iterable[GroupLine]) -> set[str]:
    return {line.pattern for line in lines if line.is_id and not line.by}


def _resolved(
    every: dict[str, Lines], name: str, owners: Mapping[str, str] | None, now: float
) -> dict[str, Lines]:
    """``owners`` None: they are not known, and who is in by a subject that stands there stays."""
    if name not in every:
        return every
    lines = every[name]
    meant = (
        group_subjects.standing(lines)
        if owners is None
        else group_subjects.resolved(lines, owners, now)
    )
    return {**every, name: meant}


def _seen(groups: Groups, members: Mapping[str, Member], now: float) -> Seen:
    who: dict[str, list[str]] = {name: [] for name in sorted(groups.lines)}
    index = GroupIndex(groups, groups.lines, now)
    for host_id in sorted(members):
        for name in index.of(members[host_id]):
            who[name].append(host_id)
    return Seen(groups, {name: tuple(ids) for name, ids in who.items()})


def _changed(
    before: Groups,
    after: Groups,
    name: str,
    members: Mapping[str, Member],
    now: float,
    changed: bool,
) -> Changed:
    former, seen = _seen(before, members, now), _seen(after, members, now)
    was, is_now = set(former.who.get(name, ())), set(seen.who.get(name, ()))
    return Changed(changed, tuple(sorted(is_now - was)), tuple(sorted(was - is_now)), seen)


def _stays_owned(registry: OperatorRegistry, host_id: str) -> bool:
    from neti.registry.zookeeper.leases import keeps_record
    from neti.registry.zookeeper.registry import ZooKeeperRegistry

    if isinstance(registry, ZooKeeperRegistry):
        return registry.inspect(lambda attempt, layout: keeps_record(attempt, layout, host_id))
    return host_id in registry.records([host_id])

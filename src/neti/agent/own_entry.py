"""What this host says of itself in the registry as its entry. Pure."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Final

from neti.errors import EntryError
from neti.model import Host, Member, entry

# A forged entry of ours with a huge generation must not make the next one unwritable.
_SANE_GENERATION: Final = 36**entry.GENERATION_RESERVE - 1


def own_member(
    host: Host,
    overlay: IPv4Address,
    known: Iterable[str | None],
    *,
    ours: Collection[str] = (),
    departed: int | None = None,
    taken: Collection[str] = (),
    skip: int = 0,
    anywhere: Callable[[int], int] | None = None,
) -> Member:
    """This host as a member: the entry that it has among ``known`` while its addresses are the same
    and no newer entry speaks for it, otherwise the next generation.

    ``departed``: the generation that is over: its goodbye is still in the registry, or its entry is
    there no more. A host that comes back is the next one. Where members may delete nothing, the
    same goodbye could not be said a second time; and to a peer that saw the former one removed, and
    then finds it in an older copy of the registry, that is an entry which the copy brought back,
    not a host that has returned. ``ours``: names of ``known`` that this host chose itself.
    ``taken``: names that this host cannot have. ``skip``: how many generations a new one passes
    over, so that nobody can foresee its name and make it first. ``anywhere``: chance, from 0 up to
    a number; the new one may be any that fits the name. Raises EntryError when the name is too
    long.
    """
    member = Member(
        id=host.id,
        site=host.site,
        private=host.private,
        public=host.public,
        overlay=overlay,
        extended=bool(host.more),
        more=host.more,
    )
    same, others = [-1], [-1]
    if departed is not None and (
        departed < _SANE_GENERATION or departed in map(generation_of, ours)
    ):
        others.append(departed)
    for name in known:
        parsed = entry.parse(name) if name else None
        if isinstance(parsed, Member) and parsed.id == host.id:
            if name not in taken and replace(parsed, more=host.more, generation=0) == member:
                same.append(parsed.generation)
            elif anywhere is not None and name in taken:
                continue  # what others foresaw is not to drive us to the end
            elif parsed.generation < _SANE_GENERATION or name in ours:
                others.append(parsed.generation)
    if max(same) > max(others):
        return replace(member, generation=max(same))
    former, beyond = max(*same, *others), _beyond(member)
    if former + 1 >= beyond:
        former = -1  # all of them are behind it: from the beginning
    most = beyond - former - 1
    if anywhere is None:
        return replace(member, generation=former + 1 + min(skip, most - 1))
    passed, behind = anywhere(most), set(map(generation_of, taken))
    while former + 1 + passed in behind:
        passed = (passed + 1) % most
    return replace(member, generation=former + 1 + passed)


def _beyond(member: Member) -> int:
    """The first generation that the member's name has no room for."""
    room = entry.MAX_NAME_BYTES - len(entry.encode(replace(member, generation=0))) + 1
    return int(36 ** min(room, entry.MAX_GENERATION_DIGITS))


def speaks_for(host_id: str, name: str) -> bool:
    """Whether the name is an entry of this id. Cheap, because it is asked of every name."""
    if not name.endswith(f".{host_id}") or name.startswith(("left.", "moved.")):
        return False
    try:
        parsed = entry.parse(name)
    except EntryError:
        return False
    return isinstance(parsed, Member) and parsed.id == host_id


def generation_of(name: str) -> int:
    """The generation of an entry; -1 if the name is not one."""
    try:
        parsed = entry.parse(name)
    except EntryError:
        return -1
    return parsed.generation if isinstance(parsed, Member) else -1


def overlay_in(name: str) -> IPv4Address | None:
    """The overlay address that an entry claims; None if the name is not an entry."""
    try:
        parsed = entry.parse(name)
    except EntryError:
        return None
    return parsed.overlay if isinstance(parsed, Member) else None

"""Who calls a host, by its overlay address or by a real one, as documents say. Pure.

Must never do: take silence for a no. What came after a host last counted is not known.
"""

from collections.abc import Iterator

from neti.fleet.attendance import lasting, moment
from neti.fleet.finding import SHOWN, Finding, Known, Question
from neti.fleet.selecting import OLD, off_by
from neti.registry.detail import CallsSeen, Document, Left
from neti.text import command
from neti.words import counted, some


def real_callers(host_id: str, known: Known) -> Iterator[Finding]:
    """By real addresses: these do not follow an overlay address that moves."""
    now = known.now
    of: tuple[Question, ...] = ("move", "retire")
    asked = {i: known.told.get(i, Document()) for i in known.members if i != host_id}
    calls = [(i, one) for i, told in asked.items() for one in told.left or () if one.to == host_id]
    calls.sort(key=lambda call: -call[1].last)
    for caller, one in calls[:SHOWN]:
        recent = now - one.last < known.quiet
        yield Finding(
            light="red" if recent else "yellow",
            of=of,
            what=f"{caller} {_by_real_address(one, now)}",
            then=(f"→ neti leftovers --to {host_id}, on {caller}, says which program it is",),
        )
    if len(calls) > SHOWN:
        yield Finding(
            light="yellow",
            of=of,
            what=f"so do {counted(len(calls) - SHOWN, 'other', 'others')}",
            then=(f"→ {command('neti fleet leftovers --to', host_id)}",),
        )
    silent = sorted(
        i
        for i, told in asked.items()
        if told.left is None or off_by({"written": told.written}, now) is not None
    )
    cut = sorted(i for i, told in asked.items() if told.left_more)
    young = sorted(
        i
        for i, told in asked.items()
        if told.left is not None and not _for_long(told.left_since, known.now, known)
    )
    quiet = lasting(known.quiet)
    for hosts, one_of, many in (
        (
            silent,
            "host does not say whether it calls it by a real address",
            "hosts do not say whether they call it by a real address",
        ),
        (
            cut,
            "host calls more real addresses than it has room to say",
            "hosts call more real addresses than they have room to say",
        ),
        (
            young,
            f"host has watched whom it calls for less than {quiet}",
            f"hosts have watched whom they call for less than {quiet}",
        ),
    ):
        if hosts:
            yield Finding(
                light="yellow",
                of=of,
                what=f"{counted(len(hosts), one_of, many)}: {some(hosts, SHOWN)}",
                then=_then_unknown(hosts is young, host_id),
            )
    if not calls and not silent and not cut and not young and asked:
        yield Finding(
            light="green",
            of=of,
            what=f"none of {counted(len(asked), 'host')} says that it calls a real address of it",
        )


def _then_unknown(young: bool, host_id: str) -> tuple[str, ...]:
    if young:
        return ("→ ask again later: what runs daily may not have run yet",)
    return (f"→ neti leftovers --to {host_id}, on each of them",)


def _by_real_address(one: Left, now: float) -> str:
    times = counted(one.calls, "connection")
    ago = lasting(max(0.0, now - one.last))
    return f"calls its real address, {one.port}: {times}, the last {ago} ago"


def _for_long(since: int | None, until: float, known: Known) -> bool:
    return since is not None and until - since >= known.quiet


def callers(host_id: str, calls: CallsSeen | None, known: Known) -> Iterator[Finding]:
    """By any address. When the address moves they follow, and connect anew; a host that is to be
    retired must have none."""
    if host_id not in known.members:
        return
    if calls is None or calls.open is None:
        yield Finding(
            light="yellow",
            of=("retire",),
            what="it does not say whether members call it",
            then=(f"→ neti drained {host_id}, on {host_id}",),
        )
        return
    if calls.open:
        opened = counted(calls.open, "connection of members is", "connections of members are")
        yield Finding(
            light="green", of=("move",), what=f"{opened} open: they end then, and clients reconnect"
        )
        yield Finding(
            light="red",
            of=("retire",),
            what=f"{opened} open",
            then=() if known.here else (f"→ neti drained {host_id}, on {host_id}, says whose",),
        )
    yield from _last_call(host_id, calls, known)


def _last_call(host_id: str, calls: CallsSeen, known: Known) -> Iterator[Finding]:
    """What came after the host last counted, nobody knows."""
    of: tuple[Question, ...] = ("retire",)
    uncounted = known.now - calls.at
    anew = (f"→ {command('neti drained --fresh', host_id)}",)
    if calls.last is not None and known.now - calls.last < known.quiet:
        ago = lasting(max(0.0, known.now - calls.last))
        yield Finding(
            light="red",
            of=of,
            what=f"a member called it {ago} ago",
            then=() if known.here else (f"→ neti drained {host_id}, on {host_id}, says by whom",),
        )
    elif abs(uncounted) > OLD:
        what = f"it last counted who calls it {lasting(abs(uncounted))} ago, or its clock is wrong"
        yield Finding(light="yellow", of=of, what=what, then=anew)
    elif not _for_long(calls.since, calls.at, known):
        yield Finding(
            light="yellow",
            of=of,
            what="no member has called it, but that is watched for "
            f"{lasting(max(0.0, calls.at - calls.since))} only",
            then=("→ ask again later: what runs daily may not have run yet",),
        )
    elif not _for_long(calls.last or calls.since, calls.at, known):
        what = f"a member had called it when it last counted that, {lasting(uncounted)} ago"
        yield Finding(light="yellow", of=of, what=what, then=anew)
    else:
        last = f"the last call was at {moment(calls.last)}" if calls.last else "none since"
        yield Finding(
            light="green",
            of=of,
            what=f"no member calls it: {last}, watched since {moment(calls.since)}, "
            f"counted {lasting(uncounted)} ago",
        )


def calls_others(host_id: str, told: Document, known: Known) -> Iterator[Finding]:
    for one in (told.left or ())[:SHOWN]:
        recent = known.now - one.last < known.quiet
        yield Finding(
            light="red" if recent else "yellow",
            of=("move",),
            what=f"it calls {one.to} by its real address, {one.port}, the last time "
            f"{lasting(max(0.0, known.now - one.last))} ago: elsewhere that leads to nobody, or to "
            "somebody else",
            then=(f"→ neti leftovers, on {host_id}, says which program it is",),
        )

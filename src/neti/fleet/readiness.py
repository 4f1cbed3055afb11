"""May a host move, be enforced, be retired? Findings, each with its evidence and the next step.
Pure.

Must never do: take silence for a no. What nobody has watched for long enough is not known.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from neti.fleet.attendance import lasting, moment
from neti.fleet.selecting import OLD, off_by
from neti.model.problem_codes import OUT_OF_STEP
from neti.registry.detail import CallsSeen, Document, Left
from neti.text import command
from neti.words import counted, some

Light = Literal["green", "yellow", "red"]
Question = Literal["move", "enforce", "retire"]
QUESTIONS: Final[tuple[Question, ...]] = ("move", "enforce", "retire")
LIGHTS: Final[tuple[Light, ...]] = ("green", "yellow", "red")  # each is worse than the one before
A_DAY: Final = 86_400.0  # what runs daily has shown itself by then
_SHOWN: Final = 5
_OUT: Final = ("left", "gone")  # peers let in neither, so nobody reaches it by the overlay
_UNKNOWN: Final = "not known here"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """``of``: the questions that it is about; ``then``: what to do, a line each."""

    light: Light
    of: tuple[Question, ...]
    what: str
    then: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the fleet's documents say. ``away``: by id the state of those who are no registered
    members; ``gateways``: those in use; ``here``: the host
    that is asked about was asked itself; ``now``: Unix seconds; ``quiet``: for how many seconds
    nobody must have called."""

    members: Collection[str]
    told: Mapping[str, Document]
    away: Mapping[str, str]
    now: float
    gateways: frozenset[str] = frozenset()
    here: bool = False
    quiet: float = A_DAY


def worst(found: Iterable[Finding], of: Question | None = None) -> Light:
    """Of the findings about a question, or of all."""
    lights = {one.light for one in found if of is None or of in one.of}
    return next((light for light in reversed(LIGHTS) if light in lights), "green")


def judged(host_id: str, known: Known) -> Iterator[Finding]:
    """All that the documents say about the three questions."""
    yield from presence(host_id, known)
    yield from real_callers(host_id, known)
    told = known.told.get(host_id)
    if told is not None:
        yield from _calls_others(host_id, told, known)
        yield from _enforcing(host_id, told)
        yield from _soundness(host_id, told)
    if host_id in known.members:
        yield from reached(host_id, known)
    yield from callers(host_id, told.calls if told is not None else None, known)


def drained(host_id: str, known: Known) -> Iterator[Finding]:
    """Whether nobody calls it any more, neither by its overlay address nor by a real one."""
    told = known.told.get(host_id)
    if host_id in known.members:
        yield from _age(host_id, known)
        yield from callers(host_id, told.calls if told is not None else None, known)
    elif (state := known.away.get(host_id, _UNKNOWN)) not in _OUT:
        # Its agent may be dead, and its clients connected.
        yield Finding(
            light="yellow",
            of=("retire",),
            what=f"it is {state}, so nobody knows who is connected to it",
            then=(f"→ systemctl status neti, on {host_id}; if its machine is gone, it is drained",),
        )
    yield from real_callers(host_id, known)


# --- who is there ---


def presence(host_id: str, known: Known) -> Iterator[Finding]:
    if host_id not in known.members:
        state = known.away.get(host_id, _UNKNOWN)
        yield Finding(
            light="yellow" if state in _OUT else "red",
            of=QUESTIONS,
            what=f"it is {state}, so it says nothing of itself",
            then=("→ 'neti fleet' lists who is registered",),
        )
        return
    yield from _age(host_id, known)
    yield from _gateway(host_id, known)


def _gateway(host_id: str, known: Known) -> Iterator[Finding]:
    if host_id in known.gateways:
        yield Finding(
            light="red",
            of=("move", "retire"),
            what=f"{host_id} is a gateway of its site, and others go through it",
            then=(f"→ {command('neti gateway drain', host_id)}",),
        )


def _age(host_id: str, known: Known) -> Iterator[Finding]:
    written = {"written": getattr(known.told.get(host_id), "written", None)}
    if host_id not in known.told or written["written"] is None:
        yield Finding(
            light="yellow",
            of=QUESTIONS,
            what="it does not say how it is: its agent is of a version before, or has just begun",
            then=("→ 'neti fleet' shows its version",),
        )
    elif (age := off_by(written, known.now)) is not None:
        yield Finding(
            light="yellow",
            of=QUESTIONS,
            what=f"what it said last is {lasting(abs(age))} old, so its agent hangs or a clock is "
            "wrong",
            then=(f"→ neti status, on {host_id}",),
        )


def reached(host_id: str, known: Known) -> Iterator[Finding]:
    """By whom it was not reached when members verified, within a day. In a large fleet each tries
    some of the others only."""
    of: tuple[Question, ...] = ("move", "enforce")
    rows = {
        i: told.verified
        for i, told in known.told.items()
        if i != host_id and told.verified is not None and known.now - told.verified.at < A_DAY
    }
    missing = sorted(i for i, row in rows.items() if host_id in row.missed)
    if missing:
        yield Finding(
            light="red",
            of=of,
            what=f"not reached by {some(missing, _SHOWN)}, of {counted(len(rows), 'host')} that "
            "verified within a day",
            then=(f"→ {command('neti verify', host_id)}, on one of them",),
        )
    elif not rows:
        yield Finding(
            light="yellow",
            of=("move",),
            what="no other host has verified within a day, so nobody knows who reaches it",
            then=("→ neti fleet verify --wait",),
        )
    else:
        yield Finding(
            light="green",
            of=of,
            what=f"{counted(len(rows), 'host')} verified within a day, and none says that it was "
            "not reached",
        )


# --- who calls it ---


def real_callers(host_id: str, known: Known) -> Iterator[Finding]:
    """By real addresses: these do not follow an overlay address that moves."""
    now = known.now
    of: tuple[Question, ...] = ("move", "retire")
    asked = {i: known.told.get(i, Document()) for i in known.members if i != host_id}
    calls = [(i, one) for i, told in asked.items() for one in told.left or () if one.to == host_id]
    calls.sort(key=lambda call: -call[1].last)
    for caller, one in calls[:_SHOWN]:
        recent = now - one.last < known.quiet
        yield Finding(
            light="red" if recent else "yellow",
            of=of,
            what=f"{caller} {_by_real_address(one, now)}",
            then=(f"→ neti leftovers --to {host_id}, on {caller}, says which program it is",),
        )
    if len(calls) > _SHOWN:
        yield Finding(
            light="yellow",
            of=of,
            what=f"so do {counted(len(calls) - _SHOWN, 'other', 'others')}",
            then=(f"→ {command('neti leftovers --fleet --to', host_id)}",),
        )
    silent = sorted(i for i, told in asked.items() if told.left is None)
    cut = sorted(i for i, told in asked.items() if told.left_more)
    young = sorted(
        i
        for i, told in asked.items()
        if told.left is not None and not _for_long(told.left_since, known.now, known)
    )
    for hosts, why in (
        (silent, "do not say whether they call it by a real address"),
        (cut, "call more real addresses than they have room to say"),
        (young, f"have watched whom they call for less than {lasting(known.quiet)}"),
    ):
        if hosts:
            yield Finding(
                light="yellow",
                of=of,
                what=f"{counted(len(hosts), 'host')} {why}: {some(hosts, _SHOWN)}",
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


def _calls_others(host_id: str, told: Document, known: Known) -> Iterator[Finding]:
    for one in (told.left or ())[:_SHOWN]:
        recent = known.now - one.last < known.quiet
        yield Finding(
            light="red" if recent else "yellow",
            of=("move",),
            what=f"it calls {one.to} by its real address, {one.port}, the last time "
            f"{lasting(max(0.0, known.now - one.last))} ago: elsewhere that leads to nobody, or to "
            "somebody else",
            then=(f"→ neti leftovers, on {host_id}, says which program it is",),
        )


# --- what it says of itself ---


def _enforcing(host_id: str, told: Document) -> Iterator[Finding]:
    of: tuple[Question, ...] = ("enforce",)
    if told.down is not None:
        yield Finding(
            light="red",
            of=("move", "enforce"),
            what="Neti is down there: overlay addresses lead nowhere on it",
            then=(f"→ neti up, on {host_id}",),
        )
        return
    if told.stage == "enforced":
        yield Finding(light="green", of=of, what="it is enforced")
    elif told.hurts is None:
        yield Finding(
            light="yellow",
            of=of,
            what="it does not say what enforcing would break",
            then=(f"→ neti preview, on {host_id}",),
        )
    elif told.hurts.ports:
        ports = counted(told.hurts.ports, "port that is in use", "ports that are in use")
        yield Finding(
            light="red",
            of=of,
            what=f"enforcing would shut {ports}, by {counted(told.hurts.sources, 'source')}",
            then=(f"→ neti preview, on {host_id}, names them, with the lines for open_ports",),
        )
    else:
        yield Finding(light="green", of=of, what="nothing that is in use would be shut")


def _soundness(host_id: str, told: Document) -> Iterator[Finding]:
    problems = told.problems
    if problems is None:
        yield Finding(light="yellow", of=QUESTIONS, what="it does not say what is wrong with it")
    elif problems:
        out = sorted(OUT_OF_STEP.intersection(problems))
        yield Finding(
            light="red" if out else "yellow",
            of=("move", "enforce"),
            what=f"it is not in step: {', '.join(out)}"
            if out
            else f"it has problems: {', '.join(problems)}",
            then=(f"→ neti status, on {host_id}",),
        )
    if told.config_unread is not None:
        yield Finding(
            light="yellow",
            of=("move", "enforce"),
            what=f"its neti.yml was changed at {moment(told.config_unread)}, and is not read yet",
            then=(f"→ neti reload, on {host_id}",),
        )


# --- OLD's address to NEW ---


def move_findings(
    old: str, new: str, known: Known, *, holds: bool, behind: Collection[str]
) -> Iterator[Finding]:
    """What would be wrong with giving OLD's overlay address to NEW. ``holds``: OLD has one;
    ``behind``: groups that OLD is in and NEW is not."""
    of: tuple[Question, ...] = ("move",)
    if not holds:
        yield Finding(
            light="red",
            of=of,
            what=f"{old} holds no lease, so there is no address to give away",
            then=("→ neti lease list",),
        )
    yield from _gateway(old, known)
    there, told = known.told.get(old, Document()), known.told.get(new, Document())
    if new not in known.members:
        state = known.away.get(new, "not known")
        yield Finding(
            light="red",
            of=of,
            what=f"{new} is {state}, so nobody would answer at the address",
            then=(f"→ systemctl start neti, on {new}",),
        )
    else:
        for one in (*_age(new, known), *_soundness(new, told)):
            light: Light = "red" if one in _age(new, known) else one.light
            yield Finding(light=light, of=of, what=f"{new}: {one.what}", then=one.then)
        if told.down is not None:
            what = f"Neti is down on {new}: nobody would reach the address there"
            yield Finding(light="red", of=of, what=what, then=(f"→ neti up, on {new}",))
        yield from _differs(old, there, new, told)
        if told.calls is not None and told.calls.open:
            opened = counted(told.calls.open, "connection of members is", "connections are")
            yield Finding(
                light="yellow",
                of=of,
                what=f"{opened} open to {new}, whose own overlay address is free afterwards",
                then=("→ point those clients at the address that it gets, or end them",),
            )
    for group in behind:
        yield Finding(
            light="yellow",
            of=of,
            what=f"group {group} has a line for {old} and none for {new}",
            then=(f"→ {command('neti group add', group, new)}",),
        )
    for one in real_callers(old, known):
        yield Finding(light=one.light, of=of, what=f"{old}: {one.what}", then=one.then)


def _differs(old: str, there: Document, new: str, told: Document) -> Iterator[Finding]:
    for what, before, after in (
        ("stage", there.stage, told.stage),
        ("member_ports", there.member_ports, told.member_ports),
        ("encryption", there.encryption, told.encryption),
    ):
        if before and after and before != after:
            yield Finding(
                light="yellow",
                of=("move",),
                what=f"{what} is {before} on {old}, and {after} on {new}",
                then=(f"→ neti status, on {new}",),
            )

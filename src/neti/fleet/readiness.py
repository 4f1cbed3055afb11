"""May a host move, be enforced, be retired? Findings, each with its evidence and the next step.
Pure.

Must never do: take silence for a no. What nobody has watched for long enough is not known.
"""

from collections.abc import Collection, Iterator
from typing import Final

from neti.fleet.attendance import lasting, moment
from neti.fleet.callers import callers, calls_others, real_callers
from neti.fleet.crossing import matrix, tries
from neti.fleet.finding import A_DAY, QUESTIONS, SHOWN, Finding, Known, Light, Question
from neti.fleet.selecting import off_by
from neti.model.problem_codes import OUT_OF_STEP
from neti.registry.detail import Document
from neti.text import command
from neti.words import counted, some

_OUT: Final = ("left", "gone")  # peers let in neither, so nobody reaches it by the overlay
_UNKNOWN: Final = "not known here"


def judged(host_id: str, known: Known) -> Iterator[Finding]:
    """All that the documents say about the three questions."""
    yield from presence(host_id, known)
    yield from real_callers(host_id, known)
    told = known.told.get(host_id)
    if told is not None:
        yield from calls_others(host_id, told, known)
        yield from _enforcing(host_id, told, known)
        yield from _soundness(host_id, told)
    if host_id in known.members:
        yield from reached(host_id, known)
    yield from callers(host_id, told.calls if told is not None else None, known)


def unknown() -> Iterator[Finding]:
    """Where the registry does not answer."""
    yield Finding(
        light="yellow",
        of=QUESTIONS,
        what="the registry does not answer, so what hosts say of it is not known",
        then=("→ ask again when it does",),
    )


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
    # Who verified before it came may not have tried it.
    since = known.told.get(host_id, Document()).config_read or 0
    rows = {i: row for i, row in rows.items() if row.at >= since or i in missing}
    seen = matrix(rows, known.members)
    unsure = sorted({*seen.few, *(i for i, row in rows.items() if row.missed_more)})
    tried = tries(rows, known.members).get(host_id, 0)
    of_all = counted(max(tried, len(missing)), "host")
    if missing:
        yield Finding(
            light="red",
            of=of,
            what=f"not reached by {some(missing, SHOWN)}, of {of_all} that tried within a day",
            then=(f"→ {command('neti verify', host_id)}, on one of them",),
        )
    elif not tried:
        yield Finding(
            light="yellow",
            of=("move",),
            what="no other host has tried it within a day and since its agent began, so nobody "
            "knows who reaches it",
            then=("→ neti fleet verify --wait",),
        )
    elif unsure:
        yield Finding(
            light="yellow",
            of=("move",),
            what=f"it may be one that {some(unsure, SHOWN)} did not try, or did not name: what "
            f"{'these say' if len(unsure) > 1 else 'this one says'} is not of all members",
            then=("→ neti fleet verify --wait",),
        )
    else:
        yield Finding(
            light="green",
            of=of,
            what=f"{counted(tried, 'host')} tried it within a day, and reached it",
        )


# --- what it says of itself ---


def _enforcing(host_id: str, told: Document, known: Known) -> Iterator[Finding]:
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
    elif (since := told.hurts.since) is None or known.now - since < A_DAY:
        watched = (
            "it does not say for how long it has watched"
            if since is None
            else f"it has watched for {lasting(known.now - since)} only: what runs once a day may "
            "not have come yet"
        )
        yield Finding(
            light="yellow",
            of=of,
            what=f"nothing that was in use would be shut, but {watched}",
            then=("→ ask again when it has watched for a day",)
            if since is not None
            else (f"→ neti preview, on {host_id}",),
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

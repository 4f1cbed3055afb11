"""What needs an operator now, over the whole fleet: the gravest first, with what to type. Pure.

Must never do: name what heals by itself as if somebody had to act, or leave out a host that nobody
can see.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from neti.fleet.listing import Row, shown_stage
from neti.fleet.selecting import OLD, off_by
from neti.model.problem_codes import KINDS, Severity
from neti.registry.detail import Document
from neti.words import counted, some

_NAMED: Final = 50  # so many hosts of each
NOBODY: Final = "nobody"
_OWN_AGENT: Final = "own_agent"
_UNKNOWN: Final = "unknown"
# Not of hosts, but of whoever looks at them.
OF_THE_LOOK: Final = frozenset({_UNKNOWN, _OWN_AGENT})
_MINUTES: Final = int(OLD // 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """``code``: stable, for programs; ``hosts``: the first of the ``count`` that it is about, by
    id; ``then``: what to type, a command each, which begins with "there: " where it has to be on
    those hosts; ``remedy``: what to do, in words."""

    code: str
    severity: Severity
    what: str
    hosts: tuple[str, ...] = ()
    count: int = 0
    then: tuple[str, ...] = ()
    remedy: str = ""


def needs(
    rows: Collection[Row],
    away: Collection[Row],
    told: Mapping[str, Document],
    *,
    now: float,
    not_own: Collection[str] = (),
    skipped: int = 0,
    in_part: bool = False,
) -> list[Need]:
    """``not_own``: hosts of which somebody else says something; ``skipped``: entries that no agent
    believes; ``in_part``: who looks may not read how hosts are; ``now``: Unix seconds."""
    fresh = [row for row in rows if off_by(row, now) is None]
    found = [
        *_nobody(rows, away),
        *_absent(away),
        *_silent(rows, now),
        *_stages(fresh),
        *([] if in_part else _unsaid(fresh)),
        *_problems(fresh),
        *_of_the_registry(not_own, skipped),
        *_before_the_move(fresh, told),
    ]
    return sorted(found, key=lambda one: (-one.severity.rank, -one.count, one.code))


def _need(
    code: str,
    severity: Severity,
    hosts: Iterable[str],
    what: str,
    *then: str,
    remedy: str = "",
) -> Iterator[Need]:
    """Nothing, where it is about no host. ``what``: with ``{hosts}`` or ``{are}`` where their
    number goes."""
    ids = sorted(hosts)
    if ids:
        yield Need(
            code=code,
            severity=severity,
            what=what.format(
                hosts=counted(len(ids), "host"), are=counted(len(ids), "host is", "hosts are")
            ),
            hosts=tuple(ids[:_NAMED]),
            count=len(ids),
            then=tuple(one.replace(" ID", f" {ids[0]}") for one in then) if len(ids) == 1 else then,
            remedy=remedy,
        )


# By state or stage: how grave it is, what is the case, and what to type.
_ABSENT: Final = {
    "held": (
        Severity.CRITICAL,
        "{are} held: too many vanished at once, so peers keep them until somebody decides",
        ("neti fleet --state held", "neti release --fleet ID"),
    ),
    "lost": (
        Severity.WARNING,
        "{are} lost: the registry hears nothing from the agent, and after a while peers drop it",
        ("neti fleet --state lost", "there: systemctl status neti"),
    ),
    "missing": (
        Severity.WARNING,
        "{are} missing: gone without a word, so the agent or the machine has stopped",
        ("there: systemctl status neti", "neti fleet --state missing"),
    ),
    "not believed": (
        Severity.CRITICAL,
        "{are} registered, and believed by no agent",
        ("neti fleet --skipped",),
    ),
}
_IN_STAGES: Final = {
    "down": (
        Severity.WARNING,
        "{are} down: an operator took Neti out of the kernel",
        ("there: neti up",),
    ),
    "relaxed": (
        Severity.WARNING,
        "{are} relaxed: back in shadow by an operator's word",
        ("there: neti enforce",),
    ),
    "trial": (
        Severity.NOTE,
        "{are} on trial: a trial that nobody confirms ends, and the host goes back to what it was",
        ("there: neti status", "there: neti confirm"),
    ),
}
_KNOWN_STAGES: Final = frozenset({"shadow", "enforced", *_IN_STAGES})
_DOWN_OPEN: Final = "down_open"  # the problem of a host that is down and should be enforced
_Kinds = Mapping[str, tuple[Severity, str, tuple[str, ...]]]


def _absent(away: Iterable[Row]) -> Iterator[Need]:
    return _by(_ABSENT, ((row["state"], row["id"]) for row in away))


def _nobody(rows: Collection[Row], away: Collection[Row]) -> Iterator[Need]:
    if not rows and not away:
        yield nobody(
            "no host is registered, and none holds a lease: the fleet is new, or its registry was "
            "wiped",
            "neti registry check",
        )


def _unsaid(rows: Iterable[Row]) -> Iterator[Need]:
    yield from _need(
        "no_stage",
        Severity.WARNING,
        (row["id"] for row in rows if shown_stage(row) not in _KNOWN_STAGES),
        "{are} registered without saying in which stage, or in one that this version does not know",
        "there: neti status",
    )


def _stages(rows: Collection[Row]) -> Iterator[Need]:
    worse = {row["id"] for row in rows if _DOWN_OPEN in (row.get("problems") or ())}
    each = ((shown_stage(row), row["id"]) for row in rows)
    once = ((stage, i) for stage, i in each if not (stage == "down" and i in worse))
    yield from _by(_IN_STAGES, once)
    yield from _need(
        _DOWN_OPEN,
        Severity.CRITICAL,
        worse,
        "{are} down, and should be enforced: strangers get in there",
        "there: neti up",
    )


def _by(kinds: _Kinds, hosts: Iterable[tuple[str, str]]) -> Iterator[Need]:
    found: dict[str, list[str]] = {}
    for word, host_id in hosts:
        found.setdefault(word, []).append(host_id)
    for word, (severity, what, then) in kinds.items():
        yield from _need(word.replace(" ", "_"), severity, found.get(word, ()), what, *then)


def _silent(rows: Iterable[Row], now: float) -> Iterator[Need]:
    yield from _need(
        "silent",
        Severity.WARNING,
        (row["id"] for row in rows if off_by(row, now) is not None),
        f"{{are}} silent for more than {_MINUTES} minutes, though registered: the agent hangs, or "
        "the clock is off",
        "there: systemctl status neti",
    )


def _problems(rows: Iterable[Row]) -> Iterator[Need]:
    by: dict[str, list[str]] = {}
    for row in rows:
        for code in row.get("problems") or ():
            by.setdefault(code, []).append(row["id"])
    by.pop(_DOWN_OPEN, None)  # ``_stages`` has said it
    for code, hosts in by.items():
        if (kind := KINDS.get(code)) is not None:
            yield from _need(
                f"problem {code}",
                kind.severity,
                hosts,
                f"{code}, on {{hosts}}: {_escaped(_without_marks(kind.meaning))}",
                f"neti fleet --problem {code}",
                "there: neti status",
                remedy=_remedy(kind.remedy),
            )
    # A host may say any code: together they are one, and none is taken for what Neti itself says.
    others = sorted(by.keys() - KINDS.keys())
    yield from _need(
        "unknown_problems",
        Severity.WARNING,
        {host_id for code in others for host_id in by[code]},
        f"{_escaped(some(others, 3))}, on {{hosts}}: problems that this version does not know",
        "there: neti status",
    )
    unread = [row["id"] for row in rows if row.get("config_unread") is not None]
    yield from _need(
        "unread",
        Severity.NOTE,
        unread,
        "{are} running by an older neti.yml than the one on disk",
        "there: neti reload",
    )


def _of_the_registry(not_own: Collection[str], skipped: int) -> Iterator[Need]:
    yield from _need(
        "not_own",
        Severity.CRITICAL,
        not_own,
        "{are} described by somebody else in the registry, which is not believed",
        "neti fleet",
    )
    if skipped:
        yield Need(
            code="skipped",
            severity=Severity.WARNING,
            what=f"{counted(skipped, 'entry', 'entries')} in the registry that no agent believes",
            count=skipped,
            then=("neti fleet --skipped",),
        )


def _before_the_move(rows: Collection[Row], told: Mapping[str, Document]) -> Iterator[Need]:
    """What stands in the way of the next step, though nothing is wrong."""
    hurt = [row for row in rows if shown_stage(row) != "enforced" and _ports(row)]
    yield from _need(
        "hurts",
        Severity.NOTE,
        (row["id"] for row in hurt),
        "enforcing would shut ports that are in use, on {hosts}",
        "neti fleet preview",
    )
    callers = {row["id"]: {one["to"] for one in row["left"]} for row in rows if row.get("left")}
    called = sorted({one for each in callers.values() for one in each})
    yield from _need(
        "leftovers",
        Severity.NOTE,
        callers,
        f"{_escaped(some(called, 3))} still called by real addresses, from {{hosts}}",
        "neti fleet leftovers",
    )
    missed = [
        row["id"]
        for row in rows
        if (said := told.get(row["id"])) is not None
        and said.verified is not None
        and said.verified.reached < said.verified.tried
        and said.stage != "down"
    ]
    yield from _need(
        "unreached",
        Severity.WARNING,
        missed,
        "not every member was reached at the last verification, from {hosts}",
        "neti fleet verify",
    )


def _ports(row: Row) -> int:
    hurts = row.get("hurts")
    return hurts["ports"] if hurts is not None else 0


def unknown(why: str) -> Need:
    """Where nobody could hear what hosts say, or the registry does not answer: that nothing is
    named is no good news then."""
    return Need(
        code=_UNKNOWN,
        severity=Severity.WARNING,
        what=f"nobody knows what needs attention: {why}",
        then=("neti registry check",),
    )


def nobody(why: str, then: str = "neti fleet") -> Need:
    """``why``: in words, that there is no host to look at."""
    return Need(code=NOBODY, severity=Severity.WARNING, what=why, then=(then,))


def hangs(sentence: str) -> Need:
    """``sentence``: that this machine's own agent does not answer, and what to do."""
    first = sentence.splitlines()[0]
    return Need(
        code=_OWN_AGENT,
        severity=Severity.WARNING,
        what=f"on this machine {first}, so nobody here knows who is lost and who is held",
        then=("systemctl restart neti",),
    )


def _remedy(text: str) -> str:
    """The message itself is in no report."""
    return _without_marks(text).replace("The message", "The message in 'neti status' there")


def _without_marks(text: str) -> str:
    return text.replace("`", "")


def _escaped(text: str) -> str:
    """For ``str.format``: what hosts say may have braces."""
    return text.replace("{", "{{").replace("}", "}}")

"""Which of the hosts with a lease are there, and which do not meet a requirement. Pure.

The registry says who is registered. Since when a host is gone, and in which site it was, only an
agent has seen; if none can be asked, that stays unknown. Must never do: count a host that nobody
can see as one that meets anything.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Final, Literal

from neti.fleet.listing import Row, said_of_itself
from neti.fleet.selecting import off_by
from neti.model.problem_codes import OUT_OF_STEP
from neti.registry.detail import ABLE, Document
from neti.words import counted, some

State = Literal["lost", "held", "left", "not believed", "gone", "missing", "never seen"]
Required = Literal[
    "enforced", "shadow", "in-step", "no-problem", "can-encrypt", "encrypted-in-part", "encrypted"
]
REQUIRED: Final[tuple[Required, ...]] = (
    "enforced",
    "shadow",
    "in-step",
    "no-problem",
    "can-encrypt",
    "encrypted-in-part",
    "encrypted",
)
# What a host says of itself that is enough.
_ENOUGH: Final[Mapping[Required, frozenset[str]]] = {
    "can-encrypt": ABLE,
    "encrypted-in-part": frozenset({"partly", "require"}),
    "encrypted": frozenset({"require"}),
}
_ENCRYPTION: Final[Mapping[str, str]] = {
    "off": "encrypts with no other site",
    "unable": "has no WireGuard device",
    "require-unable": "requires encryption, and has no WireGuard device",
    "prefer": "may still be reached in the clear: 'neti enforce' there",
    "partly": "requires encryption with some of the other sites only: with the rest something may "
    "go in the clear. Where that is meant: --require encrypted-in-part",
    "trial": "requires encryption on trial only, which is not confirmed yet",
}
_SURE: Final = frozenset({"encrypted-in-part", "encrypted"})  # nothing may go in the clear
_UNSAID: Final = "does not say whether it encrypts"
_SAID: Final[Mapping[Required, str]] = {
    "enforced": "enforced",
    "shadow": "in shadow",
    "in-step": "in step",
    "no-problem": "without a problem",
    "can-encrypt": "able to encrypt",
    "encrypted-in-part": "encrypted where each host's own neti.yml requires it",
    "encrypted": "encrypted",
}
# No host tells the registry what its file lets through.
_EXCEPTED: Final = (
    "not counted: what trusted and open_ports let through in the clear, which 'neti status' on "
    "each host names"
)
_MEANS: Final[Mapping[State, str]] = {
    "lost": "lost",
    "held": "held",
    "left": "has left",
    "not believed": "registered, and not believed",
    "gone": "gone: it left, or was lost for too long",
    "missing": "missing: it holds a lease and is not registered",
    "never seen": "admitted, and never seen",
}


@dataclass(frozen=True, slots=True)
class Word:
    """What this host's agent says about a host that is lost or held. ``since``: Unix seconds;
    ``gone_in``: in how many seconds peers let go of it; ``overlay``: by which it is kept."""

    state: Literal["lost", "held"]
    since: float | None = None
    site: str | None = None
    gone_in: float | None = None
    overlay: str | None = None


def absent(
    leases: Mapping[str, IPv4Address],
    members: Collection[str],
    *,
    left: Collection[str] = (),
    not_believed: Collection[str] = (),
    expected: Collection[str] = (),
    words: Mapping[str, Word] | None = None,
) -> list[Row]:
    """A row for each host that holds a lease, or that this host's agent keeps, and that is not a
    registered member; sorted by id. ``expected``: who was admitted and never came; ``words``: None
    if no agent could be asked."""
    known = words or {}
    rows = []
    for host_id in sorted({*leases, *known} - set(members)):
        word = known.get(host_id)
        state: State = "missing" if words is None else "gone"
        if host_id in expected:
            state = "never seen"
        if host_id in not_believed:
            state = "not believed"
        elif host_id in left:
            state = "left"
        elif word is not None:
            state = word.state
        overlay = leases.get(host_id) or (word.overlay if word is not None else None)
        rows.append(
            {
                "name": host_id,
                "id": host_id,
                "site": word.site if word is not None else None,
                "private": None,
                "public": None,
                "overlay": str(overlay) if overlay is not None else None,
                "version": None,
                "stage": None,
                "encryption": None,
                "tunnel_port": None,
                "gateways": None,
                "state": state,
                "since": word.since if word is not None else None,
                "gone_in": word.gone_in if word is not None else None,
                **said_of_itself(Document()),
            }
        )
    return rows


def summary(registered: int, away: Sequence[Row]) -> str | None:
    """``8 known, 7 registered: ec2-4 lost since …``; None if all are there."""
    if not away:
        return None
    named = some([_in_words(row, short=True) for row in away], 5)
    return f"{registered + len(away)} known, {registered} registered: {named}"


def _in_words(row: Row, *, short: bool = False) -> str:
    since = f" since {moment(row['since'])}" if row.get("since") is not None else ""
    if (left := row.get("gone_in")) is not None:
        since += f", gone in {lasting(left)}"
    if short:
        return f"{row['id']} {row['state']}{since}"
    return f"{_MEANS[row['state']]}{since}"


def lasting(seconds: float) -> str:
    """A span of time, as people say it: ``40 s``, ``12 min``, ``3 h``, ``5 days``."""
    whole = max(0, int(seconds))
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min"
    return f"{whole // 3600} h" if whole < 172_800 else f"{whole // 86_400} days"


def moment(seconds: float) -> str:
    """Unix seconds, as people read them."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return "an unknown time"


def unmet(
    rows: Sequence[Row], away: Sequence[Row], required: Collection[Required], now: float
) -> list[tuple[str, str]]:
    """Each host that does not meet all requirements, by id, with the reasons. A host that is not
    there, or does not say, or has not for long, meets none. ``now``: Unix seconds."""
    found = [(row["id"], _in_words(row)) for row in away]
    for row in rows:
        if (age := off_by(row, now)) is not None:
            found.append((row["id"], f"does not say how it is now: {_off(age)}"))
            continue
        # Two requirements may fail for one reason, which is said once.
        reasons = dict.fromkeys(w for one in REQUIRED if one in required for w in _unmet(row, one))
        if reasons:
            found.append((row["id"], ", ".join(reasons)))
    return sorted(found)


def _off(age: float) -> str:
    if age > 0:
        return f"what it said last is {lasting(age)} old"
    return f"what it said last is from the future by {lasting(-age)}, so one clock is wrong"


def _unmet(row: Row, required: Required) -> Iterator[str]:
    stage, problems = row["stage"], row.get("problems")
    match required:
        case "enforced" | "shadow":
            if stage != required:
                yield f"does not say its stage ({stage})" if stage in ("?", None) else _is(stage)
        case "no-problem":
            if problems is None:
                yield "does not say what is wrong with it"
            elif problems:
                yield f"has problems: {', '.join(problems)}"
        case "in-step":
            # It has an entry, so its session lives, and its agent follows the registry. Whatever
            # keeps that from its kernel or its peers is among its problems.
            if problems is None:
                yield "does not say whether it is in step"
            elif out := sorted(OUT_OF_STEP.intersection(problems)):
                yield f"is not in step: {', '.join(out)}"
        case "can-encrypt" | "encrypted-in-part" | "encrypted":
            yield from _in_the_clear(row, required)


def _in_the_clear(row: Row, required: Required) -> Iterator[str]:
    """Why something may go in the clear there, as far as is asked. Whoever takes rules away once
    all are encrypted relies on each host, so it has to say that what it says is in force."""
    stage, problems, encryption = row["stage"], row.get("problems"), row.get("encryption")
    if stage == "down":
        yield "is down: nothing is encrypted there, and everybody gets in"
        return
    enough = encryption in _ENOUGH[required]
    if not enough:
        yield _ENCRYPTION.get(str(encryption), _UNSAID)
    if required == "can-encrypt":
        return
    if enough and stage != "enforced":
        yield from _unmet(row, "enforced")
    yield from _unmet(row, "in-step")
    if "config_unread" in (problems or ()):
        yield "has not read its neti.yml since that was changed: 'neti reload' there"


def _is(stage: str) -> str:
    return "is in shadow" if stage == "shadow" else f"is {stage}"


def unmet_by_the_fleet(
    rows: Sequence[Row], strict: bool | None, required: Collection[Required]
) -> list[str]:
    """What is missing of no host, but of all. ``rows``: of every member; ``strict``: of the
    registry; None: it does not answer, so that no host says anything."""
    found = []
    if _SURE.intersection(required) and strict is False:
        found.append(
            "strict is not on in the registry, so a key may be another's: 'neti registry strict'"
        )
    if "encrypted-in-part" in required:
        found.extend(_other_files(rows))
    ports = other_ports(rows) if _ENOUGH.keys() & set(required) else None
    return [*found, ports] if ports is not None else found


def _other_files(rows: Sequence[Row]) -> Iterator[str]:
    """Sites of which some hosts encrypt with each other site and some do not. What is required is
    in each host's own file: who lacks a pair there says "partly", and nothing of which pairs."""
    said: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        if (encryption := row.get("encryption")) in ("partly", "require"):
            said.setdefault(row["site"] or "", {}).setdefault(encryption, []).append(row["id"])
    for site, by in sorted(said.items()):
        if len(by) > 1:
            each = ", ".join(f"{word} on {some(ids, 5)}" for word, ids in sorted(by.items()))
            yield f"neti.yml does not require the same on all hosts of site {site}: {each}"


def other_ports(rows: Sequence[Row]) -> str | None:
    """That hosts which encrypt have another ``tunnel_port`` than most; None: all have the same.
    Each host calls the others by its own, so they only meet when the odd one has called first."""
    at: dict[int, list[str]] = {}
    for row in rows:
        if (port := row.get("tunnel_port")) is not None:
            at.setdefault(port, []).append(row["id"])
    if len(at) < 2:
        return None
    usual = max(at, key=lambda port: len(at[port]))
    others = [f"{port} on {some(ids, 5)}" for port, ids in sorted(at.items()) if port != usual]
    return (
        f"tunnel_port is not the same on all hosts: {usual} on {len(at[usual])} of them, "
        f"{', '.join(others)}"
    )


def other_gateways(rows: Sequence[Row]) -> str | None:
    """That some hosts name other gateways than most; None: all name the same. Of those that name
    none nothing is said: their sites may need none."""
    by: dict[str, list[str]] = {}
    for row in rows:
        if (named := row.get("gateways")) is not None:
            by.setdefault(named, []).append(row["id"])
    if len(by) < 2:
        return None
    usual = max(by, key=lambda named: len(by[named]))
    others = [some(ids, 5) for named, ids in sorted(by.items()) if named != usual]
    return (
        f"neti.yml does not name the same gateways on all hosts: {'; '.join(others)} name others "
        f"than the {len(by[usual])} that agree, and what goes between them may be lost\n"
        "→ the same sites.NAME.gateways on every host, then neti reload"
    )


def verdict(total: int, failed: int, required: Sequence[Required], *, sure: bool = True) -> str:
    """``sure``: nothing is missing of the fleet as a whole."""
    words = " and ".join(_SAID[one] for one in required)
    if total == 0:
        return f"nobody is known, so nobody is {words}"
    if failed:
        return f"{failed} of {total} {'is' if failed == 1 else 'are'} not {words}"
    if not sure:
        return f"{counted(total, 'host')}, and it is not sure that any is {words}"
    passed = f"{counted(total, 'host')}, all {words}"
    return f"{passed}\n{_EXCEPTED}" if _SURE.intersection(required) else passed

"""The evidence for making a trial permanent, piece by piece, and what is missing. Pure.

A trial is confirmed by the agent only if every piece holds. docs/safety.md lists them for the
operator in the same order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

ANSWERS: Final = (
    "open them (open_ports), or say that they may be lost (neti preview --accept-losing PORT/PROTO)"
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One piece of evidence; ``sentence`` says what was seen, whether it holds or not."""

    what: str
    holds: bool
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What the agent saw since the trial began.

    ``registry``: what went wrong when the registry was asked over a separate connection; empty: it
    answered; None: it was not asked yet. ``admitted``: packets from members that were let in;
    ``admitted_before``: the same in the ``before_seconds`` before the trial. ``refused_members``:
    members with an address that was refused. ``lost_uses``: ports, in words, that were used in the
    shadow, have a listener here, and were refused now. ``way_in``: why the operator might not get
    in; empty: covered. ``incomplete``: why the record of refused packets cannot be relied on;
    empty: it can. ``unanswered``: ports, in words, that ``neti preview`` listed as in use when the
    trial began, and that nobody has accepted or opened since. ``containers``: interfaces from which
    everything is let in, because they are taken for this machine's own containers'. ``unsaved``:
    why what is decided would not outlast a reboot; empty: the record is on disk. ``clear``: what
    goes, or would go, in the clear where that is to be refused, in words; None: it is not to be.
    ``kept_out``: ports, in words, of which ``member_ports`` kept members out since the trial began;
    None: it is not of those. ``losing``: the operator accepted losing either.
    """

    registry: str | None
    in_step: bool
    kernel: str
    peers: int
    admitted: int
    admitted_before: int
    before_seconds: float
    refused_members: tuple[str, ...]
    way_in: str
    lost_uses: tuple[str, ...]
    incomplete: str
    unanswered: tuple[str, ...]
    containers: tuple[str, ...]
    unsaved: str = ""
    clear: tuple[str, ...] | None = None
    kept_out: tuple[str, ...] | None = None
    losing: bool = False


def findings(seen: Observed) -> tuple[Finding, ...]:
    return (
        _registry(seen),
        Finding(
            "kernel",
            not seen.kernel,
            seen.kernel or "table, sets and verdict map are as they should be, both families armed",
        ),
        _members(seen),
        _refused(seen),
        Finding("way in", not seen.way_in, seen.way_in or "SSH is let in from ssh_whitelist"),
        _uses(seen),
        Finding(
            "record",
            not seen.incomplete,
            seen.incomplete or "complete for ports with a listener",
        ),
        _unanswered(seen),
        Finding("containers", True, _containers(seen.containers)),
        Finding("disk", not seen.unsaved, seen.unsaved or "the record of the stage is on disk"),
        *_encryption(seen),
        *_member_ports(seen),
    )


def missing(found: tuple[Finding, ...]) -> tuple[str, ...]:
    return tuple(f"{finding.what}: {finding.sentence}" for finding in found if not finding.holds)


def _registry(seen: Observed) -> Finding:
    if not seen.in_step:
        return Finding("registry", False, "this host is not in step with the registry")
    if seen.registry is None:
        return Finding("registry", False, "no answer yet to a new connection")
    if seen.registry:
        return Finding("registry", False, f"a new connection failed: {seen.registry}")
    return Finding("registry", True, "reached by a new connection")


def _members(seen: Observed) -> Finding:
    if not seen.peers:
        return Finding("members", True, "this host has no peers")
    if not seen.admitted and seen.losing and seen.kept_out:
        return Finding("members", True, "all that members sent was kept out, which was accepted")
    if seen.admitted_before and not seen.admitted:
        return Finding(
            "members",
            False,
            f"no packet of a member was let in since the trial began; {seen.admitted_before} were "
            f"in the {seen.before_seconds:.0f} s before it",
        )
    if not seen.admitted:
        return Finding("members", True, "no member sent anything, before the trial or since")
    return Finding("members", True, f"{seen.admitted} packets of members were let in")


def _refused(seen: Observed) -> Finding:
    if seen.refused_members:
        return Finding(
            "refused members",
            False,
            "packets from addresses of members were refused: " + _few(seen.refused_members),
        )
    return Finding("refused members", True, "none")


def _uses(seen: Observed) -> Finding:
    if seen.lost_uses:
        return Finding(
            "ports in use",
            False,
            "used in the shadow, listened to here, and refused now: "
            f"{_few(seen.lost_uses)}; {ANSWERS}",
        )
    return Finding("ports in use", True, "nothing was refused that the shadow had seen used")


def _unanswered(seen: Observed) -> Finding:
    if seen.unanswered:
        return Finding(
            "preview",
            False,
            f"in use before the trial, and refused from now on: {_few(seen.unanswered)}; {ANSWERS}",
        )
    return Finding("preview", True, "no port in use was left without an answer")


def _encryption(seen: Observed) -> Iterator[Finding]:
    if seen.clear is None:
        return
    if not seen.clear:
        yield Finding(
            "encryption", True, "nothing in the clear was refused, and every member has answered"
        )
        return
    accepted = "accepted as lost: " if seen.losing else ""
    yield Finding("encryption", seen.losing, accepted + "; ".join(seen.clear))


def _member_ports(seen: Observed) -> Iterator[Finding]:
    if seen.kept_out is None:
        return
    if not seen.kept_out:
        yield Finding("member_ports", True, "no member was kept out of a port where it is awaited")
        return
    accepted = "accepted as lost: " if seen.losing else ""
    kept = f"members were kept out of {_few(seen.kept_out)}"
    yield Finding("member_ports", seen.losing, accepted + kept)


def _containers(names: tuple[str, ...]) -> str:
    if not names:
        return "no interface is taken for one of this machine's own containers"
    return f"taken for this machine's own containers, and let in: {_few(names)}"


def _few(words: tuple[str, ...]) -> str:
    return ", ".join(words[:5]) + (f" and {len(words) - 5} more" if len(words) > 5 else "")

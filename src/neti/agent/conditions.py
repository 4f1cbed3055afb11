"""Problems that follow from how things stand now: down, relaxed, held, lost.

Problems that an event brought about are kept in ``core.problems``. These here are derived each time
somebody asks, so they can neither be forgotten nor outlive their cause. Only reads, and is asked
every few seconds, so nothing here may cost more than a count.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Final

from neti.agent import encryption
from neti.agent.core import Core
from neti.fleet.attendance import moment
from neti.model.problem_codes import ABOUT_THE_FLEET
from neti.model.problems import Problem, Severity, problem
from neti.stage.stages import GROUPS_MISSING, PORTS_LOST, PORTS_WAIT, Stage
from neti.text import printable
from neti.words import and_more, counted

_NAMED: Final = 5
_TRIED: Final = {"encryption": "required encryption"}  # the others are keys of neti.yml


def problems_of(core: Core) -> list[Problem]:
    """Everything that is wrong on this host, the most severe first."""
    found = [*core.problems, *_conditions(core)]
    return sorted(found, key=lambda one: -one.severity.rank)


def own_codes(core: Core) -> tuple[str, ...]:
    """The codes of what is wrong here and not in the whole fleet: the registry tells them to
    others."""
    found = {one.code for one in problems_of(core) if one.severity is not Severity.NOTE}
    return tuple(sorted(found - ABOUT_THE_FLEET))


def _conditions(core: Core) -> Iterator[Problem]:
    yield from _stage(core)
    yield from _members(core)
    yield from _keys(core)
    yield from _encryption(core)
    yield from _member_ports(core)
    yield from _groups(core)
    for name, fault in sorted(core.live.faults.items()):
        yield problem("live_setting", fault, name)
    changed = core.out.config_read.unread() if core.out.config_read is not None else None
    if changed is not None:
        yield problem(
            "config_unread",
            f"{core.settings.path} was changed at {moment(changed)} and has not been read since: "
            "the agent uses what it was before → neti reload",
        )


def _stage(core: Core) -> Iterator[Problem]:
    record, now = core.stage.record, core.since()
    if core.down.now and record.wished:
        yield problem(
            "down_open",
            "Neti is down on this host, so reject_all is NOT in force and everything gets in: "
            "'neti up' ends that",
        )
    elif core.down.now:
        yield problem(
            "down",
            "Neti is down on this host: nothing of it is in the kernel, and overlay addresses lead "
            "nowhere; 'neti up' ends that",
        )
    if record.relaxed and core.settings.reject_all:
        who = f" by {record.said_by}" if record.said_by else ""
        when = f" at {moment(record.said_at)}" if record.said_at is not None else ""
        until = core.shown(record.relaxed_until)
        again = f"until {moment(until)}" if until is not None else "until 'neti enforce'"
        yield problem(
            "relaxed",
            f"reject_all is true in {core.settings.path}, but this host was relaxed{who}{when}: "
            f"nothing is kept out, {again}",
        )
    if record.wished and record.trial is None and record.failures:
        why = "; ".join(record.why) or "nobody confirmed it"
        retry = record.retry_at
        again = "'neti enforce'"
        if retry is not None:
            again = f"it is tried again at {moment(core.steady.shown(max(retry, now)))}"
        of = " and ".join(_TRIED.get(one, one) for one in core.stage.tried())
        yield problem("trial_expired", f"the trial of {of} ended unconfirmed ({why}): {again}")


def _member_ports(core: Core) -> Iterator[Problem]:
    """Not on a host in shadow: that nobody is kept out there is no news."""
    stage = core.stage
    if stage.ports != "waiting" or stage.now is not Stage.ENFORCED or core.down.now:
        return
    if core.ports_in_force != stage.record.member_ports:
        yield problem("groups_missing", GROUPS_MISSING)
    elif stage.record.ports_lost:
        yield problem("member_ports_lost", f"{PORTS_LOST} → neti preview, then neti enforce")
    else:
        yield problem("member_ports_wait", f"{PORTS_WAIT} → neti preview, then neti enforce")


def _encryption(core: Core) -> Iterator[Problem]:
    """That it is required with keys that prove nothing; or that others encrypt and this host does
    not. Whether they require it is in their files only: what they refuse then leaves no trace
    here."""
    if core.own_key.wanted:
        yield from _keys_of_anybody(core)
        yield from encryption.problems(core)
        return
    others = core.others_keys
    if not others.count:
        return
    have = counted(others.count, "member has", "members have")
    said = f"{have} a WireGuard key, so neti.yml encrypts there, and it does not on this host"
    if others.rolling_out:
        yield problem(
            "encryption_comes",
            f"{said} yet: who prefers encryption reaches it in the clear as before, who requires "
            "it refuses it → the same 'encrypt' on all hosts",
        )
    else:
        yield problem(
            "encryption_one_sided",
            f"{said}: who requires encryption refuses this host → the same 'encrypt' on all hosts; "
            "before 'off', 'prefer' on all",
        )


def _keys_of_anybody(core: Core) -> Iterator[Problem]:
    """'neti enforce' does not begin so, but strict may be turned off later."""
    requires = core.stage.requires or core.stage.tries_to_require
    if not requires or core.members.fleet.records == "strict":
        return
    remedy = "neti registry strict on"
    if core.settings.registry_tls is None:
        remedy = "configure registry_tls, and neti registry strict on"
    yield problem(
        "encryption_not_strict",
        "encryption is required here, and goes on, but the registry is not strict: whoever has the "
        "certificate of any one host can give a member another key, and be taken for it → "
        f"{remedy}; or encrypt: prefer on all hosts",
    )


def _groups(core: Core) -> Iterator[Problem]:
    """Before operators' word is read for the first time, nobody can say that they said nothing."""
    groups = core.members.groups
    for name in groups.undefined if groups.known else ():
        yield problem(
            "group_unknown",
            f"member_ports names group {name}, which no operator has defined, so nobody is in it "
            f"→ neti group set {name} ID…, or take it out of {core.settings.path}",
            name,
        )


def _members(core: Core) -> Iterator[Problem]:
    yield from _records(core)
    fleet = core.members.fleet
    held, lost = len(fleet.holds), len(fleet.lost) - len(fleet.holds)
    if held:
        ids = ", ".join(islice(fleet.holds, _NAMED)) + and_more(held - _NAMED)
        yield problem(
            "held",
            f"the removal of {held} members is held back ({ids}): look at them, then "
            "'neti release'",
        )
    if lost:
        waiting = (host_id for host_id in fleet.lost if host_id not in fleet.holds)
        ids = ", ".join(islice(waiting, _NAMED)) + and_more(lost - _NAMED)
        are = counted(lost, "member is", "members are")
        yield problem("lost", f"{are} lost ({ids}): gone without a word")


def _keys(core: Core) -> Iterator[Problem]:
    if not core.own_key.wanted:
        return
    fleet, own = core.members.fleet, core.own_key.public()
    thief = fleet.owner_of_key(own) if own is not None else None
    if thief not in (None, core.host.id):
        yield problem(
            "key_of_another",
            f"the record of {printable(thief)} says this host's own public key {own}: it gets no "
            "road by that key → neti registry check",
            printable(thief),
        )
    for key, (owner, others) in islice(fleet.key_disputes.items(), _NAMED):
        ids = ", ".join(map(printable, islice(sorted(others), _NAMED)))
        ids += and_more(len(others) - _NAMED)
        if owner is None:
            yield problem(
                "key_of_another",
                f"it is not known whose the public key {key} is, which these records say: {ids}. "
                "Nobody gets a road by that key → neti registry check",
                str(key),
            )
        else:
            yield problem(
                "key_of_another",
                f"the public key {key} belongs to {printable(owner)}, and the record of another "
                f"host says it as well ({ids}): that one gets no road by it → neti registry check",
                str(key),
            )


def _records(core: Core) -> Iterator[Problem]:
    fleet = core.members.fleet
    unvouched = fleet.unvouched
    if not unvouched:
        return
    named = ", ".join(map(printable, islice(unvouched, _NAMED))) + and_more(len(unvouched) - _NAMED)
    count = counted(len(unvouched), "entry is", "entries are")
    its = "its host's record" if len(unvouched) == 1 else "their hosts' records"
    if fleet.records == "strict":
        yield problem(
            "forged",
            f"{count} not named by {its} ({named}), and so not believed → neti registry check",
        )
    else:
        yield problem(
            "not_vouched",
            f"{count} not named by {its} ({named}): believed, as long as 'neti registry strict' is "
            "off",
        )

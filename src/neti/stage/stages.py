"""Shadow, trial, enforced: which of them is in force, and who wished for it. Pure decisions.

The kernel itself ends a trial: its verdicts carry a time-out. So nothing here can keep a trial
alive, and nothing may restart one that is over: after the deadline ``enforcement`` is OFF.
docs/design/stages.md has the whole picture.

Must never do: read a clock or a file, or turn an unconfirmed trial into enforcement.
"""

import enum
from dataclasses import dataclass, replace
from typing import Final, Literal

from neti.model.groups import MemberPorts
from neti.ruleset.enforce import OFF, PERMANENT, REQUIRED, Enforcement
from neti.ruleset.member_ports import both, covers, same
from neti.ruleset.objects import KernelState

# Pauses in seconds before a trial that the configuration wishes for is tried again; the last stays.
RETRY_PAUSES: Final = (300.0, 900.0, 3600.0, 14400.0)
MIN_TRIAL_SECONDS: Final = 5
MAX_TRIAL_SECONDS: Final = 86_400

DOWN: Final = "down"  # instead of a stage's name, while nothing of Neti is in the kernel
NO_WAY_IN: Final = (
    "ssh_whitelist is empty, so nobody could get in to fix a mistake; write "
    "ssh_whitelist: [YOUR/RANGE], or allow_empty_ssh_whitelist: true"
)
IS_DOWN: Final = "Neti is down on this host ('neti up' ends that)"
PORTS_WAIT: Final = (
    "member_ports take away from what members reach here: that waits, and is only recorded, until "
    "'neti enforce' has tried it"
)
PORTS_LOST: Final = (
    "member_ports were in force on this host and are not any more, because stage.json is lost or "
    "cannot be used: members reach every port of it until 'neti enforce' has tried them again"
)
GROUPS_MISSING: Final = (
    "it is not known who is in which group, so member_ports keep nobody out until the registry is "
    "back"
)
NO_MEMBERS: Final = "the members are not known yet, and arming now would keep all of them out"

Wisher = Literal["configuration", "command"]


class Stage(enum.Enum):
    SHADOW = "shadow"
    TRIAL = "trial"
    ENFORCED = "enforced"


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """``deadline``: CLOCK_MONOTONIC seconds, which mean nothing in another ``boot``.

    ``began`` is steady seconds, as is the shadow's record of what came since. ``wait``: only the
    operator's word confirms it. ``require``: it is of encryption between sites too, or of that
    alone on a host that is enforced. ``member_ports``: those that it is of (None: of none), alone
    or beside the rest likewise. ``losing``: the operator accepts losing what is in the clear, and
    what ``member_ports`` takes away.
    """

    boot: str
    deadline: float
    began: float
    seconds: int
    wait: bool = False
    require: bool = False
    member_ports: MemberPorts = None
    losing: bool = False

    def is_in(self, kernel: KernelState) -> bool:
        """Whether all of it is in the kernel, on trial or for good."""
        return (
            kernel.armed
            and (kernel.requires or not self.require)
            and (kernel.narrows or self.member_ports is None)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is kept on disk. ``configured``: reject_all as it was last read (None: never).

    ``failures``: trials in a row that ended unconfirmed; ``why``: what was missing at the end of
    the last one; ``tried``: of what it was, as ``parts`` has it; ``retry_at``: steady seconds.
    ``said_at`` (Unix seconds) and ``said_by`` (who, from where; for people): the last command.
    ``relaxed_until``: steady seconds; None: for good; ``relaxed_for``: how many seconds that was
    when it was said. ``requires``: that encryption is required between sites was confirmed, and
    ``member_ports`` those that were, with what the file added since, which is never so on a host
    that is not ``confirmed``. ``ports_lost``: some were, and no record says which.
    """

    configured: bool | None = None
    wished: bool = False
    by: Wisher = "configuration"
    confirmed: bool = False
    trial: Trial | None = None
    failures: int = 0
    why: tuple[str, ...] = ()
    tried: tuple[str, ...] = ()
    retry_at: float | None = None
    said_at: float | None = None
    said_by: str = ""
    relaxed_until: float | None = None
    relaxed_for: float | None = None
    requires: bool = False
    member_ports: MemberPorts = None
    ports_lost: bool = False

    @property
    def relaxed(self) -> bool:
        """Whether ``neti relax`` was the last word; ``said_at`` and ``said_by`` tell of it."""
        return self.by == "command" and not self.wished

    @property
    def stage(self) -> Stage:
        if self.confirmed:
            return Stage.ENFORCED
        return Stage.SHADOW if self.trial is None else Stage.TRIAL

    @property
    def wants_trial(self) -> bool:
        """Whether enforcement is wished for and has not been confirmed yet."""
        return self.wished and not self.confirmed and self.trial is None


def configured(record: Record, reject_all: bool) -> Record:
    """The configuration was read. Only a value that *changed* counts as later than a command."""
    if reject_all == record.configured:
        return record
    noted = replace(record, configured=reject_all)
    if reject_all and record.wished:
        return noted  # it is in force, on trial or refused already, by a command
    return _wish(noted, reject_all, "configuration")


def commanded(
    record: Record,
    on: bool,
    *,
    at: float | None = None,
    by: str = "",
    until: float | None = None,
    seconds: float | None = None,
) -> Record:
    """``neti enforce`` or ``neti relax``. ``at``: when (Unix seconds); ``by``: who, from where;
    ``until``: when a relaxed host is to be put on trial again (steady seconds), which is
    ``seconds`` from now."""
    if on and record.confirmed:
        return replace(record, by="command", said_at=at, said_by=by)
    wished = _wish(record, on, "command")
    if on:
        return replace(wished, said_at=at, said_by=by)
    return replace(wished, said_at=at, said_by=by, relaxed_until=until, relaxed_for=seconds)


def relaxed_long_enough(record: Record, now: float) -> bool:
    """Whether the time that ``neti relax --for`` named is over. ``now``: steady seconds."""
    return record.relaxed and record.relaxed_until is not None and record.relaxed_until <= now


def _wish(record: Record, on: bool, by: Wisher) -> Record:
    return Record(configured=record.configured, wished=on, by=by)


def begun(record: Record, trial: Trial) -> Record:
    return replace(record, trial=trial, retry_at=None)


def confirmed(record: Record) -> Record:
    requires, ports, trial = record.requires, record.member_ports, record.trial
    if trial is not None:
        requires = requires or trial.require
        ports = ports if trial.member_ports is None else trial.member_ports
    lost = record.ports_lost and ports is None
    done = replace(_without_failures(record), confirmed=True, trial=None, retry_at=None)
    return replace(done, requires=requires, member_ports=ports, ports_lost=lost)


def unrequired(record: Record) -> Record:
    """The configuration does not ask for encryption any more: no pair of this host's site does. A
    trial of ``reject_all`` goes on without it."""
    if record.trial is not None and record.trial.require:
        record = _left_to_try(record, replace(record.trial, require=False))
    record = replace(record, requires=False)
    if record.confirmed and record.tried in ((), ("encryption",)):  # (): by an earlier version
        return _without_failures(record)
    return record


def _without_failures(record: Record) -> Record:
    return replace(record, failures=0, why=(), tried=())


def parts(record: Record, *, require: bool, ports: MemberPorts) -> tuple[str, ...]:
    """What a trial would be of."""
    of = {
        "reject_all": not record.confirmed,
        "encryption": require and not record.requires,
        "member_ports": ports is not None,
    }
    return tuple(name for name, tried in of.items() if tried)


def on_trial(record: Record) -> tuple[str, ...]:
    """What the trial that runs is of."""
    trial = record.trial
    if trial is None:
        return ()
    return parts(record, require=trial.require, ports=trial.member_ports)


def _left_to_try(record: Record, trial: Trial) -> Record:
    """A trial without a part of what it was of."""
    alone = record.confirmed and (record.requires or not trial.require)
    return replace(record, trial=None if alone and trial.member_ports is None else trial)


def waits(record: Record, ports: MemberPorts) -> bool:
    """Whether ``ports``, those of the configuration, take away from what is in force: until a trial
    of them is confirmed, that is only recorded."""
    return not covers(ports, record.member_ports)


def allotted(record: Record, ports: MemberPorts) -> Record:
    """``member_ports`` of the configuration were read. What they add is in force at once, where any
    are; what they take away waits, also if an earlier file added it and no trial was of it. A trial
    of others goes on without them."""
    ports, trial = ports or None, record.trial
    if trial is not None and trial.member_ports is not None:
        if same(trial.member_ports, ports):
            record = replace(record, trial=replace(trial, member_ports=ports))  # as it is written
        else:
            record = _left_to_try(record, replace(trial, member_ports=None))
    if record.member_ports is not None:
        in_force = both(record.member_ports, ports) if waits(record, ports) else ports
        record = replace(record, member_ports=in_force)
    if waits(record, ports):
        return record
    over = record.confirmed and record.tried == ("member_ports",)
    return replace(_without_failures(record) if over else record, ports_lost=False)


def unconfirmed(record: Record, why: tuple[str, ...], now: float) -> Record:
    """The trial is over. A trial for the configuration is tried again later; one for a command, or
    on a host that is enforced, waits for another command. Such a host stays so."""
    again = record.configured and not record.confirmed
    return replace(
        record,
        trial=None,
        failures=record.failures + 1,
        why=why,
        tried=on_trial(record) or record.tried,
        retry_at=now + _pause(record.failures + 1) if again else None,
    )


def _pause(failures: int) -> float:
    """After this many trials in a row ended unconfirmed."""
    return RETRY_PAUSES[max(0, min(failures, len(RETRY_PAUSES)) - 1)]


def moved(record: Record, by: float, now: float) -> Record:
    """As a later boot counts time: ``by`` later, but nothing gets further away from ``now`` than it
    was. A clock that was never set must not keep a host relaxed for fifty years."""
    retry, until = record.retry_at, record.relaxed_until
    if retry is not None:
        retry = min(retry + by, now + _pause(record.failures))
    if until is not None:
        until += by
        if record.relaxed_for is not None:
            until = min(until, now + record.relaxed_for)
    return replace(record, retry_at=retry, relaxed_until=until)


def may_begin(record: Record, now: float) -> bool:
    """Whether a trial should begin by itself now: a new wish at once, a failed one after its pause.
    ``now``: steady seconds."""
    if not record.wants_trial:
        return False
    if record.failures == 0:
        return True
    return record.retry_at is not None and record.retry_at <= now


def resumed(
    record: Record,
    *,
    boot: str,
    monotonic: float,
    now: float,
    armed: bool,
    requires: bool = False,
    narrows: bool = False,
) -> Record:
    """What a starting agent finds. ``now``: steady seconds. ``armed``: the kernel holds enforcement
    without a time-out, which only a confirmation makes, so the confirmation counts even if the
    agent was killed right after it. ``requires``: the same of required encryption. A confirmation
    of ``member_ports`` alone leaves nothing of the kind; ``narrows``: a trial of them is there."""
    trial = record.trial
    if trial is None:
        return record
    if trial.boot != boot:
        return unconfirmed(record, ("the machine was restarted during the trial",), now)
    more = not record.confirmed or (trial.require and not record.requires)
    if more and armed and (requires or not trial.require):
        return confirmed(record)
    if trial.deadline <= monotonic:
        return unconfirmed(record, ("no agent was running at the trial's end",), now)
    if not more and not narrows:
        return unconfirmed(record, ("the agent was killed, and the kernel holds no trial",), now)
    return record


def hindrance(*, way_in: bool, down: bool, known: bool = True) -> str | None:
    """Why the kernel drops nothing, whatever was decided; None when nothing is in the way.
    ``known``: whether there are members that would be let in."""
    if down:
        return IS_DOWN
    if not way_in:
        return NO_WAY_IN
    return None if known else NO_MEMBERS


def in_force(
    record: Record, *, monotonic: float, way_in: bool, down: bool, known: bool = True
) -> Enforcement:
    """What the kernel should hold now: the one answer for the agent, ``restore`` and ``plan``."""
    if hindrance(way_in=way_in, down=down, known=known) is not None:
        return OFF
    return enforcement(record, monotonic)


def enforcement(record: Record, monotonic: float) -> Enforcement:
    """What the kernel should hold now."""
    good = REQUIRED if record.requires else PERMANENT if record.confirmed else OFF
    if record.trial is None:
        return good
    left = record.trial.deadline - monotonic
    if left <= 0:
        return good
    require = left if record.trial.require and not record.requires else good.require
    return Enforcement(
        permanent=good.permanent,
        seconds=0 if good.permanent else left,
        require=require,
        narrow=left if record.trial.member_ports is not None else 0,
    )

"""What operators do.

Must never do: what ``simulation/acts.py`` must not.
"""

import contextlib
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Literal

from neti.agent.told import Reload
from neti.errors import NetiError
from neti.model import Member, entry
from simulation.acts import TRIAL, Stage, act
from simulation.cloud_acts import scan, users
from simulation.host import SimulatedHost
from simulation.kernel import ROOM
from simulation.kernel_acts import bears, changed
from simulation.people import ELSEWHERE, OPERATOR, session_from
from simulation.world import World, is_forged


@act("enforce (wait for the operator: {})", 6, lambda c: (c.random() < 0.3, c.random() < 0.3))
def enforce(stage: Stage, host: SimulatedHost, wait: bool, anyway: bool) -> None:
    word = stage.truth.of(host)
    word.accepted |= anyway
    answer = host.ask("enforce", seconds=TRIAL, wait=wait, anyway=anyway)
    if not answer:
        word.forget()  # killed meanwhile: either is right
        return
    result = answer.get("result")
    if not isinstance(result, dict):
        return
    word.relaxed, word.borne = False, ""
    if result.get("stage") == "trial":
        word.enforced = False
        if not host.kernel.drops and host.kernel.failing is None:
            stage.fault("answer", host, "enforce began a trial, and the kernel drops nothing")


@act("enforced for good: enforce, and {} s", 2, lambda c: (TRIAL + 2.0,))
def enforce_wholly(stage: Stage, host: SimulatedHost, seconds: float) -> None:
    enforce(stage, host, False, False)
    stage.world.pass_time(seconds)


@act(
    "is scanned: {} ports where nobody listens; users call it for {} s; enforce (at all: {})",
    1.5,
    lambda c: (c.choice((5, ROOM, ROOM, ROOM)), 105.0, c.random() < 0.85),
)
def crowd(stage: Stage, host: SimulatedHost, ports: int, seconds: float, arms: bool) -> None:
    """Users come for long enough to be in the record, whatever the scan has taken of it."""
    scan(stage, host, ports)
    users(stage, host, True)
    stage.world.pass_time(seconds)
    if arms:
        enforce_wholly(stage, host, TRIAL + 2.0)


@act("enforce, typed in an SSH session from {}", 1.5, lambda c: (c.choice(("here", "elsewhere")),))
def enforce_from(stage: Stage, host: SimulatedHost, where: str) -> None:
    """Whoever would shut himself out is refused, whatever else he accepts."""
    word, began = stage.truth.of(host), host.kernel.stage
    word.accepted = True
    client = OPERATOR if where == "here" else ELSEWHERE
    session = session_from(client, host.machine.private).document()
    answer = host.ask("enforce", seconds=TRIAL, wait=False, anyway=True, session=session)
    if not answer:
        word.forget()
        return
    result = answer.get("result")
    if not isinstance(result, dict):
        return
    word.relaxed, word.borne = False, ""
    if result.get("stage") == "trial":
        word.enforced = False
        if where == "elsewhere" and began != "enforced":
            stage.fault("session", host, "armed, and the session that typed it is shut out")


@act(
    "an operator is in by SSH, from {}",
    0.7,
    lambda c: (c.choice(("here", "elsewhere")),),
)
def log_in(stage: Stage, host: SimulatedHost, where: str) -> None:
    """Elsewhere: from where no rule lets anybody in, while nobody is kept out."""
    if where == "elsewhere" and host.kernel.drops:
        return
    client = OPERATOR if where == "here" else ELSEWHERE
    host.sessions[where] = session_from(client, host.machine.private)


@act("nobody is in by SSH any more", 1)
def log_out(stage: Stage, host: SimulatedHost) -> None:
    host.sessions.clear()


@act("confirm", 2)
def confirm(stage: Stage, host: SimulatedHost) -> None:
    word = stage.truth.of(host)
    word.accepted = word.vouched = True
    result = host.ask("confirm").get("result")
    if isinstance(result, dict) and "said" not in result and host.kernel.stage != "enforced":
        stage.fault("answer", host, "confirm says enforced, and the kernel is not")


@act("relax", 3)
def relax(stage: Stage, host: SimulatedHost) -> None:
    _way_out(stage, host, "relax")


@act("down", 1)
def down(stage: Stage, host: SimulatedHost) -> None:
    _way_out(stage, host, "down")


def _way_out(stage: Stage, host: SimulatedHost, command: Literal["relax", "down"]) -> None:
    """As the command does: the agent, and without it where it does not answer or refuses."""
    word = stage.truth.of(host)
    word.forget()
    word.overlay = {}
    result = host.ask(command).get("result") if host.answers else None
    taken_out = host.kernel.table is None or host.kernel.marked_down()
    is_so = not host.kernel.drops if command == "relax" else taken_out
    if isinstance(result, dict) and not is_so and host.kernel.failing is None:
        stage.fault("answer", host, f"the agent says that {command} is done, and it is not")
    if isinstance(result, dict) and is_so:
        unsaved = result.get("unsaved") is not None
    else:
        done = host.alone(command)
        if done.kernel is not None:
            return
        unsaved = done.disk is not None
        if host.runs:
            changed(host)  # the kernel's event waits for it
    word.overlay = {}
    if command == "relax" and host.kernel.drops:
        stage.fault("answer", host, "relax was done, and the kernel drops input")
    if command == "down" and host.kernel.table is not None and not host.kernel.marked_down():
        stage.fault("answer", host, "down was done, and the table is there")
    word.damaged = word.damaged and not host.answers
    if command == "relax":
        # A change of the file that no agent has read yet counts as said later, once it is read.
        word.relaxed = not unsaved and not host.unread
    else:
        word.down = not unsaved
    if unsaved and not (command == "relax" and host.unread) and bears(host, command):
        word.borne = command


@act("up", 2)
def up(stage: Stage, host: SimulatedHost) -> None:
    """``neti up`` asks the agent; without one it takes the mark away."""
    stage.truth.of(host).down, stage.truth.of(host).borne = False, ""
    if host.answers:
        host.ask("up")
    else:
        host.up_alone()


@act("leaves", 2)
def leave(stage: Stage, host: SimulatedHost) -> None:
    done = "result" in host.ask("leave")
    if done and any(m.id == host.id for m in registered(stage.world)):
        stage.fault("answer", host, "leave was done, and it is registered")
    stage.world.settle()


def registered(world: World) -> list[Member]:
    found = []
    for name in world.server._names:
        if is_forged(name):
            continue
        with contextlib.suppress(NetiError):
            parsed = entry.parse(name)
            if isinstance(parsed, Member) and world.server._leases.get(parsed.overlay) == parsed.id:
                found.append(parsed)
    return found


@act("release", 1)
def release(stage: Stage, host: SimulatedHost) -> None:
    held = set() if host.agent is None else set(host.agent.core.members.fleet.holds)
    answer = host.ask("release")
    result = answer.get("result")
    # Killed meanwhile, or refused by the kernel, it was said all the same.
    released = result.get("released", ()) if isinstance(result, dict) else held
    stage.truth.of(host).released |= set(released)


@act("the configuration says reject_all: {}", 1.5, lambda c: (c.random() < 0.6,))
def configure(stage: Stage, host: SimulatedHost, reject_all: bool) -> None:
    if host.settings.reject_all != reject_all:
        host.settings = replace(host.settings, reject_all=reject_all)
        stage.truth.of(host).forget()
    if host.answers:
        host._tell(Reload())
        host.step()


@act("the configuration has ssh_whitelist: {}", 0.7, lambda c: (c.random() < 0.4,))
def whitelist(stage: Stage, host: SimulatedHost, there: bool) -> None:
    from simulation.world import OPERATORS

    host.settings = replace(host.settings, ssh_whitelist=(OPERATORS,) if there else ())
    stage.truth.of(host).forget()
    if host.answers:
        host._tell(Reload())
        host.step()


@act("moves to 10.0.0.{} (public too: {})", 2, lambda c: (c.randrange(60, 250), c.random() < 0.7))
def move(stage: Stage, host: SimulatedHost, last: int, public_too: bool) -> None:
    private = IPv4Address(f"10.0.0.{last}")
    if any(private == other.host.private for other in stage.world.hosts):
        return
    public = host.host.public
    if public_too and public is not None:
        public = IPv4Address((int(public) & ~0xFF) | last)
    host.move(private, public)

"""What becomes of time, of the order of things, and of a process and its machine.

Must never do: what ``simulation/acts.py`` must not.
"""

from simulation.acts import INTERRUPTED, KINDS, Stage, act, soon
from simulation.disk import WRITTEN_BACK
from simulation.host import SimulatedHost

# --- time, and the order of things ---


@act("{} s", 14, lambda c: (c.choice((0.1, 0.5, 2.5, 2.5, 2.5, 11.0, 31.0, 61.0)),), of_host=False)
def time(stage: Stage, seconds: float) -> None:
    stage.world.pass_time(seconds)


@act("{} s", 1, lambda c: (c.choice((130.0, 610.0, 3700.0)),), of_host=False)
def long_time(stage: Stage, seconds: float) -> None:
    stage.world.pass_time(seconds)


@act("hears of nothing until later", 2)
def late(stage: Stage, host: SimulatedHost) -> None:
    host.deaf()
    host.late, host.late_since = True, stage.world.time.now


@act("hears what it is told again", 3)
def prompt(stage: Stage, host: SimulatedHost) -> None:
    host.late = False
    host.attentive()


@act("is told {} things", 3, lambda c: (c.choice((1, 1, 2, 3, 5)),))
def deliver(stage: Stage, host: SimulatedHost, count: int) -> None:
    if host.answers:
        host.deliver(count)
        host.step()


@act("takes a turn", 2)
def turn(stage: Stage, host: SimulatedHost) -> None:
    host.step()


@act("a job ends", 3)
def job(stage: Stage, host: SimulatedHost) -> None:
    host.job()


# --- the process and the machine ---


@act("starts", 8)
def start(stage: Stage, host: SimulatedHost) -> None:
    if not host.runs:
        host.start()
        stage.world.settle()


@act("is killed", 2)
def kill(stage: Stage, host: SimulatedHost) -> None:
    host.kill()


@act("is killed before its effect number {}", 3, soon)
def kill_at(stage: Stage, host: SimulatedHost, effects: int) -> None:
    if host.answers:
        host.gate.arm(effects, host.gate.kill)


@act(
    "{}, and is killed before its effect number {}",
    1.5,
    lambda c: (c.choice(tuple(INTERRUPTED)), c.choice((1, 1, 2, 2, 3, 3, 4, 5, 6, 8, 11))),
)
def interrupted(stage: Stage, host: SimulatedHost, command: str, effects: int) -> None:
    """In the middle of what an operator asked for."""
    if host.answers:
        host.gate.arm(effects, host.gate.kill)
        KINDS[command].perform(stage, host, *INTERRUPTED[command])
        host.gate.disarm()


@act("starts, and is killed before its effect number {}", 2, soon)
def start_killed_at(stage: Stage, host: SimulatedHost, effects: int) -> None:
    if not host.runs:
        host.gate.arm(effects, host.gate.kill)
        host.start()


@act("restarts", 4)
def restart(stage: Stage, host: SimulatedHost) -> None:
    if host.runs:
        host.stop()
        host.start()
        stage.world.settle()


@act("is stopped (SIGSTOP) before its effect number {}", 2, soon)
def pause_at(stage: Stage, host: SimulatedHost, effects: int) -> None:
    host.pause_at(effects)


@act(
    "is stopped (SIGSTOP) before it reads the kernel for time number {}",
    2,
    lambda c: (c.choice((1, 1, 2)),),
)
def pause_at_look(stage: Stage, host: SimulatedHost, looks: int) -> None:
    """A full look at the kernel is due."""
    if host.answers and host.agent is not None:
        host.agent.core.soon("resync")
        host.pause_at(looks, look=True)


@act("goes on (SIGCONT)", 3)
def go_on(stage: Stage, host: SimulatedHost) -> None:
    host.go_on()


@act("reboots", 2)
def reboot(stage: Stage, host: SimulatedHost) -> None:
    host.stop()
    _boot(stage, host)


@act("loses power", 2)
def power_cut(stage: Stage, host: SimulatedHost) -> None:
    host.kill()
    word = stage.truth.of(host)
    if host.disk.owes:
        word.lied = True
        word.forget()
        word.damaged, word.down = True, False
    word.forget_since(stage.world.time.now - WRITTEN_BACK)
    host.disk.lose_power()
    _boot(stage, host)


def _boot(stage: Stage, host: SimulatedHost) -> None:
    """``neti restore``, and what it must have done before any agent runs."""
    word = stage.truth.of(host)
    word.borne = ""
    said = host.boot(restoring=True)
    word.overlay = {}
    if word.damaged:
        return
    if word.relaxed and host.kernel.drops:
        stage.fault("restore", host, "an operator relaxed it, and the boot keeps strangers out")
    if word.down and host.kernel.table is not None:
        stage.fault("restore", host, "an operator took it down, and the boot loads rules")
    if word.enforced and not host.kernel.drops and not said:
        stage.fault("restore", host, "it was enforced, and is open after the boot without a word")


@act("the machine sleeps for {} s", 0.5, lambda c: (c.choice((20.0, 100.0, 4000.0)),))
def sleep(stage: Stage, host: SimulatedHost, seconds: float) -> None:
    """Suspended: no time passes for what goes by CLOCK_MONOTONIC."""
    if host.paused is not None or not host.runs:
        return
    host.deaf()
    host.asleep = True
    host.clock.slept += seconds
    stage.truth.of(host).meddled += seconds  # it looks once it is awake for long enough
    stage.world.pass_time(seconds)
    host.asleep = False
    host.attentive()


@act("the clock is set by {} s", 1.5, lambda c: (c.choice((-86400, -900, -5, 5, 900, 86400)),))
def clock(stage: Stage, host: SimulatedHost, seconds: float) -> None:
    host.clock.set += seconds

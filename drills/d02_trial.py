"""A trial ends by the kernel's own clock, whatever became of the agent; what confirms one, and
what does not."""

import signal
import time
from collections.abc import Callable
from typing import Final

from drills import talk
from drills.drill import Row, Rows, Run
from drills.field import Field
from drills.host import FieldHost
from drills.plan import PORT, STRANGER
from drills.waiting import wait_for

TITLE = "a trial un-arms itself at its deadline, the agent stopped or killed"

_TOLERANCE: Final = 1.0  # seconds
_CONFIRM: Final = 6  # seconds of a trial that is to be confirmed
_POLL: Final = 0.01


def run(drill: Run) -> Rows:
    with Field(drill, hosts=2) as field:
        host = field.hosts[0]
        field.serve(host.namespace)
        field.start()
        seconds = drill.of(full=30, short=6)
        for how, act in {
            "SIGSTOPped": lambda: host.agent.signal(signal.SIGSTOP),
            "SIGKILLed": host.agent.kill,
        }.items():
            yield from _left_alone(field, host, how, act, seconds)
        yield from _confirmed(field, host)
        yield from _by_configuration(field, host)


def _left_alone(
    field: Field, host: FieldHost, how: str, act: Callable[[], object], seconds: int
) -> Rows:
    """Armed by a command; then nobody is there who could end it."""
    began = time.monotonic()
    done = host.neti(
        "enforce", "--trial", str(seconds), "--wait-for-confirm", "--no-follow", "--anyway"
    )
    said = time.monotonic()
    act()
    shut = not _stranger(field, host)
    yield Row(f"agent {how}: a stranger in the trial", "kept out" if shut else "LET IN", shut)
    wait_for(
        lambda: not host.read().enforce, "the kernel stays armed", seconds=seconds + 10, every=_POLL
    )
    now = time.monotonic()
    # The kernel's clock began between the two.
    late = max(0.0, now - said - seconds, began + seconds - now)
    figure = f"{now - began:.2f} s after it was asked for, of {seconds} s"
    yield Row(f"agent {how}: back in shadow", figure, late <= _TOLERANCE and done.returncode == 0)
    open_ = _stranger(field, host)
    yield Row(f"agent {how}: the stranger afterwards", "let in" if open_ else "KEPT OUT", open_)
    yield from _afterwards(host, how)


def _afterwards(host: FieldHost, how: str) -> Rows:
    """The agent comes back, and arms nothing again."""
    if how == "SIGSTOPped":
        host.agent.signal(signal.SIGCONT)
    else:
        host.agent.start()
        host.wait_until_registered()
    wait_for(
        lambda: (host.status()["trial"] or {}).get("state") == "expired",
        "the agent does not count its trial as over",
    )
    host.reload(open_ports=[])
    host.nft("delete table inet neti")
    wait_for(lambda: host.read().structure is not None, "the table is not put back")
    late = host.neti("confirm")
    armed = bool(host.read().enforce)
    ok = not armed and late.returncode != 0
    figure = "stays in shadow" if ok else "ARMED AGAIN"
    yield Row(f"agent {how}: reload, repair, late confirmation", figure, ok)
    host.at_peace()


def _confirmed(field: Field, host: FieldHost) -> Rows:
    """By evidence, for good; and gone by one command."""
    done = host.neti("enforce", "--trial", str(_CONFIRM), "--anyway")
    permanent = host.read().armed_for_good
    words = done.stdout.strip().splitlines()
    yield Row(
        "confirmed by evidence", words[-1], done.returncode == 0 and permanent and len(words) > 5
    )
    time.sleep(_CONFIRM)
    shut = host.read().armed_for_good and not _stranger(field, host)
    yield Row("enforced after the trial's time", "kept out" if shut else "LET IN", shut)
    began = time.monotonic()
    host.neti("relax")
    open_ = _stranger(field, host)
    figure = f"let in again after {time.monotonic() - began:.2f} s"
    yield Row("relax", figure if open_ else "KEPT OUT", open_)


def _by_configuration(field: Field, host: FieldHost) -> Rows:
    """reject_all, and a port that somebody forgot: used in the shadow, refused in the trial."""
    host.neti("preview", "--forget-accepted")  # the trials before accepted losing it
    if not _stranger(field, host):
        yield Row("the forgotten port in the shadow", "NOT REACHED", False)
    host.configure(trial_seconds=_CONFIRM)
    host.reload(reject_all=True)
    wait_for(lambda: host.status()["stage"] == "trial", "no trial begins", every=_POLL)
    time.sleep(0.5)
    _stranger(field, host)
    wait_for(lambda: host.status()["stage"] != "trial", "the trial does not end")
    status = host.status()
    why = "; ".join((status["trial"] or {}).get("why", ()))
    named = status["stage"] == "shadow" and f"{PORT}/tcp" in why
    yield Row("a forgotten port leaves it unconfirmed", why or status["stage"], named)
    check = host.neti("check")
    yield Row("neti check", check.stdout.strip()[:80], check.returncode == 2)
    host.reload(reject_all=False)


def _stranger(field: Field, host: FieldHost) -> bool:
    return talk.reaches(field.street, host.plan.private, PORT, source=STRANGER)

"""``neti relax`` and ``neti down`` on an enforced host where something is broken.

A stranger is kept out before and gets in afterwards; each command says what is the
case; and an agent that wakes or starts later undoes nothing. Two hosts at a time.
"""

import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from threading import Event
from typing import Final, Literal

from drills import broken, talk
from drills.broken import Broken
from drills.drill import DrillError, Row, Rows, Run
from drills.field import Field
from drills.host import FieldHost
from drills.plan import OVERLAY, PORT, STRANGER
from drills.waiting import wait_for
from neti.dataplane import way_out
from neti.errors import NetiError
from neti.ruleset.objects import FAMILY_TABLE

TITLE = "the way out: relax and down, whatever is broken"

Command = Literal["relax", "down"]
BOTH: Final[tuple[Command, ...]] = ("relax", "down")
_BRIEF: Final = 0.2  # seconds for a stranger who is not to get in
_OPEN: Final = {"relax": "shadow: nothing is kept out", "down": "down: nothing of Neti is in"}
_NEXT_STEP: Final = re.compile(r"[.]\n→ 'neti \w+' [^\n]+$")
_LAST_LINES: Final = 12  # of an agent's log, where it does not follow
_NOT_SAVED: Final = "THIS IS NOT ON DISK"


@dataclass(frozen=True, slots=True)
class Lane:
    """One host, and what an agent that enforced there left: on its disk, and in its kernel."""

    field: Field
    host: FieldHost
    kept: Path
    table: str


def run(drill: Run) -> Rows:
    with Field(drill, hosts=2, registry="zookeeper") as field, ExitStack() as disks:
        for host in field.hosts:
            disks.enter_context(broken.own_disk(host))
        field.serve(*(host.namespace for host in field.hosts))
        field.start()
        lanes = [_enforced(field, host) for host in field.hosts]
        chance = drill.chance("which command")
        plays = [
            (kind, BOTH if cheap or drill.scale == "full" else (chance.choice(BOTH),))
            for kind in broken.all_kinds(field.folder)
            if (cheap := kind.agent == "gone") or not (kind.again and drill.scale == "short")
        ]
        stop = Event()
        with ThreadPoolExecutor(len(lanes)) as pool, ExitStack() as ended:
            ended.callback(stop.set)  # Ctrl-C waits for what plays, and for no more
            halves = [
                pool.submit(_all, lane, plays[n :: len(lanes)], stop)
                for n, lane in enumerate(lanes)
            ]
            for half in halves:
                yield from half.result()
        yield from _without_registry(lanes, drill.of(full=BOTH, short=(chance.choice(BOTH),)))
        for lane in lanes:
            lane.host.agent.kill()
            _empty(lane.host)


def _enforced(field: Field, host: FieldHost) -> Lane:
    """Enforced for good, by an operator's word; then killed."""
    wait_for(lambda: bool(host.status()["registry"]["fresh"]), "the registry is not read")
    host.agent.ask("enforce", seconds=300, wait=True)
    host.agent.ask("confirm")
    wait_for((host.state / "members.jsonl").exists, "no member is on disk")
    host.agent.kill()
    kept = host.state.with_name("kept")
    broken.keep(host.state, kept)
    table = host.command("nft", "list", "table", *FAMILY_TABLE.split()).stdout
    return Lane(field, host, kept, table)


def _all(lane: Lane, plays: list[tuple[Broken, tuple[Command, ...]]], stop: Event) -> list[Row]:
    rows: list[Row] = []
    for kind, commands in plays:
        for command in commands:
            if stop.is_set():
                return rows
            try:
                figure, ok = _play(lane, kind, command)
            except NetiError as error:  # the other plays say more
                figure, ok = str(error), False
            rows.append(Row(f"{kind.what}: {command}", figure, ok))
    return rows


def _play(lane: Lane, kind: Broken, command: Command) -> tuple[str, bool]:
    host = lane.host
    _as_it_was(lane, agent=kind.agent != "gone")
    with broken.all_of(kind.ways, host):
        if kind.agent == "hung":
            host.agent.signal(SIGSTOP)
        began = time.monotonic()
        line = [*kind.around, sys.executable, "-m", "neti", command, "-c", str(host.config)]
        done = host.command(*line)
        took = time.monotonic() - began
        said = done.stdout.strip()
        wrong = list(_wrong(lane, command))
        if done.returncode != (0 if kind.saved else 1):
            wrong.append(f"exit code {done.returncode}")
        if kind.saved == (_NOT_SAVED in done.stderr):
            wrong.append(f"said of the disk: {done.stderr.strip()[:300]!r}")
        if not said.startswith(_OPEN[command]) or _NEXT_STEP.search(said) is None:
            wrong.append(f"said {said!r} {done.stderr.strip()[-300:]!r}")
        if kind.agent == "hung":
            host.agent.signal(SIGCONT)
        try:
            if kind.agent != "gone":
                _agent_knows(host, command)
            elif kind.started:
                _starts(host)
        except DrillError as error:  # what the command itself said comes first
            wrong.append(str(error))
        if kind.agent != "gone" or kind.started:
            wrong += [f"{what}, once the agent runs" for what in _wrong(lane, command)]
        if kind.agent == "running" and not host.agent.running:
            wrong.append("the agent died")
        host.agent.kill()
    figure = "; ".join(wrong) or f"the stranger gets in, after {took:.1f} s, exit {done.returncode}"
    return figure, not wrong


def _as_it_was(lane: Lane, *, agent: bool) -> None:
    """Enforced, by an agent that starts on its former disk, or as one left it that was killed."""
    host = lane.host
    host.agent.kill()
    _empty(host)
    broken.put_back(lane.kept, host.state)
    if not agent:
        host.nft(lane.table)
        source = ("src", str(host.plan.private), "protocol", str(way_out.ROUTE_PROTOCOL))
        host.ip("route", "add", str(OVERLAY), "dev", "lo", *source)
    else:
        host.agent.start()
        wait_for(lambda: host.status()["stage"] == "enforced", f"{host.name} is not enforced")
    held = host.inside(way_out.held)
    if held is None or not held.drops or _stranger(lane, _BRIEF):
        raise NetiError(f"{host.name} does not keep a stranger out to begin with")


def _empty(host: FieldHost) -> None:
    host.inside(way_out.remove_table)
    host.inside(way_out.remove_routes)


def _wrong(lane: Lane, command: Command) -> Iterator[str]:
    """What the kernel holds that it should not, and what packets say."""
    held = lane.host.inside(way_out.held)
    if held is not None and held.drops:
        yield "THE KERNEL STILL DROPS"
    if command == "relax" and held is None:
        yield "the table is gone"
    if command == "down":
        if held is not None and not lane.host.inside(way_out.has_down_mark):
            yield "the table is there"
        if lane.host.inside(way_out.remove_routes):
            yield "the route is there"
    if not _stranger(lane, talk.WAIT):
        yield "A STRANGER IS KEPT OUT"


def _stranger(lane: Lane, patience: float) -> bool:
    private = lane.host.plan.private
    return talk.reaches(lane.field.street, private, PORT, source=STRANGER, patience=patience)


def _agent_knows(host: FieldHost, command: Command) -> None:
    told = ["it never answered"]

    def knows() -> bool:
        try:
            status = host.status()
        except NetiError as error:
            told.append(str(error))
            raise
        codes = sorted(one["code"] for one in status["problems"])
        told.append(f"stage {status['stage']}, down {status['down']}, problems {codes}")
        return bool(status["down"]) if command == "down" else status["stage"] == "shadow"

    try:
        wait_for(knows, f"the agent of {host.name} does not follow 'neti {command}'")
    except DrillError as error:
        log = host.agent.log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        runs = "runs" if host.agent.running else "has ended"
        raise DrillError("; ".join([f"{error}: it {runs}", *told[-1:], *log])) from error


def _starts(host: FieldHost) -> None:
    """On such a disk it may have no socket; what it writes to the kernel, it writes first."""
    log = host.agent.log
    before = log.read_text(errors="replace").count(" registered ")
    host.agent.start()

    def registered() -> bool:
        host.agent.check()
        return log.read_text(errors="replace").count(" registered ") > before

    wait_for(registered, f"the agent of {host.name} does not register")


def _without_registry(lanes: list[Lane], commands: tuple[Command, ...]) -> Rows:
    """It is away, for good; an agent runs."""
    for lane, command in zip(lanes, commands, strict=False):
        _as_it_was(lane, agent=True)
        for server in lane.field.servers:
            server.kill()
        host = lane.host
        wait_for(
            lambda host=host: not host.status()["registry"]["fresh"],  # type: ignore[misc]  # a default in a lambda
            "the registry is still there",
        )
        done = host.neti(command)
        wrong = list(_wrong(lane, command))
        if done.returncode != 0 or not done.stdout.startswith(_OPEN[command]):
            wrong.append(f"said {done.stdout.strip()!r} {done.stderr.strip()!r}")
        figure = "; ".join(wrong) or "the stranger gets in"
        yield Row(f"registry away, agent running: {command}", figure, not wrong)

"""Everything that can happen, by name. An act is a value: the same acts in the same order make the
same story, whatever drew them, so a story can be replayed with some of them left out.

Must never do: draw anything while it is performed, or fail because an earlier act is missing.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from random import Random
from typing import Any, Final, Literal

from neti import durable
from neti.agent.own_entry import own_member
from neti.agent.told import Reload
from neti.dataplane.monitor import NetworkChanged, RulesChanged
from neti.errors import NetiError
from neti.model import Encrypt, Member, entry
from neti.oneshot import strict
from neti.registry.memory import Copy, MemoryRegistry
from neti.registry.strict import is_strict
from neti.ruleset.objects import FOREIGN, RELAXED_MARK
from neti.state.folder import KEY_FILE
from simulation.disk import WRITTEN_BACK, File
from simulation.group_invariants import in_groups, put_out
from simulation.host import SimulatedHost
from simulation.invariants import Fault
from simulation.kernel import ROOM
from simulation.machine import judging
from simulation.name_invariants import followed, taken_away
from simulation.people import ELSEWHERE, OPERATOR, session_from
from simulation.truth import Truth
from simulation.world import FORGED_PRIVATE, SITES, World, is_forged

TRIAL: Final = 30


@dataclass(frozen=True, slots=True)
class Act:
    """``host``: its place in the world, -1: no host. ``args``: drawn beforehand."""

    kind: str
    host: int = -1
    args: tuple[Any, ...] = ()

    def words(self, world: World) -> str:
        said = KINDS[self.kind].words.format(*self.args)
        if self.host < 0:
            return said
        return f"{world.hosts[self.host % len(world.hosts)].label}: {said}"


@dataclass(slots=True)
class Stage:
    """What acts work on, and what they find wrong themselves."""

    world: World
    truth: Truth
    faults: list[Fault] = field(default_factory=list)
    copies: dict[str, dict[str, bytes]] = field(default_factory=dict)
    registry_copy: Copy | None = None
    fakes: list[str] = field(default_factory=list)
    editions: int = 0  # of groups, that operators wrote

    def fault(self, code: str, host: SimulatedHost, sentence: str) -> None:
        self.faults.append(Fault(code, host.label, sentence))


Perform = Callable[..., None]


# Commands that may be cut off in the middle, and with which arguments.
INTERRUPTED: Final[dict[str, tuple[Any, ...]]] = {
    "enforce": (False, False),
    "confirm": (),
    "relax": (),
    "down": (),
    "up": (),
    "leave": (),
    "release": (),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """``draw``: its arguments. ``words``: in a story, with the arguments in their places.
    ``lately``: drawn only where that is asked for, until the seeds that have it were looked through
    (``--lately``); stories may have it."""

    perform: Perform
    words: str
    weight: float
    draw: Callable[[Random], tuple[Any, ...]]
    of_host: bool
    lately: bool


KINDS: dict[str, Kind] = {}


def _nothing(chance: Random) -> tuple[Any, ...]:
    return ()


def act(
    words: str,
    weight: float = 1.0,
    draw: Callable[[Random], tuple[Any, ...]] = _nothing,
    *,
    of_host: bool = True,
    lately: bool = False,
) -> Callable[[Perform], Perform]:
    def declared(perform: Perform) -> Perform:
        KINDS[perform.__name__] = Kind(perform, words, weight, draw, of_host, lately)
        return perform

    return declared


def perform(stage: Stage, one: Act) -> None:
    kind = KINDS[one.kind]
    if kind.of_host:
        kind.perform(stage, stage.world.hosts[one.host % len(stage.world.hosts)], *one.args)
    else:
        kind.perform(stage, *one.args)


def _soon(chance: Random) -> tuple[int]:
    """After how many effects: most turns have few."""
    return (chance.choice((1, 1, 2, 2, 3, 4, 5, 6, 8, 11, 15, 22, 40)),)


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


@act("is killed before its effect number {}", 3, _soon)
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


@act("starts, and is killed before its effect number {}", 2, _soon)
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


@act("is stopped (SIGSTOP) before its effect number {}", 2, _soon)
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


# --- its disk ---


@act("the disk is full", 1.5)
def disk_full(stage: Stage, host: SimulatedHost) -> None:
    host.disk.full = True


@act("the disk is read-only", 1)
def disk_read_only(stage: Stage, host: SimulatedHost) -> None:
    host.disk.read_only = True


@act("the disk says it has synced, and has not", 0.5)
def disk_lies(stage: Stage, host: SimulatedHost) -> None:
    host.disk.lying = True


@act("the disk works again", 4)
def disk_works(stage: Stage, host: SimulatedHost) -> None:
    host.disk.works_again()


@act("the disk is copied", 1)
def copy_disk(stage: Stage, host: SimulatedHost) -> None:
    stage.copies[host.label] = host.disk.copied()


@act("gets an old copy of its disk", 0.7)
def old_disk(stage: Stage, host: SimulatedHost) -> None:
    if host.label in stage.copies:
        host.kill()
        host.disk.put_back(stage.copies[host.label])
        host.users.forget()
        word = stage.truth.of(host)
        word.forget()
        word.knows_nothing()
        word.damaged, word.down = True, False


@act("its file {} is torn", 1, lambda c: (c.randrange(12),))
def tear(stage: Stage, host: SimulatedHost, number: int) -> None:
    """One file, while no agent runs; another one only once an agent has seen to the first."""
    names = sorted(host.disk.files)
    if host.runs or not names or stage.truth.of(host).torn:
        return
    name = names[number % len(names)]
    file = host.disk.files[name]
    file.data = file.synced = file.data[: len(file.data) // 2]
    host.users.forget()
    stage.truth.of(host).torn = True
    if name.startswith("members"):
        host.unsaved.add("members.jsonl")  # the journal before it is used, which may know less
    if name.startswith("stage"):
        stage.truth.of(host).ports = None  # the one before, of which nobody was told
    if name.startswith("self"):
        stage.truth.heard_out.discard(host.id)  # until the registry says it again


@act("a newer version ran there", 1)
def newer(stage: Stage, host: SimulatedHost) -> None:
    """It knows more keys, and says a higher format in each document."""
    host.kill()
    host.users.forget()
    for name, file in host.disk.files.items():
        if not name.endswith((".json", ".copy")):
            continue
        try:
            document = durable.checked(file.data)
        except ValueError:
            continue
        written = durable.line({**document, "format": 99, "learnt_since": {"deeply": 1}})
        host.disk.files[name].data = host.disk.files[name].synced = written


@act("the version before ran there", 0.7)
def older(stage: Stage, host: SimulatedHost) -> None:
    """It wrote no format, and none of the keys that came later."""
    host.kill()
    host.users.forget()
    stage.truth.of(host).ports = None
    for name, file in host.disk.files.items():
        if name.endswith((".json", ".copy", ".jsonl", ".old")):
            file.data = file.synced = b"".join(map(_older, file.data.splitlines(keepends=True)))


_LATER: Final = (
    *("format", "followed", "said_at", "said_by", "relaxed_until", "relaxed_for"),
    "member_ports",
)


def _older(line: bytes) -> bytes:
    try:
        document = durable.checked(line)
    except ValueError:
        return line
    return durable.line(
        {
            key: value[:5] if isinstance(value, list) and key != "#" else value
            for key, value in document.items()
            if key not in _LATER
        }
    )


@act("is upgraded, to a version with more sets", 0.7)
def upgrade(stage: Stage, host: SimulatedHost) -> None:
    _installed(stage, host, newer_one=True)


@act("goes back to the version before", 0.7)
def downgrade(stage: Stage, host: SimulatedHost) -> None:
    _installed(stage, host, newer_one=False)


def _installed(stage: Stage, host: SimulatedHost, *, newer_one: bool) -> None:
    """As a package does: the agent that runs is restarted."""
    if host.newer is newer_one:
        return
    ran = host.runs
    if ran:
        host.stop()
    if host.newer:
        newer(stage, host)  # what it has written
    host.newer = newer_one
    if ran:
        host.start()
        stage.world.settle()


# --- its kernel, and others' programs ---


@act("the kernel refuses everything", 1)
def kernel_refuses(stage: Stage, host: SimulatedHost) -> None:
    host.kernel.failing = "Device or resource busy"


@act("the kernel refuses new rules", 1)
def kernel_refuses_rules(stage: Stage, host: SimulatedHost) -> None:
    host.kernel.rules_refused = "Could not process rule: Invalid argument"
    host.machine.tables["another"] = judging("another", drops=False)  # so new rules are due
    _changed(host)


@act("the kernel works again", 5)
def kernel_works(stage: Stage, host: SimulatedHost) -> None:
    host.kernel.failing = host.kernel.rules_refused = None


def _changed(host: SimulatedHost) -> None:
    host._tell(RulesChanged(4711, "nft"))


def _bears(host: SimulatedHost, command: Literal["", "down", "relax"]) -> bool:
    """Whether its kernel says this. One without a table cannot say that it is relaxed."""
    if command == "relax":
        return RELAXED_MARK in host.kernel.enforce()
    return host.kernel.marked_down()


def _meddled(stage: Stage, host: SimulatedHost, *, heard: bool = True) -> None:
    word = stage.truth.of(host)
    if not _bears(host, word.borne):
        word.borne = ""
    word.meddled = stage.world.time.now
    host.users.forget()
    if host.kernel.table is not None:
        word.overlay = host.kernel.reached()
    if heard:
        _changed(host)


@act("another program flushes all tables", 2)
def flush(stage: Stage, host: SimulatedHost) -> None:
    _flush(host)
    _meddled(stage, host)


def _flush(host: SimulatedHost) -> None:
    host.kernel.flush()
    host.machine.tables.clear()


@act("another program flushes all tables before its effect number {}", 1, _soon)
def flush_at(stage: Stage, host: SimulatedHost, effects: int) -> None:
    def now(_kind: str) -> None:
        flush(stage, host)

    if host.answers:
        host.gate.arm(effects, now)


@act("another program flushes all tables, and no event tells of it", 0.5)
def flush_unheard(stage: Stage, host: SimulatedHost) -> None:
    _flush(host)
    _meddled(stage, host, heard=False)


@act(
    "another program takes element {} of {} out",
    1,
    lambda c: (c.randrange(6), c.choice(("overlay", "peers4", "enforce", "revoked4"))),
)
def take_element(stage: Stage, host: SimulatedHost, number: int, where: str) -> None:
    table = host.kernel.table
    if table is None:
        return
    sets: dict[str, dict[str, Any]] = {
        **{str(name): elements for name, elements in table.elements.items()},
        "enforce": table.enforce,
        "revoked4": table.timed.get("revoked4", {}),
    }
    held = sets.get(where)
    if held:
        del held[sorted(held)[number % len(held)]]
        _meddled(stage, host)


@act("another program puts a verdict into map enforce", 0.5)
def foreign_verdict(stage: Stage, host: SimulatedHost) -> None:
    if host.kernel.table is not None:
        host.kernel.table.enforce["ipv4"] = FOREIGN
        _meddled(stage, host)


@act("another program adds a rule to chain input", 0.7)
def tamper(stage: Stage, host: SimulatedHost) -> None:
    host.kernel.tamper()
    _meddled(stage, host)


@act(
    "another program loads a table that judges input (and drops: {})",
    1,
    lambda c: (c.random() < 0.5,),
)
def load_table(stage: Stage, host: SimulatedHost, drops: bool) -> None:
    host.machine.tables["theirs"] = judging("theirs", drops=drops)
    _changed(host)


@act("the other program takes its table away", 1)
def unload_table(stage: Stage, host: SimulatedHost) -> None:
    if host.machine.tables:
        host.machine.tables.clear()
        _changed(host)


@act("another program takes the overlay's route away", 0.7)
def take_route(stage: Stage, host: SimulatedHost) -> None:
    if host.machine.routes:
        host.machine.routes.clear()
        stage.truth.of(host).meddled = stage.world.time.now
        host._tell(NetworkChanged())


@act("opens a flow to host number {}", 2, lambda c: (c.randrange(50),))
def flow(stage: Stage, host: SimulatedHost, number: int) -> None:
    other = stage.world.hosts[number % len(stage.world.hosts)]
    leased = stage.truth.leases.get(other.id)
    if leased is not None:
        host.connections.open(IPv4Address(leased))


# --- the encrypted road ---


@act(
    "the configuration of all hosts says encrypt: {}",
    2,
    lambda c: (c.choice(("off", "prefer", "prefer", "require", "require")),),
    of_host=False,
)
def encrypt(stage: Stage, how: str) -> None:
    world = stage.world
    if how == "off" and world.gateways:
        return  # what they pass on is encrypted
    world.encrypt = Encrypt(how)
    told_of_sites(stage)


def told_of_sites(stage: Stage) -> None:
    """The configuration of all hosts is another one, and their agents are told."""
    world = stage.world
    sites = world.sites()
    for host in world.hosts:
        if host.settings.sites == sites:
            continue
        host.settings = replace(host.settings, sites=sites)
        stage.truth.of(host).requires = False
        if host.answers:
            host._tell(Reload())
    world.settle()


@act(
    "records decide, the configuration of all hosts says encrypt: require, all enforce, and {} s",
    2,
    lambda c: (TRIAL + 2.0,),
    of_host=False,
)
def require_wholly(stage: Stage, seconds: float) -> None:
    """Where hosts' records are read; the others prefer it."""
    strict_on(stage)
    encrypt(stage, "require" if stage.world.tls is not None else "prefer")
    stage.world.pass_time(5.0)
    for host in stage.world.hosts:
        enforce(stage, host, False, False)
    stage.world.pass_time(seconds)


@act("another program deletes the device neti0", 1)
def delete_device(stage: Stage, host: SimulatedHost) -> None:
    host.tunnel.links.vanish()
    _meddled_road(stage, host)


@act("another program deletes the rule that leads to neti0", 0.7)
def delete_rule(stage: Stage, host: SimulatedHost) -> None:
    links = host.tunnel.links
    links.held = replace(links.held, rules=())
    _meddled_road(stage, host)


@act(
    "another program takes peer {} out of neti0",
    0.7,
    lambda c: (c.randrange(6),),
)
def take_peer(stage: Stage, host: SimulatedHost, number: int) -> None:
    host.tunnel.device_.lose(number)
    stage.truth.of(host).meddled_road = stage.world.time.now


def _meddled_road(stage: Stage, host: SimulatedHost) -> None:
    stage.truth.of(host).meddled_road = stage.world.time.now
    host._tell(NetworkChanged())


@act("wireguard-go ends (and cannot be started: {})", 1, lambda c: (c.random() < 0.5,))
def wireguard_ends(stage: Stage, host: SimulatedHost, for_good: bool) -> None:
    links = host.tunnel.links
    if not links.module:
        links.vanish()
        links.listens = not for_good
        _meddled_road(stage, host)


@act("wireguard-go can be started again", 2)
def wireguard_works(stage: Stage, host: SimulatedHost) -> None:
    host.tunnel.works_again()


@act(
    "UDP between the sites is blocked: {}",
    1,
    lambda c: (c.random() < 0.5,),
    of_host=False,
)
def block_udp(stage: Stage, blocked: bool) -> None:
    stage.world.udp_blocked = blocked


@act("its key file is lost", 0.7)
def lose_key(stage: Stage, host: SimulatedHost) -> None:
    if not host.runs:
        host.disk.files.pop(KEY_FILE, None)
        host.disk.safe.pop(KEY_FILE, None)


@act("gets a copy of the key file of host number {}", 0.7, lambda c: (c.randrange(50),))
def copy_key(stage: Stage, host: SimulatedHost, number: int) -> None:
    """By hand, by somebody who takes it for this host's."""
    other = stage.world.hosts[number % len(stage.world.hosts)]
    held = other.disk.files.get(KEY_FILE)
    if held is not None and not host.runs and other.machine_id != host.machine_id:
        host.disk.files[KEY_FILE] = host.disk.safe[KEY_FILE] = File(held.data, held.data)


@act("another id holds the key that it makes next", 0.7)
def take_key(stage: Stage, host: SimulatedHost) -> None:
    stage.world.server._keys.setdefault(str(host.keys.following()), "thief-1")


# --- what the cloud says ---


@act("the metadata service does not answer", 0.7)
def metadata_silent(stage: Stage, host: SimulatedHost) -> None:
    host.metadata.silent = True


@act("the metadata service leaves the public address out, once", 0.7)
def metadata_odd(stage: Stage, host: SimulatedHost) -> None:
    host.metadata.odd = True


@act("the metadata service works again", 3)
def metadata_works(stage: Stage, host: SimulatedHost) -> None:
    host.metadata.works_again()


# --- users, and who looks for open doors ---


@act("users call it from now on: {}", 0.7, lambda c: (c.random() < 0.7,))
def users(stage: Stage, host: SimulatedHost, there: bool) -> None:
    host.users.there = there


@act("is scanned: {} ports where nobody listens", 0.7, lambda c: (c.choice((5, ROOM)),))
def scan(stage: Stage, host: SimulatedHost, ports: int) -> None:
    for number in range(ports):
        host.kernel.call(IPv4Address(f"192.0.2.{100 + number % 50}"), 20_000 + number)


# --- operators ---


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
            _changed(host)  # the kernel's event waits for it
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
    if unsaved and not (command == "relax" and host.unread) and _bears(host, command):
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
    if done and any(m.id == host.id for m in _registered(stage.world)):
        stage.fault("answer", host, "leave was done, and it is registered")
    stage.world.settle()


def _registered(world: World) -> list[Member]:
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


# --- the registry, and who writes to it ---


@act("the registry is away", 1, of_host=False)
def registry_away(stage: Stage) -> None:
    stage.world.registry_away()


@act("the registry is back", 3, of_host=False)
def registry_back(stage: Stage) -> None:
    stage.world.registry_back()


@act("cannot reach the registry", 1.5)
def cut(stage: Stage, host: SimulatedHost) -> None:
    host.cut_off()


@act("reaches the registry again", 3)
def mend(stage: Stage, host: SimulatedHost) -> None:
    host.reach_again()


@act(
    "site {} cannot reach the registry",
    0.5,
    lambda c: (c.choice(tuple(SITES)),),
    of_host=False,
)
def partition(stage: Stage, site: str) -> None:
    for host in stage.world.hosts:
        if host.host.site == site:
            host.cut_off()


@act("all reach the registry again", 1.5, of_host=False)
def reunion(stage: Stage) -> None:
    for host in stage.world.hosts:
        host.reach_again()


@act("its session ends", 1)
def expire(stage: Stage, host: SimulatedHost) -> None:
    if host.registry is not None and host.registry.session is not None:
        stage.world.server.expire(host.registry.session)


@contextlib.contextmanager
def _groups_stay(stage: Stage) -> Iterator[None]:
    """Where there are any, and names."""
    world = stage.world
    before, named = in_groups(world) if stage.truth.groups else {}, followed(world)
    yield
    if any(before.values()) or any(names.edition for names in named.values()):
        world.pass_time(3.0)
        for host, sentence in taken_away(world, named):
            stage.fault("names_guard", host, sentence)
        for host, sentence in put_out(world, before):
            stage.fault("groups_guard", host, sentence)


@act("the registry is wiped", 0.3, of_host=False)
def wipe(stage: Stage) -> None:
    server = stage.world.server
    with _groups_stay(stage):
        server.stop()
        stage.world.settle()
        server.wipe()
        stage.truth.wiped = True
        stage.fakes.clear()
        stage.world.registry_back()


@act("the registry is copied", 0.5, of_host=False)
def copy_registry(stage: Stage) -> None:
    stage.registry_copy = stage.world.server.copied()


@act("the registry is restored from its copy", 0.4, of_host=False)
def restore_registry(stage: Stage) -> None:
    server, copy = stage.world.server, stage.registry_copy
    if copy is None:
        return
    with _groups_stay(stage):
        server.stop()
        stage.world.settle()
        server.restore_copy(copy)
        stage.world.registry_back()
        server.expire_orphans()


JUNK: Final = ("junk", "left.x", "1.0a000001c6336401c0a80001.0.ec2.ec2-1", "1." + "f" * 58)


@act("somebody writes {} into the registry", 1, lambda c: (c.choice(JUNK),), of_host=False)
def junk(stage: Stage, name: str) -> None:
    stage.world.server.put(name)


@act("somebody takes {} out of the registry", 1, lambda c: (c.choice(JUNK),), of_host=False)
def no_junk(stage: Stage, name: str) -> None:
    stage.world.server.remove(name)


@act(
    "a member claims to be at {}, and then is not",
    1,
    lambda c: (c.choice(("gateway", "registry", "public", "private")),),
)
def claim(stage: Stage, host: SimulatedHost, whose: str) -> None:
    """With a lease of its own, so that it is believed."""
    world = stage.world
    private = {
        "gateway": host.machine.gateways[0],
        "registry": min(host.reserved, key=str),
        "public": IPv4Address("10.0.0.251"),
        "private": host.host.private,
    }[whose]
    public = host.host.public if whose == "public" else IPv4Address("198.51.100.251")
    assert isinstance(private, IPv4Address)
    name = _fake(stage, "liar-1", host.host.site, private, public)
    if name is not None:
        world.settle()
        stage.truth.look(world)
        world.server.put_word("liar-1", _departure(name))
        world.server.remove(name)
        stage.truth.look(world)
        world.settle()
        world.server.remove(_departure(name))


def _departure(name: str) -> str:
    parsed = entry.parse(name)
    assert isinstance(parsed, Member)
    return entry.encode_departure(parsed)


def _fake(
    stage: Stage, host_id: str, site: str, private: IPv4Address, public: IPv4Address | None
) -> str | None:
    server = stage.world.server
    held = next((o for o, i in server._leases.items() if i == host_id), None)
    if held is None:
        number = 3000 + sum(map(ord, host_id)) * 40 + len(server._leases)
        held = IPv4Address(int(IPv4Address("192.168.32.0")) + number % 7000)
        if held in server._leases:
            return None
        server._leases[held] = host_id
    name = entry.encode(
        Member(id=host_id, site=site, private=private, public=public, overlay=held, generation=0)
    )
    server.put_word(host_id, name)
    return name


@act(
    "{} members that nobody knows appear in {}",
    0.7,
    lambda c: (c.choice((2, 6, 30)), c.choice(tuple(SITES))),
    of_host=False,
)
def strangers(stage: Stage, count: int, site: str) -> None:
    for number in range(count):
        private = IPv4Address(int(IPv4Address("10.0.7.0")) + number)
        public = IPv4Address(
            f"{'198.51.100' if site == 'ec2' else '203.0.113'}.{200 + number % 40}"
        )
        name = _fake(stage, f"fake-{site}-{number}", site, private, public)
        if name is not None and name not in stage.fakes:
            stage.fakes.append(name)


@act("they vanish", 0.7, of_host=False)
def strangers_vanish(stage: Stage) -> None:
    for name in stage.fakes:
        stage.world.server.remove(name)
    stage.fakes.clear()


@act("somebody forges its entry, of generation {}", 1, lambda c: (c.choice((0, 1, 7, 46_656)),))
def forge(stage: Stage, host: SimulatedHost, generation: int) -> None:
    """It leads elsewhere. Only where records decide does nobody believe it."""
    server = stage.world.server
    held = next((o for o, i in server._leases.items() if i == host.id), None)
    if held is not None and _all_strict(stage.world):
        elsewhere = replace(host.host, private=FORGED_PRIVATE)
        server.put(entry.encode(own_member(elsewhere, held, (), skip=generation)))
        stage.world.settle()


@act("somebody forges its goodbye", 1)
def forge_goodbye(stage: Stage, host: SimulatedHost) -> None:
    if _all_strict(stage.world):
        stage.world.server.put(f"left.zz.{host.id}")
        stage.world.settle()


def _all_strict(world: World) -> bool:
    """Before that, what somebody forged may be believed."""
    running = [host.agent for host in world.hosts if host.agent is not None]
    heard = all(agent.core.members.fleet.records == "strict" for agent in running)
    return heard and is_strict(world.server._settings.get("strict"))


@act("an operator says that records decide", 1.5, of_host=False)
def strict_on(stage: Stage) -> None:
    """As the command does: not while somebody would vanish by it."""
    world = stage.world
    if world.tls is None or world.server._down:
        return
    registry = MemoryRegistry(world.server)
    if not strict.look(world.hosts[0].settings, registry).unvouched:
        strict.say(registry, on=True, clock=lambda: world.time.now)
    world.settle()


@act("an operator says that records do not decide", 0.3, of_host=False)
def strict_off(stage: Stage) -> None:
    """What was forged is taken away first."""
    world = stage.world
    if world.server._down:
        return
    for name in forged(world):
        world.server.remove(name)
    registry = MemoryRegistry(world.server)
    if registry.setting("strict") is not None:
        strict.say(registry, on=False, clock=lambda: world.time.now)
    world.settle()


def forged(world: World) -> list[str]:
    return [name for name in world.server._names if is_forged(name)]


@act("a copy of it starts beside it", 0.4)
def clone(stage: Stage, host: SimulatedHost) -> None:
    """Another machine with this one's id and state folder."""
    world = stage.world
    if "'" in host.label or any(other.label == f"{host.label}'" for other in world.hosts):
        return
    if len(world.hosts) >= 60:
        return
    number = world.hosts.index(host) + 1
    made = world.add(number, label=f"{host.label}'")
    made.host, made.machine_id = host.host, host.machine_id
    made.machine.private = host.host.private
    made.settings = replace(made.settings, sites=host.settings.sites)
    made.disk.put_back(host.disk.copied())
    stage.truth.of(made).damaged = True
    made.start()
    world.settle()


__all__ = ["KINDS", "Act", "Stage", "perform"]

"""One host: what outlives its agent (kernel, disk, clocks, addresses), and the agent when it runs.

Must never do: ask the agent what is so. What an operator would see is asked by ``ask`` and
``status``; what is so is read from kernel, disk and registry.
"""

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

from neti.agent.core import Outside
from neti.agent.loop import Agent
from neti.agent.status import status
from neti.agent.told import Stop
from neti.control.server import Request
from neti.dataplane.forwarding import Forwarding
from neti.dataplane.monitor import NetworkChanged
from neti.dataplane.reconciler import Reconciler
from neti.errors import NetiError
from neti.model import Host, IPAddress, Member, entry
from neti.model.said import Said
from neti.model.settings import Settings
from neti.monitoring.status import Status
from neti.oneshot.down import Down, down_alone
from neti.oneshot.relax import Relaxed, relax_alone
from neti.oneshot.restore import restore_last
from neti.oneshot.up import up_alone
from neti.registry import Event, Session
from neti.stage.way_in import OperatorSession
from neti.state.folder import StateFolder
from neti.state.journal import MembersJournal
from neti.state.loaded import Foreign
from neti.state.written import Written
from simulation import disk, doors
from simulation.clock import HostClock
from simulation.disk import Disk
from simulation.gate import Gate, Killed
from simulation.gateways import SimulatedProbes
from simulation.kernel import SimulatedConnections, SimulatedKernel
from simulation.machine import SERVED, SimulatedHostsFile, SimulatedMachine
from simulation.metadata import SimulatedMetadata
from simulation.people import Users
from simulation.registry import SimulatedRegistry, SimulatedWorker
from simulation.tunnel import Keys, SimulatedTunnel

if TYPE_CHECKING:
    from simulation.world import World

ROUNDS_OF_ONE_TURN = 40


class Paused:
    """A process that was stopped between two effects (SIGSTOP), and waits to go on."""

    def __init__(self, run: Callable[[], None]) -> None:
        self._go, self._stands = threading.Event(), threading.Event()
        self._fault: BaseException | None = None
        self.over = False
        self._thread = threading.Thread(target=self._run, args=(run,), daemon=True)

    def begin(self) -> None:
        """Until it stands, or to its end."""
        self._thread.start()
        self._stands.wait()
        self._raise()

    def stand(self, _kind: str) -> None:
        """In its thread, between two effects."""
        self._stands.set()
        self._go.wait()

    def go_on(self) -> None:
        self._stands.clear()
        self._go.set()
        self._thread.join()
        self._raise()

    def _run(self, run: Callable[[], None]) -> None:
        try:
            run()
        except BaseException as error:  # it is raised in the simulation's own thread
            self._fault = error
        self.over = True
        self._stands.set()

    def _raise(self) -> None:
        if self._fault is not None:
            fault, self._fault = self._fault, None
            raise fault


@dataclass(slots=True, eq=False, repr=False)
class SimulatedHost:
    """``label``: its name in stories; two hosts may have the same id. ``late``: what it is told
    waits until it is delivered by name. ``reachable``: by the registry."""

    world: "World"
    label: str
    host: Host
    settings: Settings
    machine_id: str
    reserved: frozenset[IPAddress] = frozenset()
    clock: HostClock = field(init=False)
    gate: Gate = field(init=False)
    disk: Disk = field(init=False)
    kernel: SimulatedKernel = field(init=False)
    connections: SimulatedConnections = field(init=False)
    machine: SimulatedMachine = field(init=False)
    keys: Keys = field(init=False)
    tunnel: SimulatedTunnel = field(init=False)
    agent: Agent | None = None
    registry: SimulatedRegistry | None = None
    worker: SimulatedWorker | None = None
    inbox: deque[Event] = field(default_factory=deque)
    boots: int = 1
    moved: float = -1e9  # when its public address became another one, which only the cloud knows
    turns: int = 0
    late: bool = False
    paused: Paused | None = None
    cut: bool = False
    asleep: bool = False
    kills: int = 0
    late_since: float = 0.0
    deaf_from: float = 0.0  # when it last ceased to hear all that the registry says
    caught_up: bool = False  # and whether it knows all of that since
    attentive_since: float = 0.0  # and since when it hears it again
    metadata: SimulatedMetadata = field(init=False)
    hosts_file: SimulatedHostsFile = field(default_factory=SimulatedHostsFile)
    users: Users = field(default_factory=Users)
    sessions: dict[str, OperatorSession] = field(default_factory=dict)  # SSH, by where from
    newer: bool = False  # the version to come is installed
    noted: tuple[bytes, float] = (b"", 0.0)  # clock.json, and how wrong the clock was by then
    leaps: list[tuple[float, float]] = field(default_factory=list)  # of its clock, while it was off
    unsaved: set[str] = field(default_factory=set)  # files that were behind when it died
    # Members that were in its kernel, and not on its disk yet, when it was killed.
    unwritten: set[str] = field(default_factory=set)
    refused_to_start: str = ""

    def __post_init__(self) -> None:
        self.clock = HostClock(self.world.time)
        self.gate = Gate()
        self.disk = Disk(self.gate, now=lambda: self.world.time.now)
        self.kernel = SimulatedKernel(self.clock, self.gate)
        self.connections = SimulatedConnections(self.kernel, self.gate)
        self.metadata = SimulatedMetadata(lambda: self.host)
        self.machine = SimulatedMachine(self.gate, self.host.private)
        self.keys = Keys(self.label)
        module = int(self.host.private) % 3 != 0  # the others have wireguard-go
        self.tunnel = SimulatedTunnel(self.gate, self.clock.wall, module=module)
        path = disk.mount(self.world.mount_name(self.label), self.disk)
        self.settings = replace(self.settings, table_files_path=path)

    def __repr__(self) -> str:
        return f"SimulatedHost({self.label})"

    # --- the process ---

    @property
    def id(self) -> str:
        return self.host.id

    @property
    def runs(self) -> bool:
        return self.agent is not None

    @property
    def answers(self) -> bool:
        return self.agent is not None and self.paused is None

    @property
    def unread(self) -> bool:
        """Whether the file says another reject_all than the agent that runs has read."""
        agent = self.agent
        return agent is not None and agent.core.settings.reject_all != self.settings.reject_all

    @property
    def boot_id(self) -> str:
        return f"{self.label}-boot-{self.boots}"

    def guarded(self, act: Callable[[], Any]) -> Any:
        """Do it as this host; None when it was killed meanwhile."""
        with doors.at(self):
            try:
                return act()
            except Killed:
                self.died()
                return None

    def start(self) -> None:
        self.refused_to_start = ""
        try:
            self.guarded(self._start)
        except NetiError as error:
            self.refused_to_start = str(error)
            self.died()

    def _start(self) -> None:
        folder = StateFolder(self.settings.table_files_path)
        loaded = folder.load(self.machine_id)
        if loaded.foreign:
            folder.discard()
        if loaded.mark is not None and loaded.mark.boot != self.boot_id:
            self.leaps.append((self.world.time.now, self.clock.set - self.noted[1]))
        self.inbox = deque()
        self.registry = SimulatedRegistry(self.world.server, self.gate, self.inbox, loaded.session)
        self.registry._cut = self.cut
        self.worker = SimulatedWorker(self._tell, self.gate)
        outside = Outside(
            reconciler=Reconciler(
                self.kernel, self.connections, loaded.itself.structure, self.clock
            ),
            machine=self.machine,
            connections=self.connections,
            probe_registry=self._probe,
            boot=self.boot_id,
            running_here=self.boot_id.encode().hex()[-16:],
            chance=lambda below: 0,
            new_key=self.keys.new_key,
            tunnel=self.tunnel.at_hand(),
            forwarding=Forwarding(self.settings.table_files_path),
            probes=SimulatedProbes(self),
            registry=self.registry,
            worker=self.worker,
            folder=folder,
            clock=self.clock,
            discover=lambda _settings: self.metadata.answer(),
            reload=lambda: self.settings,
            keep_config=lambda: None,
            reserved=self.reserved,
            hosts_file=self.hosts_file,
            ssh_sessions=lambda _ports: list(self.sessions.values()),
        )
        self.agent = Agent(self.settings, self.host, outside, loaded, brittle=True)
        self.agent.start()
        self._look_at_note()
        self.attentive()

    def _look_at_note(self) -> None:
        note = self.disk.files.get("clock.json")
        if note is not None and note.data != self.noted[0]:
            self.noted = (note.data, self.clock.set)

    def seems(self, since: float) -> float:
        """Seconds since then, as a host must take it whose wall clock was set while it was off:
        one that is ahead after a reboot is believed."""
        ahead = sum(by for at, by in self.leaps if at >= since and by > 0)
        return self.world.time.now - since + ahead

    def _tell(self, what: Any) -> None:
        if self.agent is not None:
            self.agent.tell(what)

    def _probe(self) -> None:
        other = SimulatedRegistry(self.world.server, self.gate, deque(), None)
        other._cut = self.cut
        other.lease_of(self.host.id)
        other.detach()

    def died(self) -> None:
        """The process is no more; nothing is said to the registry or to the kernel."""
        self.deaf()
        if self.registry is not None:
            self.registry.detach()
        if self.agent is not None:
            self.kills += 1
            behind = self.agent.core.disk.behind
            if behind or self.disk.full or self.disk.read_only:
                self.users.forget()
            self.unsaved |= behind.keys()
            members, on_disk = self.agent.core.members.fleet.members, self._on_disk()
            self.unwritten |= {i for i, one in members.items() if on_disk.get(i) != one.overlay}
        self.agent = self.registry = self.worker = None
        self.inbox = deque()
        self.gate.disarm()
        self.gate.dead = False  # all of it has ended: what comes now is another process

    def _on_disk(self) -> dict[str, IPv4Address]:
        """Members that a next process of this host will know, and at which overlay address."""
        journal = MembersJournal(Written(self.settings.table_files_path))
        journal.belong_to(self.machine_id)
        with doors.at(self), contextlib.suppress(Foreign):
            found = {i: entry.parse(held.name) for i, held in journal.load([]).items()}
            return {i: one.overlay for i, one in found.items() if isinstance(one, Member)}
        return {}

    def kill(self) -> None:
        paused, self.paused = self.paused, None
        self.gate.dead = True
        if paused is not None and not paused.over:
            with doors.at(self), contextlib.suppress(Killed):
                paused.go_on()
        self.died()

    def stop(self) -> None:
        """SIGTERM."""
        if not self.answers:
            return self.kill()

        def to_its_end() -> None:
            assert self.agent is not None
            self.agent.tell(Stop())
            self.agent.run()

        self.gate.disarm()
        self.guarded(to_its_end)
        self.kill()
        return None

    def pause_at(self, number: int, *, look: bool = False) -> None:
        """Stopped before effect number ``number`` of its next turn, or before such a look at the
        kernel, or after the turn."""
        if not self.answers or self.late:
            return
        self.deaf()
        self.paused = paused = Paused(self._turn)
        arm = self.gate.arm_look if look else self.gate.arm
        arm(number, paused.stand)
        self._in_thread(paused.begin)
        self.gate.disarm()  # what comes now is other processes' doing

    def go_on(self) -> None:
        paused = self.paused
        if paused is None:
            return
        if not paused.over:
            self._in_thread(paused.go_on)
        self.paused = None
        self.attentive()
        self.gate.disarm()

    def _in_thread(self, act: Callable[[], None]) -> None:
        with doors.at(self):
            try:
                act()
            except Killed:
                self.paused = None
                self.died()

    # --- what the registry hears of it ---

    @property
    def session(self) -> Session | None:
        """The one that it keeps alive; None while the registry hears nothing of it."""
        registry = self.registry
        if registry is None or self.paused is not None or self.cut or self.asleep:
            return None
        return registry.session

    def deaf(self) -> None:
        """From now on it may miss what the registry says. Until it has caught up again it is as
        deaf as it was before."""
        if self.caught_up:
            self.deaf_from, self.caught_up = self.world.time.now + 1e-3, False

    def attentive(self) -> None:
        if not self.answers or self.cut or self.late or self.asleep:
            return
        self.attentive_since = max(self.world.time.now, self.deaf_from)
        self._look_whether_caught_up()

    def _look_whether_caught_up(self) -> None:
        """Between two turns: all that the registry said is in kernel and disk."""
        agent = self.agent
        if agent is None or self.paused is not None or self.cut or self.late or self.inbox:
            return
        core = agent.core
        waits = "commit" in core.timers.due or core.members.elements.pending
        waits = waits or "kernel" in core.problems or bool(core.disk.behind)
        caught_up = core.in_step.fresh and agent.queue.empty() and not waits
        if not caught_up:
            self.deaf()
        self.caught_up = caught_up

    def cut_off(self) -> None:
        self.deaf()
        self.cut = True
        if self.registry is not None:
            self.world.server.cut(self.registry)

    def reach_again(self) -> None:
        self.cut = False
        self.attentive()
        if self.registry is not None:
            self.world.server.restore(self.registry)

    # --- turns ---

    @property
    def due(self) -> bool:
        """Whether a turn would do anything."""
        agent = self.agent
        if agent is None or self.paused is not None or self.asleep:
            return False
        if not agent.queue.empty():
            return True
        if not self.late and (self.inbox or (self.worker is not None and self.worker.lanes)):
            return True
        due = agent.core.timers.due
        return bool(due) and min(due.values()) <= self.clock.monotonic()

    def turn(self) -> None:
        self.guarded(self._turn)

    def _turn(self) -> None:
        agent = self.agent
        assert agent is not None
        self.turns += 1
        if not self.late:
            self.deliver(len(self.inbox))
        agent.step()
        if self.worker is not None and not self.late:
            for lane in self.worker.lanes:
                self.worker.do(lane)
        self._look_whether_caught_up()
        self._look_at_note()
        if agent._stopping:
            raise Killed  # it has ended by itself

    def step(self) -> None:
        """One turn without hearing anything, nor of a job's end."""
        if self.answers and self.agent is not None:
            self.turns += 1
            self.guarded(self.agent.step)
            if self.agent is not None and self.agent._stopping:
                self.kill()

    def deliver(self, count: int) -> None:
        for _ in range(min(count, len(self.inbox))):
            self._tell(self.inbox.popleft())

    def job(self) -> None:
        if self.answers and self.worker is not None and self.worker.lanes:
            worker, lane = self.worker, self.worker.lanes[0]
            self.guarded(lambda: worker.do(lane))

    def called(self) -> None:
        """Its users call, each once."""
        if not self.users.there:
            return
        kernel = self.kernel
        shadow = self.answers and kernel.table is not None and not kernel.drops
        left = [seconds for seconds in kernel.enforce().values() if seconds is not None]
        self.users.call(
            self.world.time.now,
            lambda source: kernel.call(source, SERVED),
            shadow=shadow,
            trial=self.settings.trial_seconds - 1 - min(left) if kernel.drops and left else None,
        )

    # --- operators ---

    def ask(self, command: str, **arguments: Any) -> dict[str, Any]:
        """``{"result": …}``, ``{"error": …}``, or nothing when it was killed meanwhile."""
        request = Request(command, arguments, caller="operator")
        if not self.answers or self.agent is None:
            return {}
        self.agent.tell(request)
        for _ in range(ROUNDS_OF_ONE_TURN):
            if not self.answers:
                break
            self.step()
            if not request._answer.empty():
                return request._answer.get()
            if self.worker is not None and self.worker.lanes:
                self.job()
            self.deliver(1)
        return {} if request._answer.empty() else request._answer.get()

    def status(self) -> Status | None:
        if not self.answers or self.agent is None:
            return None
        return status(self.agent)

    def alone(self, command: str) -> Down | Relaxed:
        """``neti relax`` or ``neti down`` where no agent answers."""
        said = Said(self.clock.wall(), "operator")
        act = relax_alone if command == "relax" else down_alone
        with doors.at(self):
            return act(self.settings.path, self.settings.table_files_path, said)

    def up_alone(self) -> None:
        with doors.at(self), contextlib.suppress(NetiError):
            up_alone(self.settings, hangs=self.runs)

    # --- the machine ---

    def boot(self, *, restoring: bool) -> str:
        """With an empty kernel. What ``neti restore`` said."""
        self.kernel.boot()
        self.users.forget()
        self.connections.flows = []
        self.machine.boot()
        self.tunnel.boot()
        self.sessions.clear()
        self.boots += 1
        self.clock.boot()
        if not restoring:
            return ""
        try:
            done = self.guarded(lambda: restore_last(self.settings.path))
        except NetiError as error:
            return str(error)
        return "killed" if done is None else done.reason or "; ".join(done.notes)

    def move(self, private: IPv4Address, public: IPv4Address | None) -> None:
        self.moved = self.world.time.now
        self.host = replace(self.host, private=private, public=public)
        self.machine.moves_to(private)
        self._tell(NetworkChanged())

"""``neti agent``: puts the parts together, runs the loop, and takes them apart. Decides nothing."""

import queue
import threading
import time
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

from neti import __version__, files, log
from neti.agent import loop, tagging
from neti.agent.beginning import Beginning, configure_log, reserved
from neti.agent.collector import PythonsCollector
from neti.agent.config_read import ConfigRead
from neti.agent.core import Outside
from neti.agent.exporting import exporter
from neti.agent.kept_out import overlay_at
from neti.agent.probe_socket import ProbeSocket
from neti.agent.responder import Responder
from neti.agent.told import Told, install_signals
from neti.agent.worker import Worker
from neti.clock import SystemClock, boot_id
from neti.config import load
from neti.config.file import MAX_BYTES
from neti.control.protocol import RUN
from neti.control.server import ControlServer
from neti.control.trouble import Trouble
from neti.dataplane.conntrack import Conntrack, load_tracking
from neti.dataplane.conntrack_limit import ConntrackLimit
from neti.dataplane.forwarding import Forwarding
from neti.dataplane.monitor import Monitor
from neti.dataplane.nftables import NftablesDataplane
from neti.dataplane.reconciler import Reconciler
from neti.dataplane.wireguard.tunnel import real_tunnel
from neti.errors import NetiError
from neti.host import ssh_session
from neti.host.machine import RealMachine, switched_off
from neti.host.systemd import notify
from neti.identity import discover, fingerprint
from neti.identity.machine import running_here
from neti.model import Host
from neti.model.problems import Problems
from neti.model.settings import DEFAULT_STATE, Settings
from neti.registry.opening import open_registry, servers
from neti.state import elsewhere
from neti.state.folder import StateFolder
from neti.state.hosts_file import HostsFile, place
from neti.state.last_good import load_or_last_good
from neti.state.location import GOOD_CONFIG


def run(config: Path, log_format: log.Format = "text") -> None:
    """Until SIGTERM. Raises NetiError if it cannot begin: ``neti.agent.beginning`` says what
    refuses a start, and what is only a problem on a host that has been a member before."""
    content = _content(config)
    config_read = ConfigRead(config, content)
    settings, refused = load_or_last_good(config)
    reason = switched_off()
    if reason is not None:
        raise NetiError(f"Neti is switched off on this machine ({reason}): nothing is loaded")
    problems = Problems()
    configure_log(settings, log_format, problems)
    for warning in settings.warnings:
        log.warning("configuration", what=warning)
    folder = StateFolder(settings.table_files_path)
    _note_where(config, folder.path)
    # Check that we can write rules and routes before we register this host.
    dataplane, machine, conntrack = NftablesDataplane(), RealMachine(), Conntrack()
    dataplane.structure()
    inbox: queue.SimpleQueue[Told] = queue.SimpleQueue()
    control = ControlServer(folder.path, inbox.put, inbox.put)
    threading.excepthook = partial(_thread_broke, inbox.put)
    control.start()
    try:
        loaded = folder.load(fingerprint())
        if loaded.foreign:
            folder.discard()
        begin = Beginning(settings, loaded.itself.host, problems, control.waits_for)
        if refused is not None:
            begin.configuration_refused(refused)
        wanted = settings
        if refused is None:
            settings = begin.let_in_again(folder.good_config, loaded, ssh_session.open_sessions)
        discovered = partial(discover, cache_dir=folder.path, notice=_noticed)
        host = begin.identity(partial(discovered, settings), time.sleep)
        settings = begin.with_servers(folder.good_config, host)
        registry = begin.registry(host)
        begin.preflight(machine, host, registry)
        outside = Outside(
            reconciler=Reconciler(dataplane, conntrack, loaded.itself.structure),
            machine=machine,
            connections=conntrack,
            registry=open_registry(settings, host.site, loaded.session),
            worker=Worker(inbox.put),
            folder=folder,
            clock=SystemClock(),
            discover=discovered,
            reload=lambda: _reload(config, host, config_read),
            keep_config=lambda: folder.keep_config(config_read.in_force),
            config_read=config_read,
            ssh_sessions=ssh_session.open_sessions,
            probe_registry=lambda: _probe(settings, host),
            boot=boot_id(),
            running_here=running_here(folder.path),
            conntrack_limit=ConntrackLimit(folder.path, load=load_tracking),
            forwarding=Forwarding(folder.path),
            probes=ProbeSocket(),
            tunnel=real_tunnel(),
            reserved=reserved(registry),
            hosts_file=HostsFile(place(folder.path, RUN)),
            tagger=tagging.for_instance(settings, host.id),
            taken_away=control.taken_away,
            make_again=control.make_again,
            collector=PythonsCollector(),
        )
        agent = loop.Agent(settings, host, outside, loaded, inbox=inbox, problems=problems)
        if refused is None and settings is wanted:
            agent.core.disk.keep(GOOD_CONFIG, outside.keep_config)
        if control.fault is not None:
            agent.core.problems.set("disk", control.fault, subject="agent.sock")
        install_signals(agent.tell)
        log.info("starting", version=__version__, id=host.id, site=host.site, private=host.private)
        _live(agent, control, settings)
    finally:
        control.close()


def _live(agent: loop.Agent, control: ControlServer, settings: Settings) -> None:
    monitor = Monitor(
        agent.tell,
        lambda what: agent.tell(Trouble("thread", "monitor", what)),
        overlay=settings.overlay_subnet,
    )
    monitor.start()
    control.open()
    responder = _responder(agent, settings)
    tagger = agent.core.out.tagger
    if tagger is not None:
        tagger.start()
    metrics = exporter(agent)
    agent.start()
    agent.run()
    notify("STOPPING=1")
    if responder is not None:
        responder.close()
    if tagger is not None:
        tagger.close()
    if metrics is not None:
        metrics.close()
    monitor.close()
    # Rules stay, and so does the session, until its time-out: a restart finds both. After a leave
    # it carries the word that this host left on purpose, for peers that are away at the moment.
    agent.core.out.registry.detach()
    log.info("stopped", registered=agent.registration.entry is not None)


def _note_where(config: Path, folder: Path) -> None:
    """For commands that cannot read the configuration. No reason not to start."""
    try:
        elsewhere.keep_note(DEFAULT_STATE, config, folder)
    except OSError as error:
        what = f"{DEFAULT_STATE / elsewhere.NOTE}: cannot be written: {error.strerror}"
        log.warning("state_folder_not_noted", what=what)


def _content(config: Path) -> bytes:
    """The file, read before it is loaded, for the copy that ``neti restore`` falls back on."""
    try:
        return files.read(config.resolve(), MAX_BYTES)
    except OSError:
        return b""  # loading it will say what is wrong


def _reload(config: Path, host: Host, config_read: ConfigRead) -> Settings:
    """Refuses now what a restart would refuse. Raises ConfigError."""
    config_read.noted(_content(config))
    settings = load(config)
    if settings.embedded is None:
        servers(settings, host.site)
    return settings


def _probe(settings: Settings, host: Host) -> None:
    """Ask the registry over a separate connection. Raises RegistryError."""
    registry = open_registry(settings, host.site)
    try:
        registry.lease_of(host.id)
    finally:
        registry.close()


def _responder(agent: loop.Agent, settings: Settings) -> Responder | None:
    def admitted(address: IPv4Address) -> bool:
        text = str(address)
        core = agent.core
        if text == str(core.host.private):
            return True
        # Out of the tunnel a member comes by its overlay address, and by that one nobody else.
        wants = core.members.elements.wants
        return wants("peers4", text) or wants("tunnel_peers", text)

    def overlay_of(source: IPv4Address, host_id: str) -> IPv4Address | None:
        return overlay_at(agent.core, source, host_id)

    try:
        responder = Responder(
            settings.verify_port, agent.core.host.id, admitted, agent.tell, overlay_of
        )
    except NetiError as error:
        agent.core.problems.set("responder", str(error))
        log.warning("no_responder", what=str(error))
        return None
    responder.start()
    return responder


def _thread_broke(tell: Callable[[Told], None], broke: threading.ExceptHookArgs) -> None:
    """A thread ended by an exception that nobody caught: say so."""
    name = broke.thread.name if broke.thread is not None else "unknown"
    if broke.exc_value is not None:
        tell(Trouble("thread", name, log.unexpected(f"the thread {name!r}", broke.exc_value)))


def _noticed(sentence: str) -> None:
    log.warning("identity", what=sentence)

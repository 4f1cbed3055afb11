"""What becomes of the encrypted road.

Must never do: what ``simulation/acts.py`` must not.
"""

from dataclasses import replace

from neti.agent.told import Reload
from neti.dataplane.monitor import NetworkChanged
from neti.model import Encrypt
from neti.state.folder import KEY_FILE
from simulation.acts import TRIAL, Stage, act
from simulation.disk import File
from simulation.host import SimulatedHost
from simulation.operator_acts import enforce
from simulation.registry_acts import strict_on


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

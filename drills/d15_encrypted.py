"""Encryption between two sites is required: whatever happens to agents, tables and devices, nobody
on the street reads a word.

A sniffer on the street looks at all bytes of all packets for a mark with which everything begins
that the hosts and their containers say. First it has to show that it reads what is in the clear.
"""

import contextlib
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final, Literal

from drills import talk
from drills.certified import Operator
from drills.drill import DrillError, Row, Rows, Run
from drills.ear import Ear
from drills.field import Field
from drills.host import FieldHost
from drills.plan import CONTAINER_PORT, PORT, PUBLISHED
from drills.traffic import Steps, rows
from drills.waiting import wait_for
from neti.dataplane.wireguard import DEVICE
from neti.host.network import ROUTE_PROTOCOL
from neti.ruleset.objects import FAMILY_TABLE
from neti_lab import namespaces, wireguard
from neti_lab.marks import TCP_ASKED
from neti_lab.processes import Process
from neti_lab.sniffer import Sniffer
from neti_lab.topology import TUNNEL_PORT

TITLE = "encryption required between two sites: nobody reads a word, whatever is killed"

_MARK: Final = TCP_ASKED.decode()
_EVERY: Final = 0.1  # seconds
_TRIAL: Final = ("--trial", "120", "--wait-for-confirm", "--no-follow", "--anyway")
_PROTOCOL: Final = str(ROUTE_PROTOCOL)
_NO_NETWORK: Final = """table inet no_network {
    chain leaving { type filter hook output priority -500; oifname != "lo" drop; }
    chain arriving { type filter hook prerouting priority -500; iifname != "lo" drop; }
}"""


def run(drill: Run) -> Rows:
    if not wireguard.module_there():
        wireguard.require()
    seconds = drill.of(full=10.0, short=0.5)
    with Field(drill, hosts=drill.of(full=4, short=2), registry="closed", across=True) as field:
        street = Street(field)
        _lay_out(field)
        h1, h2 = field.hosts[:2]
        field.serve(*(host.namespace for host in field.hosts))
        field.serve(h2.container, port=CONTAINER_PORT)
        field.serve(h2.namespace, port=PUBLISHED)  # what is published is TCP alone
        street.encrypt("off", reload=False)
        field.start()
        ways = _ways(h1, h2)
        with street.sniffing() as ear:
            drill.say("in the clear")
            yield from _in_the_clear(field, ear, ways)
            drill.say("require")
            yield from _require(field, street, ear, ways, seconds)
            yield from _by_real_address(ear, h1, h2)
            yield from _troubles(drill, field, street, ear, ways, seconds)
            drill.say("reboot")
            yield from _reboot(field, street, ear, ways, h2)
        for host in field.hosts:
            host.neti("down")


@dataclass(frozen=True, slots=True)
class Way:
    """Who calls whom, at which port."""

    what: str
    caller: str  # a namespace
    to: str
    port: int = PORT

    def works(self) -> bool:
        return talk.reaches(self.caller, self.to, self.port)


class Street:
    """Hosts that can encrypt, and the sniffer between them."""

    def __init__(self, field: Field) -> None:
        self.field = field
        self._programs: dict[str, Process] = {}
        for host in field.hosts:
            host.agent.inside = tuple(wireguard.seeing(self._folder(host)))

    @contextlib.contextmanager
    def sniffing(self) -> Iterator[Ear]:
        sites = {
            site: [
                ip_network(str(address))
                for host in self.field.hosts
                if host.plan.site == site
                for address in (host.plan.private, host.plan.private6)
            ]
            for site in ("ec2", "vpc")
        }
        with Sniffer(self.field.street, sites, port=TUNNEL_PORT) as sniffer:
            sniffer.wait_until_ready()
            yield Ear(sniffer)

    def encrypt(self, word: str, *, reload: bool = True) -> None:
        for host in self.field.hosts:
            sites = {
                name: {**site, "reached_by": "private", "encrypt": word}
                for name, site in host.document["sites"].items()
            }
            change = host.reload if reload else host.configure
            change(sites=sites, tunnel_port=TUNNEL_PORT)

    def start_wireguard(self, *hosts: FieldHost) -> None:
        """As its unit does. Where the kernel has a module, agents make its device."""
        if wireguard.module_there():
            return
        for host in hosts:
            folder = self._folder(host)
            self._programs[host.name] = wireguard.launch(
                host.namespace, folder, log=folder / "log", record=folder / "process"
            )
        for host in hosts:
            wireguard.wait(self._programs[host.name], self._folder(host))

    def kill_wireguard(self, host: FieldHost) -> None:
        """kill -9; a module's device is deleted instead."""
        if host.name not in self._programs:
            self.delete_device(host)
            return
        self._programs[host.name].signal(signal.SIGKILL)
        self._wait_until_gone(host)

    def delete_device(self, host: FieldHost) -> None:
        """wireguard-go ends by that."""
        host.ip("link", "delete", DEVICE)
        self._wait_until_gone(host)

    def _wait_until_gone(self, host: FieldHost) -> None:
        program = self._programs.get(host.name)
        wait_for(
            lambda: program is None or not program.alive, f"wireguard-go goes on at {host.name}"
        )

    def _folder(self, host: FieldHost) -> Path:
        return self.field.folder / f"wireguard-{host.name}"


def _lay_out(field: Field) -> None:
    operator = Operator(field)
    operator.says("registry", "init")
    ids = [host.name for host in field.hosts]
    operator.says("registry", "admit", *ids, "--subject", "CN={id},OU=hosts", "--yes")
    operator.says("registry", "admission", "on")
    operator.says("registry", "strict", "on")


def _ways(h1: FieldHost, h2: FieldHost) -> list[Way]:
    there, back = str(h2.overlay), str(h1.overlay)
    return [
        Way("host to host", h1.namespace, there),
        Way("and back", h2.namespace, back),
        Way("container to host", h1.container, there),
        Way("host to published port", h1.namespace, there, PUBLISHED),
    ]


@contextlib.contextmanager
def _talking(field: Field, ways: Sequence[Way]) -> Iterator[list[Any]]:
    """All kinds of traffic on each way; what they give are probes that can be asked for results."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                field.probing(way.caller, way.to, port=way.port, every=_EVERY, mark=_MARK)
            )
            for way in ways
        ]


# --- the parts ---


def _in_the_clear(field: Field, ear: Ear, ways: Sequence[Way]) -> Rows:
    for way in ways:
        ear.sniffer.look()
        with _talking(field, [way]):
            time.sleep(0.5)
        seen = ear.sniffer.look()
        figure = f"{seen.marked} packets with a word in them"
        yield Row(f"before: the sniffer reads, {way.what}", figure, seen.marked > 0)


def _require(field: Field, street: Street, ear: Ear, ways: Sequence[Way], seconds: float) -> Rows:
    street.start_wireguard(*field.hosts)
    street.encrypt("prefer")
    _wait_for_roads(field.hosts, lambda host, others: others <= _keys(host, "tunneled"))
    ear.sniffer.look()
    steps = Steps()
    with _talking(field, ways) as probes:
        steps.begin("encrypt: require")
        street.encrypt("require")
        for words in (("enforce", *_TRIAL), ("confirm",)):
            steps.begin(words[0])
            for host in field.hosts:
                done = host.neti(*words)
                if done.returncode != 0:
                    raise DrillError(f"neti {words[0]} on {host.name}: {done.stderr.strip()}")
        _wait_for_roads(field.hosts, _required)
        steps.begin("required")
        time.sleep(seconds)
        results = [probe.result() for probe in probes]
    for way, result in zip(ways, results, strict=True):
        yield from rows(f"require comes on, {way.what}", result, steps)
    yield ear.row("require comes on")


def _by_real_address(ear: Ear, h1: FieldHost, h2: FieldHost) -> Rows:
    for caller in (h1.namespace, h1.container):
        for address in (h2.plan.private, h2.plan.private6):
            namespaces.call_inside(caller, partial(_shout, str(address)))
            reached = talk.reaches(caller, address, PORT)
            who = "container" if caller == h1.container else "host"
            figure = "REACHED" if reached else "refused"
            yield Row(f"require: {who} to real address {address}", figure, not reached)
    yield ear.row("by real address")


def _troubles(
    drill: Run,
    field: Field,
    street: Street,
    ear: Ear,
    ways: Sequence[Way],
    seconds: float,
) -> Rows:
    def agent_killed(host: FieldHost) -> None:
        host.agent.kill()
        time.sleep(seconds)
        host.agent.start()
        host.wait_until_registered()

    def device_deleted(host: FieldHost) -> None:
        street.delete_device(host)
        time.sleep(seconds)
        street.start_wireguard(host)

    def wireguard_killed(host: FieldHost) -> None:
        street.kill_wireguard(host)
        time.sleep(seconds)
        street.start_wireguard(host)

    troubles: dict[str, Callable[[FieldHost], None]] = {
        "table flushed": lambda host: host.nft(f"flush table {FAMILY_TABLE}"),
        "table deleted": lambda host: host.nft(f"delete table {FAMILY_TABLE}"),
        "device deleted": device_deleted,
        "WireGuard killed": wireguard_killed,
    }
    hosts = field.hosts[:2]
    with _talking(field, ways) as probes:
        steps = Steps()
        for host in hosts:
            drill.say(f"agent killed on {host.name}")
            steps.begin(f"agent killed on {host.name}")
            agent_killed(host)
        results = [probe.result() for probe in probes]
    for way, result in zip(ways, results, strict=True):
        yield from rows(f"agents killed, {way.what}", result, steps)
    yield ear.row("agents killed")
    with _talking(field, ways):  # whatever may be lost now: it must not be read
        for number, (what, act) in enumerate(troubles.items()):
            for host in drill.of(full=hosts, short=[hosts[number % 2]]):
                drill.say(f"{what} on {host.name}")
                act(host)
                back = wait_for(
                    lambda: all(way.works() for way in ways), f"{what}: not all is reached again"
                )
                time.sleep(seconds)
                yield Row(f"{what} on {host.name}: all is reached again", f"{back:.2f} s", True)
                yield ear.row(f"{what} on {host.name}")
                host.at_peace()


def _reboot(field: Field, street: Street, ear: Ear, ways: Sequence[Way], host: FieldHost) -> Rows:
    """An empty kernel; what is on disk gives back the road, before any agent runs."""
    host.agent.kill()
    street.kill_wireguard(host)
    host.nft(_NO_NETWORK)  # a machine that boots has none until its rules are restored
    host.nft(f"delete table {FAMILY_TABLE}")
    host.ip("-4", "route", "flush", "table", "all", "proto", _PROTOCOL)
    host.ip("-4", "rule", "flush", "protocol", _PROTOCOL)
    street.start_wireguard(host)
    done = host.neti("restore")
    host.nft("delete table inet no_network")
    yield Row("reboot: neti restore", done.stdout.strip()[:90], done.returncode == 0)
    back = wait_for(lambda: all(way.works() for way in ways), "not all is reached after restore")
    yield Row("reboot: all is reached, before any agent", f"{back:.2f} s", True)
    steps = Steps()
    with _talking(field, ways) as probes:
        host.agent.start()
        host.wait_until_registered()
        results = [probe.result() for probe in probes]
    for way, result in zip(ways, results, strict=True):
        yield from rows(f"reboot: the agent comes, {way.what}", result, steps)
    yield ear.row("reboot")


# --- within ---


def _wait_for_roads(
    hosts: Sequence[FieldHost], as_they_should: Callable[[FieldHost, set[str]], bool]
) -> None:
    overlays = {host.name: str(host.overlay) for host in hosts}
    for host in hosts:
        others = {overlays[each.name] for each in hosts if each.plan.site != host.plan.site}
        wait_for(partial(as_they_should, host, others), f"{host.name} has other roads", every=0.2)


def _required(host: FieldHost, others: set[str]) -> bool:
    return others <= _keys(host, "tunneled") and not others & _keys(host, "overlay")


def _keys(host: FieldHost, where: Literal["tunneled", "overlay"]) -> set[str]:
    return set(host.read().elements.get(where, {}))


def _shout(address: str) -> None:
    """A datagram that waits for no answer. It may be refused right here."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as mouth, contextlib.suppress(OSError):
        for _ in range(3):
            mouth.sendto(TCP_ASKED, (address, PORT))

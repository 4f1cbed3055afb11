"""Hosts of two sites on one street, for what the encrypted road costs.

    a (ec2, 10.0.0.5) ─┐
    c (ec2, 10.0.0.6) ─┼─ street (a switch)
    b (vpc, 10.1.0.5) ─┘

The same street is there for each way of going: real agents that encrypt between the sites, real
agents that do not, and wireguard-go alone, configured by hand. So rounds can take turns.

Must never do: touch the machine's own network, or end a process that it did not start.
"""

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

import yaml
from tests.support.agent_process import AgentProcess
from tests.support.wireguard_pair import started

from benchmarks.pairs import TRACKED, background
from neti.dataplane.wireguard import DEVICE, WireGuard, road
from neti.dataplane.wireguard.keys import new_key, public_half
from neti.dataplane.wireguard.uapi import UapiWireGuard
from neti.errors import NetiError
from neti.ruleset.peers import Endpoint, Peer, SetPeer
from neti_lab import namespaces, wireguard
from neti_lab.wiring import Node, Wiring

OVERLAY: Final = IPv4Network("192.168.0.0/18")
PORT: Final = 51871
MTU: Final = 1420  # what an agent gives the device where the uplink has 1500
SITE: Final = {"a": "ec2", "c": "ec2", "b": "vpc"}
PRIVATE: Final = {
    "a": IPv4Address("10.0.0.5"),
    "c": IPv4Address("10.0.0.6"),
    "b": IPv4Address("10.1.0.5"),
}
_ALONE: Final = {"a": OVERLAY[1], "b": OVERLAY[2]}
_PATIENCE: Final = 60.0
_TRIAL: Final = ("--trial", "120", "--wait-for-confirm", "--no-follow", "--anyway")


@dataclass(frozen=True, slots=True)
class Street:
    """``at``: the hosts' namespaces; ``overlay``: their addresses; ``carriers``: the processes that
    carry packets between the sites."""

    at: Mapping[str, str]
    overlay: Mapping[str, IPv4Address]
    carriers: tuple[int, ...] = ()


def alone(stack: ExitStack, *, tracked: bool = False) -> Street:
    """wireguard-go on both ends, with the overlay addresses on its device: no rule of anybody.
    ``tracked``: but one at each hook of the hosts' own, which has connections tracked."""
    at = built(stack, "tracked" if tracked else "alone", ("a", "b"))
    doors: dict[str, WireGuard] = {}
    keys = {name: new_key() for name in at}
    carriers = []
    for name, namespace in at.items():
        program, doors[name] = started(stack, namespace)
        carriers.append(program)
        namespaces.call_inside(namespace, partial(road.set_link, MTU))
        doors[name].configure(keys[name], PORT)
        onto_device(namespace, _ALONE[name])
    for name, other in (("a", "b"), ("b", "a")):
        allowed = frozenset({IPv4Network(_ALONE[other])})
        endpoint = Endpoint(PRIVATE[other], PORT)
        doors[name].apply([SetPeer(Peer(public_half(keys[other]), allowed, endpoint))])
        if tracked:
            namespaces.load_rules(at[name], TRACKED)
    return Street(at, _ALONE, tuple(carriers))


def onto_device(namespace: str, own: IPv4Address, device: str = DEVICE) -> None:
    """The overlay leads to the device, and nowhere else: as by hand, without Neti."""
    for words in (
        ("address", "add", f"{own}/32", "dev", device),
        ("route", "add", str(OVERLAY), "dev", device, "src", str(own)),
    ):
        subprocess.run(["ip", "-n", namespace, *words], check=True)


def agents(stack: ExitStack, *, encrypt: str) -> Street:
    """A real agent on each host, with the embedded registry; all enforced. Returns once each
    sends to the other site as it is to."""
    at = built(stack, encrypt, tuple(SITE))
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="neti-bench-")))
    carriers, made = [], {}
    for name, namespace in at.items():
        inside: tuple[str, ...] = ()
        if encrypt != "off":
            sockets = folder / f"wireguard-{name}"
            inside = tuple(wireguard.seeing(sockets))
            program = [*inside, "wireguard-go", "-f", DEVICE]
            carriers.append(background(stack, namespaces.command_inside(namespace, program)))
            wait_for(partial(listens, sockets), "wireguard-go does not listen")
        config = folder / f"{name}.yml"
        config.write_text(yaml.safe_dump(configuration(name, folder, encrypt)))
        agent = AgentProcess(
            namespace, config=config, state=folder / name, log=folder / f"{name}.log"
        )
        agent.inside = inside
        agent.state.mkdir(mode=0o700)
        stack.callback(agent.end)
        agent.start()
        made[name] = agent
    for agent in made.values():
        wait_for(partial(_enforced, agent), f"{agent.last_words()}: not enforced")
    wait_for(lambda: all(_settled(agent, encrypt) for agent in made.values()), "no road")
    overlay = {name: IPv4Address(agent.ask("status")["overlay"]) for name, agent in made.items()}
    return Street(at, overlay, tuple(carriers))


def wait_for(true: Callable[[], bool], otherwise: str, *, seconds: float = _PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise NetiError(f"{otherwise} after {seconds:.0f} s")
        time.sleep(0.1)


def listens(sockets: Path) -> bool:
    try:
        return UapiWireGuard(sockets / f"{DEVICE}.sock").device() is not None
    except NetiError:
        return False


def _settled(agent: AgentProcess, encrypt: str) -> bool:
    """It knows the two others, and encrypts to those of the other site."""
    agent.check()
    try:
        status = agent.ask("status")
    except NetiError:
        return False
    if status["peers"] != len(SITE) - 1:
        return False
    if encrypt == "off":
        return True
    sites = (status["encryption"] or {}).get("sites") or {}
    preferred = sum(int(counts["preferred"]) for counts in sites.values())
    site = SITE[status["id"]]
    return preferred == sum(there != site for there in SITE.values())


def _enforced(agent: AgentProcess) -> bool:
    agent.check()
    return all(_said(agent, *words) for words in (("enforce", *_TRIAL), ("confirm",)))


def _said(agent: AgentProcess, *words: str) -> bool:
    command = agent.command()
    command[command.index("agent") : command.index("agent") + 1] = words
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def configuration(name: str, folder: Path, encrypt: str) -> dict[str, Any]:
    return {
        "registry": f"embedded:{folder}/registry.db",
        "identity": {"id": name, "private": str(PRIVATE[name])},
        "site": SITE[name],
        "sites": {
            "ec2": {"private": ["10.0.0.0/16"], "reached_by": "private", "encrypt": "off"},
            "vpc": {"private": ["10.1.0.0/16"], "reached_by": "private", "encrypt": encrypt},
        },
        "overlay_subnet": str(OVERLAY),
        "ssh_whitelist": ["192.0.2.77/32"],
        "table_files_path": str(folder / name),
    }


def built(stack: ExitStack, what: str, hosts: tuple[str, ...]) -> dict[str, str]:
    prefix = f"neti-bench-{os.getpid()}-{what}"
    street, at = f"{prefix}-street", {name: f"{prefix}-{name}" for name in hosts}
    stack.callback(namespaces.delete, [street, *at.values()])
    switch = ["link add switch type bridge", "link set switch up"]
    switch += [f"link set to-{name} master switch up" for name in hosts]
    sysctls = {"ip_forward": "0", "rp_filter": "0"}
    nodes = [Node(namespace=street, sysctls=sysctls, commands=tuple(switch))]
    for name, namespace in at.items():
        commands = (
            "link set lo up",
            f"address add {PRIVATE[name]}/15 dev eth0",
            "link set eth0 up",
            "route add default via 10.0.0.1",
        )
        nodes.append(Node(namespace=namespace, sysctls=sysctls, commands=commands))
    links = tuple(
        f"link add to-{name} netns {street} type veth peer name eth0 netns {namespace}"
        for name, namespace in at.items()
    )
    namespaces.build(Wiring(create=(street, *at.values()), links=links, nodes=tuple(nodes)))
    return at

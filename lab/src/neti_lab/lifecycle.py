"""Builds a lab and takes it down, whatever state an earlier attempt was killed in.

Teardown believes what it finds: namespaces that carry the lab's name, what runs inside them, and
processes on record. It must never end anything else.
"""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

from neti.dataplane.conntrack import Conntrack
from neti_lab import (
    LabError,
    agents,
    certificates,
    closed,
    groups,
    namespaces,
    processes,
    registries,
    services,
    wireguard,
    wiring,
)
from neti_lab.groups import EVERYWHERE
from neti_lab.play import wait_for
from neti_lab.state import LabState, exclusive
from neti_lab.topology import INTERNET, STRANGER, LabHost, LabPlan, lab_command, namespace_prefix
from neti_lab.traffic import unreached
from neti_lab.wiring import wire, wire_host

_ROAD_SECONDS: Final = 60.0

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Remains:
    """What a teardown found and removed."""

    namespaces: int
    processes: int


def is_up(state: LabState) -> bool:
    """Whether the lab is complete; what a killed command left behind is not."""
    return state.complete and state.process("serve") is not None


def already_up(name: str) -> LabError:
    return LabError(
        f"the lab {name!r} is up already\n"
        f"→ '{lab_command(name, 'status')}' shows it, '{lab_command(name, 'down')}' takes it down\n"
        "→ --name NAME builds another lab beside it"
    )


def bring_up(
    state: LabState,
    plan: LabPlan,
    *,
    with_registry: bool = True,
    with_agents: bool = True,
    groups_closed: bool = False,
    provisional: bool = False,
    tell: Tell = lambda line: None,
) -> None:
    """Build networks, services, registry, agents. Whatever goes wrong, nothing of it stays.

    A ``provisional`` lab is its builder's alone: the next command clears it if that one dies.
    ``groups_closed``: where gateways emulate security groups, hosts are closed to the outside.
    """
    namespaces.require()
    if plan.encrypt:
        wireguard.require()
    if is_up(state):
        raise already_up(plan.name)
    left = take_down(state)
    if left.namespaces or left.processes:
        tell(
            f"cleared what an earlier lab had left behind: {left.namespaces} namespaces, "
            f"{left.processes} processes"
        )
    try:
        build_networks(state, plan)
        if plan.has_groups and not groups_closed:
            for site in plan.sites:
                namespaces.load_rules(
                    plan.namespace(site.site_gateway), groups.open_hosts(EVERYWHERE)
                )
        tell(f"networks: {len(plan.sites)} sites with {len(plan.hosts)} hosts, one internet")
        services.start(state, agents.neti_command("lab", "serve", "--name", plan.name))
        tell("services: instance metadata and a web service on every host")
        # A demo begins in the clear, and an agent that is to encrypt nothing takes a device away.
        if plan.encrypt and not provisional:
            wireguard.start(plan, plan.hosts, state=state)
            tell("encryption: every host has WireGuard")
        if with_registry:
            registries.start(plan, state)
            tell(f"registry: {plan.registry}")
        if with_agents:
            agents.start(plan, plan.hosts, state=state)
            registries.wait_until_registered(plan, state)
            tell(f"agents: {len(plan.hosts)} registered")
            if plan.has_gateways:  # without a tunnel they have no road to the other site
                seconds = _wait_until_reached(plan, state)
                tell(f"gateways: every host reaches every other after {seconds:.1f} s")
        if not provisional:
            state.declare_complete()
    except BaseException:
        take_down(state)
        raise


def _wait_until_reached(plan: LabPlan, state: LabState) -> float:
    with contextlib.closing(registries.open_registry(plan, state)) as registry:
        overlays = {host_id: str(overlay) for overlay, host_id in registry.leases().items()}
    return wait_for(
        lambda: not unreached(plan, overlays, plan.hosts),
        "not every host reaches every other",
        seconds=_ROAD_SECONDS,
    )


def build_networks(state: LabState, plan: LabPlan) -> None:
    """The plan's folder and all its namespaces, without any process."""
    state.create(plan)
    namespaces.build(wire(plan))
    for host in plan.hosts:
        agents.write_configuration(plan, host, state=state)


def add_host(state: LabState, plan: LabPlan, site: str) -> tuple[LabPlan, LabHost]:
    """One host more in a lab that is up, served but still without an agent."""
    plan, host = plan.with_host(site)
    state.write_plan(plan)
    namespaces.build(wire_host(plan, host))
    agents.write_configuration(plan, host, state=state)
    if plan.registry == "ensemble":
        certificates.certify(host, state)
        if plan.encrypt:
            certificates.admit(plan, state, host, inside=plan.site("vpc").hosts[0].name)
    elif plan.registry == "closed":
        closed.admit(plan, host, state)
    if plan.encrypt:
        wireguard.start(plan, [host], state=state)
    services.refresh(state)
    return plan, host


def take_public_addresses(state: LabState, plan: LabPlan, site: str) -> LabPlan:
    """From all hosts of the site but its gateways, as a cloud takes an Elastic IP back. Their
    configurations stay as they are; agents find out by themselves."""
    plan = plan.without_public_addresses(site)
    changed = plan.site(site)
    rules = wiring.take_public_addresses(changed)
    inside = plan.namespace(changed.site_gateway)
    namespaces.load_rules(inside, rules)
    namespaces.call_inside(inside, _forget_connections)
    state.write_plan(plan)
    services.refresh(state)
    return plan


def _forget_connections() -> None:
    """The lab's NAT remembers connections, a cloud's one-to-one NAT none."""
    with contextlib.closing(Conntrack()) as tracking:
        tracking.end_those(lambda tracked: True)


def take_down(state: LabState) -> Remains:
    """End and remove everything of the lab. Does nothing, at peace, where nothing is."""
    # A second Ctrl-C must not interrupt the teardown that the first one began.
    with _on_signals((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN):
        names = namespaces.existing(namespace_prefix(state.name))
        ended: set[int] = set()
        # Again and again, for what one of them may have started meanwhile.
        while found := {*state.recorded(), *_running_in(names)} - {processes.find(os.getpid())}:
            processes.stop(found)
            ended |= {process.pid for process in found}
        namespaces.delete(names)
        state.remove()
        return Remains(namespaces=len(names), processes=len(ended))


def anything_left(state: LabState) -> bool:
    """Whether anything of a lab of this name is there."""
    return bool(state.exists or namespaces.existing(namespace_prefix(state.name)))


def describe(state: LabState) -> dict[str, Any]:
    """What is there, as JSON values; LabError when nothing is."""
    plan = state.plan()
    running = {host.name: agents.agent_of(host, state=state) for host in plan.hosts}
    present = set(namespaces.existing(namespace_prefix(plan.name)))
    return {
        "name": plan.name,
        "up": is_up(state),
        "registry": plan.registry,
        "encrypt": plan.encrypt,
        "folder": str(state.folder),
        "dashboard": state.dashboard(),
        "hosts": [
            {
                "name": host.name,
                "site": host.site,
                "private": str(host.private),
                "public": str(host.public) if host.public else None,
                "namespace": plan.namespace(host.name),
                "namespace_exists": plan.namespace(host.name) in present,
                "agent_pid": agent.pid if (agent := running[host.name]) else None,
                "config": str(state.config(host.name)),
                "log": str(state.log(host.name)),
            }
            for host in plan.hosts
        ],
        "others": [
            {"name": node, "namespace": plan.namespace(node)}
            for node in (
                *(INTERNET, STRANGER, *(site.site_gateway for site in plan.sites)),
                *(keeper.name for keeper in plan.keepers),
            )
        ],
    }


@contextlib.contextmanager
def commanding(state: LabState) -> Iterator[None]:
    """What every command that changes a lab holds on to: the right to, and the lab to itself.

    SIGTERM and a lost terminal end such a command like Ctrl-C: by way of its teardown.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    namespaces.require()
    with exclusive(state), _on_signals((signal.SIGTERM, signal.SIGHUP), interrupt):
        yield


@contextlib.contextmanager
def _on_signals(
    numbers: tuple[signal.Signals, ...],
    handler: Callable[[int, FrameType | None], Any] | signal.Handlers,
) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, former in before.items():
            signal.signal(number, former)


def _running_in(names: tuple[str, ...]) -> set[processes.Process]:
    found = (processes.find(pid) for pid in namespaces.processes_in(names))
    return {process for process in found if process is not None}

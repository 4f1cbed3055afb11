"""The scenes of the demo, each a claim of Neti put to the test by what packets do.

A scene must never take Neti's own word where the lab can look for itself.
"""

import signal
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from ipaddress import IPv4Network
from typing import Final

from neti_lab import agents, lifecycle, registries
from neti_lab.pairs import matrix
from neti_lab.play import Play, wait_for
from neti_lab.probe import Reply
from neti_lab.report import drawing
from neti_lab.stage import Stage
from neti_lab.topology import STRANGER, LabHost, LabPlan
from neti_lab.traffic import Probe, ask_from, unreached

OVERLAY: Final = IPv4Network("192.168.0.0/18")  # the configuration's default
AGENT_MEMORY_MIB: Final = 60

# For a busy machine: nothing waits this long when it works.
_START_SECONDS: Final = 60.0
_CHANGE_SECONDS: Final = 60.0
_SETTLE_SECONDS: Final = 1.5
_SHORT_SECONDS: Final = 0.5  # enough for an answer in the lab, and not long to wait for none


def networks(plan: LabPlan, stage: Stage, seconds: float) -> None:
    for line in drawing(plan):
        stage.say(line)
    stage.find(
        "two sites with the same private addresses",
        {host.private for host in plan.sites[0].hosts}
        == {host.private for host in plan.sites[1].hosts},
        f"{len(plan.hosts)} hosts in {len(plan.nodes)} namespaces, {seconds:.2f} s",
    )


def agents_start(play: Play) -> None:
    began = time.monotonic()
    agents.start(play.plan, play.hosts, state=play.state)

    def all_leased() -> bool:
        agents.check_running(play.hosts, state=play.state)
        leases = {host_id: str(overlay) for overlay, host_id in play.registry.leases().items()}
        play.overlays = {host.name: leases[host.name] for host in play.hosts if host.name in leases}
        return len(play.overlays) == len(play.hosts)

    wait_for(all_leased, "not all agents got an overlay address", seconds=_START_SECONDS)
    missing: list[tuple[str, str]] = []

    def all_reached() -> bool:
        missing[:] = unreached(play.plan, play.overlays, play.hosts)
        return not missing

    wait_for(all_reached, "not every host reaches every other", seconds=_START_SECONDS)
    play.stage.find(
        "agents start, every host reaches every other",
        True,
        f"{len(play.hosts)} agents, {time.monotonic() - began:.1f} s",
    )
    heaviest = max(_resident_mib(play, host) for host in play.hosts)
    play.stage.find(
        "memory of an agent", heaviest < AGENT_MEMORY_MIB, f"at most {heaviest:.0f} MiB"
    )


def fleet(play: Play) -> None:
    host = play.hosts[0]
    table = agents.neti(play.plan, host, "fleet", state=play.state)
    play.stage.say(f"$ neti fleet          (on {host.name})")
    play.stage.say(table.stdout.rstrip() or table.stderr.rstrip())
    members = {member["id"] for member in play.neti_json(host, "fleet")["members"]}
    expected = {each.name for each in play.hosts}
    play.stage.find(
        "neti fleet shows all hosts",
        table.returncode == 0 and members == expected,
        f"{len(members & expected)} of {len(expected)}",
    )


def verified(play: Play, *, when: str = "") -> None:
    """All to all by overlay address; the receivers' words say which way it went."""
    pairs = play.verify()
    if not when:
        for line in matrix(play.hosts, pairs):
            play.stage.say(line)
    reached = [pair for pair in pairs if pair.milliseconds is not None]
    play.stage.find(
        f"{when}pairs that reach each other",
        len(reached) == len(pairs),
        f"{len(reached)} of {len(pairs)}",
    )
    for in_site, name in ((True, "in-site by private"), (False, "cross-site by public")):
        kind = [pair for pair in pairs if pair.in_site is in_site]
        right = [pair for pair in kind if pair.right_way]
        play.stage.find(
            f"{when}{name} address",
            len(right) == len(kind),
            f"{len(right)} of {len(kind)}",
        )


def a_host_joins(play: Play) -> LabHost:
    play.plan, host = lifecycle.add_host(play.state, play.plan, "vpc")
    # Its address is taken ahead, so that its peers can knock there before it comes. By itself:
    # where there are rights, the lease belongs to the certificate that takes it.
    with closing(registries.open_registry(play.plan, play.state, host)) as own:
        play.overlays[host.name] = str(own.acquire(host.name, OVERLAY))
    play.stage.say(
        f"{host.name} gets {play.overlays[host.name]}; its peers knock every millisecond"
    )
    observers = [play.first_of(site.name) for site in play.plan.sites]
    with (
        play.probing([(observer, host) for observer in observers], "first") as probes,
        ThreadPoolExecutor(1) as pool,
    ):
        written = pool.submit(
            play.moment,
            lambda: host.name in play.registered(),
            f"{host.name} did not register",
            seconds=_CHANGE_SECONDS,
        )
        agents.start(play.plan, [host], state=play.state)
        registered_at = written.result()
        reached_at = [probe.result(seconds=_CHANGE_SECONDS) for probe in probes]
    play.hosts.append(host)
    figures = [
        f"{observer.name} {(at - registered_at) * 1000:.0f} ms" if at else f"{observer.name} never"
        for observer, at in zip(observers, reached_at, strict=True)
    ]
    play.stage.find("a host joins: registry to reached", None not in reached_at, ", ".join(figures))
    return host


def a_host_leaves(play: Play, host: LabHost) -> None:
    observers = [play.first_of(site.name) for site in play.plan.sites]
    with (
        play.probing([(observer, host) for observer in observers], "refused") as probes,
        ThreadPoolExecutor(1) as pool,
    ):
        gone = pool.submit(
            play.moment,
            lambda: host.name not in play.registered(),
            f"{host.name} did not leave",
            seconds=_CHANGE_SECONDS,
        )
        left = agents.neti(play.plan, host, "leave", state=play.state)
        play.stage.say(f"$ neti leave          (on {host.name})")
        play.stage.say(left.stdout.rstrip() or left.stderr.rstrip())
        gone_at = gone.result()
        refusals = [probe.result(seconds=_CHANGE_SECONDS) for probe in probes]
    play.hosts.remove(host)
    figures = [
        f"{observer.name} {(refusal[0] - gone_at) * 1000:.0f} ms"
        if refusal
        else f"{observer.name} still reaches it"
        for observer, refusal in zip(observers, refusals, strict=True)
    ]
    play.stage.find("a host leaves: registry to refused", None not in refusals, ", ".join(figures))
    slowest = max((refusal[1] for refusal in refusals if refusal), default=0.0)
    play.stage.find(
        "a host left: calling it fails at once",
        slowest < _SHORT_SECONDS,
        f"{slowest * 1000:.1f} ms",
    )


def an_agent_dies(play: Play) -> None:
    victim, caller, neighbour = play.last_of_vpc, play.first_of("ec2"), play.first_of("vpc")
    pairs = [(caller, victim), (victim, caller), (neighbour, victim)]
    with play.probing([pair for pair in pairs if pair[0] != pair[1]], "watch") as probes:
        time.sleep(_SETTLE_SECONDS)
        agents.send(victim, signal.SIGKILL, state=play.state)
        play.stage.say(f"the agent of {victim.name} is killed with -9; traffic goes on")
        lasted = wait_for(
            lambda: victim.name not in play.registered(),
            f"the registration of {victim.name} did not end with its session",
            seconds=agents.SESSION_SECONDS + _CHANGE_SECONDS,
        )
        play.stage.say(f"its registration ended after {lasted:.1f} s; its peers keep it")
        time.sleep(_SETTLE_SECONDS)
        agents.start(play.plan, [victim], state=play.state)
        wait_for(
            lambda: _came_up(play, victim),
            f"{victim.name} did not register again",
            seconds=_CHANGE_SECONDS,
        )
        play.stage.say("it is started again and registered")
        time.sleep(_SETTLE_SECONDS)
        _count(play, "agent killed -9, restarted", probes)


def strangers_are_kept_out(play: Play, left: LabHost | None) -> None:
    doors = {str(host.public): host.name for host in play.hosts}
    reached = _reached(play, STRANGER, doors)
    play.stage.find(
        "reject_all off: hosts the stranger reaches",
        len(reached) == len(doors),
        f"{len(reached)} of {len(doors)}",
    )
    pairs = [(play.first_of("ec2"), play.last_of_vpc), (play.last_of_vpc, play.first_of("ec2"))]
    with play.probing(pairs, "watch") as probes:
        for host in play.hosts:
            agents.write_configuration(play.plan, host, state=play.state, reject_all=True)
            agents.send(host, signal.SIGHUP, state=play.state)
        play.stage.say("reject_all: true is written on every host, and the agents get SIGHUP")
        remaining = reached

        def shut() -> bool:
            nonlocal remaining
            remaining = _reached(play, STRANGER, doors)
            return not remaining

        try:
            wait_for(shut, "the stranger still gets in", seconds=_CHANGE_SECONDS)
        finally:
            play.stage.find(
                "reject_all on: hosts the stranger reaches",
                not remaining,
                f"{len(remaining)} of {len(doors)}",
            )
        time.sleep(_SETTLE_SECONDS)
        _count(play, "reject_all comes on", probes)
    if left is not None:
        inside = {str(host.private): host.name for host in play.hosts if host.site == left.site}
        entered = _reached(play, left.name, inside)
        play.stage.find(
            "reject_all on: neighbours the host that left reaches",
            not entered,
            f"{len(entered)} of {len(inside)}",
        )
    verified(play, when="reject_all on: ")


def _came_up(play: Play, host: LabHost) -> bool:
    agents.check_running([host], state=play.state)
    return host.name in play.registered()


def _reached(play: Play, node: str, doors: dict[str, str]) -> list[str]:
    replies = ask_from(play.plan, node, doors, seconds=_SHORT_SECONDS)
    return [
        name
        for address, name in doors.items()
        if isinstance(reply := replies[address], Reply) and reply.host == name
    ]


def _count(play: Play, what: str, probes: Sequence[Probe]) -> None:
    results = [probe.result() for probe in probes]
    for kind, name in (("requests", "failed requests"), ("stream", "failed on long connections")):
        tallies = [result[kind] for result in results]
        failures = sum(tally["failures"] for tally in tallies)
        gap = max(tally["longest_gap_ms"] for tally in tallies)
        play.stage.find(
            f"{what}: {name}",
            failures == 0,
            f"{failures} of {sum(tally['requests'] for tally in tallies)}, "
            f"longest gap {gap:.0f} ms",
        )
        for tally in tallies:
            for error in tally["errors"]:
                play.stage.say(error)


def _resident_mib(play: Play, host: LabHost) -> float:
    agent = agents.agent_of(host, state=play.state)
    return agent.resident_mib if agent is not None else 0.0

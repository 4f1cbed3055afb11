"""From public addresses to gateways, one site after the other, while traffic flows: the steps of
docs/which-road.md."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import Any, Final

import pytest
from drills.traffic import Steps, longest_away, probing, rows, serving
from tests.support.tunnel_device import require_wireguard
from tests.support.zookeeper import need_zookeeper

from neti_lab import agents, lifecycle, registries
from neti_lab.play import Play, wait_for
from neti_lab.stage import Stage
from neti_lab.state import LabState
from neti_lab.topology import LabHost, plan_lab
from neti_lab.traffic import ProbeProcess

pytestmark = [pytest.mark.lab, pytest.mark.zookeeper]

_SECONDS: Final = 90.0
_SETTLED: Final = 5.0  # seconds in which UDP is there again, where no address was taken away


def test_sites_go_over_to_gateways_one_after_the_other_and_no_connection_ends(
    lab: LabState, record_property: Callable[[str, object], None]
) -> None:
    need_zookeeper()
    require_wireguard()
    plan = plan_lab(name=lab.name, hosts=1, registry="closed", encrypt=True, gateways=True)
    lifecycle.bring_up(lab, plan)
    with closing(registries.open_registry(plan, lab)) as registry:
        play = Play(plan=plan, state=lab, stage=Stage(), opened=registry, hosts=list(plan.hosts))
        leases = {host: str(overlay) for overlay, host in registry.leases().items()}
        play.overlays = leases
        _until_encrypted(play)
        ec2, vpc = play.first_of("ec2"), play.first_of("vpc")
        steps = Steps()
        with _talking(play, (ec2, vpc), (vpc, ec2)) as probes:
            for site in ("ec2", "vpc"):
                steps.begin(f"gateways of {site} are named")
                _name_gateways(play, site)
                _until_encrypted(play)
                steps.begin(f"{site} has no public address but theirs")
                play.plan = lifecycle.take_public_addresses(lab, play.plan, site)
                _told(play)
                _until_by_gateway(play, site)
            results = [probe.result() for probe in probes]
        assert all(pair.right_way for pair in play.verify([ec2, vpc]))
    found = [
        row for one in results for row in rows("", one, steps, kinds=("new", "stream", "idle"))
    ]
    away = longest_away(results, steps, "udp")
    record_property("away", away)
    assert all(row.ok for row in found), (found, away)
    for step in steps.names:
        assert "named" not in step or away.get(step, 0.0) < _SETTLED, away


@contextmanager
def _talking(play: Play, *ways: tuple[LabHost, LabHost]) -> Iterator[list[ProbeProcess]]:
    """New connections, one that stays, one that idles, and UDP."""
    with ExitStack() as stack:
        for _, called in ways:
            stack.enter_context(serving(play.plan.namespace(called.name)))
        yield [
            stack.enter_context(
                probing(
                    play.plan.namespace(caller.name),
                    play.overlays[called.name],
                    every=0.05,
                    patience=(60.0, 0.5),
                )
            )
            for caller, called in ways
        ]


def _name_gateways(play: Play, site: str) -> None:
    """In the files of all hosts, of both sites."""
    plan = play.plan.without_public_addresses(site)
    for host in plan.hosts:
        agents.write_configuration(plan, host, state=play.state)
    _told(play)


def _told(play: Play) -> None:
    for host in play.hosts:
        agents.reload(host, state=play.state)


def _verified(play: Play) -> dict[str, dict[str, Mapping[str, Any]]]:
    return {
        host.name: {one["id"]: one for one in play.neti_json(host, "verify").get("results", ())}
        for host in (play.first_of("ec2"), play.first_of("vpc"))
    }


def _until_encrypted(play: Play) -> None:
    def encrypted() -> bool:
        found = _verified(play)
        across = [
            one
            for name, results in found.items()
            for one in results.values()
            if play.plan.host(name).site != one["site"]
        ]
        return len(across) == len(play.hosts) and all(
            one["ok"] and one["reached_by"] == "encrypted" for one in across
        )

    wait_for(encrypted, "not everything goes encrypted", seconds=_SECONDS)


def _until_by_gateway(play: Play, site: str) -> None:
    """And the members of other sites reach its host by one of its gateways."""
    host = play.first_of(site)
    caller = play.first_of("vpc" if site == "ec2" else "ec2")

    def by_gateway() -> bool:
        found = _verified(play)[caller.name].get(host.name)
        return bool(found and found["ok"] and any(g.startswith(site) for g in found["gateways"]))

    wait_for(by_gateway, f"{host.name} is not reached by gateway", seconds=_SECONDS)

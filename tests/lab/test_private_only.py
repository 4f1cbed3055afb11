"""Sites in which only two gateways have a public address: real agents, real packets."""

import json
import re
import subprocess
from collections.abc import Callable

import pytest
from tests.support.tunnel_device import require_wireguard
from tests.support.zookeeper import need_zookeeper

from neti_lab import ensemble, lifecycle
from neti_lab.state import LabState
from neti_lab.topology import STRANGER, LabPlan
from neti_lab.traffic import Refusal, ask_from

pytestmark = [pytest.mark.lab, pytest.mark.zookeeper]

Neti = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("registry", ["closed", "ensemble"])
def test_hosts_reach_each_other_by_gateways_and_nobody_reads_a_word(
    lab: LabState, neti_lab: Neti, registry: str
) -> None:
    need_zookeeper()
    require_wireguard()
    done = neti_lab("up", "--private-only", "--hosts", "1", "--registry", registry)
    assert done.returncode == 0, done.stdout + done.stderr
    plan = lab.plan()
    for site, other in (("ec2", "vpc"), ("vpc", "ec2")):
        done = neti_lab("exec", f"{site}-1", "neti", "verify", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        results = {one["id"]: one for one in json.loads(done.stdout)["results"]}
        assert len(results) == len(plan.hosts) == 6
        first, second = results[f"{other}-1"]["gateways"]
        assert first.startswith(f"{site}-gw-")
        assert second.startswith(f"{other}-gw-")
    done = neti_lab("sniff", "--seconds", "1")
    assert re.search(r"encrypted: [1-9][\d,]* packets, 0 with words in them", done.stdout)
    # Proxies and servers talk by TLS of their own.
    clear = "0" if registry == "closed" else r"[1-9][\d,]*"
    assert re.search(rf"in the clear: {clear} packets, 0 with words in them", done.stdout)
    _only_gateways_are_seen_from_outside(plan)
    if registry == "ensemble":
        for proxy in plan.site("ec2").keepers:
            assert ensemble.servers_seen(plan, proxy) == 3
    assert neti_lab("down").returncode == 0
    assert not lifecycle.anything_left(lab)


def _only_gateways_are_seen_from_outside(plan: LabPlan) -> None:
    """By the lab's own web service, in shadow: nobody but the cloud keeps the stranger out."""
    for site in plan.sites:
        (gateway, _), worker = site.gateways, site.host(1)
        assert worker.public is None
        beside = worker.private + (int(site.public[0]) - int(site.private[0]))
        addresses = [str(gateway.public), str(beside), str(site.egress), str(site.front)]
        answered = ask_from(plan, STRANGER, addresses)
        assert [to for to in addresses if not isinstance(answered[to], Refusal)] == addresses[:1]

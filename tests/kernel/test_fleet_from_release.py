"""A fleet of agents of the last release, on a ZooKeeper with TLS and rights, goes over to today's
code and to ``strict``, and back: one host after the other, and no host ever loses another."""

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

import pytest
from drills.certified import Operator
from drills.drill import DrillError, Run
from drills.field import Field
from drills.host import FieldHost
from drills.waiting import wait_for
from tests.support import released
from tests.support.netns import require_root
from tests.support.zookeeper import need_zookeeper

from drills import felt
from neti.dataplane.nftables import NftablesDataplane
from neti_lab import namespaces

pytestmark = pytest.mark.kernel

_LOOK_EVERY: Final = 0.1
_ASK_EVERY: Final = 0.2  # seconds between two questions to an agent that is waited for
_HELD: Final = ("overlay", "peers4")
_FURTHER: Final = ("peers6",)
_PATIENCE: Final = 90.0
TODAY: Final = ["env"]
_SLOW: Final = 0.05  # seconds between two of a probe's questions


@pytest.fixture
def field() -> Iterator[Field]:
    require_root()
    need_zookeeper()
    with (
        Run("from-release", scale="short", seed=0) as drill,
        Field(drill, hosts=3, registry="closed") as made,
    ):
        yield made


@contextmanager
def nobody_is_lost(hosts: Sequence[FieldHost], today: Collection[str]) -> Iterator[None]:
    """Looks at the kernels all the while: whatever they held at first is always there. ``today``:
    names of hosts that run today's code. Agents of the release let go of a host's further
    addresses, and so of IPv6, from its new entry's appearing until they have read what that says.
    """
    lost: list[str] = []
    done = Event()

    def watch(host: FieldHost) -> None:
        with closing(NftablesDataplane()) as kernel:
            first = kernel.read().elements
            while not done.wait(_LOOK_EVERY):
                now = kernel.read().elements
                for where in (*_HELD, *(_FURTHER if host.name in today else ())):
                    gone = first.get(where, {}).items() - now.get(where, {}).items()
                    if gone:
                        lost.append(f"{host.name} lost {gone} of {where}")

    threads = [
        Thread(target=namespaces.call_inside, args=(host.namespace, lambda host=host: watch(host)))
        for host in hosts
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert lost == []


class Fleet:
    """What is done to each host, and what all of them say then."""

    def __init__(self, field: Field) -> None:
        self.field, self.hosts = field, field.hosts
        self.operator = Operator(field)
        self.today: set[str] = set()

    def run_as(self, host: FieldHost, version: Sequence[str]) -> None:
        self.today.discard(host.name)
        host.agent.end()
        self.field.start(host, around=version)
        for one in self.hosts:
            others = {each.name for each in self.hosts if each is not one}
            wait_for(
                lambda one=one, others=others: (  # type: ignore[misc]  # a default in a lambda
                    others <= one.member_ids() and not one.status()["lost"]
                ),
                f"{one.name} has lost somebody",
                seconds=_PATIENCE,
                every=_ASK_EVERY,
            )
        if version == TODAY:
            self.today.add(host.name)
        assert felt.unwell(self.hosts) == []

    def records(self) -> list[str | None]:
        return [host.status().get("records") for host in self.hosts]

    def not_vouched(self, host: FieldHost) -> str:
        """What it says of the entries that no record names."""
        said = {each["code"]: each["sentence"] for each in host.status()["problems"]}
        return str(said.get("not_vouched", ""))

    def reports(self, host: FieldHost, left: Sequence[str]) -> None:
        """This host, and the command, name those that no record vouches for, and nobody else."""
        wait_for(
            lambda: all(f".{name}" in self.not_vouched(host) for name in left),
            f"{host.name} does not name {left}",
            seconds=_PATIENCE,
            every=_ASK_EVERY,
        )
        assert [each["id"] for each in self.strict()["not_vouched"]] == left

    def all_say(self, records: str) -> None:
        for host in self.hosts:
            wait_for(
                lambda host=host: host.status()["records"] == records,  # type: ignore[misc]  # a default in a lambda
                f"{host.name} does not say {records}",
                seconds=_PATIENCE,
                every=_ASK_EVERY,
            )

    def strict(self, *words: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(
            self.operator.says("registry", "strict", *words, "--json")
        )
        return answer


def test_a_fleet_goes_over_to_strict_and_back_without_a_gap(field: Field, tmp_path: Path) -> None:
    before, today = released.unpack(tmp_path / "released"), TODAY
    fleet = Fleet(field)
    h1, h2, h3 = hosts = field.hosts
    fleet.operator.says("registry", "init", around=before)
    field.start(around=before)
    for host in hosts:
        host.agent.ask("enforce", seconds=300, wait=True)
        host.agent.ask("confirm")
    field.serve(*(host.namespace for host in hosts))
    ring = [(h1, h2.overlay), (h2, h3.overlay), (h3, h1.overlay)]
    with (
        nobody_is_lost(hosts, fleet.today),
        field.probing(h1.namespace, ring[0][1], every=_SLOW) as one,
        field.probing(h2.namespace, ring[1][1], every=_SLOW) as two,
        field.probing(h3.namespace, ring[2][1], every=_SLOW) as three,
    ):
        fleet.operator.says("registry", "init")
        for number, host in enumerate(hosts, 1):
            fleet.run_as(host, today)
            left = [each.name for each in hosts[number:]]
            fleet.reports(h1, left)
            if left:
                with pytest.raises(DrillError, match=f"{left[0]}: ") as refused:
                    fleet.operator.says("registry", "strict", "on")
                assert f"  {host.name}: " not in str(refused.value)
                assert "strict is off" in fleet.operator.says("registry", "strict")
        wait_for(
            lambda: not any(map(fleet.not_vouched, hosts)),
            "somebody is still reported",
            seconds=_PATIENCE,
            every=_ASK_EVERY,
        )
        assert fleet.records() == ["report"] * 3

        assert fleet.strict("on")["changed"]
        fleet.all_say("strict")
        fleet.run_as(h2, today)  # a restart in between
        assert fleet.records() == ["strict"] * 3

        assert not fleet.strict("off", "--yes")["strict"]
        fleet.all_say("report")
        for host in hosts:
            fleet.run_as(host, before)
        results = [probe.result() for probe in (one, two, three)]
    lost = {
        kind: tally["errors"] for each in results for kind, tally in each.items() if tally["lost"]
    }
    assert lost == {}
    assert all(host.status()["stage"] == "enforced" for host in hosts)

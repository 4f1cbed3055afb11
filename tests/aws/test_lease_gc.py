"""``neti lease gc``: only what EC2 said is terminated, long enough ago, and shown first."""

import json
import time
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.aws.conftest import Members, Neti
from tests.support.aws import Account, MotoServer

from neti.aws.calls import Place
from neti.aws.instances import Instance, parse
from neti.aws.terminated import judge, remember
from neti.errors import NetiError

HERE = Place("default", "us-east-1")
NOW = 2_000_000.0
DAY = 86_400.0


def _lease_for(members: Members, account: Account, instance: str) -> None:
    private, public = account.addresses(instance)
    members.join(instance, private, public)
    members.vanish(instance)


def test_the_lease_of_a_terminated_instance_is_released(
    neti: Neti, account: Account, members: Members, tmp_path: Path
) -> None:
    """Unlike in 2014, when addresses were never freed. A dry run releases and remembers nothing."""
    alive, dead = account.instances(2, account.group("web"))
    for instance in (alive, dead):
        _lease_for(members, account, instance)
    members.join("db-1", "10.50.0.1", "198.51.100.77", site="vpc")
    account.ec2.terminate_instances(InstanceIds=[dead])
    shown = neti("lease", "gc", "--quarantine", "0", "--dry-run")
    assert shown.exit_code == 0, shown.output
    assert f"{dead:<20}  terminated 0.0 h ago: release" in shown.output
    assert members.leases().keys() == {alive, dead, "db-1"}
    assert not (tmp_path / "state/terminated.json").exists()
    done = neti("lease", "gc", "--quarantine", "0")
    assert done.exit_code == 0, done.output
    assert "1 released" in done.output
    assert members.leases().keys() == {alive, "db-1"}


def test_the_quarantine_outlives_what_ec2_remembers(
    neti: Neti, server: MotoServer, account: Account, members: Members, tmp_path: Path
) -> None:
    """Seen terminated once, it is released later, when EC2 knows nothing of it any more."""
    dead = account.instances(2, account.group("web"))[1]
    _lease_for(members, account, dead)
    account.ec2.terminate_instances(InstanceIds=[dead])
    first = neti("lease", "gc")
    assert "waiting (24 h)" in first.output
    assert dead in members.leases()
    memory = tmp_path / "state/terminated.json"
    memory.write_text(json.dumps({dead: time.time() - 25 * 3600}))
    server.order("/moto-api/reset")
    Account.of(server.url).instances(1, Account.of(server.url).group("web"))
    told = json.loads(neti("lease", "gc", "--json").stdout)
    assert [lease["id"] for lease in told["released"]] == [dead]
    assert members.leases() == {}


def test_a_clock_that_is_wrong_ends_no_quarantine(
    neti: Neti, account: Account, members: Members, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quarantine goes by AWS's clock, whatever this machine takes the time to be."""
    dead, _ = account.instances(2, account.group("web"))
    _lease_for(members, account, dead)
    account.ec2.terminate_instances(InstanceIds=[dead])
    really = time.time
    monkeypatch.setattr(time, "time", lambda: really() + 30 * DAY)
    told = json.loads(neti("lease", "gc", "--json").stdout)
    assert [lease["id"] for lease in told["waiting"]] == [dead]
    assert abs(told["waiting"][0]["since"] - really()) < 3600
    assert dead in members.leases()


def test_not_known_to_ec2_proves_nothing(neti: Neti, account: Account, members: Members) -> None:
    """It may be in another account."""
    account.instances(1, account.group("web"))
    members.join("i-0123456789abcdef0", "10.0.0.9", "198.51.100.9")
    members.vanish("i-0123456789abcdef0")
    result = neti("lease", "gc", "--quarantine", "0")
    assert "1 lease kept, because EC2 does not know the instances" in result.output
    assert "i-0123456789abcdef0" in members.leases()


def test_an_empty_answer_or_an_error_of_any_account_releases_nothing(
    neti: Neti, server: MotoServer, account: Account, members: Members
) -> None:
    """Also where another account has reported the instance terminated."""
    dead = account.instances(1, account.group("web"))[0]
    _lease_for(members, account, dead)
    account.ec2.terminate_instances(InstanceIds=[dead])
    empty = neti(
        "lease", "gc", "--quarantine", "0", "--region", "us-east-1", "--region", "eu-west-1"
    )
    assert empty.exit_code == 1
    assert "no instances in eu-west-1 (default)" in empty.output
    server.fail("DescribeInstances", "InternalError", status=500)
    failed = neti("lease", "gc", "--quarantine", "0")
    assert failed.exit_code == 1
    assert dead in members.leases()


def test_a_registered_host_keeps_its_lease(neti: Neti, account: Account, members: Members) -> None:
    """Whatever EC2 says of it: somebody answers by that name, and it needs a look."""
    ghost, _ = account.instances(2, account.group("web"))
    private, public = account.addresses(ghost)
    members.join(ghost, private, public)
    account.ec2.terminate_instances(InstanceIds=[ghost])
    result = neti("lease", "gc", "--quarantine", "0")
    assert "but still registered" in result.output
    assert ghost in members.leases()


def test_a_torn_memory_is_named(neti: Neti, account: Account, tmp_path: Path) -> None:
    """It is not begun anew without a word."""
    account.instances(1, account.group("web"))
    memory = tmp_path / "memory.json"
    memory.write_text('{"i-0')
    result = neti("lease", "gc", "--memory", str(memory))
    assert result.exit_code == 1
    assert "repair it or delete it" in result.output


def _instance(host_id: str, state: str, since: float | None = None) -> Instance:
    return Instance(id=host_id, place=HERE, state=state, since=since)


IDS = [f"i-{n:08x}" for n in range(6)]
states = st.dictionaries(
    st.sampled_from(IDS),
    st.sampled_from(["running", "stopped", "shutting-down", "terminated"]),
    min_size=1,
)


@given(states, st.sets(st.sampled_from(IDS)), st.dictionaries(st.sampled_from(IDS), st.just(0.0)))
def test_only_the_terminated_are_ever_released(
    seen: Mapping[str, str], present: set[str], remembered: Mapping[str, float]
) -> None:
    """In every world: never a registered one, never one that is in any other state, never one that
    was not reported; and each lease is in exactly one list."""
    leases = {IPv4Address(f"192.168.0.{n}"): host for n, host in enumerate([*IDS, "db-1"], 1)}
    verdict = judge(
        leases,
        [_instance(host, state) for host, state in seen.items()],
        remembered,
        present=frozenset(present),
        quarantine=0.0,
        now=NOW,
    )
    for lease in verdict.release:
        assert lease.host_id not in present
        assert seen.get(lease.host_id, "terminated") == "terminated"
        assert lease.host_id in seen or lease.host_id in remembered
    kinds = (verdict.release, verdict.waiting, verdict.registered, verdict.unknown)
    assert sum(map(len, kinds)) + verdict.others == len(leases)


def test_the_quarantine_counts_from_what_ec2_says() -> None:
    """Or from the first look, where EC2 does not say since when."""
    leases = {IPv4Address("192.168.0.1"): IDS[0], IPv4Address("192.168.0.2"): IDS[1]}
    seen = [_instance(IDS[0], "terminated", NOW - DAY), _instance(IDS[1], "terminated")]
    kept = remember(leases, seen, {}, NOW)
    assert kept == {IDS[0]: NOW - DAY, IDS[1]: NOW}
    verdict = judge(leases, seen, kept, present=frozenset(), quarantine=DAY, now=NOW)
    assert [lease.host_id for lease in verdict.release] == [IDS[0]]
    assert [lease.host_id for lease in verdict.waiting] == [IDS[1]]


def test_no_instance_at_all_is_no_answer() -> None:
    """Credentials of an empty account must not free a fleet."""
    with pytest.raises(NetiError, match="empty answer"):
        judge({}, [], {IDS[0]: 0.0}, present=frozenset(), quarantine=0, now=NOW)


def test_an_instance_as_ec2_tells_it() -> None:
    """Every address of every interface, the name, and since when it is what it is."""
    document = {
        "InstanceId": "i-0abc12345",
        "State": {"Name": "terminated"},
        "StateTransitionReason": "User initiated (2026-01-31 10:00:00 GMT)",
        "Tags": [{"Key": "Name", "Value": "web-1"}],
        "VpcId": "vpc-1",
        "PrivateIpAddress": "10.0.0.5",
        "PublicIpAddress": "198.51.100.5",
        "NetworkInterfaces": [
            {
                "PrivateIpAddresses": [
                    {"PrivateIpAddress": "10.0.0.5", "Association": {"PublicIp": "198.51.100.5"}},
                    {"PrivateIpAddress": "10.0.0.6", "Association": {"PublicIp": "198.51.100.6"}},
                    {"PrivateIpAddress": "10.0.0.7"},
                ]
            }
        ],
    }
    instance = parse(document, HERE)
    assert [str(a) for a in instance.privates] == ["10.0.0.5", "10.0.0.6", "10.0.0.7"]
    assert [str(a) for a in instance.publics] == ["198.51.100.5", "198.51.100.6"]
    assert (instance.name, instance.since) == ("web-1", 1_769_853_600.0)

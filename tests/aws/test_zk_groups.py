"""``neti aws zk-groups`` on moto: what the groups let in afterwards, whatever stood in the way."""

import json
from pathlib import Path

import pytest
from tests.aws.conftest import Neti
from tests.support.aws import Account, MotoServer


@pytest.fixture(name="pair")
def _pair(account: Account) -> tuple[str, str]:
    return account.group("zk"), account.group("zk-proxies")


def _commands(pair: tuple[str, str]) -> list[str]:
    return ["aws", "zk-groups", "--ensemble", pair[0], "--proxies", pair[1]]


def test_each_lets_in_the_others_elastic_and_plain_addresses(
    neti: Neti, account: Account, pair: tuple[str, str]
) -> None:
    """Both kinds of public address, on the configuration's port, described; nobody else."""
    zk = account.instances(2, pair[0], name="zk")
    proxies = account.instances(2, pair[1], name="proxy")
    elastic = account.elastic(zk[0])
    result = neti(*_commands(pair))
    assert result.exit_code == 0, result.output
    assert account.sources(pair[1]) == {f"{elastic}/32", f"{account.addresses(zk[1])[1]}/32"}
    assert account.sources(pair[0]) == {f"{account.addresses(p)[1]}/32" for p in proxies}
    assert {rule[:3] for rule in account.rules(pair[0])} == {("tcp", 2181, 2181)}
    told = {rule[4] for rule in account.rules(pair[1])}
    assert told == {f"neti zk-groups {pair[0]}: zk-{n} ({i})" for n, i in enumerate(zk, 1)}


def test_one_group_for_both_sides_is_refused(
    neti: Neti, server: MotoServer, account: Account
) -> None:
    """By its id or by its name: it would let its own members in."""
    group = account.group("zk", tags={"Name": "zk"})
    account.instances(1, group)
    before = server.changes()
    for name in (group, "tag:Name=zk"):
        result = neti("aws", "zk-groups", "--ensemble", group, "--proxies", name)
        assert result.exit_code == 1
        assert f"are the same group, {group}" in result.output
    assert server.changes() == before


def test_twice_is_once(
    neti: Neti, server: MotoServer, account: Account, pair: tuple[str, str]
) -> None:
    """The second run makes no call that changes anything."""
    account.instances(1, pair[0])
    account.instances(1, pair[1])
    assert neti(*_commands(pair)).exit_code == 0
    made = server.changes()
    again = neti(*_commands(pair))
    assert "nothing to change" in again.output
    assert server.changes() == made


def test_a_dry_run_shows_everything_and_calls_nothing(
    neti: Neti, server: MotoServer, account: Account, pair: tuple[str, str]
) -> None:
    """Unlike in 2014, when a dry run changed the live rules. What it shows is what is then done."""
    proxy = account.instances(1, pair[1])[0]
    before = server.changes()
    shown = json.loads(neti(*_commands(pair), "--dry-run", "--json").stdout)
    assert server.changes() == before
    assert account.rules(pair[0]) == []
    done = json.loads(neti(*_commands(pair), "--json").stdout)
    assert shown["changes"] == done["done"]
    assert account.sources(pair[0]) == {f"{account.addresses(proxy)[1]}/32"}


def test_stale_rules_go_after_new_ones_came_and_foreign_ones_stay(
    neti: Neti, server: MotoServer, account: Account, pair: tuple[str, str]
) -> None:
    """A replaced proxy: its successor is let in before it is shut out."""
    account.allow(pair[0], "203.0.113.9/32", 2181, text="monitoring")
    account.allow(pair[0], "198.51.100.1/32", 2181, text=f"neti zk-groups {pair[1]}: gone (i-0)")
    account.allow(pair[0], "198.51.100.2/32", 2181, text="neti zk-groups sg-0other: another pair")
    account.instances(1, pair[0])
    proxy = account.instances(1, pair[1])[0]
    before = len(server.changes())
    result = neti(*_commands(pair))
    assert result.exit_code == 0, result.output
    changed = [call for call in server.changes()[before:] if "Ingress" in call]
    assert changed == ["AuthorizeSecurityGroupIngress"] * 2 + ["RevokeSecurityGroupIngress"]
    assert account.sources(pair[0]) == {
        "203.0.113.9/32",
        "198.51.100.2/32",
        f"{account.addresses(proxy)[1]}/32",
    }


def test_a_foreign_rule_that_says_the_same_is_neither_doubled_nor_taken(
    neti: Neti, account: Account, pair: tuple[str, str]
) -> None:
    """AWS knows one rule of a kind; it stays its maker's."""
    proxy = account.instances(1, pair[1])[0]
    account.allow(pair[0], f"{account.addresses(proxy)[1]}/32", 2181, text="by hand")
    result = neti(*_commands(pair))
    assert result.exit_code == 0, result.output
    assert "= " in result.output
    assert "by hand" in result.output
    assert [rule[4] for rule in account.rules(pair[0])] == ["by hand"]


def test_the_last_working_address_stays(
    neti: Neti, account: Account, pair: tuple[str, str]
) -> None:
    """A side without members (or the wrong group) does not cut ZooKeeper off."""
    account.allow(pair[0], "198.51.100.1/32", 2181, text=f"neti zk-groups {pair[1]}: p1 (i-0)")
    account.instances(1, pair[0])
    result = neti(*_commands(pair))
    assert result.exit_code == 1
    assert "nothing was changed" in result.output
    assert "--allow-empty" in result.output
    assert account.sources(pair[0]) == {"198.51.100.1/32"}
    assert account.rules(pair[1]) == []
    assert neti(*_commands(pair), "--allow-empty").exit_code == 0
    assert account.rules(pair[0]) == []


def test_a_failure_in_the_middle_is_told_and_finished_by_the_next_run(
    neti: Neti, server: MotoServer, account: Account, pair: tuple[str, str]
) -> None:
    """The first group was changed, the second not, nothing was taken out; both are said."""
    account.allow(pair[0], "198.51.100.1/32", 2181, text=f"neti zk-groups {pair[1]}: old (i-0)")
    zk = account.instances(1, pair[0])[0]
    proxy = account.instances(1, pair[1])[0]
    server.fail("AuthorizeSecurityGroupIngress", "UnauthorizedOperation", skip=1, status=403)
    result = neti(*_commands(pair))
    assert result.exit_code == 1
    assert (
        f"done:         + {pair[0]}: tcp 2181 from {account.addresses(proxy)[1]}/32"
        in result.output
    )
    assert (
        f"not done:     + {pair[1]}: tcp 2181 from {account.addresses(zk)[1]}/32" in result.output
    )
    assert f"not done:     - {pair[0]}: tcp 2181 from 198.51.100.1/32" in result.output
    assert '"Action": "ec2:AuthorizeSecurityGroupIngress"' in result.output
    assert "198.51.100.1/32" in account.sources(pair[0])
    server.order("/neti-test/reset")
    assert neti(*_commands(pair)).exit_code == 0
    assert account.sources(pair[0]) == {f"{account.addresses(proxy)[1]}/32"}
    assert account.sources(pair[1]) == {f"{account.addresses(zk)[1]}/32"}


def test_throttling_is_waited_out(
    neti: Neti, server: MotoServer, account: Account, pair: tuple[str, str]
) -> None:
    """As AWS refuses a burst: with an error that the SDK tries again."""
    account.instances(1, pair[1])
    message = "Request limit exceeded."
    server.fail(
        "AuthorizeSecurityGroupIngress",
        "RequestLimitExceeded",
        message=message,
        status=503,
        times=2,
    )
    result = neti(*_commands(pair))
    assert result.exit_code == 0, result.output
    assert len(account.rules(pair[0])) == 1


def test_groups_by_tag_in_two_accounts_and_regions(
    neti: Neti, server: MotoServer, account: Account
) -> None:
    """Where each group is, is found out; a group that is nowhere is named with the places."""
    roles = [f"arn:aws:iam::{number * 12}:role/neti" for number in ("1", "2")]
    old = Account.of(server.url, "us-east-1", roles[0])
    new = Account.of(server.url, "eu-west-1", roles[1])
    zk, proxies = old.group("zk", tags={"app": "zk"}), new.group("p", tags={"app": "zk-proxy"})
    member, proxy = old.instances(1, zk)[0], new.instances(1, proxies)[0]
    where = ["--role-arn", roles[0], "--role-arn", roles[1], "--region", "us-east-1"]
    words = [
        "aws",
        "zk-groups",
        "--ensemble",
        "tag:app=zk",
        "--proxies",
        "tag:app=zk-proxy",
        *where,
    ]
    missing = neti(*words)
    assert missing.exit_code == 1
    assert f"no security group tag:app=zk-proxy in us-east-1 ({roles[0]})" in missing.output
    result = neti(*words, "--region", "eu-west-1")
    assert result.exit_code == 0, result.output
    assert old.sources(zk) == {f"{new.addresses(proxy)[1]}/32"}
    assert new.sources(proxies) == {f"{old.addresses(member)[1]}/32"}


@pytest.mark.parametrize(
    ("wanted", "said"),
    [("web", "expected sg-… or tag:KEY=VALUE"), ("tag:app", "expected tag:KEY=VALUE")],
)
def test_what_names_no_group_is_refused(neti: Neti, wanted: str, said: str) -> None:
    """With what to write instead."""
    result = neti("aws", "zk-groups", "--ensemble", wanted, "--proxies", "sg-0aa1")
    assert result.exit_code == 1
    assert said in result.output


def test_a_member_without_a_public_address_is_named(
    neti: Neti, account: Account, pair: tuple[str, str]
) -> None:
    """It cannot be let in, and the operator is told how to change that."""
    proxy = account.instances(1, pair[1], name="proxy")[0]
    instance = account.ec2.describe_instances(InstanceIds=[proxy])["Reservations"][0]["Instances"][
        0
    ]
    interface = account.ec2.create_network_interface(
        SubnetId=instance["SubnetId"], Groups=[pair[1]], Description="spare"
    )
    result = neti(*_commands(pair))
    assert result.exit_code == 0, result.output
    name = interface["NetworkInterface"]["NetworkInterfaceId"]
    assert f"proxies spare ({name}) has no public address" in result.output


def test_several_ports_must_be_chosen_from(neti: Neti, config: Path, pair: tuple[str, str]) -> None:
    """A configuration with two ports does not say which; --port does."""
    config.write_text(config.read_text().replace("10.9.9.2:2181", "10.9.9.2:2281"))
    refused = neti(*_commands(pair))
    assert refused.exit_code == 1
    assert "2181, 2281" in refused.output
    assert "--port" in refused.output
    assert neti(*_commands(pair), "--port", "2281").exit_code == 0


def test_what_a_deleted_group_left_is_named_and_taken_out_on_word(
    neti: Neti, server: MotoServer, account: Account, pair: tuple[str, str]
) -> None:
    """The proxies' group was made anew: the former proxies' addresses may be anybody's by now."""
    account.instances(1, pair[0])
    old = account.group("old-proxies")
    account.allow(pair[0], "198.51.100.1/32", 2181, text=f"neti zk-groups {old}: p1 (i-0)")
    account.allow(pair[0], "198.51.100.2/32", 2181, text=f"neti zk-groups {old}: p2 (i-1)")
    proxy = account.instances(1, pair[1])[0]
    address = f"{account.addresses(proxy)[1]}/32"
    # One of the proxies was kept, and its rule says the same for another group.
    account.allow(pair[0], address, 2181, text=f"neti zk-groups {old}: p3 (i-2)")
    account.allow(pair[0], "203.0.113.9/32", 2181, text="monitoring")
    quiet = neti(*_commands(pair))
    assert quiet.exit_code == 0, quiet.output
    assert "there is no such group" not in quiet.output  # there is: another pair
    refused = neti(*_commands(pair), "--gone", old)
    assert refused.exit_code == 1
    assert "this group still exists" in refused.output
    account.ec2.delete_security_group(GroupId=old)
    named = neti(*_commands(pair))
    assert named.exit_code == 0
    assert f"3 rules of this command for {old}, but there is no such group" in named.output
    assert f"--gone {old}" in named.output
    assert "198.51.100.1/32" in account.sources(pair[0])
    before = len(server.changes())
    done = neti(*_commands(pair), "--gone", old)
    assert done.exit_code == 0, done.output
    assert account.sources(pair[0]) == {address, "203.0.113.9/32"}
    calls = server.changes()[before:]
    assert "AuthorizeSecurityGroupIngress" not in calls  # nobody was kept out for a moment
    told = {rule[3]: rule[4] for rule in account.rules(pair[0])}
    assert told[address].startswith(f"neti zk-groups {pair[1]}: ")
    assert f"no rule is for {old}" in neti(*_commands(pair), "--gone", old).output


def test_what_is_left_goes_without_another_group_in_its_place(
    neti: Neti, account: Account, pair: tuple[str, str]
) -> None:
    """Both groups are gone, or the proxies are not needed any more; never the last by mistake."""
    old = account.group("old")
    account.allow(pair[0], "198.51.100.1/32", 2181, text=f"neti zk-groups {old}: p1 (i-0)")
    account.ec2.delete_security_group(GroupId=old)
    words = ["aws", "zk-groups", "--ensemble", pair[0]]
    assert "--proxies GROUP is missing" in neti(*words).output
    refused = neti(*words, "--gone", old)
    assert refused.exit_code == 1
    assert "--allow-empty" in refused.output
    assert neti(*words, "--gone", old, "--allow-empty").exit_code == 0
    assert account.rules(pair[0]) == []

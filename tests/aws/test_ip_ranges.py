"""``neti aws ip-ranges`` on a strict moto: what groups and lists hold afterwards, and quotas."""

import json
from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path

import pytest
from tests.aws.conftest import Neti
from tests.support.aws import Account, MotoServer, addresses_in

FILE = str(Path(__file__).parents[1] / "data/ip-ranges.json")
US = ["--range-region", "us-east-1", "--file", FILE]
ICMP = ("icmp", 3, 4, "0.0.0.0/0")


@pytest.fixture(name="group")
def _group(account: Account) -> str:
    return account.group("web", tags={"neti_site": "ec2"})


def _published() -> list[str]:
    """EC2's ranges of us-east-1, read from the file in another way than Neti's."""
    entries = json.loads(Path(FILE).read_text())["prefixes"]
    wanted = ("EC2", "us-east-1")
    return [e["ip_prefix"] for e in entries if (e["service"], e["region"]) == wanted]


def _rules(account: Account, group: str, protocol: str) -> set[str]:
    return {rule[3] for rule in account.rules(group) if rule[0] == protocol}


def _covers(prefixes: Sequence[str], asked: Sequence[str]) -> bool:
    around = [ip_network(text) for text in prefixes]
    return all(any(ip_network(a).subnet_of(n) for n in around) for a in asked)  # type: ignore[arg-type]  # of one version, both


def test_without_room_nothing_is_begun(
    neti: Neti, server: MotoServer, account: Account, group: str
) -> None:
    """212 prefixes for tcp and for udp do not fit 60 rules: known before the first call."""
    before = server.changes()
    result = neti("aws", "ip-ranges", "--group", group, *US)
    assert result.exit_code == 1
    assert "would count 425 inbound IPv4 rules (0 now), but its quota is 60" in result.output
    assert "--max-rules 60" in result.output
    assert server.changes() == before
    assert "GetServiceQuota" in server.calls()


def test_a_granted_quota_takes_them_exactly(
    neti: Neti, server: MotoServer, account: Account, group: str
) -> None:
    """Aggregated without a surplus, by tcp and udp, and what path MTU discovery needs."""
    server.allow_rules(500)
    result = neti("aws", "ip-ranges", "--group", group, *US, "--quota", "500")
    assert result.exit_code == 0, result.output
    assert "IPv4: 266 ranges, 212 after aggregation" in result.output
    assert "GetServiceQuota" not in server.calls()
    for protocol in ("tcp", "udp"):
        prefixes = sorted(_rules(account, group, protocol))
        assert len(prefixes) == 212
        assert addresses_in(prefixes) == addresses_in(_published())
        assert _covers(prefixes, _published())
    assert ICMP in {rule[:4] for rule in account.rules(group)}
    assert {(r[1], r[2]) for r in account.rules(group) if r[0] == "tcp"} == {(0, 65535)}
    assert (
        "nothing to change"
        in neti("aws", "ip-ranges", "--group", group, *US, "--quota", "500").output
    )


def test_widened_to_the_quota_and_the_surplus_said(
    neti: Neti, account: Account, group: str
) -> None:
    """--max-rules counts what AWS counts: 29 prefixes, twice, and one rule for ICMP."""
    result = neti("aws", "ip-ranges", "--group", group, *US, "--max-rules", "60")
    assert result.exit_code == 0, result.output
    prefixes = sorted(_rules(account, group, "tcp"))
    surplus = addresses_in(prefixes) - addresses_in(_published())
    assert len(account.rules(group)) == 59
    assert len(prefixes) == 29
    assert _covers(prefixes, _published())
    assert f"including {surplus:,} surplus addresses from widening" in result.output
    assert any(rule[4].endswith(", widened") for rule in account.rules(group))


def test_one_rule_for_all_protocols_leaves_room_for_twice_the_prefixes(
    neti: Neti, account: Account, group: str
) -> None:
    """59 prefixes are far narrower than 29."""
    words = ["aws", "ip-ranges", "--group", group, *US, "--max-rules", "60", "--json"]
    narrow = json.loads(neti(*words, "--protocol", "all").stdout)["groups"][0]["sources"][0]
    assert len(_rules(account, group, "-1")) == 59
    assert narrow["surplus"] == 87_230_048
    assert narrow["addresses"] == addresses_in(_published())


def test_a_prefix_list_counts_its_size_for_every_rule(
    neti: Neti, server: MotoServer, account: Account, group: str
) -> None:
    """Which moto does not know and the test's own server does: too long is refused beforehand."""
    before = server.changes()
    words = ["aws", "ip-ranges", "--group", group, *US, "--as", "prefix-list"]
    refused = neti(*words)
    assert refused.exit_code == 1
    assert "would count 425 inbound IPv4 rules" in refused.output
    assert server.changes() == before
    result = neti(*words, "--max-rules", "60")
    assert result.exit_code == 0, result.output
    made = account.lists()["neti-ip-ranges-ipv4"]
    assert made["MaxEntries"] == len(made["Cidrs"]) == 29
    assert _covers(sorted(made["Cidrs"]), _published())
    assert _rules(account, group, "tcp") == {made["PrefixListId"]}
    assert _rules(account, group, "udp") == {made["PrefixListId"]}


def test_a_long_list_is_made_in_calls_of_a_hundred(
    neti: Neti, server: MotoServer, account: Account, group: str
) -> None:
    """212 entries: 100 at birth and two changes, each on the version that the last one made."""
    server.allow_rules(500)
    before = len(server.changes())
    words = ["aws", "ip-ranges", "--group", group, *US, "--as", "prefix-list", "--quota", "500"]
    result = neti(*words)
    assert result.exit_code == 0, result.output
    assert server.changes()[before:] == [
        "CreateManagedPrefixList",
        "ModifyManagedPrefixList",
        "ModifyManagedPrefixList",
        "AuthorizeSecurityGroupIngress",
    ]
    made = account.lists()["neti-ip-ranges-ipv4"]
    assert (len(made["Cidrs"]), made["MaxEntries"], made["Version"]) == (212, 212, 3)
    assert "nothing to change" in neti(*words).output


def _ranges(folder: Path, cidrs: Sequence[str]) -> str:
    """A published file of just these."""
    path = folder / "ranges.json"
    words = {"region": "us-east-1", "service": "EC2", "network_border_group": "us-east-1"}
    prefixes = [{"ip_prefix": cidr, **words} for cidr in cidrs]
    path.write_text(json.dumps({"createDate": "today", "prefixes": prefixes, "ipv6_prefixes": []}))
    return str(path)


@pytest.mark.parametrize("kind", ["rules", "prefix-list"])
def test_a_newer_file_is_followed(
    neti: Neti, account: Account, group: str, tmp_path: Path, kind: str
) -> None:
    """What is new comes, what is gone goes, what stays is not touched; the list grows and
    shrinks with it."""
    account.allow(group, "203.0.113.7/32", text="office")
    for cidrs in (
        ["3.0.0.0/24", "3.0.2.0/24"],
        ["3.0.0.0/24", "3.0.4.0/24", "3.0.6.0/24"],
        ["3.0.6.0/24"],
    ):
        words = ["--range-region", "us-east-1", "--file", _ranges(tmp_path, cidrs), "--as", kind]
        result = neti("aws", "ip-ranges", "--group", group, *words)
        assert result.exit_code == 0, result.output
        if kind == "rules":
            assert _rules(account, group, "udp") == set(cidrs)
        else:
            made = account.lists()["neti-ip-ranges-ipv4"]
            assert made["Cidrs"] == set(cidrs)
            assert made["MaxEntries"] == len(cidrs)
        assert "203.0.113.7/32" in account.sources(group)


def test_from_rules_to_a_list_and_back(
    neti: Neti, account: Account, group: str, tmp_path: Path
) -> None:
    """The other kind is there before the first one goes; an unused list is deleted."""
    file = _ranges(tmp_path, ["3.0.0.0/24", "3.0.2.0/24"])
    words = ["aws", "ip-ranges", "--group", group, "--range-region", "us-east-1", "--file", file]
    assert neti(*words).exit_code == 0
    assert neti(*words, "--as", "prefix-list").exit_code == 0
    own = account.lists()["neti-ip-ranges-ipv4"]["PrefixListId"]
    assert _rules(account, group, "tcp") == {own}
    assert neti(*words).exit_code == 0
    assert _rules(account, group, "tcp") == {"3.0.0.0/24", "3.0.2.0/24"}
    assert account.lists() == {}


@pytest.mark.parametrize("kind", ["rules", "prefix-list"])
def test_revert_takes_out_exactly_what_was_put_in(
    neti: Neti, account: Account, group: str, tmp_path: Path, kind: str
) -> None:
    """Foreign rules stay, also one that lets in the very same range."""
    account.allow(group, "203.0.113.7/32", text="office")
    account.ec2.authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[
            {
                "IpProtocol": "tcp",
                "FromPort": 0,
                "ToPort": 65535,
                "IpRanges": [{"CidrIp": "3.0.2.0/24", "Description": "by hand"}],
            }
        ],
    )
    before = account.rules(group)
    file = _ranges(tmp_path, ["3.0.0.0/24", "3.0.2.0/24"])
    words = ["--range-region", "us-east-1", "--file", file, "--as", kind]
    assert neti("aws", "ip-ranges", "--group", group, *words).exit_code == 0
    assert account.rules(group) != before
    result = neti("aws", "ip-ranges", "--group", group, "--revert")
    assert result.exit_code == 0, result.output
    assert account.rules(group) == before
    assert account.lists() == {}
    assert "nothing to change" in neti("aws", "ip-ranges", "--group", group, "--revert").output


@pytest.mark.parametrize("action", ["ModifyManagedPrefixList", "AuthorizeSecurityGroupIngress"])
@pytest.mark.parametrize("then", ["finish", "revert"])
def test_a_run_that_stopped_in_the_middle_is_finished_or_reverted(
    neti: Neti, server: MotoServer, account: Account, group: str, action: str, then: str
) -> None:
    """A list of a hundred entries and no rule yet, or a whole one: both ways out of it work."""
    server.allow_rules(500)
    words = ["aws", "ip-ranges", "--group", group, *US, "--as", "prefix-list", "--quota", "500"]
    server.fail(action, "UnauthorizedOperation", status=403)
    stopped = neti(*words)
    assert stopped.exit_code == 1
    assert "done:         + new prefix list neti-ip-ranges-ipv4 for 212 prefixes" in stopped.output
    assert "not done:     + " + group in stopped.output
    assert "run the same command again" in stopped.output
    server.order("/neti-test/reset")
    server.allow_rules(500)
    if then == "finish":
        assert neti(*words).exit_code == 0
        made = account.lists()["neti-ip-ranges-ipv4"]
        assert len(made["Cidrs"]) == 212
        assert _rules(account, group, "tcp") == {made["PrefixListId"]}
    else:
        assert neti("aws", "ip-ranges", "--group", group, "--revert").exit_code == 0
        assert account.rules(group) == []
        assert account.lists() == {}


def test_foreign_lists_count_too(
    neti: Neti, server: MotoServer, account: Account, group: str, tmp_path: Path
) -> None:
    """A rule that names a list of 50, with one entry in it, leaves room for 10."""
    made = account.ec2.create_managed_prefix_list(
        PrefixListName="office", MaxEntries=50, AddressFamily="IPv4"
    )["PrefixList"]["PrefixListId"]
    account.ec2.authorize_security_group_ingress(
        GroupId=group,
        IpPermissions=[
            {
                "IpProtocol": "tcp",
                "FromPort": 22,
                "ToPort": 22,
                "PrefixListIds": [{"PrefixListId": made}],
            }
        ],
    )
    file = _ranges(tmp_path, [f"3.0.{n}.0/24" for n in range(0, 10, 2)])
    words = ["aws", "ip-ranges", "--group", group, "--range-region", "us-east-1", "--file", file]
    result = neti(*words)
    assert result.exit_code == 1
    assert "would count 61 inbound IPv4 rules (50 now), but its quota is 60" in result.output
    assert neti(*words, "--max-rules", "10").exit_code == 0
    assert made in account.sources(group)


def test_an_unknown_quota_is_an_error_not_a_guess(
    neti: Neti, server: MotoServer, account: Account, group: str
) -> None:
    """Without the right to ask, the number must be given."""
    server.fail("GetServiceQuota", "AccessDeniedException", status=400)
    result = neti("aws", "ip-ranges", "--group", group, *US, "--max-rules", "60")
    assert result.exit_code == 1
    assert "servicequotas:GetServiceQuota" in result.output
    assert "--quota N" in result.output
    assert account.rules(group) == []


def test_an_update_that_fits_only_after_the_old_is_gone_says_so(
    neti: Neti, account: Account, group: str, tmp_path: Path
) -> None:
    """It is refused, and done when the operator takes the gap into account."""
    words = ["aws", "ip-ranges", "--group", group, "--range-region", "us-east-1", "--file"]
    old = _ranges(tmp_path, [f"3.0.{n}.0/24" for n in range(0, 40, 2)])
    assert neti(*words, old).exit_code == 0
    new = _ranges(tmp_path, [f"3.1.{n}.0/24" for n in range(0, 40, 2)])
    refused = neti(*words, new)
    assert refused.exit_code == 1
    assert "--remove-first" in refused.output
    assert neti(*words, new, "--remove-first").exit_code == 0
    assert all(source.startswith("3.1.") for source in _rules(account, group, "tcp"))


def test_a_site_is_its_tagged_groups(
    neti: Neti, account: Account, group: str, tmp_path: Path
) -> None:
    """Within its VPCs; another site's are left alone."""
    other = account.group("other", tags={"neti_site": "vpc"})
    file = _ranges(tmp_path, ["3.0.0.0/24"])
    words = ["--range-region", "us-east-1", "--file", file]
    assert neti("aws", "ip-ranges", "--site", "ec2", *words).exit_code == 0
    assert _rules(account, group, "tcp") == {"3.0.0.0/24"}
    assert account.rules(other) == []
    nowhere = neti("aws", "ip-ranges", "--site", "vpc", *words)
    assert nowhere.exit_code == 1
    assert "no security group tag:neti_site=vpc within vpc-0bb2" in nowhere.output


def test_ipv6_has_a_quota_of_its_own(neti: Neti, account: Account, group: str) -> None:
    """Both families, each widened to fit, each with its ICMP."""
    words = ["--max-rules", "60", "--ipv6"]
    result = neti("aws", "ip-ranges", "--group", group, *US, *words)
    assert result.exit_code == 0, result.output
    assert ("icmpv6", 2, 0, "::/0") in {rule[:4] for rule in account.rules(group)}
    assert len([r for r in account.rules(group) if ":" in r[3]]) == 59


def test_a_list_that_others_use_is_not_changed_behind_them(
    neti: Neti, account: Account, group: str, tmp_path: Path
) -> None:
    """A second group with other ranges would change the first one's."""
    second = account.group("second")
    words = ["--range-region", "us-east-1", "--as", "prefix-list", "--file"]
    one, two = _ranges(tmp_path, ["3.0.0.0/24"]), ["3.2.0.0/24"]
    assert neti("aws", "ip-ranges", "--group", group, *words, one).exit_code == 0
    assert neti("aws", "ip-ranges", "--group", second, *words, one).exit_code == 0
    refused = neti("aws", "ip-ranges", "--group", second, *words, _ranges(tmp_path, two))
    assert refused.exit_code == 1
    assert "Name all of them with --group" in refused.output
    assert neti("aws", "ip-ranges", "--group", second, "--revert").exit_code == 0
    assert account.lists()["neti-ip-ranges-ipv4"]["Cidrs"] == {"3.0.0.0/24"}
    assert account.rules(second) == []


def test_rules_that_somebody_else_removed_or_added_in_between(
    neti: Neti, account: Account, group: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look and the call one rule of a batch was added and one removed by others: the
    rest of each batch is done all the same."""
    from neti.aws.apply import Applier, Outcome
    from neti.aws.changes import Change

    words = ["aws", "ip-ranges", "--group", group, "--range-region", "us-east-1", "--file"]
    old = _ranges(tmp_path, ["3.0.0.0/24", "3.0.2.0/24", "3.0.4.0/24"])
    assert neti(*words, old, "--protocol", "tcp").exit_code == 0
    real = Applier.apply

    def meddled(applier: Applier, changes: Sequence[Change]) -> Outcome:
        account.ec2.revoke_security_group_ingress(
            GroupId=group,
            IpPermissions=[
                {
                    "IpProtocol": "tcp",
                    "FromPort": 0,
                    "ToPort": 65535,
                    "IpRanges": [{"CidrIp": "3.0.0.0/24"}],
                }
            ],
        )
        account.ec2.authorize_security_group_ingress(
            GroupId=group,
            IpPermissions=[
                {
                    "IpProtocol": "tcp",
                    "FromPort": 0,
                    "ToPort": 65535,
                    "IpRanges": [{"CidrIp": "3.1.0.0/24"}],
                }
            ],
        )
        return real(applier, changes)

    monkeypatch.setattr(Applier, "apply", meddled)
    new = _ranges(tmp_path, ["3.1.0.0/24", "3.1.2.0/24"])
    result = neti(*words, new, "--protocol", "tcp")
    assert result.exit_code == 0, result.output
    assert "3 changes done, 2 changes already done by somebody else" in result.output
    assert _rules(account, group, "tcp") == {"3.1.0.0/24", "3.1.2.0/24"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--range-region", "us-east-1"], "which groups?"),
        (["--group", "sg-0a"], "which of AWS's ranges?"),
        (["--group", "sg-0a", "--follow", "5", "--range-region", "all"], "goes with --fleet"),
        (["--group", "sg-0a", "--range-region", "all", "--ports", "9-1"], "FIRST-LAST"),
        (["--group", "sg-0a", *US, "--protocol", "all", "--ports", "443"], "--ports has no effect"),
        (["--group", "sg-0a", "--fleet", "--ipv6"], "--ipv6 chooses"),
        (["--group", "sg-0a", "--fleet", "--range-region", "all"], "--range-region chooses"),
        (["--group", "sg-0a", "--fleet", "--border-group", "x"], "--border-group chooses"),
        (["--group", "sg-0a", "--fleet", "--service", "EC2"], "--service chooses"),
        (["--group", "sg-0a", "--fleet", "--file", FILE], "--file chooses"),
        (["--group", "sg-0a", *US, "--allow-removals"], "needs --fleet"),
        (["--group", "sg-0a", "--revert", "--remove-first"], "--remove-first says how"),
        (["--group", "sg-0a", "--revert", "--as", "prefix-list"], "--as says how"),
        (["--group", "sg-0a", "--revert", "--max-rules", "9"], "--max-rules says how"),
    ],
)
def test_half_a_command_is_refused(neti: Neti, words: list[str], said: str) -> None:
    """Nothing is guessed, and nobody is asked."""
    result = neti("aws", "ip-ranges", *words)
    assert result.exit_code == 2
    assert said in result.output


def test_too_few_rules_are_refused(neti: Neti, account: Account, group: str) -> None:
    """A prefix for tcp and udp and one rule for ICMP are three."""
    result = neti("aws", "ip-ranges", "--group", group, *US, "--max-rules", "2")
    assert result.exit_code == 1
    assert "is too few" in result.output


def test_a_deleted_groups_list_can_be_taken_out(
    neti: Neti, account: Account, group: str, tmp_path: Path
) -> None:
    """The list was for that group alone, and no other command of Neti's would ever find it."""
    file = _ranges(tmp_path, ["3.0.0.0/24"])
    words = ["--range-region", "us-east-1", "--file", file, "--as", "prefix-list"]
    assert neti("aws", "ip-ranges", "--group", group, *words).exit_code == 0
    account.ec2.delete_security_group(GroupId=group)
    assert neti("aws", "ip-ranges", "--group", group, *words).exit_code == 1
    result = neti("aws", "ip-ranges", "--group", group, "--revert")
    assert result.exit_code == 0, result.output
    assert f"no security group {group}" in result.output
    assert account.lists() == {}

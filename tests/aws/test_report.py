"""``neti aws report``: who runs Neti and why not, in two accounts, and its exit code."""

import csv
import io
import json
from pathlib import Path

import pytest
from tests.aws.conftest import Members, Neti
from tests.support.aws import Account, MotoServer

ROLES = ("arn:aws:iam::111111111111:role/neti", "arn:aws:iam::222222222222:role/neti")


def _joined(members: Members, account: Account, instance: str, **more: str) -> str:
    private, public = account.addresses(instance)
    return str(members.join(instance, private, public, **more))


def test_every_instance_with_the_reason_where_not(
    neti: Neti, account: Account, members: Members
) -> None:
    """One instance for each thing that may be wrong with it."""
    group = account.group("web")
    fine, silent, moved, tagged, gone, no_public, zk = account.instances(7, group, name="web")
    account.name(zk, "zk-1")
    overlay = _joined(members, account, fine)
    members.join(moved, "10.99.0.1", account.addresses(moved)[1])
    account.ec2.create_tags(
        Resources=[tagged], Tags=[{"Key": "overlay_ip", "Value": "192.168.1.1"}]
    )
    _joined(members, account, gone)
    members.vanish(gone)
    members.join(no_public, account.addresses(no_public)[0], None)
    told = json.loads(neti("aws", "report", "--json", "--exclude", "zk-*").stdout)
    why = {row["id"]: row["why"] for row in told["instances"]}
    assert why[fine] is None
    assert why[silent] == "no agent"
    assert why[moved].startswith("registered with other addresses: 10.99.0.1")
    assert (
        why[tagged] == "stale registration: it has the tag 192.168.1.1, but no agent is registered"
    )
    assert why[gone].startswith("stale registration: it holds the lease of 192.168.")
    assert why[no_public] == "registered without its public address"
    assert why[zk] == "excluded by name; no agent"
    row = next(row for row in told["instances"] if row["id"] == fine)
    assert (row["overlay"], row["version"], row["stage"]) == (overlay, "0.1.0", "shadow")
    assert (row["site"], row["region"]) == ("ec2", "us-east-1")
    assert told["totals"]["ec2"] == {
        "instances": 6,
        "in_neti": 1,
        "excluded": 1,
        "percent": 16.67,
    }


def test_names_are_sorted_as_people_count(neti: Neti, account: Account) -> None:
    """Unlike in 2014, when host 10 was taken for host 1."""
    account.instances(11, account.group("web"), name="web")
    result = neti("aws", "report", "--names-only")
    assert result.stdout.split() == [f"web-{number}" for number in range(1, 12)]


def test_two_accounts_and_regions_and_both_sites(
    neti: Neti, server: MotoServer, config: Path, members: Members
) -> None:
    """Each place is asked; each site has its total; overlays can be piped on."""
    old = Account.of(server.url, "us-east-1", ROLES[0])
    new = Account.of(server.url, "eu-west-1", ROLES[1])
    text = config.read_text().replace("vpc-0bb2", new.vpc_id)
    config.write_text(text.replace("ec2: {vpc_ids: [", f"ec2: {{vpc_ids: [{old.vpc_id}, "))
    first = old.instances(1, old.group("web"), name="old")[0]
    second = new.instances(2, new.group("web"), name="new")
    overlay = _joined(members, old, first)
    _joined(members, new, second[0], site="vpc")
    members.join("db-1", "10.50.0.1", "198.51.100.77", site="vpc")
    where = [w for role in ROLES for w in ("--role-arn", role)]
    where += ["--region", "us-east-1", "--region", "eu-west-1"]
    told = json.loads(neti("aws", "report", *where, "--json").stdout)
    assert {row["name"]: row["account"] for row in told["instances"]} == {
        "old-1": ROLES[0],
        "new-1": ROLES[1],
        "new-2": ROLES[1],
    }
    assert told["totals"]["ec2"]["percent"] == 100.0
    assert told["totals"]["vpc"]["percent"] == 50.0
    assert told["totals"]["all"] == {"instances": 3, "in_neti": 2, "excluded": 0, "percent": 66.67}
    assert [m["id"] for m in told["registered_elsewhere"]] == ["db-1"]
    overlays = neti("aws", "report", *where, "--site", "ec2", "--in-neti", "--overlays-only")
    assert overlays.stdout.split() == [overlay]


def test_a_role_is_assumed_in_the_region_that_was_given(
    neti: Neti, server: MotoServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else on the operators' machine says where."""
    there = Account.of(server.url, "us-east-1", ROLES[0])
    there.instances(1, there.group("web"), name="web")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    words = ["--role-arn", ROLES[0], "--region", "us-east-1", "--names-only"]
    result = neti("aws", "report", *words)
    assert result.exit_code == 0, result.output
    assert result.stdout.split() == ["web-1"]


def test_a_role_that_may_not_be_assumed_is_named(neti: Neti, server: MotoServer) -> None:
    """Both things that it takes, and not a call that was never made."""
    server.fail("AssumeRole", "AccessDenied", status=403)
    result = neti("aws", "report", "--role-arn", ROLES[0])
    assert result.exit_code == 1
    assert f"us-east-1 ({ROLES[0]}): AssumeRole is not allowed" in result.stderr
    assert f"The trust policy of {ROLES[0]} must name the caller" in result.stderr
    assert f'"Action": "sts:AssumeRole", "Resource": "{ROLES[0]}"' in result.stderr
    assert "DescribeInstances" not in result.stderr
    server.reset()
    server.fail("AssumeRole", "ExpiredToken", status=403)
    expired = neti("aws", "report", "--role-arn", ROLES[0])
    assert "AssumeRole was refused because of its credentials" in expired.stderr


@pytest.mark.parametrize(
    "arn", ["neti", "arn:aws:iam::1:role/neti", "arn:aws:iam::111111111111:user/x"]
)
def test_what_names_no_role_is_refused(neti: Neti, server: MotoServer, arn: str) -> None:
    """Before anything is asked."""
    before = len(server.calls())
    result = neti("aws", "report", "--role-arn", arn)
    assert result.exit_code == 1
    assert f"--role-arn '{arn}' is not a role's ARN" in result.stderr
    assert len(server.calls()) == before


def test_the_exit_code_says_when_all_are_in(neti: Neti, account: Account, members: Members) -> None:
    """For a script before the cut-over; without an instance nothing is proved."""
    assert neti("aws", "report", "--fail-below", "100").exit_code == 1
    ids = account.instances(2, account.group("web"), name="web")
    _joined(members, account, ids[0])
    short = neti("aws", "report", "--fail-below", "100")
    assert short.exit_code == 1
    assert "ec2: 1 of 2 in Neti (50.0 %), but --fail-below wants 100 %" in short.stderr
    assert neti("aws", "report", "--fail-below", "50").exit_code == 0
    assert neti("aws", "report", "--fail-below", "100", "--exclude", "web-2").exit_code == 0
    _joined(members, account, ids[1])
    assert neti("aws", "report", "--fail-below", "100").exit_code == 0


def test_who_is_left_and_who_is_old(neti: Neti, account: Account, members: Members) -> None:
    """The lists that roll-outs are driven by."""
    ids = account.instances(3, account.group("web"), name="web")
    _joined(members, account, ids[0], version="0.9.0")
    _joined(members, account, ids[1], version="0.10.0")
    assert neti("aws", "report", "--not-in-neti", "--names-only").stdout.split() == ["web-3"]
    below = neti("aws", "report", "--below-version", "0.10", "--names-only")
    assert below.stdout.split() == ["web-1"]


def test_one_site_is_judged_by_itself(neti: Neti, account: Account, members: Members) -> None:
    """Its totals, its exit code, its members elsewhere: another site's gaps are not its own."""
    members.join("db-1", "10.50.0.1", "198.51.100.77", site="vpc")
    account.instances(1, account.group("web"), name="web")
    told = json.loads(neti("aws", "report", "--site", "ec2", "--json").stdout)
    assert list(told["totals"]) == ["ec2"]
    assert told["registered_elsewhere"] == []
    short = neti("aws", "report", "--site", "vpc", "--fail-below", "100")
    assert short.exit_code == 1  # nothing is there, which proves nothing
    assert short.stderr.startswith("neti: vpc: 0 of 0 in Neti")
    assert "ec2" not in short.output
    other = account.instances(1, account.group("db"), name="db")[0]
    _joined(members, account, other, site="vpc")
    assert neti("aws", "report", "--site", "vpc", "--fail-below", "100").exit_code == 0
    assert neti("aws", "report", "--site", "ec2", "--fail-below", "100").exit_code == 1
    assert neti("aws", "report", "--site", "?").stdout.endswith(
        "?: 0 of 0 in Neti (no machines to count)\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--site", "nonsense"], "--site 'nonsense': expected one of the sites: ec2, vpc, ?"),
        (["--below-version", "banana"], "--below-version 'banana': expected numbers with dots"),
        (["--in-neti", "--not-in-neti"], "--in-neti and --not-in-neti cannot be used together"),
        (["--json", "--csv"], "--json and --csv cannot be used together"),
        (["--names-only", "--json"], "--json and --names-only cannot be used together"),
        (["--names-only", "--overlays-only"], "--names-only and --overlays-only cannot"),
    ],
)
def test_a_question_that_has_no_answer_is_refused(
    neti: Neti, server: MotoServer, words: list[str], said: str
) -> None:
    """An empty table would look as if nobody were left; nobody is asked."""
    before = len(server.calls())
    result = neti("aws", "report", *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert len(server.calls()) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--site", "nonsense"], "--site 'nonsense': expected one of the sites: ec2, vpc"),
        (["--below-version", "banana"], "--below-version 'banana': expected numbers with dots"),
        (["--version-below", "0.2rc1"], "--below-version '0.2rc1': expected numbers with dots"),
    ],
)
def test_the_fleets_list_refuses_the_same(
    neti: Neti, members: Members, words: list[str], said: str
) -> None:
    """A site that only the registry knows is none: no agent believes who is in it."""
    members.join("db-1", "10.50.0.1", None, site="moon", version="0.\N{SUPERSCRIPT TWO}")
    result = neti("fleet", *words)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "site 'moon'" in neti("fleet", "--skipped").stdout


def test_csv_is_safe_to_open(neti: Neti, account: Account) -> None:
    """A name that begins as a formula does is text, and one with a comma is one field."""
    ids = account.instances(2, account.group("web"))
    account.name(ids[0], '=HYPERLINK("x")')
    account.name(ids[1], "a,b")
    rows = list(csv.DictReader(io.StringIO(neti("aws", "report", "--csv").stdout)))
    assert {row["id"]: row["name"] for row in rows} == {ids[0]: '\'=HYPERLINK("x")', ids[1]: "a,b"}
    assert {row["in_neti"] for row in rows} == {"False"}


def test_a_place_that_cannot_be_asked_is_no_half_report(neti: Neti, server: MotoServer) -> None:
    """The statement that would allow it is printed with the place and the call."""
    message = "You are not authorized. Encoded authorization failure message: " + "x" * 900
    server.fail("DescribeInstances", "UnauthorizedOperation", message=message, status=403)
    result = neti("aws", "report")
    assert result.exit_code == 1
    assert "us-east-1 (default): DescribeInstances is not allowed" in result.stderr
    assert (
        '{"Effect": "Allow", "Action": "ec2:DescribeInstances", "Resource": "*"}' in result.stderr
    )
    assert "xxx" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("variables", "words", "said"),
    [
        ({"AWS_DEFAULT_REGION": None}, [], "give --region"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, [], "give --profile NAME"),
        ({}, ["--profile", "nobody"], "AWS profile nobody"),
        ({}, ["--profile", "a", "--profile", "b", "--role-arn", "arn:x"], "at most one --profile"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, [], "got no answer"),
    ],
)
def test_how_to_be_let_in_is_said(
    neti: Neti,
    server: MotoServer,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str | None],
    words: list[str],
    said: str,
) -> None:
    """No region, no credentials, no such profile, nobody there: each in one sentence."""
    for name, value in variables.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    result = neti("aws", "report", *words)
    assert result.exit_code == 1
    assert said in result.stderr


def test_an_agent_of_unknown_version_is_below_any(
    neti: Neti, account: Account, members: Members
) -> None:
    """The same by both commands and by either name of the option; without an agent there is none
    to upgrade."""
    old, odd, new, none = account.instances(4, account.group("web"), name="web")
    for instance, version in ((old, "0.1.0"), (odd, ""), (new, "0.3.0")):
        _joined(members, account, instance, version=version)
    for option in ("--below-version", "--version-below"):
        words = ["aws", "report", option, "0.2", "--json"]
        told = json.loads(neti(*words).stdout)
        assert {row["id"] for row in told["instances"]} == {old, odd}
        told = json.loads(neti("fleet", option, "0.2", "--json").stdout)
        assert {row["id"] for row in told["members"]} == {old, odd}
    assert none


def test_a_hundred_disbelieved_entries_hide_nobody(
    neti: Neti, account: Account, members: Members, config: Path
) -> None:
    """Each of them has an agent: to restart it would be the wrong thing to do."""
    text = config.read_text()
    config.write_text(text.replace("ec2: {vpc_ids", "ec2: {private: [172.16.0.0/12], vpc_ids"))
    odd = account.instances(3, account.group("web"), name="web")
    for number in range(130):
        members.join(f"x-{number}", f"10.99.0.{number}", None)
    for number, instance in enumerate(odd):
        members.join(instance, f"10.99.1.{number}", None)
    told = json.loads(neti("aws", "report", "--json").stdout)
    for row in told["instances"]:
        assert row["why"].startswith("its entry is not believed: "), row
        assert "10.99.1." in row["why"]


def test_every_region_that_the_account_has(neti: Neti, server: MotoServer) -> None:
    """By a word, and each instance once, with the number of its account."""
    for region in ("us-east-1", "eu-west-1"):
        there = Account.of(server.url, region, ROLES[0])
        there.instances(1, there.group("web"), name=f"web-{region}")
    told = json.loads(
        neti("aws", "report", "--role-arn", ROLES[0], "--region", "all", "--json").stdout
    )
    found = {row["name"]: row["region"] for row in told["instances"]}
    assert found == {"web-us-east-1-1": "us-east-1", "web-eu-west-1-1": "eu-west-1"}
    number = ROLES[0].split(":")[4]
    assert {row["account_number"] for row in told["instances"]} == {number}


def test_one_vpc_and_one_tag(neti: Neti, account: Account, server: MotoServer) -> None:
    """In the totals too."""
    account.instances(2, account.group("web"), name="web")
    words = ["aws", "report", "--json", "--vpc", account.vpc_id]
    assert json.loads(neti(*words).stdout)["totals"]["all"]["instances"] == 2
    assert not json.loads(neti(*words, "--tag", "Name=web-9").stdout)["instances"]
    named = neti(*words[:2], "--vpc", account.vpc_id, "--tag", "Name=web-2", "--names-only")
    assert named.stdout.split() == ["web-2"]
    assert not neti(*words[:2], "--vpc", "vpc-0cc3", "--ids-only").stdout

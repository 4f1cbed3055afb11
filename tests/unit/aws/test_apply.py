"""Carrying changes out: what was done is known at every moment, whatever AWS answers."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from neti.aws.apply import Applier, Outcome, summary
from neti.aws.calls import Place
from neti.aws.changes import Change, additions
from neti.aws.groups import Group, Rule, difference, parse, permissions
from neti.aws.lists import PrefixList, plan
from neti.aws.refusals import refusal, resource_of
from neti.aws.weights import ListWeight, list_weight, weight
from neti.errors import AwsRefused, AwsUnavailable

HERE = Place("default", "us-east-1")
Answer = Callable[[Mapping[str, Any]], Any]


@dataclass
class Scripted:
    """Answers calls by operation; what is not scripted succeeds."""

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    made: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    @property
    def place(self) -> Place:
        return HERE

    @property
    def answered_at(self) -> float | None:
        return None

    def call(
        self, operation: str, parameters: Mapping[str, Any], *, service: str = "ec2"
    ) -> dict[str, Any]:
        self.made.append((operation, parameters))
        script = self.answers.get(operation)
        answer: dict[str, Any] = script.pop(0)(parameters) if script else {}
        return answer

    def pages(self, operation: str, parameters: Mapping[str, Any], key: str) -> Iterator[Any]:
        yield from self.call(operation, parameters)[key]


def _raises(error: BaseException) -> Answer:
    def answer(_parameters: Mapping[str, Any]) -> Any:
        raise error

    return answer


def _refused(code: str) -> Answer:
    return _raises(refusal(HERE, "ec2", "authorize_security_group_ingress", code, "no"))


def _rules(count: int) -> list[Rule]:
    return [
        Rule(protocol="tcp", first=1, last=2, source=f"198.51.100.{n}/32") for n in range(count)
    ]


GROUP = Group(place=HERE, id="sg-1")


def _apply(script: Scripted, changes: list[Change], **more: Any) -> Outcome:
    return Applier(places={HERE: script}, **more).apply(changes)


def test_batches_of_fifty_in_order() -> None:
    """120 rules are three calls."""
    script = Scripted()
    outcome = _apply(script, additions(GROUP, _rules(120)))
    assert [len(p["IpPermissions"][0]["IpRanges"]) for _, p in script.made] == [50, 50, 20]
    assert len(outcome.done) == 3
    assert summary(outcome) == ["120 changes done"]


def test_a_duplicate_in_a_batch_is_found_by_single_steps() -> None:
    """AWS refuses the batch whole; the others are added one by one."""
    ok: Answer = lambda _parameters: {}  # noqa: E731 -- a line in a script
    duplicate = _refused("InvalidPermission.Duplicate")
    script = Scripted({"authorize_security_group_ingress": [duplicate, ok, duplicate, ok]})
    outcome = _apply(script, additions(GROUP, _rules(3)))
    assert (len(outcome.done), len(outcome.already), outcome.failed) == (2, 1, None)
    assert summary(outcome) == ["2 changes done, 1 change already done by somebody else"]


def test_a_refusal_in_the_middle_of_a_batch_leaves_nothing_unsaid() -> None:
    """Done, not done, and what was never tried, each by its line."""
    ok: Answer = lambda _parameters: {}  # noqa: E731  # a line in a script
    duplicate = _refused("InvalidPermission.Duplicate")
    full = _refused("RulesPerSecurityGroupLimitExceeded")
    script = Scripted({"authorize_security_group_ingress": [duplicate, ok, full]})
    lines = summary(_apply(script, additions(GROUP, _rules(3))))
    assert lines[0].startswith("stopped: ")
    assert lines[2:5] == [
        "done:         + sg-1: tcp 1-2 from 198.51.100.0/32",
        "not done:     + sg-1: tcp 1-2 from 198.51.100.1/32",
        "not done:     + sg-1: tcp 1-2 from 198.51.100.2/32",
    ]
    assert "RulesPerSecurityGroupLimitExceeded" in lines[0]
    assert "run the same command again" in lines[5]


@pytest.mark.parametrize("error", [AwsUnavailable("no answer"), KeyboardInterrupt()])
def test_what_may_have_happened_is_called_so(error: BaseException) -> None:
    """A connection that broke, and Ctrl-C: the call may have arrived."""
    script = Scripted({"authorize_security_group_ingress": [_raises(error)]})
    outcome = _apply(script, additions(GROUP, _rules(60)))
    assert outcome.unknown
    assert len(outcome.left) == 1
    lines = summary(outcome)
    assert lines[0].startswith("stopped: ")
    assert lines[2].startswith("perhaps done: + sg-1")
    assert lines[5].endswith("and 47 more by the same call")
    assert len(lines) < 12


def test_throttling_after_all_retries_may_have_happened_too() -> None:
    """And the way out of it is named."""
    code, said = "RequestLimitExceeded", "Request limit exceeded."
    error = refusal(HERE, "ec2", "revoke_security_group_ingress", code, said)
    assert isinstance(error, AwsUnavailable)
    assert "--sleep" in str(error)
    for operation in ("create_tags", "describe_instances"):  # whose commands have no such option
        assert "--sleep" not in str(refusal(HERE, "ec2", operation, code, said))


def test_calls_are_spread_but_the_first_does_not_wait() -> None:
    """--sleep is between calls."""
    waits: list[float] = []
    _apply(Scripted(), additions(GROUP, _rules(120)), pause=2.5, sleep=waits.append)
    assert waits == [2.5, 2.5]


def _state(state: str, version: int, **more: str) -> dict[str, Any]:
    return {"PrefixListId": "pl-1", "State": state, "Version": version, **more}


def test_a_list_is_awaited_and_its_version_taken_from_aws() -> None:
    """AWS changes a list behind the answer, and refuses the next change before it is through."""
    wanted = {f"198.51.{n}.0/24": "" for n in range(150)}
    planned = plan(None, wanted, place=HERE, name="neti-x", family=4)
    script = Scripted(
        {
            "create_managed_prefix_list": [
                lambda _p: {"PrefixList": _state("create-in-progress", 1)}
            ],
            "describe_managed_prefix_lists": [
                lambda _p: {"PrefixLists": [_state("create-in-progress", 1)]},
                lambda _p: {"PrefixLists": [_state("create-complete", 7)]},
            ],
            "modify_managed_prefix_list": [lambda _p: {"PrefixList": _state("modify-complete", 8)}],
        }
    )
    waits: list[float] = []
    outcome = _apply(script, list(planned.before), sleep=waits.append)
    assert outcome.failed is None
    assert waits == [1.0, 1.0]
    last = script.made[-1][1]
    assert (last["PrefixListId"], last["CurrentVersion"]) == ("pl-1", 7)
    assert len(last["AddEntries"]) == 50


def test_a_list_that_failed_says_why() -> None:
    """AWS finds out late that a group's quota does not hold a longer list."""
    held = PrefixList(
        place=HERE, id="pl-1", name="n", family=4, version=3, max_entries=1, entries={}
    )
    planned = plan(held, {"3.0.0.0/24": "", "3.1.0.0/24": ""}, place=HERE, name="n", family=4)
    failed = _state("modify-failed", 3, StateMessage="The group sg-9 is full")
    script = Scripted({"modify_managed_prefix_list": [lambda _p: {"PrefixList": failed}]})
    outcome = _apply(script, list(planned.before))
    assert "The group sg-9 is full" in str(outcome.error)
    assert len(outcome.left) == 1


def test_a_list_that_never_ends_is_not_awaited_for_ever() -> None:
    """Two minutes, then the operator decides."""
    held = PrefixList(
        place=HERE, id="pl-1", name="n", family=4, version=3, max_entries=5, entries={}
    )
    planned = plan(held, {"3.0.0.0/24": ""}, place=HERE, name="n", family=4)
    busy = _state("modify-in-progress", 3)
    script = Scripted(
        {
            "modify_managed_prefix_list": [lambda _p: {"PrefixList": busy}],
            "describe_managed_prefix_lists": [lambda _p: {"PrefixLists": [busy]}] * 500,
        }
    )
    waits: list[float] = []
    outcome = _apply(script, list(planned.before), sleep=waits.append)
    assert outcome.unknown
    assert sum(waits) == 120


def test_more_than_a_hundred_changes_of_a_list_add_before_they_remove() -> None:
    """So that nobody is kept out in between; the list is longer for that while."""
    held = PrefixList(
        place=HERE,
        id="pl-1",
        name="n",
        family=4,
        version=3,
        max_entries=80,
        entries={f"3.0.{n}.0/24": "" for n in range(80)},
    )
    wanted = {f"3.1.{n}.0/24": "" for n in range(70)}
    planned = plan(held, wanted, place=HERE, name="n", family=4)
    assert planned.longest == 150
    kinds = [sorted(c.parameters.keys() - {"PrefixListId"}) for c in planned.before]
    assert kinds == [["MaxEntries"], ["AddEntries", "CurrentVersion"]]
    kinds = [sorted(c.parameters.keys() - {"PrefixListId"}) for c in planned.after]
    assert kinds == [["CurrentVersion", "RemoveEntries"], ["MaxEntries"]]
    assert planned.after[-1].parameters["MaxEntries"] == 70


def test_a_change_prints_as_a_command_for_awss_own_tool() -> None:
    """What is shown is what is called."""
    text = str(additions(GROUP, _rules(1))[0])
    assert text.startswith("aws ec2 authorize-security-group-ingress --region us-east-1 ")
    assert '"GroupId": "sg-1"' in text
    assert '"CidrIp": "198.51.100.0/32"' in text


def test_rules_are_read_back_as_they_were_written() -> None:
    """Every kind of source, ICMP, and everything at once."""
    rules = [
        Rule(
            protocol="tcp", first=0, last=65535, source="198.51.100.0/24", description="neti x: a"
        ),
        Rule(protocol="udp", first=53, last=53, source="2001:db8::/32"),
        Rule(protocol="icmp", first=3, last=4, source="0.0.0.0/0"),
        Rule(protocol="-1", first=-1, last=-1, source="sg-0aa1"),
        Rule(protocol="tcp", first=22, last=22, source="pl-0bb2", description="lists"),
    ]
    document = {"GroupId": "sg-1", "IpPermissions": permissions(rules)}
    group = parse(document, HERE)
    assert set(group.rules) == set(rules)
    assert {r.description for r in group.rules} == {r.description for r in rules}
    assert difference(group, rules, "neti x").add == ()


def test_what_a_rule_counts() -> None:
    """Lists by their size, groups in both families, AWS's own lists by their documented weight."""
    cloudfront = {"PrefixListName": "com.amazonaws.global.cloudfront.origin-facing"}
    lists = {
        "pl-1": ListWeight(4, 30),
        "pl-2": ListWeight(6, 7),
        "pl-3": list_weight({"AddressFamily": "IPv4", **cloudfront}),
        "pl-4": list_weight({"AddressFamily": "IPv4", "PrefixListName": "com.amazonaws.x.s3"}),
    }
    sources = ["10.0.0.0/8", "2001:db8::/32", "sg-1", "pl-1", "pl-2", "pl-3", "pl-4"]
    rules = [Rule(protocol="tcp", first=1, last=1, source=source) for source in sources]
    assert weight(rules, lists) == {4: 1 + 1 + 30 + 55 + 1, 6: 1 + 1 + 7}


def test_a_refusal_of_the_credentials_says_where_to_look() -> None:
    """Not every code is a permission."""
    error = refusal(HERE, "ec2", "describe_instances", "RequestExpired", "Request has expired.")
    assert isinstance(error, AwsRefused)
    assert "clock" in str(error)


_ACTION = "You are not authorized to perform this operation. User: arn:aws:sts::1:assumed-role/r/a "
_ACTION += "is not authorized to perform: ec2:RevokeSecurityGroupIngress on resource: "
_ACTION += "arn:aws:ec2:us-east-1:1:security-group/sg-0aa1 "


@pytest.mark.parametrize(
    ("reason", "said", "statement"),
    [
        (
            "with an explicit deny in an SCP. Encoded authorization failure message: abcdef",
            "An explicit deny in SCP forbids it, so a statement that allows",
            False,
        ),
        (
            "because no identity-based policy allows the ec2:RevokeSecurityGroupIngress action",
            "This statement would allow it, unless another policy denies it",
            True,
        ),
        (
            "because no permissions boundary allows the ec2:RevokeSecurityGroupIngress action",
            "No permissions boundary allows it. This statement is needed there",
            True,
        ),
    ],
)
def test_a_refusal_gives_awss_own_reason_and_a_statement_only_where_one_helps(
    reason: str, said: str, statement: bool
) -> None:
    """With the resource that AWS named, and not with all there are."""
    error = str(
        refusal(
            HERE,
            "ec2",
            "revoke_security_group_ingress",
            "UnauthorizedOperation",
            _ACTION + reason,
        )
    )
    assert "is not authorized to perform: ec2:RevokeSecurityGroupIngress" in error
    assert "abcdef" not in error
    assert said in error
    wanted = '"Resource": "arn:aws:ec2:us-east-1:1:security-group/sg-0aa1"'
    assert (wanted in error) == statement
    assert ('"Effect": "Allow"' in error) == statement


def test_a_refusal_without_a_reason_names_what_the_call_was_about() -> None:
    """Older answers say no more than that."""
    parameters = {"GroupId": "sg-0aa1", "IpPermissions": []}
    resource = resource_of(parameters, "us-gov-west-1")
    error = refusal(HERE, "ec2", "x", "UnauthorizedOperation", "You are not authorized.", resource)
    assert '"Resource": "arn:aws-us-gov:ec2:us-gov-west-1:*:security-group/sg-0aa1"' in str(error)
    assert resource_of({"Filters": []}, "us-east-1") is None


def test_a_region_that_is_not_enabled_and_a_role_that_wants_a_code() -> None:
    """Both look like wrong credentials."""
    said = "AWS was not able to validate the provided access credentials"
    assert "the region us-east-1 is enabled" in str(
        refusal(HERE, "ec2", "describe_instances", "AuthFailure", said)
    )
    assert "Enable the region" in str(refusal(HERE, "ec2", "x", "OptInRequired", "You are not"))
    mfa = "MultiFactorAuthentication failed with invalid MFA one time pass code."
    assert "mfa_serial" in str(refusal(HERE, "sts", "assume_role", "AccessDenied", mfa))

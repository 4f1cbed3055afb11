"""Credentials and endpoints that are wrong, as an operator has them: one sentence, no traceback."""

import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.aws.conftest import Members, Neti
from tests.support.aws import Account, MotoServer

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing"}
PROFILE = "[profile p]\n"
SSO = "sso_start_url = https://x.invalid/start\nsso_region = us-east-1\nsso_role_name = r\n"
SSO += "sso_account_id = 111111111111"


@pytest.mark.parametrize(
    ("variables", "profile", "words", "said"),
    [
        (KEYS, "", ["--region", ""], "'' is not an AWS region"),
        (KEYS, "", ["--region", "us east-1"], "Set one such as us-east-1"),
        ({}, "credential_process = /nope/x", ["--profile", "p"], "'/nope/x'"),
        ({}, "credential_process = /bin/echo []", ["--profile", "p"], "profile in ~/.aws/config"),
        ({}, 'credential_process = /bin/echo "x', ["--profile", "p"], "No closing quotation"),
        (
            {},
            "credential_process = /nope/x",
            ["--profile", "p", "--role-arn", "arn:aws:iam::111111111111:role/x"],
            "'/nope/x'",
        ),
        ({}, "", ["--profile", "q"], "The config profile (q) could not be found"),
        ({**KEYS, "AWS_ENDPOINT_URL": "foo"}, "", [], "Invalid endpoint: foo"),
        ({**KEYS, "AWS_ENDPOINT_URL": "http://h:port"}, "", [], "Port could not be cast"),
        ({**KEYS, "AWS_SESSION_TOKEN": "SECRET\nx"}, "", [], "a key or token contains characters"),
        ({"AWS_ACCESS_KEY_ID": "x"}, "", [], "missing: AWS_SECRET_ACCESS_KEY"),
        (
            {},
            SSO,
            ["--profile", "p"],
            "'aws sso login --profile p'",
        ),
        ({**KEYS, "AWS_DEFAULT_REGION": ""}, "", [], "no AWS region for the account default"),
    ],
)
def test_one_sentence(
    neti: Neti,
    server: MotoServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    profile: str,
    words: list[str],
    said: str,
) -> None:
    """Also where the SDK itself lets a bare exception of Python's through."""
    assert server.url
    path = tmp_path / "config"
    path.write_text(PROFILE + profile + "\n")
    for name in KEYS:
        monkeypatch.delenv(name)
    for name, value in {"AWS_CONFIG_FILE": str(path), **variables}.items():
        monkeypatch.setenv(name, value)
    result = neti("aws", "report", *words)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    assert said in result.stderr
    assert "SECRET\\" not in result.stderr
    # A machine that is very busy makes the endpoint look silent, which is said as well.
    said_why = [line for line in result.stderr.splitlines() if "Still trying" not in line]
    assert len(said_why) == 1


def test_the_region_of_either_variable_counts(
    neti: Neti, server: MotoServer, account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names AWS_REGION, which boto3 itself does not read."""
    account.instances(1, account.group("web"), name="web")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    assert neti("aws", "report", "--names-only").stdout.split() == ["web-1"]


def test_an_endpoint_that_never_answers_is_heard_of_within_seconds(config: Path) -> None:
    """It takes the request and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        environment = {
            **os.environ,
            **KEYS,
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }
        command = [sys.executable, "-m", "neti", "aws", "report", "--config", str(config)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, env=environment, text=True) as run:
            late = threading.Timer(60, run.kill)
            late.start()
            first = run.stderr.readline() if run.stderr is not None else ""
            late.cancel()
            run.kill()
    assert "DescribeInstances has had no answer for 5 s. Still trying" in first


def test_following_says_what_changes_and_no_more(
    neti: Neti,
    account: Account,
    members: Members,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Turns of which nothing comes are not in the log; a failure is there once, and its end."""
    group = account.group("web")
    for number in (1, 2):
        members.join(f"vpc-{number}", f"10.21.0.{number}", f"198.51.100.{number}", site="vpc")
    turns = iter(range(1, 100))

    def turn(_seconds: float) -> None:
        match next(turns):
            case 3:
                account.ec2.delete_security_group(GroupId=group)
            case 6:
                raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", turn)
    result = neti("aws", "ip-ranges", "--group", group, "--fleet", "--follow", "1")
    assert result.stdout.count("IPv4: 2 prefixes") == 1
    assert "nothing to change" not in result.output
    assert result.stderr.count(f"there is no security group {group}") == 1


def test_a_quota_that_is_too_small_names_only_ways_that_there_are(
    neti: Neti, account: Account, members: Members
) -> None:
    """--range-region chooses nothing with --fleet, and no room is not room for --max-rules 0."""
    group = account.group("web")
    for number in range(1, 12):
        members.join(f"vpc-{number}", f"10.21.0.{number}", f"198.51.{number}.1", site="vpc")
    words = ["aws", "ip-ranges", "--group", group, "--fleet"]
    refused = neti(*words, "--quota", "9").output
    assert "--range-region" not in refused
    assert "widen (--max-rules 9)" in refused
    assert neti(*words, "--quota", "9", "--max-rules", "9").exit_code == 0
    full = neti(*words, "--quota", "2", "--protocol", "all").output
    assert "--protocol all" not in full.partition("nothing was changed")[2]
    assert neti(*words, "--quota", "2").output.count("--max-rules") == 0

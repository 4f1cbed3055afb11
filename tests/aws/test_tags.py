"""The tags for real: the agent's child process, an instance's metadata service, and EC2."""

import subprocess
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from tests.aws.conftest import Neti
from tests.support.aws import Account, MotoServer

from neti.agent.tagging import Child, Tags
from neti_lab.metadata import Fault, InstanceMetadata, MetadataService

OVERLAY = IPv4Address("192.168.0.7")
WISH = Tags(OVERLAY, "0.1.0")


@pytest.fixture(name="instance")
def _instance(account: Account) -> str:
    return account.instances(1, account.group("web"))[0]


@pytest.fixture(name="service")
def _service(
    server: MotoServer, instance: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MetadataService]:
    """The instance's own metadata service, with a role; no other credentials, no region."""
    told = InstanceMetadata(instance_id=instance, private=IPv4Address("10.0.0.5"), role="neti")
    service = MetadataService(told)
    service.start()
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", service.endpoint)
    yield service
    service.close()


def _tags(account: Account, instance: str) -> dict[str, str]:
    found = account.ec2.describe_instances(InstanceIds=[instance])
    tags = found["Reservations"][0]["Instances"][0].get("Tags", [])
    return {tag["Key"]: tag["Value"] for tag in tags}


def test_the_child_tags_with_the_instances_role(
    account: Account, instance: str, config: Path, service: MetadataService
) -> None:
    """Region and credentials come from the metadata service, and from nowhere else."""
    assert Child(config, instance).run(WISH) is None
    assert _tags(account, instance) == {"overlay_ip": "192.168.0.7", "neti_version": "0.1.0"}


def test_a_missing_permission_comes_with_its_statement(
    server: MotoServer, instance: str, config: Path, service: MetadataService
) -> None:
    """Limited to these two tags, on the instance itself."""
    server.fail("CreateTags", "UnauthorizedOperation", status=403)
    said = Child(config, instance).run(WISH)
    assert said is not None
    assert "CreateTags is not allowed" in said
    assert '"ec2:SourceInstanceARN": "arn:aws:ec2:*:*:instance/${ec2:InstanceID}"' in said
    assert '"aws:TagKeys": ["overlay_ip", "neti_version"]' in said


def test_without_a_role_the_keys_of_2014_do(
    neti: Neti, account: Account, instance: str, config: Path, service: MetadataService
) -> None:
    """And without either, what is missing is said."""
    service.change(role=None)
    said = Child(config, instance).run(WISH)
    assert said is not None
    assert "no role" in said
    by_hand = ["aws", "tag", "--instance", instance, "--overlay", "192.168.0.7"]
    assert "no role" in neti(*by_hand).output
    config.write_text(config.read_text() + "aws_key: testing\naws_secret_key: testing\n")
    config.chmod(0o600)
    assert Child(config, instance, has_keys=True).run(WISH) is None
    assert _tags(account, instance)["overlay_ip"] == "192.168.0.7"


def test_a_dry_run_shows_the_tags_and_calls_nothing(
    neti: Neti, server: MotoServer, account: Account, instance: str, service: MetadataService
) -> None:
    """By hand, before it is done; what it shows is what is then said to be done."""
    words = ["aws", "tag", "--instance", instance, "--overlay", "192.168.0.7"]
    words += ["--tag-version", "0.1.0"]
    before = server.calls()
    shown = neti(*words, "--dry-run")
    assert shown.exit_code == 0, shown.output
    line, last = shown.stdout.splitlines()
    assert line == f"{instance}: overlay_ip 192.168.0.7, neti_version 0.1.0"
    assert last == "dry run: 2 tags would be set, nothing was changed"
    assert server.calls() == before
    assert _tags(account, instance) == {}
    assert neti(*words).stdout == f"{line}\n"
    assert neti(*words[:5], "nonsense", "--dry-run").exit_code == 1


def test_a_silent_metadata_service_is_a_fault_not_a_crash(
    instance: str, config: Path, service: MetadataService
) -> None:
    """It is tried again later."""
    service.fail(Fault.UNAVAILABLE)
    said = Child(config, instance).run(WISH)
    assert said is not None
    assert "answered 503" in said


def test_the_overlay_address_from_the_tag(
    neti: Neti, account: Account, instance: str, service: MetadataService
) -> None:
    """For a host whose agent is still starting: from EC2, or from the metadata service where that
    shows tags."""
    words = ["overlay-ip", "--from-tag"]
    missing = neti(*words)
    assert missing.exit_code == 1
    assert "no tag overlay_ip" in missing.output
    tag = {"Key": "overlay_ip", "Value": "192.168.0.7"}
    account.ec2.create_tags(Resources=[instance], Tags=[tag])
    assert neti(*words).stdout == "192.168.0.7\n"
    service.change(tags={"overlay_ip": "192.168.0.8"}, role=None)
    assert neti(*words).stdout == "192.168.0.8\n"


@pytest.mark.parametrize(
    ("value", "said"), [("nonsense", "not an IPv4 address"), ("10.0.0.1", "outside overlay_subnet")]
)
def test_a_tag_that_makes_no_sense_is_not_printed(
    neti: Neti, service: MetadataService, value: str, said: str
) -> None:
    """Anybody who may tag can write one."""
    service.change(tags={"overlay_ip": value})
    result = neti("overlay-ip", "--from-tag")
    assert result.exit_code == 1
    assert said in result.stderr


def test_the_agent_never_loads_the_sdk() -> None:
    """Its memory is counted: 40 MiB more would be too much."""
    program = (
        "import sys, neti.agent.main, neti.agent.tagging, neti.cli\n"
        "print(sorted(m for m in sys.modules if m.startswith(('boto', 'neti.aws'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]"

"""What operators say about hosts' records, on a real ZooKeeper with TLS and rights."""

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kazoo.protocol.serialization import Delete
from tests.support.zookeeper import SecureWorld, ZooKeeperWorld, files_of

from neti.cli import cli
from neti.model import Member, entry
from neti.registry.zookeeper.registry import ZooKeeperRegistry

pytestmark = pytest.mark.zookeeper

SUBNET = IPv4Network("192.168.0.0/24")


class Operator:
    """Types commands, with an operator's certificate or another one."""

    def __init__(self, world: ZooKeeperWorld, folder: Path) -> None:
        self.world = world
        self.folder = folder

    def run(self, *arguments: str, stem: str | None = "operator-chief") -> Result:
        config = self.folder / "neti.yml"
        tls = ""
        if stem is not None:
            files = files_of(stem)
            tls = f"registry_tls: {{ca: {files.ca}, cert: {files.cert}, key: {files.key}}}\n"
        config.write_text(
            f'zk_hosts: {{ec2: ["{self.world.server.hosts}"]}}\nzk_prefix: {self.world.prefix}\n'
            f"site: ec2\nsites: {{ec2: {{private: [10.0.0.0/8]}}}}\n"
            f"overlay_subnet: {SUBNET}\ntable_files_path: {self.folder}/state\n"
            "identity: {id: x, private: 10.9.9.9}\n" + tls
        )
        return CliRunner().invoke(cli, ["registry", *arguments, "-c", str(config)])

    def told(self, *arguments: str) -> dict[str, Any]:
        done = self.run(*arguments, "--json")
        assert done.exit_code == 0, done.output
        document: dict[str, Any] = json.loads(done.stdout)
        return document


@pytest.fixture
def operator(secure: SecureWorld, tmp_path: Path) -> Operator:
    return Operator(secure, tmp_path)


def register(registry: ZooKeeperRegistry, host_id: str, number: int) -> str:
    overlay = registry.acquire(host_id, SUBNET)
    one = Member(
        id=host_id,
        site="ec2",
        private=IPv4Address("10.0.0.0") + number,
        public=None,
        overlay=overlay,
    )
    name = entry.encode(one)
    registry.register(host_id=host_id, name=name, data=b"", detail=b"{}", overlay=overlay)
    return name


def drop_record(secure: SecureWorld, host_id: str) -> None:
    """What is left is what an agent of a version before records makes."""
    secure.open_as("operator-chief").operate(
        lambda attempt, layout: attempt.one(Delete(layout.host(host_id), -1))
    )


# --- strict ---


def test_strict_waits_for_the_last_host_without_a_record(
    secure: SecureWorld, operator: Operator
) -> None:
    a, b = secure.open_as("host-a"), secure.open_as("host-b")
    register(a, "a", 1)
    name = register(b, "b", 2)
    drop_record(secure, "b")
    refused = operator.run("strict", "on")
    assert refused.exit_code == 1
    assert f"b: {secure.prefix}/ip-map/{name} has no record" in refused.stderr
    assert "a:" not in refused.stderr
    assert a.setting("strict") is None

    assert operator.told("strict", "on", "--anyway", "--dry-run")["changed"] is False
    assert a.setting("strict") is None
    b.close()
    told = operator.told("strict", "on")
    assert (told["strict"], told["changed"], told["not_vouched"]) == (True, True, [])
    assert (a.setting("strict") or b"").startswith(b"on ")
    before = a.setting("strict")
    assert operator.told("strict", "on")["changed"] is False
    assert a.setting("strict") == before
    assert "strict is on since" in operator.run("strict").stdout


def test_strict_is_turned_off_only_by_an_operator_who_means_it(
    secure: SecureWorld, operator: Operator
) -> None:
    host = secure.open_as("host-a")
    assert operator.run("strict", "on").exit_code == 0
    assert operator.run("strict", "off").exit_code == 1  # nobody could be asked
    assert operator.run("strict", "off", "--yes", stem="host-a").exit_code == 1
    assert (host.setting("strict") or b"").startswith(b"on ")
    assert operator.run("strict", "off", "--yes").exit_code == 0
    assert (host.setting("strict") or b"").startswith(b"off ")
    assert "strict is off since" in operator.run("strict").stdout


def test_records_that_anybody_can_write_prove_nothing(
    world: ZooKeeperWorld, tmp_path: Path
) -> None:
    registry = world.open()
    register(registry, "a", 1)
    done = Operator(world, tmp_path).run("strict", "on", stem=None)
    assert done.exit_code == 1
    assert "no access rights" in done.stderr
    assert "neti registry init" in done.stderr
    assert registry.setting("strict") is None

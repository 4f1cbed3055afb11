"""Who may be in a group, where certificates say who is who."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.zookeeper import SecureWorld
from tests.zookeeper.test_admission import Operator, register
from tests.zookeeper.test_in_the_way import SUBNET, make

from neti.aws import lease_gc
from neti.aws.terminated import Lease
from neti.cli import cli
from neti.config import load
from neti.errors import RegistryError
from neti.model import Member, entry
from neti.registry.groups import decode


@pytest.fixture
def operator(secure: SecureWorld, tmp_path: Path) -> Operator:
    chief = secure.open_as("operator-chief")
    chief.init(chief.plan_init())
    register(secure.open_as("host-a"), "a", 1)
    made = Operator(secure, tmp_path)
    made.run("check")  # which writes its configuration
    return made


def group(operator: Operator, *words: str) -> Result:
    return CliRunner().invoke(cli, ["group", *words, "-c", str(operator.folder / "neti.yml")])


def test_where_a_certificate_may_take_any_id_only_ids_with_an_owner_are_in_a_group(
    secure: SecureWorld, operator: Operator
) -> None:
    chief = secure.open_as("operator-chief")
    refused = group(operator, "set", "db", "a", "db-*")
    assert refused.exit_code == 1
    assert "pattern db-*: admission is off" in refused.stderr
    assert "nothing was changed" in refused.stderr
    assert "→ neti registry admission on" in refused.stderr
    refused = group(operator, "set", "db", "a", "b")
    assert refused.exit_code == 1
    assert "b has no owner yet" in refused.stderr
    assert "→ neti registry admit ID SUBJECT" in refused.stderr
    assert chief.setting("groups") is None
    done = group(operator, "set", "db", "a")
    assert done.stdout.splitlines() == [
        "group db: 1 member of those registered",
        "in it from now on: a",
    ]
    assert "strict is off, so any host with a certificate may speak for another" in done.stderr
    assert operator.run("admit", "b", "CN=b,OU=hosts").exit_code == 0
    assert group(operator, "add", "db", "b").exit_code == 0


def test_with_admission_and_strict_a_group_rests_on_operators_alone(
    secure: SecureWorld, operator: Operator
) -> None:
    chief = secure.open_as("operator-chief")
    assert operator.run("admission", "on").exit_code == 0
    assert operator.run("strict", "on").exit_code == 0
    done = group(operator, "set", "db", "*", "later-1")
    assert done.exit_code == 0
    (only,) = done.stderr.splitlines()
    assert "nobody is registered as later-1" in only
    assert [line.pattern for line in decode(chief.setting("groups")).lines["db"]] == [
        "*",
        "later-1",
    ]
    # Who opens it again hears what stands on it.
    refused = operator.run("admission", "off")
    assert refused.exit_code == 1
    assert "groups have patterns, or ids without an owner (db: *, later-1)" in refused.stderr
    assert operator.told("admission")["admission"] is True
    assert operator.run("admission", "off", "--anyway").exit_code == 0
    more = group(operator, "add", "db", "x-*")
    assert "pattern x-*: admission is off" in more.stderr
    assert group(operator, "add", "db", "a").exit_code == 0  # what stands there is no reason
    assert operator.run("admission", "off").exit_code == 0


def lease(operator: Operator, *words: str) -> Result:
    return CliRunner().invoke(cli, ["lease", *words, "-c", str(operator.folder / "neti.yml")])


def came_and_left(secure: SecureWorld, host_id: str, number: int) -> None:
    host = secure.open_as("host-b")
    name = register(host, host_id, number)
    member = entry.parse(name)
    assert isinstance(member, Member)
    host.leave(host_id=host_id, name=name, departure=entry.encode_departure(member))


def gone(secure: SecureWorld, operator: Operator, *host_ids: str) -> None:
    """They were here, in group db, and have left."""
    for number, host_id in enumerate(host_ids, 2):
        came_and_left(secure, host_id, number)
    assert group(operator, "set", "db", *host_ids).exit_code == 0


def owner(secure: SecureWorld, host_id: str) -> bool:
    return host_id in secure.open_as("operator-chief").records([host_id])


def test_an_id_in_a_group_becomes_nobodys_only_if_that_is_meant(
    secure: SecureWorld, operator: Operator
) -> None:
    """Whoever registered under it next would inherit what the group may reach."""
    gone(secure, operator, "b", "c")
    refused = lease(operator, "release", "b", "--yes")
    assert refused.exit_code == 1
    assert "b was not released: group db has a line for it, and admission is off" in refused.stderr
    assert "→ neti group remove db b" in refused.stderr
    assert "→ neti lease release b --anyway" in refused.stderr
    assert owner(secure, "b")
    chief, settings = secure.open_as("operator-chief"), load(operator.folder / "neti.yml")
    held = {host_id: overlay for overlay, host_id in chief.leases().items()}
    both = [Lease(host_id=one, overlay=held[one]) for one in ("b", "c")]
    done, kept = lease_gc.release(settings, chief, both, now=0.0)
    assert (done, [one.host_id for one, _ in kept]) == ([], ["b", "c"])
    # What is in no group goes, beside one that is.
    assert group(operator, "remove", "db", "c").exit_code == 0
    some = lease(operator, "release", "b", "c", "--yes", "--json")
    assert [one["id"] for one in json.loads(some.stdout)] == ["c"]
    assert some.exit_code == 1
    assert not owner(secure, "c")
    meant = lease(operator, "release", "b", "--yes", "--anyway")
    assert meant.exit_code == 0
    assert "group db has a line for b: whoever registers under that id is in there" in meant.stdout
    assert not owner(secure, "b")


def test_a_record_of_an_id_in_a_group_is_removed_only_by_force(
    secure: SecureWorld, operator: Operator
) -> None:
    gone(secure, operator, "b")
    assert operator.run("admission", "on").exit_code == 0
    assert lease(operator, "release", "b", "--yes").exit_code == 0
    assert operator.run("admission", "off").exit_code == 0
    remove = ("remove", "--yes", f"{secure.prefix}/hosts/b")
    kept = operator.run(*remove)
    assert kept.exit_code == 1
    assert "whoever registers under that id then is in db" in kept.stderr
    assert owner(secure, "b")
    assert operator.run(*remove, "--force").exit_code == 0
    assert not owner(secure, "b")


def test_an_id_whose_record_no_operator_may_write_is_moved_from_only_if_that_is_meant(
    secure: SecureWorld, operator: Operator
) -> None:
    """The record is deleted with the move. One that operators may write stays its owner's."""
    came_and_left(secure, "c", 3)
    make(secure.open_as("host-b"), "hosts/b")
    secure.open_as("host-b").acquire("b", SUBNET)
    assert group(operator, "set", "db", "b", "c").exit_code == 0
    asked = lease(operator, "move", "b", "a")
    assert asked.exit_code == 1
    assert "b would be nobody's without its lease: group db has a line for it" in asked.stderr
    assert owner(secure, "b")
    meant = lease(operator, "move", "b", "a", "--yes", "--json")
    assert json.loads(meant.stdout)["still_in"] == ["db"]
    assert not owner(secure, "b")
    plain = lease(operator, "move", "c", "a", "--json")
    assert json.loads(plain.stdout)["still_in"] == []
    assert owner(secure, "c")


def test_with_admission_an_id_stays_its_owners_and_nobody_inherits(
    secure: SecureWorld, operator: Operator
) -> None:
    came_and_left(secure, "b", 2)
    assert operator.run("admission", "on").exit_code == 0
    assert group(operator, "set", "db", "b").exit_code == 0
    done = lease(operator, "release", "b", "--yes")
    assert done.exit_code == 0
    assert "db" not in done.output
    assert owner(secure, "b")


def test_groups_that_cannot_be_read_keep_every_id_with_its_owner(
    secure: SecureWorld, operator: Operator
) -> None:
    """Agents may follow the last that could be: whoever took an id would be in there."""
    gone(secure, operator, "b")
    assert operator.run("admission", "on").exit_code == 0
    secure.open_as("operator-chief").change_setting("groups", b"x")
    refused = operator.run("admission", "off")
    assert refused.exit_code == 1
    assert "who could be in a group then is not known" in refused.stderr
    assert "→ neti registry admission off --anyway" in refused.stderr
    assert operator.run("admission", "off", "--anyway").exit_code == 0
    kept = lease(operator, "release", "b", "--yes")
    assert kept.exit_code == 1
    assert "whether a group has a line for it is not known" in kept.stderr
    assert owner(secure, "b")
    meant = lease(operator, "release", "b", "--yes", "--anyway", "--json")
    assert json.loads(meant.stdout)["still_in"] is None
    assert not owner(secure, "b")


def test_no_member_writes_them(secure: SecureWorld, operator: Operator) -> None:
    assert group(operator, "set", "db", "a").exit_code == 0
    host, before = secure.open_as("host-a"), secure.open_as("operator-chief").setting("groups")
    for value in (b"x", None):
        with pytest.raises(RegistryError):
            host.change_setting("groups", value)
    with pytest.raises(RegistryError):
        host.edit_setting("groups", lambda _: b"x")
    assert host.setting("groups") == before

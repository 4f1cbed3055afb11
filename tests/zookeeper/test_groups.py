"""Who may be in a group, where certificates say who is who."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.zookeeper import SecureWorld
from tests.zookeeper.test_admission import Operator, register

from neti.cli import cli
from neti.errors import RegistryError
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


def test_no_member_writes_them(secure: SecureWorld, operator: Operator) -> None:
    assert group(operator, "set", "db", "a").exit_code == 0
    host, before = secure.open_as("host-a"), secure.open_as("operator-chief").setting("groups")
    for value in (b"x", None):
        with pytest.raises(RegistryError):
            host.change_setting("groups", value)
    with pytest.raises(RegistryError):
        host.edit_setting("groups", lambda _: b"x")
    assert host.setting("groups") == before

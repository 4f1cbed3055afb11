"""Who may be in a group, where certificates say who is who."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kazoo.protocol.serialization import SetACL
from kazoo.security import ACL, Id
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
from neti.registry.zookeeper import rights


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


def admitted(operator: Operator, *words: str) -> Result:
    return operator.run("admit", *words, "--yes")


def ids_by_subject(secure: SecureWorld) -> list[str]:
    lines = decode(secure.open_as("operator-chief").setting("groups")).lines["db"]
    return [line.pattern for line in lines if line.by]


def test_a_subject_takes_in_whom_operators_admitted_for_it_now_and_later(
    secure: SecureWorld, operator: Operator
) -> None:
    refused = group(operator, "set", "db", "CN=*,OU=db")
    assert refused.exit_code == 1
    assert "subject CN=*,OU=db: admission is off" in refused.stderr
    assert operator.run("admission", "on").exit_code == 0
    assert admitted(operator, "i-1", "CN=db-1,OU=db", "i-2", "CN=web-1,OU=web").exit_code == 0
    assert group(operator, "set", "db", "CN=*,OU=db").exit_code == 0
    assert ids_by_subject(secure) == ["i-1"]
    later = admitted(operator, "i-3", "CN=db-3,OU=db", "i-4", "CN=web-4,OU=web")
    assert "i-3: in group db now" in later.stderr
    assert ids_by_subject(secure) == ["i-1", "i-3"]
    # Another certificate for the id: it goes before that one can register.
    moved = admitted(operator, "--replace", "i-1", "CN=web-9,OU=web")
    assert "i-1: not in group db any more" in moved.stderr
    assert ids_by_subject(secure) == ["i-3"]
    back = admitted(operator, "--replace", "i-2", "CN=db-2,OU=db")
    assert "i-2: in group db now" in back.stderr
    # The host itself, under its own record, changes nothing of it.
    assert ids_by_subject(secure) == ["i-2", "i-3"]
    off = operator.run("admission", "off")
    assert "groups have patterns, or ids without an owner (db: CN=*,OU=db)" in off.stderr


def test_an_id_whose_record_was_removed_is_in_no_group_by_the_subject_that_it_had(
    secure: SecureWorld, operator: Operator
) -> None:
    """It has no former owner then, and the groups' lines outlive its record."""
    assert operator.run("admission", "on").exit_code == 0
    assert admitted(operator, "i-1", "CN=db-1,OU=db", "i-2", "CN=db-2,OU=db").exit_code == 0
    assert group(operator, "set", "db", "CN=*,OU=db").exit_code == 0
    assert lease(operator, "release", "i-1", "--yes").exit_code == 0
    assert operator.run("remove", f"{secure.prefix}/hosts/i-1", "--yes").exit_code == 0
    assert ids_by_subject(secure) == ["i-1", "i-2"]
    chief = secure.open_as("operator-chief")
    before = chief.setting("groups")
    again = admitted(operator, "i-1", "CN=web-1,OU=web")
    assert "i-1: not in group db any more" in again.stderr
    assert ids_by_subject(secure) == ["i-2"]
    # Or a command that knows no subjects admitted it, and this one has nothing else to do.
    chief.change_setting("groups", before)
    again = admitted(operator, "i-1", "CN=web-1,OU=web")
    assert "i-1: not in group db any more" in again.stderr
    assert ids_by_subject(secure) == ["i-2"]


def test_what_a_command_that_knows_no_subjects_admitted_is_named_and_put_right(
    secure: SecureWorld, operator: Operator
) -> None:
    assert operator.run("admission", "on").exit_code == 0
    assert group(operator, "set", "db", "CN=*,OU=db").exit_code == 0
    chief = secure.open_as("operator-chief")
    before = chief.setting("groups")
    assert admitted(operator, "i-1", "CN=db-1,OU=db").exit_code == 0
    chief.change_setting("groups", before)
    shown = group(operator, "show", "db").stdout
    assert "not in it yet, though a subject fits: i-1" in shown
    assert "→ neti group add db 'CN=*,OU=db'" in shown
    assert "1 id whose subject says otherwise" in group(operator, "list").stdout
    assert group(operator, "add", "db", "CN=*,OU=db").exit_code == 0
    assert ids_by_subject(secure) == ["i-1"]
    assert "not in it yet" not in group(operator, "show", "db").stdout
    # Or the same admission once more.
    chief.change_setting("groups", before)
    assert admitted(operator, "i-1", "CN=db-1,OU=db").exit_code == 0
    assert ids_by_subject(secure) == ["i-1"]


def test_a_record_that_is_not_one_certificates_alone_is_in_no_group_by_its_subject(
    secure: SecureWorld, operator: Operator
) -> None:
    """Whoever made it may have kept something of it for himself."""
    assert operator.run("admission", "on").exit_code == 0
    assert admitted(operator, "i-1", "CN=db-1,OU=db").exit_code == 0
    chief = secure.open_as("operator-chief")
    path = f"{secure.prefix}/hosts/i-1"
    (held,) = chief.inspect(lambda attempt, layout: attempt.acls([path]))
    for more in (
        ACL(rights.READ, Id("x509", "CN=other")),
        ACL(rights.WRITE, Id("digest", "x:y")),
        ACL(rights.ALL, Id("x509", "CN=other")),
    ):
        kept = SetACL(path, [*held, more], -1)
        chief.operate(lambda attempt, layout, kept=kept: attempt.one(kept))  # type: ignore[misc]  # a default in a lambda
        assert "i-1" not in chief.owners()
        assert group(operator, "set", "db", "CN=*,OU=db").exit_code == 0
        assert ids_by_subject(secure) == []
    # Admitted once more, it is that certificate's.
    assert admitted(operator, "--replace", "i-1", "CN=db-1,OU=db").exit_code == 0
    assert ids_by_subject(secure) == ["i-1"]


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

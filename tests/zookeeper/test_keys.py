"""Hosts' public keys in a tree with rights; see docs/design/road.md."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest
from kazoo.exceptions import KazooException
from kazoo.protocol.serialization import Create, Delete, SetData
from kazoo.security import ACL, Id, Permissions
from tests.support.zookeeper import SecureWorld
from tests.zookeeper.test_in_the_way import UNREAD, findings, make, run

from neti.errors import KeyTaken, RegistryError
from neti.model import Member, entry
from neti.registry.record import HostRecord, encode
from neti.registry.revoked import RevokedKey, names
from neti.registry.zookeeper.registry import ZooKeeperRegistry

pytestmark = pytest.mark.zookeeper

SUBNET = IPv4Network("192.168.0.0/24")
KEY = "A" * 42 + "8"
OWN = [ACL(Permissions.ALL, Id("auth", "")), ACL(Permissions.READ, Id("world", "anyone"))]
OTHER = "B" * 42 + "8"


def register(registry: ZooKeeperRegistry, host_id: str, key: str, *, generation: int = 0) -> None:
    overlay = registry.acquire(host_id, SUBNET)
    private = SUBNET.network_address + 77  # whatever it is
    one = Member(
        id=host_id,
        site="ec2",
        private=private,
        public=None,
        overlay=overlay,
        generation=generation,
    )
    registry.register(
        host_id=host_id,
        name=entry.encode(one),
        data=b"",
        detail=b"{}",
        overlay=overlay,
        machine="00ff",
        key=key,
    )


def record(registry: ZooKeeperRegistry, host_id: str) -> HostRecord:
    found = registry.records()[host_id].record
    assert found is not None
    return found


def test_a_member_may_not_change_or_delete_a_key_that_is_there(secure: SecureWorld) -> None:
    register(secure.open_as("host-a"), "a", KEY)
    rogue = secure.open_as("host-b")

    def tried(operation: object) -> None:
        with pytest.raises((RegistryError, KazooException)):
            rogue.inspect(lambda attempt, layout: attempt.one(operation))

    path = f"{secure.prefix}/keys/{KEY}"
    tried(SetData(path, b"b", -1))
    tried(Delete(path, -1))
    tried(Create(f"{path}/x", b"", [], 0))
    with pytest.raises(KeyTaken):
        register(rogue, "b", KEY)
    with pytest.raises(RegistryError):  # not its own either, as every host's key must stay known
        secure.open_as("host-a").inspect(lambda attempt, layout: attempt.one(Delete(path, -1)))


def test_a_key_that_lets_nobody_read_it_is_taken(secure: SecureWorld) -> None:
    make(secure.open_as("host-b"), f"keys/{KEY}", b"a", acl=UNREAD)
    host = secure.open_as("host-a")
    with pytest.raises(KeyTaken):
        register(host, "a", KEY)
    register(host, "a", OTHER)
    assert record(host, "a").key == OTHER


def test_a_tree_of_an_earlier_version_has_no_place_for_keys_until_init(
    secure: SecureWorld, tmp_path: Path
) -> None:
    chief, host = secure.open_as("operator-chief"), secure.open_as("host-a")
    chief.inspect(lambda attempt, layout: attempt.one(Delete(layout.keys, -1)))
    register(host, "a", KEY)
    assert record(host, "a").key == ""
    (said,) = [one for one in findings(secure, tmp_path) if one["code"] == "no-keys"]
    assert (said["severity"], said["then"]) == ("note", "neti registry init")
    assert run(secure, tmp_path, "registry", "init").exit_code == 0
    assert not [one for one in findings(secure, tmp_path) if one["code"] == "no-keys"]
    register(host, "a", KEY, generation=1)
    assert record(host, "a").key == KEY


def test_a_borrowed_key_is_named_and_a_key_in_use_is_not_removed(
    secure: SecureWorld, tmp_path: Path
) -> None:
    register(secure.open_as("host-a"), "a", KEY)
    rogue = secure.open_as("host-b")
    register(rogue, "b", OTHER)
    stolen = HostRecord(word=record(rogue, "b").word, key=KEY)
    rogue.inspect(
        lambda attempt, layout: attempt.one(SetData(layout.host("b"), encode(stolen), -1))
    )
    (said,) = [one for one in findings(secure, tmp_path) if one["code"] == "key-of-another"]
    assert said["where"] == f"{secure.prefix}/hosts/b"
    assert "belongs to a" in said["what"]
    kept = run(secure, tmp_path, "registry", "remove", "--yes", f"{secure.prefix}/keys/{KEY}")
    assert kept.exit_code == 1
    assert "it is the public key of a" in kept.stderr
    unused = run(secure, tmp_path, "registry", "remove", "--yes", f"{secure.prefix}/keys/{OTHER}")
    assert unused.exit_code == 0


def test_who_gives_a_lease_up_gives_its_key_up(secure: SecureWorld, tmp_path: Path) -> None:
    host = secure.open_as("host-a")
    register(host, "a", KEY)
    host.close()
    assert run(secure, tmp_path, "lease", "release", "--yes", "a").exit_code == 0
    register(secure.open_as("host-b"), "b", KEY)  # nobody's now


def test_a_revoked_key_of_a_host_that_was_not_back_is_named(
    secure: SecureWorld, tmp_path: Path
) -> None:
    """Until it registers with another one. No member can revoke another's."""
    registry = secure.open_as("host-a")
    register(registry, "a", KEY)
    with pytest.raises(RegistryError):
        secure.open_as("host-b").revoke_key("a")
    assert secure.open_as("operator-chief").revoke_key("a") == RevokedKey(KEY, said=KEY)
    (said,) = [one for one in findings(secure, tmp_path) if one["code"] == "key-revoked"]
    assert said["where"] == f"{secure.prefix}/hosts/a"
    register(registry, "a", OTHER, generation=1)
    assert not [one for one in findings(secure, tmp_path) if one["code"] == "key-revoked"]


def test_a_node_that_a_member_made_keeps_nobody_from_revoking(secure: SecureWorld) -> None:
    """Neither one that operators may not read, nor one with another below it."""
    rogue, chief = secure.open_as("host-b"), secure.open_as("operator-chief")
    make(rogue, f"keys/{KEY}", b"b", acl=UNREAD)
    make(rogue, "hosts/b", encode(HostRecord(key=KEY)))
    assert chief.revoke_key("b") == RevokedKey(KEY, said=KEY)
    assert chief.setting("revoked") is not None
    make(rogue, f"keys/{OTHER}", b"b", acl=OWN)
    make(rogue, f"keys/{OTHER}/below", b"", acl=OWN)
    left = (f"{secure.prefix}/keys/{OTHER}",)
    assert chief.revoke_key("b", OTHER) == RevokedKey(OTHER, left, said=KEY)
    said = chief.setting("revoked")
    assert names(said, KEY)
    assert names(said, OTHER)
    assert not names(said, "C" * 42 + "8")


def test_a_key_with_a_node_below_it_keeps_no_lease(secure: SecureWorld, tmp_path: Path) -> None:
    rogue = secure.open_as("host-b")
    make(rogue, f"keys/{KEY}", b"b", acl=OWN)
    make(rogue, f"keys/{KEY}/below", b"", acl=OWN)
    register(rogue, "b", KEY)
    rogue.close()
    assert run(secure, tmp_path, "lease", "release", "--yes", "b").exit_code == 0


def test_revoking_a_key_takes_no_other_hosts_entry_away(secure: SecureWorld) -> None:
    """Whoever writes a record may name in it what it likes."""
    registry, rogue = secure.open_as("host-a"), secure.open_as("host-b")
    register(registry, "a", KEY)
    register(rogue, "b", OTHER)
    entry_of_a = record(registry, "a").word
    written = encode(HostRecord(word=entry_of_a, key=OTHER))
    rogue.inspect(lambda attempt, layout: attempt.one(SetData(layout.host("b"), written, -1)))
    assert secure.open_as("operator-chief").revoke_key("b") == RevokedKey(OTHER, said=OTHER)
    assert entry_of_a in registry.names()


def test_a_record_that_operators_cannot_read_is_not_said_to_have_no_key(
    secure: SecureWorld, tmp_path: Path
) -> None:
    """Its maker may have let peers read it."""
    make(secure.open_as("host-b"), "hosts/b", encode(HostRecord(key=KEY)), acl=UNREAD)
    said = run(secure, tmp_path, "key", "revoke", "b")
    assert said.exit_code == 1
    assert f"{secure.prefix}/hosts/b does not let this client read it" in said.stderr
    assert run(secure, tmp_path, "key", "revoke", "b", "--key", KEY).exit_code == 0

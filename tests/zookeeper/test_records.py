"""Hosts' records on a real ZooKeeper with rights: how leases get them, and how they go."""

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from kazoo.protocol.serialization import Create, Delete, GetACL, GetData
from kazoo.security import ACL, Id
from tests.support.zookeeper import SecureWorld, files_of

from neti.cli import cli
from neti.errors import IdentityHeld, NotAdmitted, OtherOwner
from neti.model import Member, entry
from neti.registry.record import HostRecord
from neti.registry.zookeeper import admission, remove, rights
from neti.registry.zookeeper import init as zookeeper_init
from neti.registry.zookeeper.registry import ZooKeeperRegistry

pytestmark = pytest.mark.zookeeper

SUBNET = IPv4Network("192.168.0.0/24")
OPERATOR = "operator-chief"


def register(registry: ZooKeeperRegistry, host_id: str, number: int, generation: int = 0) -> str:
    one = Member(
        id=host_id,
        site="ec2",
        private=IPv4Address(f"10.0.0.{number}"),
        public=None,
        overlay=registry.acquire(host_id, SUBNET),
        generation=generation,
    )
    name = entry.encode(one)
    registry.register(host_id=host_id, name=name, data=b"", detail=b"{}", overlay=one.overlay)
    return name


def acl_of(registry: ZooKeeperRegistry, host_id: str) -> list[ACL]:
    acl: list[ACL] = registry.inspect(
        lambda attempt, layout: attempt.one(GetACL(layout.host(host_id)))[0]
    )
    return acl


def without_records(secure: SecureWorld) -> ZooKeeperRegistry:
    """An operator, in a tree of the version before."""
    chief = secure.open_as(OPERATOR)
    chief.operate(lambda attempt, layout: attempt.one(Delete(layout.hosts, -1)))
    return chief


# --- a tree that had none ---


def test_init_gives_each_lease_a_record_that_only_its_owner_may_write(secure: SecureWorld) -> None:
    chief = without_records(secure)
    overlay = secure.open_as("host-a").acquire("a", SUBNET)
    of_b = secure.open_as("host-b").acquire("b", SUBNET)
    planned = chief.plan_init()
    assert [(one.id, one.subject) for one in planned.records] == [
        ("a", "CN=a,OU=hosts"),
        ("b", "CN=b,OU=hosts"),
    ]
    chief.init(planned)
    records = chief.records()
    assert {i: read.record for i, read in records.items()} == {
        "a": HostRecord(overlay=overlay),
        "b": HostRecord(overlay=of_b),
    }
    acl = acl_of(chief, "a")
    assert rights.owners(acl) == ["CN=a,OU=hosts"]
    assert rights.granted(acl, ["CN=a,OU=hosts"]) == rights.READ | rights.WRITE
    assert rights.world(acl) == rights.READ
    with pytest.raises(OtherOwner) as refused:
        register(secure.open_as("host-c"), "a", 3)
    said = str(refused.value)
    assert "a belongs to CN=a,OU=hosts in this registry. This host's certificate is CN=c," in said
    assert "→ neti registry admit --replace a CN=c,OU=hosts" in said
    host = secure.open_as("host-a")
    name = register(host, "a", 1)
    assert host.made([name]) == {name: host.records()["a"].written}
    assert register(secure.open_as("host-c"), "c", 3), "who has no lease may begin"
    assert chief.plan_init().nothing


def test_an_init_that_was_killed_before_all_records_stand_goes_on(
    secure: SecureWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    chief = without_records(secure)
    secure.open_as("host-a").acquire("a", SUBNET)

    class KilledError(Exception):
        pass

    def killed(*_: object) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(zookeeper_init, "make", killed)
        with pytest.raises(KilledError):
            chief.init(chief.plan_init())
    with pytest.raises(NotAdmitted):
        register(secure.open_as("host-c"), "c", 3)
    planned = chief.plan_init()
    assert planned.unfinished
    chief.init(planned)
    assert set(chief.records()) == {"a", "c"}
    assert register(secure.open_as("host-c"), "other", 3)
    data, _ = chief.inspect(lambda attempt, layout: attempt.one(GetData(layout.hosts, None)))
    assert data == b""
    assert chief.plan_init().nothing


def test_a_lease_of_nobody_or_of_two_gets_no_record_and_is_named(secure: SecureWorld) -> None:
    chief = without_records(secure)

    def lease(stem: str, path: str, data: bytes) -> None:
        acl = rights.of_child(
            [ACL(rights.ALL, one) for one in operators],
            owner=Id("auth", "") if stem != OPERATOR else None,
        )
        secure.open_as(stem).inspect(
            lambda attempt, layout: attempt.one(Create(f"{layout.root}/{path}", data, acl, 0))
        )

    (held,) = chief.inspect(lambda attempt, layout: attempt.acls([layout.ip_map]))
    operators = rights.operators(held)
    lease(OPERATOR, "id-to-ip/old", b"192.168.0.8")
    lease(OPERATOR, "ip-to-id/192.168.0.8", b"old")
    lease("host-a", "id-to-ip/two", b"192.168.0.9")
    lease("host-b", "ip-to-id/192.168.0.9", b"two")
    planned = chief.plan_init()
    assert planned.records == ()
    assert planned.without_owner == ("old", "two")
    chief.init(planned)
    assert register(secure.open_as("host-a"), "old", 1), "first come"


# --- a tree that has them ---


def test_init_where_there_are_records_gives_one_to_leases_that_lack_it(secure: SecureWorld) -> None:
    chief = secure.open_as(OPERATOR)
    register(secure.open_as("host-a"), "a", 1)
    secure.open_as("host-b").acquire("b", SUBNET)
    before = chief.records()["a"]
    planned = chief.plan_init()
    assert [one.id for one in planned.records] == ["b"]
    chief.init(planned)
    assert chief.records()["a"] == before
    assert set(chief.records()) == {"a", "b"}


def test_init_admits_nobody_whom_operators_did_not(secure: SecureWorld) -> None:
    chief = secure.open_as(OPERATOR)
    secure.open_as("host-a").acquire("a", SUBNET)
    chief.operate(lambda attempt, layout: admission.change(attempt, layout, on=True))
    assert chief.plan_init().nothing
    with pytest.raises(NotAdmitted):
        register(secure.open_as("host-a"), "a", 1)


def test_the_command_says_how_many_and_no_more(secure: SecureWorld, tmp_path: Path) -> None:
    without_records(secure)
    host = secure.open_as("host-a")
    for number in range(12):
        host.acquire(f"h{number}", SUBNET)
    files = files_of(OPERATOR)
    config = tmp_path / "neti.yml"
    config.write_text(
        f'zk_hosts: {{ec2: ["{secure.server.hosts}"]}}\nzk_prefix: {secure.prefix}\nsite: ec2\n'
        "sites: {ec2: {private: [10.0.0.0/8]}}\nidentity: {id: x, private: 10.9.9.9}\n"
        f"registry_tls: {{ca: {files.ca}, cert: {files.cert}, key: {files.key}}}\n"
    )
    for words, said in ((["--dry-run"], "would be made"), ([], "made")):
        done = CliRunner().invoke(cli, ["registry", "init", *words, "-c", str(config)])
        assert done.exit_code == 0, done.output
        assert f"12 records of hosts with a lease {said}" in done.stdout
        assert "h11" not in done.stdout
    done = CliRunner().invoke(cli, ["registry", "init", "--json", "-c", str(config)])
    told = json.loads(done.stdout)
    assert (told["records"], told["without_owner"], told["changes"]) == (0, [], [])


# --- leases that are given up, or given to another ---


def gone(host: ZooKeeperRegistry, host_id: str, number: int) -> None:
    """Registered once, and left."""
    name = register(host, host_id, number)
    host.leave(host_id=host_id, name=name, departure=f"left.0.{host_id}")
    host.close()


def test_a_released_id_is_whose_that_comes_first(secure: SecureWorld) -> None:
    gone(secure.open_as("host-a"), "a", 1)
    secure.open_as(OPERATOR).release("a")
    other = secure.open_as("host-b")
    name = register(other, "a", 2, generation=1)
    assert other.made([name]) == {name: other.records()["a"].written}


def test_with_admission_a_released_id_stays_admitted_and_says_nothing(secure: SecureWorld) -> None:
    gone(secure.open_as("host-a"), "a", 1)
    chief = secure.open_as(OPERATOR)
    chief.operate(lambda attempt, layout: admission.change(attempt, layout, on=True))
    overlay = chief.lease_of("a")
    assert chief.release("a") == overlay
    assert chief.records()["a"].record == HostRecord()
    assert rights.owners(acl_of(chief, "a")) == ["CN=a,OU=hosts"]
    assert chief.release("a") is None
    with pytest.raises(IdentityHeld):
        register(secure.open_as("host-b"), "a", 2)
    assert register(secure.open_as("host-a"), "a", 1, generation=1)


def test_a_live_host_keeps_its_lease_whatever_became_of_its_document(secure: SecureWorld) -> None:
    host, chief = secure.open_as("host-a"), secure.open_as(OPERATOR)
    register(host, "a", 1)
    chief.operate(lambda attempt, layout: attempt.one(Delete(layout.agent("a"), -1)))
    with pytest.raises(IdentityHeld):
        chief.release("a")
    with pytest.raises(IdentityHeld):
        chief.move("a", "b")
    assert chief.lease_of("a")


def test_a_document_that_another_made_keeps_no_operator_from_a_lease(secure: SecureWorld) -> None:
    gone(secure.open_as("host-a"), "a", 1)
    other, chief = secure.open_as("host-b"), secure.open_as(OPERATOR)
    (parent,) = chief.inspect(lambda attempt, layout: attempt.acls([layout.agents]))
    acl = rights.of_child(parent)
    other.inspect(lambda attempt, layout: attempt.one(Create(layout.agent("a"), b"", acl, 1)))
    overlay = chief.lease_of("a")
    assert chief.release("a") == overlay


def test_a_moved_lease_belongs_to_whom_the_new_id_was_admitted_for(secure: SecureWorld) -> None:
    gone(secure.open_as("host-a"), "a", 1)
    chief = secure.open_as(OPERATOR)
    (of_hosts,) = chief.inspect(lambda attempt, layout: attempt.acls([layout.hosts]))
    acl = rights.of_child(of_hosts, also=rights.WRITE, owner=Id("x509", "CN=b,OU=hosts"))
    chief.operate(lambda attempt, layout: attempt.one(Create(layout.host("b"), b"1 - - -", acl, 0)))
    overlay, _ = chief.move("a", "b")
    (lease,) = chief.inspect(lambda attempt, layout: attempt.acls([layout.by_overlay(overlay)]))
    assert rights.owners(lease) == ["CN=b,OU=hosts"]
    assert rights.owners(acl_of(chief, "a")) == ["CN=a,OU=hosts"]
    assert register(secure.open_as("host-b"), "b", 2)


def typed(secure: SecureWorld, folder: Path, *words: str) -> Result:
    """A command, with an operator's certificate."""
    files = files_of(OPERATOR)
    config = folder / "neti.yml"
    config.write_text(
        f'zk_hosts: {{ec2: ["{secure.server.hosts}"]}}\nzk_prefix: {secure.prefix}\nsite: ec2\n'
        "sites: {ec2: {private: [10.0.0.0/8]}}\nidentity: {id: x, private: 10.9.9.9}\n"
        f"table_files_path: {folder}/state\n"
        f"registry_tls: {{ca: {files.ca}, cert: {files.cert}, key: {files.key}}}\n"
    )
    return CliRunner().invoke(cli, [*words, "-c", str(config)])


def test_a_lease_moved_to_nobody_is_found_and_given_away_by_admitting(
    secure: SecureWorld, tmp_path: Path
) -> None:
    """Who was admitted is no misspelt id, so nothing is asked, and the lease has its owner."""
    gone(secure.open_as("host-a"), "a", 1)
    gone(secure.open_as("host-c"), "c", 2)
    assert typed(secure, tmp_path, "registry", "admit", "b", "CN=b,OU=hosts").exit_code == 0
    assert typed(secure, tmp_path, "lease", "move", "a", "b").exit_code == 0
    assert typed(secure, tmp_path, "lease", "move", "c", "new").exit_code == 1  # nobody was asked
    assert typed(secure, tmp_path, "lease", "move", "c", "new", "--yes").exit_code == 0

    def of_nobody() -> list[str]:
        done = typed(secure, tmp_path, "registry", "check", "--json")
        return [
            one["what"]
            for one in json.loads(done.stdout)["findings"]
            if one["code"] == "lease-of-nobody"
        ]

    (found,) = of_nobody()
    assert "(new)" in found
    assert typed(secure, tmp_path, "registry", "admit", "new", "CN=c,OU=hosts").exit_code == 0
    assert of_nobody() == []
    assert register(secure.open_as("host-c"), "new", 2)


# --- the check ---


def test_the_check_names_what_a_member_made_of_records(secure: SecureWorld, tmp_path: Path) -> None:
    host, rogue = secure.open_as("host-a"), secure.open_as("host-c")
    name = register(host, "a", 1)
    former = register(host, "a", 2, generation=1)
    forged = name.replace(".0.", ".7.")
    read_only = list(rights.READ_ONLY)

    def make(path: str, data: bytes, acl: list[ACL], flags: int = 0) -> None:
        rogue.inspect(
            lambda attempt, layout: attempt.one(Create(f"{layout.root}/{path}", data, acl, flags))
        )

    make(f"ip-map/{forged}", b"", read_only, 1)
    make("hosts/grasped", b"1 - - -", [ACL(rights.ALL, Id("auth", "")), *read_only])
    make("hosts/grasped/x", b"", read_only)
    make("hosts/later", b"2 what?", read_only)
    make("hosts/passing", b"1 - - -", read_only, 1)
    files = files_of(OPERATOR)
    config = tmp_path / "neti.yml"
    config.write_text(
        f'zk_hosts: {{ec2: ["{secure.server.hosts}"]}}\nzk_prefix: {secure.prefix}\nsite: ec2\n'
        "sites: {ec2: {private: [10.0.0.0/8]}}\nidentity: {id: x, private: 10.9.9.9}\n"
        f"registry_tls: {{ca: {files.ca}, cert: {files.cert}, key: {files.key}}}\n"
    )
    done = CliRunner().invoke(cli, ["registry", "check", "--json", "-c", str(config)])
    found = {(one["code"], one["where"]) for one in json.loads(done.stdout)["findings"]}
    root = secure.prefix
    assert {
        ("forged", f"{root}/ip-map/{forged}"),
        ("record-rights", f"{root}/hosts/grasped"),
        ("children", f"{root}/hosts/grasped"),
        ("record-session", f"{root}/hosts/passing"),
        ("record-format", f"{root}/hosts"),
        ("not-here-yet", f"{root}/hosts"),
    } <= found
    assert not [where for _, where in found if where.endswith((name, former))]


# --- nodes that are taken away ---


def keeps(secure: SecureWorld, path: str) -> str | None:
    root = secure.prefix
    (one,) = secure.open_as(OPERATOR).operate(
        lambda attempt, layout: remove.plan(attempt, layout, [f"{root}/{path}"])
    )
    return one.keeps


def test_a_registered_hosts_record_and_entries_stay_and_what_another_made_goes(
    secure: SecureWorld,
) -> None:
    """Also where another made the document, and an entry in the same session."""
    rogue, host = secure.open_as("host-c"), secure.open_as("host-a")
    read_only = list(rights.READ_ONLY)
    chief = secure.open_as(OPERATOR)
    (parent,) = chief.inspect(lambda attempt, layout: attempt.acls([layout.agents]))
    rogue.inspect(
        lambda attempt, layout: attempt.one(
            Create(layout.agent("a"), b"", rights.of_child(parent), 1)
        )
    )
    name = register(host, "a", 1)
    former, forged = name, name.replace(".0.", ".7.")
    name = register(host, "a", 2, generation=1)
    rogue.inspect(
        lambda attempt, layout: attempt.one(
            Create(layout.name(forged), b"", rights.of_child(parent), 1)
        )
    )
    assert "record of a, which is registered" in (keeps(secure, "hosts/a") or "")
    assert "entry of a" in (keeps(secure, f"ip-map/{name}") or "")
    assert "entry of a" in (keeps(secure, f"ip-map/{former}") or "")
    assert "lease of a" in (keeps(secure, "id-to-ip/a") or "")
    assert keeps(secure, f"ip-map/{forged}") is None
    assert keeps(secure, "agents/a") is None
    rogue.inspect(
        lambda attempt, layout: attempt.one(Create(layout.host("x"), b"1 - - -", read_only, 0))
    )
    assert keeps(secure, "hosts/x") is None


def test_the_record_of_a_host_with_a_lease_goes_with_the_lease(secure: SecureWorld) -> None:
    gone(secure.open_as("host-a"), "a", 1)
    assert "neti lease release a" in (keeps(secure, "hosts/a") or "")


def test_an_admission_is_taken_back(secure: SecureWorld) -> None:
    chief = secure.open_as(OPERATOR)
    chief.operate(lambda attempt, layout: admission.change(attempt, layout, on=True))
    (parent,) = chief.inspect(lambda attempt, layout: attempt.acls([layout.hosts]))
    acl = rights.of_child(parent, also=rights.WRITE, owner=Id("x509", "CN=a,OU=hosts"))
    chief.operate(lambda attempt, layout: attempt.one(Create(layout.host("a"), b"1 - - -", acl, 0)))
    assert keeps(secure, "hosts/a") is None
    chief.operate(
        lambda attempt, layout: remove.carry_out(
            attempt, remove.plan(attempt, layout, [f"{secure.prefix}/hosts/a"])
        )
    )
    with pytest.raises(NotAdmitted):
        register(secure.open_as("host-a"), "a", 1)

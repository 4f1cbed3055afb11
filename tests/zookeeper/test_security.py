"""Mutual TLS and rights on a real ZooKeeper: who may do what, and what the check finds."""

import json
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kazoo.exceptions import NoAuthError
from kazoo.protocol.serialization import Create, Delete, GetACL, SetACL, SetData
from kazoo.security import ACL, Id
from tests.support.recorder import Recorder
from tests.support.zookeeper import (
    SecureWorld,
    ZooKeeperWorld,
    certificates,
    files_of,
    need_zookeeper,
    secure_server,
)

from neti.cli import cli
from neti.errors import IdentityHeld, RegistryError
from neti.fleet.admission import Admission
from neti.fleet.fleet import Fleet
from neti.model import Member, Site, entry
from neti.registry import Appeared, LeaseRead, Snapshot, Vanished
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.layout import OUTSIDE
from neti.registry.zookeeper.probe import Place, serves
from neti.registry.zookeeper.registry import ZooKeeperRegistry
from neti_lab.zookeeper import ServerTLS, ZooKeeperServer

pytestmark = pytest.mark.zookeeper

SUBNET = IPv4Network("192.168.0.0/24")


@pytest.fixture(scope="module")
def two_doors() -> Iterator[ZooKeeperServer]:
    """TLS, and a plain port that somebody left open; stock maxClientCnxns."""
    need_zookeeper()
    security = ServerTLS.of(certificates(), "zk1", plain=True, enforced=False)
    with ZooKeeperServer(tick_ms=200, security=security, connections=60) as server:
        yield server


def send(registry: ZooKeeperRegistry, make: Callable[[str], Any]) -> Any:
    """A request that no agent makes; ``make`` gets the tree's root."""
    return registry.inspect(lambda attempt, layout: attempt.each([make(layout.root)])[0])


def rights_of(registry: ZooKeeperRegistry, path: str) -> list[Any]:
    """Of a node below the root; of the root itself when ``path`` is empty."""
    acl, _ = send(registry, lambda root: GetACL(f"{root}/{path}".rstrip("/")))
    found: list[Any] = acl
    return found


def member(host_id: str, number: int, *, overlay: IPv4Address, generation: int = 0) -> Member:
    return Member(
        id=host_id,
        site="ec2",
        private=IPv4Address(f"10.0.0.{number}"),
        public=None,
        overlay=overlay,
        generation=generation,
    )


def register(registry: ZooKeeperRegistry, one: Member) -> str:
    name = entry.encode(one)
    registry.register(host_id=one.id, name=name, data=b"", detail=b"{}", report=b"{}")
    return name


# --- rights ---


def test_what_a_host_made_is_its_own_and_readable_by_all(secure: SecureWorld) -> None:
    host = secure.open_as("host-a")
    overlay = host.acquire("a", SUBNET)
    name = register(host, member("a", 1, overlay=overlay))
    may = {"agents/a": rights.READ | rights.WRITE, "hosts/a": rights.READ | rights.WRITE}
    lease = (f"ip-to-id/{overlay}", "id-to-ip/a")
    for path in (*lease, f"ip-map/{name}", "agents/a", "hosts/a"):
        acl = rights_of(host, path)
        assert rights.owners(acl) == ["CN=a,OU=hosts"]
        assert rights.granted(acl, ["CN=a,OU=hosts"]) == may.get(path, rights.READ)
        assert [one.id for one in rights.operators(acl)] == ["CN=chief,OU=operators"]
        assert rights.world(acl) == rights.READ


@pytest.mark.parametrize(
    "victim", ["ip-map/{name}", "agents/a", "hosts/a", "ip-to-id/{overlay}", "id-to-ip/a"]
)
def test_a_member_deletes_nothing_of_anybody(secure: SecureWorld, victim: str) -> None:
    """Not another's, and not its own: only operators, or the end of the session."""
    host, other = secure.open_as("host-a"), secure.open_as("host-b")
    overlay = host.acquire("a", SUBNET)
    name = register(host, member("a", 1, overlay=overlay))
    path = victim.format(name=name, overlay=overlay)
    for registry in (other, host):
        answer = send(registry, lambda root: Delete(f"{root}/{path}", -1))
        assert isinstance(answer, NoAuthError)
    assert host.leases() == {overlay: "a"}
    assert host.names() == {name}


@pytest.mark.parametrize(
    "victim", ["", "/ip-map", "/fleet", "/id-to-ip/a", "/agents/a", "/hosts/a"]
)
def test_a_member_writes_nothing_of_others_nor_takes_rights(
    secure: SecureWorld, victim: str
) -> None:
    host, other = secure.open_as("host-a"), secure.open_as("host-b")
    register(host, member("a", 1, overlay=host.acquire("a", SUBNET)))
    for make in (
        lambda root: SetData(f"{root}{victim}", b"b", -1),
        lambda root: SetACL(f"{root}{victim}", list(rights.OPEN), -1),
    ):
        assert isinstance(send(other, make), NoAuthError)


def test_a_member_writes_not_even_its_own_lease(secure: SecureWorld) -> None:
    """Whoever could would give it to another id, and speak for that one."""
    host = secure.open_as("host-a")
    overlay = host.acquire("a", SUBNET)
    answer = send(host, lambda root: SetData(f"{root}/ip-to-id/{overlay}", b"b", -1))
    assert isinstance(answer, NoAuthError)


def test_operators_commands_are_not_a_members(secure: SecureWorld) -> None:
    host, other = secure.open_as("host-a"), secure.open_as("host-b")
    host.acquire("a", SUBNET)
    for call in (
        lambda: other.release("a"),
        lambda: other.move("a", "b"),
        lambda: other.change_setting("interval", b"9"),
        lambda: other.change_setting("release", b"{}"),
    ):
        with pytest.raises(RegistryError, match="operators are CN=chief,OU=operators"):
            call()
    assert list(host.leases().values()) == ["a"]
    secure.open_as("operator-chief").change_setting("release", b"{}")
    with pytest.raises(RegistryError, match="operators are CN=chief,OU=operators"):
        other.change_setting("release", b"others")
    assert other.setting("release") == b"{}"


def test_a_moved_lease_belongs_to_its_new_host(secure: SecureWorld) -> None:
    host, new, chief = map(secure.open_as, ("host-a", "host-b", "operator-chief"))
    overlay = host.acquire("a", SUBNET)
    new.acquire("b", SUBNET)
    chief.move("a", "b")
    assert rights.owners(rights_of(new, f"ip-to-id/{overlay}")) == ["CN=b,OU=hosts"]


def test_without_a_certificate_nobody_does_anything(secure: SecureWorld) -> None:
    host = secure.open_as("host-a")
    assert host.leases() == {}
    place = Place.of(secure.server.hosts)
    assert serves(place, files_of("host-a")) is False
    assert serves(place, None) is False


# --- going, where nobody may delete ---


def test_leaving_is_seen_as_leaving_and_outlives_the_agent(secure: SecureWorld) -> None:
    """The departure comes before the name goes, and stays for those who are away just then."""
    host, recorder = secure.open_as("host-a"), Recorder()
    secure.open_as("host-b").watch(recorder)
    recorder.until_fresh()
    one = member("a", 1, overlay=host.acquire("a", SUBNET))
    name, word = register(host, one), entry.encode_departure(one)
    host.leave(host_id="a", name=name, departure=word)
    host.detach()
    recorder.until_picture(word)
    assert recorder.changes() == [Appeared(name), Appeared(word), Vanished(name)]
    assert secure.open_as("host-b").details() == []


# --- init ---


def test_a_tree_is_wanted_before_agents_work_and_they_wait_for_it() -> None:
    world = ZooKeeperWorld(secure_server())
    host = ZooKeeperRegistry(
        [world.server.hosts], prefix=world.prefix, session_seconds=4, files=files_of("host-a")
    )
    recorder = Recorder()
    host.watch(recorder)
    recorder.until(lambda seen: any("neti registry init" in str(e) for e in seen.events))
    with pytest.raises(RegistryError, match="neti registry init"):
        host.acquire("a", SUBNET)
    chief = ZooKeeperRegistry(
        [world.server.hosts], prefix=world.prefix, files=files_of("operator-chief")
    )
    chief.init(chief.plan_init())
    recorder.until_fresh()
    assert recorder.of(Snapshot)[-1].origin.fleet
    assert host.acquire("a", SUBNET) in SUBNET
    host.close()
    chief.close()


def test_init_closes_what_was_open_says_it_first_and_is_done_after_once(
    two_doors: ZooKeeperServer,
) -> None:
    prefix = "/once-open"
    plain = ZooKeeperRegistry([f"127.0.0.1:{two_doors.plain_port}"], prefix=prefix)
    overlay = plain.acquire("a", SUBNET)
    name = register(plain, member("a", 1, overlay=overlay))
    plain.change_setting("interval", b"1")
    chief = ZooKeeperRegistry([two_doors.hosts], prefix=prefix, files=files_of("operator-chief"))
    planned = chief.plan_init(["CN=other,OU=operators"])
    said = {step.path.removeprefix(prefix) for step in planned.steps}
    assert said == {
        *("", "/ip-to-id", "/id-to-ip", "/ip-map", "/agents", "/reports", "/hosts", "/keys"),
        *("/fleet", "/interval"),
        *(f"/ip-to-id/{overlay}", "/id-to-ip/a", f"/ip-map/{name}"),
        *("/agents/a", "/reports/a", "/hosts/a"),
    }
    assert rights.harmful(rights_of(chief, "id-to-ip/a")), "a plan changes nothing"
    chief.init(planned)
    assert chief.records() == {}, "a record that belongs to nobody is nobody's lock"
    for path in said - {"/hosts/a", "/agents/a", "/reports/a"}:
        acl = rights_of(chief, path.lstrip("/"))
        assert not rights.harmful(acl), path
        assert len(rights.operators(acl)) == 2
    assert chief.plan_init().steps == (), "and the other operator stays"
    with pytest.raises(RegistryError, match="knows none of this client"):
        plain.acquire("b", SUBNET)
    plain.close()
    chief.close()


def test_a_host_that_used_tls_while_everything_was_open_registers_again_after_init(
    two_doors: ZooKeeperServer,
) -> None:
    prefix = "/open-behind-tls"
    plain = ZooKeeperRegistry([f"127.0.0.1:{two_doors.plain_port}"], prefix=prefix)
    plain.acquire("z", SUBNET)  # lays out the tree
    host = ZooKeeperRegistry([two_doors.hosts], prefix=prefix, files=files_of("host-a"))
    overlay = host.acquire("a", SUBNET)
    register(host, member("a", 1, overlay=overlay))
    chief = ZooKeeperRegistry([two_doors.hosts], prefix=prefix, files=files_of("operator-chief"))
    planned = chief.plan_init()
    assert set(planned.without_owner) == {"a", "z"}, "said before it is done, too"
    session = host.inspect(lambda attempt, _: attempt.session_id)
    chief.init(planned)
    register(host, member("a", 1, overlay=overlay, generation=1))
    host.describe("a", b'{"stage": "shadow"}')
    assert host.inspect(lambda attempt, _: attempt.session_id) == session
    for path in ("hosts/a", "agents/a", "reports/a"):
        assert rights.owners(rights_of(chief, path)) == ["CN=a,OU=hosts"], path
    for each in (plain, host, chief):
        each.close()


@pytest.mark.parametrize("node", ["agents", "reports"])
def test_a_document_that_its_host_may_not_write_any_more_goes_with_the_session(
    secure: SecureWorld, node: str
) -> None:
    """As an ``init`` of an earlier version leaves it."""
    host, chief = secure.open_as("host-a"), secure.open_as("operator-chief")
    overlay = host.acquire("a", SUBNET)

    def close_document() -> None:
        acl = rights.closed(["CN=chief,OU=operators"], members=rights.READ)
        answer = send(chief, lambda root: SetACL(f"{root}/{node}/a", acl, -1))
        assert not isinstance(answer, Exception)

    register(host, member("a", 1, overlay=overlay))
    close_document()
    register(host, member("a", 1, overlay=overlay, generation=1))
    assert rights.owners(rights_of(chief, f"{node}/a")) == ["CN=a,OU=hosts"]

    close_document()
    with pytest.raises(RegistryError, match="register it first"):
        host.describe("a", b"{}", b"{}")
    register(host, member("a", 1, overlay=overlay, generation=2))
    assert rights.owners(rights_of(chief, f"{node}/a")) == ["CN=a,OU=hosts"]


# --- claims of others ---


def test_a_clone_with_a_certificate_of_its_own_gets_neither_id_nor_lease(
    secure: SecureWorld,
) -> None:
    host, clone = secure.open_as("host-a"), secure.open_as("host-b")
    overlay = host.acquire("a", SUBNET)
    name = register(host, member("a", 1, overlay=overlay))
    with pytest.raises(IdentityHeld, match="host id a is registered"):
        register(clone, member("a", 9, overlay=overlay, generation=1))
    assert host.names() == {name}


def test_a_claim_on_anothers_address_takes_nothing_and_is_named(secure: SecureWorld) -> None:
    """Of a live host's overlay address, of an absent host's leased one, of a private address."""
    host, rogue, absent = map(secure.open_as, ("host-a", "host-b", "host-c"))
    overlay, leased = host.acquire("a", SUBNET), absent.acquire("c", SUBNET)
    absent.close()
    register(host, member("a", 1, overlay=overlay))
    own = rogue.acquire("b", SUBNET)
    forged = [
        register(rogue, member("b", 9, overlay=overlay, generation=7)),
        register(rogue, member("b", 9, overlay=leased, generation=8)),
        register(rogue, member("b", 1, overlay=own, generation=0)),
    ]
    fleet = seen_by(secure.open_as("host-c"))
    assert fleet.members["a"].overlay == overlay
    assert fleet.members["a"].private == IPv4Address("10.0.0.1")
    assert fleet.members["b"].overlay == own
    assert "c" not in fleet.members
    assert fleet.skipped()[forged[0]] == f"overlay address {overlay} is leased to a"
    assert fleet.skipped()[forged[1]] == f"overlay address {leased} is leased to c"
    assert fleet.shared_private() == [("ec2", IPv4Address("10.0.0.1"), ("a", "b"))]


def seen_by(registry: ZooKeeperRegistry) -> Fleet:
    """What an agent makes of the registry, its questions asked."""
    fleet = Fleet(
        Admission(
            sites={"ec2": Site(name="ec2", private=(IPv4Network("10.0.0.0/8"),))},
            overlay_subnet=SUBNET,
            reserved=frozenset(),
        ),
        linger_seconds=600,
    )
    recorder = Recorder()
    registry.watch(recorder)
    recorder.until_fresh()
    fleet.snapshot(recorder.of(Snapshot)[-1].names, now=time.time())
    asked = fleet.questions().leases
    registry.ask(asked)
    recorder.until(lambda seen: len(seen.of(LeaseRead)) == len(asked))
    for read in recorder.of(LeaseRead):
        fleet.lease_read(read.overlay, read.host_id)
    return fleet


# --- the check ---


def check(
    server: ZooKeeperServer, folder: Path, prefix: str, *options: str, plain: bool = False
) -> dict[str, Any]:
    """The command's JSON, and its exit code under ``code``."""
    files = files_of("operator-chief")
    port = server.plain_port if plain else server.port
    config = folder / "neti.yml"
    tls = f"registry_tls: {{ca: {files.ca}, cert: {files.cert}, key: {files.key}}}\n"
    config.write_text(
        f'zk_hosts: {{ec2: ["127.0.0.1:{port}"]}}\nzk_prefix: {prefix}\nsite: ec2\n'
        "sites: {ec2: {private: [10.0.0.0/8]}}\nidentity: {id: x, private: 10.9.9.9}\n"
        + ("" if plain else tls)
    )
    result = CliRunner().invoke(cli, ["registry", "check", "--json", "-c", str(config), *options])
    assert result.exit_code in (0, 1), result.output
    return {**json.loads(result.stdout), "code": result.exit_code}


def faults(told: dict[str, Any], severity: str = "fault") -> list[str]:
    return [f"{f['where']}: {f['what']}" for f in told["findings"] if f["severity"] == severity]


def test_what_stands_beside_the_tree_is_named_and_closed_for_whoever_asks(
    limited: SecureWorld, tmp_path: Path
) -> None:
    chief, other = limited.open_as("operator-chief"), limited.open_as("host-b")
    told = check(limited.server, tmp_path, limited.prefix)
    (named,) = [one for one in told["findings"] if one["code"] == "open-root"]
    assert (named["severity"], named["where"]) == ("note", ", ".join(OUTSIDE))
    assert named["then"] == "neti registry init --close-root"
    assert not [step for step in chief.plan_init().steps if step.path in OUTSIDE]

    assert chief.init(chief.plan_init(close_root=True)) == []
    assert chief.plan_init(close_root=True).nothing
    for path in ("/beside", "/zookeeper/beside", "/zookeeper/quota/test"):
        answer = send(other, lambda _, p=path: Create(p, b"", list(rights.OPEN), 0))  # type: ignore[misc]
        assert isinstance(answer, NoAuthError)
    told = check(limited.server, tmp_path, limited.prefix)
    assert not [one for one in told["findings"] if one["code"] in ("open-root", "root-rights")]
    register(other, member("b", 1, overlay=other.acquire("b", SUBNET)))


def test_who_took_the_rights_of_the_root_is_named(limited: SecureWorld, tmp_path: Path) -> None:
    """Then only the super user closes it; the rest is closed all the same."""
    chief, taker = limited.open_as("operator-chief"), limited.open_as("host-b")
    own = [ACL(rights.ALL, Id("x509", "CN=b,OU=hosts")), *rights.READ_ONLY]
    send(taker, lambda _: SetACL("/", own, -1))
    told = check(limited.server, tmp_path, limited.prefix)
    (taken,) = [one for one in told["findings"] if one["code"] == "root-rights"]
    assert (taken["severity"], taken["where"]) == ("warning", "/")
    assert taken["what"].startswith("CN=b,OU=hosts may make nodes there")
    assert chief.init(chief.plan_init(close_root=True)) == ["/"]
    assert [step.path for step in chief.plan_init(close_root=True).steps] == ["/"]
    root = limited.open_as("super-root")
    assert root.init(root.plan_init(close_root=True)) == []
    told = check(limited.server, tmp_path, limited.prefix)
    assert not [one for one in told["findings"] if one["code"] in ("open-root", "root-rights")]


def test_a_closed_registry_has_nothing_to_find_on_debian_either(
    limited: SecureWorld, tmp_path: Path
) -> None:
    """Debian's package has the fix and not its number: what can be tried is tried."""
    host = limited.open_as("host-a")
    register(host, member("a", 1, overlay=host.acquire("a", SUBNET)))
    told = check(limited.server, tmp_path, limited.prefix)
    assert faults(told) == []
    assert faults(told, "warning") == []
    assert told["code"] == 0
    assert "came with CVE-2024-23944: tried here, and mended" in "\n".join(faults(told, "note"))
    assert check(limited.server, tmp_path, limited.prefix, "--accept", "clock")["code"] == 0


def test_a_registration_that_no_session_holds_is_found(secure: SecureWorld, tmp_path: Path) -> None:
    """Made by hand without the ephemeral flag: the host cannot register, and it never ends."""
    rogue = secure.open_as("host-b")
    send(rogue, lambda root: Create(f"{root}/agents/web-1", b"", [*rights.READ_ONLY], 0))
    (fault,) = faults(check(secure.server, tmp_path, secure.prefix))
    assert "/agents/web-1: belongs to no session" in fault


def test_an_open_door_and_too_few_connections_are_found(
    two_doors: ZooKeeperServer, tmp_path: Path
) -> None:
    prefix = "/open-door"
    plain = ZooKeeperRegistry([f"127.0.0.1:{two_doors.plain_port}"], prefix=prefix)
    plain.acquire("a", SUBNET)
    plain.close()
    told = check(two_doors, tmp_path, prefix, "--plain-port", str(two_doors.plain_port))
    assert told["code"] == 1
    text = "\n".join(faults(told))
    assert f"127.0.0.1:{two_doors.plain_port}: a plain port is open" in text
    assert f"{prefix}: 11 nodes can be written or emptied by anyone" in text
    assert "maxClientCnxns is 60" in "\n".join(faults(told, "warning"))
    assert "1 lease is of hosts that are not registered" in "\n".join(faults(told, "note"))
    told = check(two_doors, tmp_path, prefix, plain=True)
    assert told["code"] == 1
    assert "registry_tls: is not configured" in faults(told, "warning")[0]


def test_half_leases_and_wrong_owners_are_found(secure: SecureWorld, tmp_path: Path) -> None:
    host, rogue = secure.open_as("host-a"), secure.open_as("host-b")
    overlay = host.acquire("a", SUBNET)
    closed = [*rights.READ_ONLY]
    send(rogue, lambda root: Create(f"{root}/ip-to-id/192.168.0.250", b"ghost", closed, 0))
    send(rogue, lambda root: Create(f"{root}/id-to-ip/lonely", b"192.168.0.251", closed, 0))
    register(rogue, member("a", 5, overlay=overlay))  # speaks for an absent host
    text = "\n".join(faults(check(secure.server, tmp_path, secure.prefix)))
    assert "/ip-to-id/192.168.0.250: says ghost, whose own half says nothing" in text
    assert "/id-to-ip/lonely: says 192.168.0.251, whose own half says nothing" in text
    assert "a: its nodes belong to different certificates" in text
    assert "CN=b,OU=hosts" in text


def test_a_tree_that_is_not_there_and_a_server_that_is_not_there_are_faults(
    secure: SecureWorld, tmp_path: Path
) -> None:
    assert (
        "is missing. If the registry was wiped: 'neti registry import FILE'"
        in faults(check(secure.server, tmp_path, "/never-laid-out"))[0]
    )

"""What operators say about hosts' records, on a real ZooKeeper with TLS and rights."""

import json
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from kazoo.protocol.serialization import Create, Delete, SetACL, SetData
from kazoo.security import ACL, Id
from tests.support.zookeeper import SecureWorld, ZooKeeperWorld, files_of

from neti.cli import cli
from neti.config import load
from neti.errors import IdentityHeld, NotAdmitted, NoTree, RegistryError
from neti.model import Member, entry
from neti.oneshot.registered import read, unregistered
from neti.registry import detail
from neti.registry.admitted import Asked
from neti.registry.zookeeper import admission as work
from neti.registry.zookeeper import admitted_leases, import_tree, rights
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.layout import Layout
from neti.registry.zookeeper.registry import ZooKeeperRegistry

pytestmark = pytest.mark.zookeeper

SUBNET = IPv4Network("192.168.0.0/24")


class Operator:
    """Types commands, with an operator's certificate or another one."""

    def __init__(self, world: ZooKeeperWorld, folder: Path) -> None:
        self.world = world
        self.folder = folder
        self.prefix = world.prefix

    def run(self, *arguments: str, stem: str | None = "operator-chief") -> Result:
        config = self.folder / "neti.yml"
        tls = ""
        if stem is not None:
            files = files_of(stem)
            tls = f"registry_tls: {{ca: {files.ca}, cert: {files.cert}, key: {files.key}}}\n"
        config.write_text(
            f'zk_hosts: {{ec2: ["{self.world.server.hosts}"]}}\nzk_prefix: {self.prefix}\n'
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
    register(host, "host-a", 1)
    host.describe("host-a", detail.encode(detail.Document(encryption="require")))
    refused = operator.run("strict", "off", "--yes")
    assert refused.exit_code == 1
    assert "1 registered host requires encryption (host-a)" in refused.stderr
    assert (host.setting("strict") or b"").startswith(b"on ")
    assert operator.run("strict", "off", "--yes", "--anyway").exit_code == 0
    assert "1 host requires encryption" in operator.run("strict").stdout
    assert operator.run("strict", "on").exit_code == 0
    host.describe("host-a", detail.encode(detail.Document(encryption="prefer")))
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


# --- admission ---


def owners(secure: SecureWorld, *paths: str) -> list[list[str]]:
    def look(attempt: Attempt, layout: Layout) -> list[list[str]]:
        return [rights.owners(acl) for acl in attempt.acls([f"{layout.root}/{p}" for p in paths])]

    return secure.open_as("host-c").inspect(look)


def interrupt_init(secure: SecureWorld) -> None:
    """As it stands when 'neti registry init' is killed before its end."""
    acl = rights.closed(["CN=chief,OU=operators"], members=rights.READ)

    def mark(attempt: Attempt, layout: Layout) -> None:
        attempt.one(SetData(layout.hosts, b"init", -1))
        attempt.one(SetACL(layout.hosts, acl, -1))

    secure.open_as("operator-chief").operate(mark)


def test_admission_that_was_turned_on_after_an_interrupted_init_stays_on(
    secure: SecureWorld, operator: Operator
) -> None:
    register(secure.open_as("host-a"), "a", 1)
    interrupt_init(secure)
    told = operator.told("admission")
    assert (told["admission"], told["interrupted"]) == (False, True)
    assert "neti registry init" in operator.run("admission").stderr

    drop_record(secure, "a")
    assert operator.run("admission", "on").exit_code == 1, "a could not register any more"
    assert operator.told("admit", "a")["refused"] == []
    assert operator.told("admission", "on")["changed"] is True
    assert operator.told("init")["changes"] == []
    told = operator.told("admission")
    assert (told["admission"], told["interrupted"]) == (True, False)


def test_an_interrupted_init_is_not_opened_by_turning_admission_off(
    secure: SecureWorld, operator: Operator
) -> None:
    interrupt_init(secure)
    refused = operator.run("admission", "off")
    assert refused.exit_code == 1
    assert "→ neti registry init" in refused.stderr
    with pytest.raises(NotAdmitted):
        register(secure.open_as("host-a"), "a", 1)


def test_an_interrupted_init_is_exported_as_no_admission_and_named_by_import(
    secure: SecureWorld, operator: Operator, tmp_path: Path
) -> None:
    file = tmp_path / "export.json"
    interrupt_init(secure)
    assert operator.run("export", str(file)).exit_code == 0
    assert json.loads(file.read_text())["admission"] is False
    done = operator.run("import", str(file))
    assert done.exit_code == 1
    assert "'neti registry init' was interrupted" in done.stderr

    file.write_text(file.read_text().replace('"admission": false', '"admission": true'))
    done = operator.run("import", str(file))
    assert done.exit_code == 1
    assert "'neti registry admission on' makes it so" in done.stderr


def test_a_member_that_admits_hears_who_may(secure: SecureWorld, operator: Operator) -> None:
    assert operator.told("admission", "on")["changed"] is True
    done = operator.run("admit", "b", "CN=b,OU=hosts", stem="host-a")
    assert done.exit_code == 1
    assert "an operator's certificate is needed" in done.stderr
    assert "remove" not in done.stderr


def test_a_certificate_that_another_host_has_already_is_named_before_it_gets_an_id(
    secure: SecureWorld, operator: Operator
) -> None:
    register(secure.open_as("host-a"), "a", 1)
    register(secure.open_as("host-b"), "b", 2)
    words = ("admit", "--replace", "b", "CN=a,OU=hosts", "--dry-run")
    assert "CN=a,OU=hosts is the certificate of a already" in operator.run(*words).stderr
    words = ("admit", "--replace", "b", "CN=new,OU=hosts", "--dry-run")
    assert "already" not in operator.run(*words).stderr


def test_an_id_that_is_admitted_already_is_not_called_unknown(
    secure: SecureWorld, operator: Operator
) -> None:
    operator.told("admission", "on")
    assert operator.told("admit", "b", "CN=b,OU=hosts")["refused"] == []
    assert operator.told("admit", "b")["already"] == ["b"]
    secure.open_as("operator-chief").release("b")  # it stays admitted, and has no lease
    done = operator.run("admit", "b")
    assert done.exit_code == 1
    assert "→ neti registry admit b CN=b,OU=hosts" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("strict",),
        ("strict", "on"),
        ("admission",),
        ("admit", "a", "CN=a,OU=hosts"),
        ("export", "-"),
    ],
)
def test_where_the_tree_is_gone_import_is_named_before_init(
    secure: SecureWorld, tmp_path: Path, words: tuple[str, ...]
) -> None:
    operator = Operator(secure, tmp_path)
    operator.prefix = "/wiped"
    said = operator.run(*words)
    assert said.exit_code == 1
    assert 0 < said.stderr.find("neti registry import") < said.stderr.find("neti registry init")


def test_a_listing_of_a_tree_that_is_gone_is_not_empty_but_refused(secure: SecureWorld) -> None:
    chief = secure.open_as("operator-chief")
    assert chief.names() == frozenset()
    chief.operate(
        lambda attempt, layout: [
            attempt.one(Delete(path, -1)) for path in (layout.ip_map, layout.ip_to_id)
        ]
    )
    for look in (chief.names, chief.leases):
        with pytest.raises(NoTree, match="neti registry import"):
            look()


def test_with_admission_only_who_was_admitted_can_begin(
    secure: SecureWorld, operator: Operator
) -> None:
    assert operator.told("admission", "on")["changed"] is True
    assert operator.told("admission", "on")["changed"] is False
    host = secure.open_as("host-a")
    with pytest.raises(NotAdmitted, match="neti registry admit a"):
        register(host, "a", 1)
    assert host.names() == frozenset()

    refused = operator.run("admit", "b")
    assert refused.exit_code == 1
    assert "b was not admitted: it has no lease that would tell its certificate" in refused.stderr
    told = operator.told("admit", "b", "--subject", "CN={id},OU=hosts")
    assert told["admitted"] == [{"id": "b", "subject": "CN=b,OU=hosts"}]
    register(secure.open_as("host-b"), "b", 2)
    # The lease that it took in vain tells its certificate.
    assert operator.told("admit", "a")["admitted"] == [{"id": "a", "subject": "CN=a,OU=hosts"}]
    with pytest.raises(IdentityHeld):
        register(secure.open_as("host-c"), "a", 3)
    register(host, "a", 1)

    assert operator.told("admission", "off")["changed"] is True
    register(secure.open_as("host-c"), "c", 3)


def test_init_does_not_let_members_begin_hosts_again(
    secure: SecureWorld, operator: Operator
) -> None:
    operator.told("admission", "on")
    assert operator.run("init").exit_code == 0
    assert operator.told("admission")["admission"] is True


def test_admission_waits_for_hosts_without_a_record(
    secure: SecureWorld, operator: Operator
) -> None:
    register(secure.open_as("host-a"), "a", 1)
    secure.open_as("host-b").acquire("b", SUBNET)
    refused = operator.run("admission", "on")
    assert refused.exit_code == 1
    assert "1 host holds a lease and has no record and could not register any more: b" in (
        refused.stderr
    )
    assert operator.told("admission")["admission"] is False
    told = operator.told("admission", "on", "--anyway")
    assert (told["admission"], told["without_record"]) == (True, ["b"])


def test_who_is_admitted_from_a_file_owns_its_record_and_nothing_changes_twice(
    secure: SecureWorld, operator: Operator, tmp_path: Path
) -> None:
    listed = tmp_path / "hosts.csv"
    listed.write_text('id,subject\na,"CN=a,OU=hosts"\nb,CN=b,OU=hosts\nold,CN=b,OU=hosts\n')
    assert len(operator.told("admit", "--from", str(listed), "--dry-run")["admitted"]) == 3
    assert secure.open_as("host-a").records() == {}
    done = operator.run("admit", "--from", str(listed))
    assert "CN=b,OU=hosts is the certificate of 2 hosts (b, old)" in done.stderr
    assert owners(secure, "hosts/a", "hosts/b") == [["CN=a,OU=hosts"], ["CN=b,OU=hosts"]]
    again = operator.told("admit", "--from", str(listed))
    assert (again["admitted"], len(again["already"])) == ([], 3)


def test_an_id_that_is_admitted_holds_an_address_of_its_own_before_its_host_comes(
    secure: SecureWorld, operator: Operator
) -> None:
    operator.told("admission", "on")
    operator.told("admit", "a", "b", "--subject", "CN={id},OU=hosts")
    chief = secure.open_as("operator-chief")
    held = {host_id: overlay for overlay, host_id in chief.leases().items()}
    assert held.keys() == {"a", "b"}
    paths = [path for i, o in held.items() for path in (f"id-to-ip/{i}", f"ip-to-id/{o}")]
    assert [each for [each] in owners(secure, *paths)] == [f"CN={i},OU=hosts" for i in "aabb"]
    register(secure.open_as("host-a"), "a", 1)
    assert {host_id: overlay for overlay, host_id in chief.leases().items()} == held


def test_who_was_admitted_and_never_came_is_missed_by_nobody(
    secure: SecureWorld, operator: Operator
) -> None:
    """Who lost its registry is missed."""
    host, chief = secure.open_as("host-a"), secure.open_as("operator-chief")
    register(host, "a", 1)
    operator.told("admit", "b", "CN=b,OU=hosts")
    host.close()
    settings = load(operator.folder / "neti.yml")
    assert unregistered(settings, chief) == {"a"}
    assert read(settings, chief).leases.keys() == {"a"}
    found = operator.run("check").stdout
    assert "1 record is of hosts that have not registered (b)" in found
    assert "1 lease is of hosts that are not registered now (a)" in found
    file = exported(operator)
    wipe(secure)
    operator.told("import", str(file))
    assert unregistered(settings, chief) == {"a"}


def test_whom_an_import_that_was_killed_has_given_its_lease_is_missed(
    secure: SecureWorld, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one finds no lease missing, and makes the records."""
    host, chief = secure.open_as("host-a"), secure.open_as("operator-chief")
    register(host, "a", 1)
    operator.told("admit", "b", "CN=b,OU=hosts")
    host.close()
    file, settings = exported(operator), load(operator.folder / "neti.yml")
    wipe(secure)

    def only_leases(*given: Any) -> None:
        attempt, layout, planned, *more = given
        carry_out(attempt, layout, replace(planned, hosts=(), settings={}), *more)

    carry_out = import_tree.carry_out
    with monkeypatch.context() as patched:
        patched.setattr(import_tree, "carry_out", only_leases)
        assert operator.run("import", str(file)).exit_code == 1
    told = operator.told("import", str(file))
    assert (told["leases"], told["hosts"]) == ([], ["a", "b"])
    assert unregistered(settings, chief) == {"a"}


def test_hundreds_are_admitted_while_hosts_take_addresses(secure: SecureWorld) -> None:
    """More than one part of them, in a subnet that has hardly more addresses."""
    subnet = IPv4Network("192.168.0.0/22")
    chief, host = secure.open_as("operator-chief"), secure.open_as("host-b")
    asked = [Asked(f"host-{number}", f"CN=host-{number},OU=hosts") for number in range(700)]

    def admit(attempt: Attempt, layout: Layout) -> list[work.Refused]:
        steps, refused = work.plan(attempt, layout, asked, subnet=subnet)
        # What came since it was looked at: the lease of one, and many addresses.
        taken = [host.acquire("host-7", subnet)]
        taken += [host.acquire(f"other-{number}", subnet) for number in range(200)]
        with pytest.MonkeyPatch.context() as patch:  # they come after the listing as well
            patch.setattr(admitted_leases, "_taken", lambda *_: set())
            refused += work.carry_out(attempt, layout, steps, subnet)
        return refused

    (refused,) = chief.operate(admit)
    assert refused.id == "host-7"
    assert "it belongs to CN=b,OU=hosts" in refused.why
    held = list(chief.leases().values())
    assert len(held) == len(set(held)) == 900
    assert len(chief.records()) == 699


def test_where_addresses_end_nobody_is_admitted_without_one(secure: SecureWorld) -> None:
    subnet = IPv4Network("192.168.0.0/29")
    asked = [Asked(f"host-{number}", f"CN=host-{number},OU=hosts") for number in range(8)]

    def admit(attempt: Attempt, layout: Layout) -> list[work.Refused]:
        steps, _ = work.plan(attempt, layout, asked, subnet=subnet)
        return work.carry_out(attempt, layout, steps, subnet)

    refused = secure.open_as("operator-chief").operate(admit)
    assert [one.id for one in refused] == ["host-6", "host-7"]
    assert "no overlay address is free for host-6" in refused[0].why
    assert len(secure.open_as("host-a").records()) == 6


def test_a_subnet_that_is_hardly_the_fleets_is_warned_of_and_can_be_put_right(
    secure: SecureWorld, operator: Operator
) -> None:
    """A host refuses such a lease."""
    other, chief = IPv4Network("192.168.7.0/24"), secure.open_as("operator-chief")
    secure.open_as("host-b").acquire("b", other)
    done = operator.run("admit", "a", "CN=a,OU=hosts")
    assert done.exit_code == 0
    assert "none of the registry's leases (1) is of it" in done.stderr
    assert chief.lease_of("a") in SUBNET

    def again(attempt: Attempt, layout: Layout) -> list[work.Refused]:
        asked = [Asked("a", "CN=a,OU=hosts")]
        steps, _ = work.plan(attempt, layout, asked, subnet=other)
        return work.carry_out(attempt, layout, steps, other)

    assert chief.operate(again) == []
    assert secure.open_as("host-a").acquire("a", other) in other


def test_an_id_goes_to_another_certificate_only_when_that_is_meant(
    secure: SecureWorld, operator: Operator
) -> None:
    host, new = secure.open_as("host-a"), secure.open_as("host-b")
    register(host, "a", 1)
    overlay = host.lease_of("a")
    refused = operator.run("admit", "a", "CN=b,OU=hosts")
    assert refused.exit_code == 1
    assert "neti registry admit --replace a CN=b,OU=hosts" in refused.stderr
    assert operator.run("admit", "a", "CN=b,OU=hosts", "--replace").exit_code == 1  # not asked
    done = operator.run("admit", "a", "CN=b,OU=hosts", "--replace", "--yes")
    assert done.exit_code == 0, done.output
    paths = ("hosts/a", "id-to-ip/a", f"ip-to-id/{overlay}")
    assert owners(secure, *paths) == [["CN=b,OU=hosts"]] * 3
    # Who is registered stays vouched for until it registers anew.
    assert operator.told("strict", "--dry-run")["not_vouched"] == []
    host.close()
    register(new, "a", 1)
    assert operator.run("admit", "a", "CN=a,OU=hosts", stem="host-b").exit_code == 1


def test_a_lease_that_somebody_took_beforehand_does_not_tell_whose_an_id_is(
    secure: SecureWorld, operator: Operator
) -> None:
    secure.open_as("host-b").acquire("a", SUBNET)  # a has not begun yet
    refused = operator.run("admit", "a", "--subject", "CN={id},OU=hosts")
    assert refused.exit_code == 1
    assert "belongs to CN=b,OU=hosts, and --subject says CN=a,OU=hosts" in refused.stderr
    assert secure.open_as("host-a").records() == {}
    done = operator.run("admit", "a", "CN=a,OU=hosts", "--replace", "--yes")
    assert done.exit_code == 0, done.output
    assert owners(secure, "hosts/a", "id-to-ip/a") == [["CN=a,OU=hosts"]] * 2


@pytest.mark.parametrize("lease_too", [False, True])
def test_a_record_without_an_owner_is_given_one(
    secure: SecureWorld, operator: Operator, lease_too: bool
) -> None:
    """As after a time when the tree was open, and anybody's."""
    chief, host = secure.open_as("operator-chief"), secure.open_as("host-a")
    register(host, "a", 1)
    overlay = host.lease_of("a")
    paths = ["hosts/a", *(["id-to-ip/a", f"ip-to-id/{overlay}"] if lease_too else [])]
    acl = rights.closed(["CN=chief,OU=operators"], members=rights.READ)
    chief.operate(
        lambda attempt, layout: attempt.each(
            [SetACL(f"{layout.root}/{path}", acl, -1) for path in paths]
        )
    )
    assert owners(secure, *paths) == [[] for _ in paths]
    told = operator.told("admit", "a", *(["--subject", "CN={id},OU=hosts"] if lease_too else []))
    assert told["admitted"] == [{"id": "a", "subject": "CN=a,OU=hosts"}]
    assert owners(secure, *paths) == [["CN=a,OU=hosts"] for _ in paths]
    host.close()
    register(secure.open_as("host-a"), "a", 1)


def test_new_instances_are_admitted_as_they_come(
    secure: SecureWorld, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns = [["a"], ["a"], ["a", "b"]]
    seen: list[Any] = []

    def instances(*_: Any) -> list[Asked]:
        if not turns:
            raise KeyboardInterrupt
        seen.append(secure.open_as("host-a").records().keys())
        return [Asked(i) for i in turns.pop(0)]

    monkeypatch.setattr("neti.cli.registry_admit._instances", instances)
    monkeypatch.setattr("neti.cli.aws.common.time.sleep", lambda _: None)
    options = ["--aws", "--subject", "CN={id},OU=hosts", "--follow", "30"]
    done = operator.run("admit", *options)
    assert done.exit_code == 130
    assert [set(each) for each in seen] == [set(), {"a"}, {"a"}]
    assert done.stdout.count("1 host admitted") == 2
    assert owners(secure, "hosts/b") == [["CN=b,OU=hosts"]]


def test_in_an_open_tree_there_is_nobody_to_admit(world: ZooKeeperWorld, tmp_path: Path) -> None:
    register(world.open(), "a", 1)
    for words in (["admit", "a", "CN=a"], ["admission"], ["admission", "on"]):
        done = Operator(world, tmp_path).run(*words, stem=None)
        assert done.exit_code == 1
        assert "no access rights" in done.stderr


# --- export and import ---


def wipe(secure: SecureWorld) -> None:
    """By the super user, whom no rights hold back."""

    def every(attempt: Attempt, layout: Layout) -> None:
        layers = [[layout.root]]
        while layers[-1]:
            layers.append([f"{p}/{name}" for p in layers[-1] for name in attempt.names(p)])
        for paths in reversed(layers):
            attempt.each([Delete(path, -1) for path in paths])

    secure.open_as("super-root").operate(every)


def exported(operator: Operator) -> Path:
    file = operator.folder / "export.json"
    done = operator.run("export", str(file))
    assert done.exit_code == 0, done.output
    return file


def test_after_a_wipe_everything_has_its_owner_again(
    secure: SecureWorld, operator: Operator
) -> None:
    a, b = secure.open_as("host-a"), secure.open_as("host-b")
    b.acquire("b", SUBNET)  # the older lease
    register(a, "a", 1)
    operator.run("admit", "b")
    operator.run("admit", "c", "CN=c,OU=hosts")
    operator.run("admission", "on")
    operator.run("strict", "on")
    secure.open_as("operator-chief").change_setting("maxchange", b"7")
    file, leases = exported(operator), list(a.leases().items())
    assert file.stat().st_mode & 0o777 == 0o600
    assert operator.told("import", str(file))["hosts"] == []  # nothing is missing
    a.close()
    wipe(secure)

    told = operator.told("import", str(file), "--dry-run")
    assert (told["laid_out"], told["hosts"]) == (True, ["a", "b", "c"])
    with pytest.raises(NoTree):
        b.leases()
    told = operator.told("import", str(file))
    assert told["differs"] == []
    assert list(b.leases().items()) == leases
    assert [i for _, i in leases] == ["b", "a", "c"]
    assert owners(secure, "hosts/a", "hosts/b", "hosts/c", "id-to-ip/a") == [
        ["CN=a,OU=hosts"],
        ["CN=b,OU=hosts"],
        ["CN=c,OU=hosts"],
        ["CN=a,OU=hosts"],
    ]
    assert b.setting("maxchange") == b"7"
    assert operator.told("strict")["strict"] is True
    assert operator.told("admission")["admission"] is True
    with pytest.raises(IdentityHeld):
        register(b, "a", 9)
    register(secure.open_as("host-a"), "a", 1)
    with pytest.raises(NotAdmitted):
        register(secure.open_as("host-c"), "d", 4)
    again = operator.told("import", str(file))
    assert (again["laid_out"], again["hosts"], again["leases"]) == (False, [], [])
    assert operator.told("init", "--dry-run")["changes"] == []
    found = json.loads(operator.run("check", "--json").stdout)["findings"]
    assert [f for f in found if f["severity"] == "fault"] == []


@pytest.mark.parametrize(
    "subject",
    ["CN=b, OU=hosts", "CN=b\u202e,OU=hosts", f"CN={'b' * 600}"],
    ids=["space", "rtl", "long"],
)
def test_an_owner_that_no_certificate_has_spoils_no_export(
    secure: SecureWorld, operator: Operator, subject: str
) -> None:
    """Whoever makes a node chooses its rights, and ZooKeeper takes any name for a subject."""
    register(secure.open_as("host-a"), "a", 1)
    acl = [ACL(rights.READ, Id("x509", subject)), ACL(rights.READ, Id("world", "anyone"))]
    nodes = {"id-to-ip/x": b"192.168.0.99", "ip-to-id/192.168.0.99": b"x", "hosts/y": b"1 - - -"}
    secure.open_as("host-b").inspect(
        lambda attempt, layout: [
            attempt.one(Create(f"{layout.root}/{path}", data, acl, 0))
            for path, data in nodes.items()
        ]
    )
    done = operator.run("export", "-")
    assert "the lease of x belongs to 'CN=b" in done.stderr
    assert "the record of y belongs to 'CN=b" in done.stderr
    file = operator.folder / "export.json"
    file.write_text(done.stdout)
    wipe(secure)
    assert operator.told("import", str(file))["hosts"] == ["a"]


def test_until_all_is_imported_members_make_nothing(
    secure: SecureWorld, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    register(secure.open_as("host-a"), "a", 1)
    file = exported(operator)
    wipe(secure)
    with monkeypatch.context() as patched:
        patched.setattr("neti.oneshot.transfer._open_up", lambda *_: None)  # killed before it
        operator.run("import", str(file))
    forger = secure.open_as("host-b")
    with pytest.raises(RegistryError):
        forger.acquire("victim", SUBNET)
    assert list(forger.leases().values()) == ["a"]
    assert operator.told("import", str(file))["laid_out"] is True
    register(forger, "b", 2)
    assert operator.told("admission")["admission"] is False


def test_what_is_there_stays_and_is_named(secure: SecureWorld, operator: Operator) -> None:
    a, b = secure.open_as("host-a"), secure.open_as("host-b")
    register(a, "a", 1)
    b.acquire("b", SUBNET)
    secure.open_as("operator-chief").change_setting("interval", b"3")
    file = exported(operator)
    a.close()
    chief = secure.open_as("operator-chief")
    chief.release("a")
    chief.release("b")
    chief.change_setting("interval", b"4")
    register(b, "a", 2)
    had = b.lease_of("a")
    done = operator.run("import", str(file))
    assert done.exit_code == 1
    assert "3 things are not as in the file" in done.stderr
    assert "the record of a belongs to CN=a,OU=hosts in the file, CN=b,OU=hosts in" in done.stderr
    assert "interval is 3 in the file, 4 in the registry" in done.stderr
    assert b.lease_of("a") == had
    assert b.setting("interval") == b"4"
    assert b.lease_of("b") is not None  # it was missing


def test_an_open_tree_is_exported_without_owners(world: ZooKeeperWorld, tmp_path: Path) -> None:
    registry = world.open()
    register(registry, "a", 1)
    operator = Operator(world, tmp_path)
    done = operator.run("export", "-", stem=None)
    assert json.loads(done.stdout)["leases"] == [
        {"overlay": str(registry.lease_of("a")), "id": "a", "subject": None}
    ]
    assert json.loads(done.stdout)["admission"] is None
    file = tmp_path / "export.json"
    file.write_text(done.stdout)
    overlay = registry.lease_of("a")
    registry.close()
    again = world.open()
    again.release("a")
    assert operator.run("import", str(file), stem=None).exit_code == 0
    assert again.lease_of("a") == overlay

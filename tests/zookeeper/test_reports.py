"""Hosts' reports in ZooKeeper: who reads them, and trees that have no place for them."""

from ipaddress import IPv4Network
from pathlib import Path

import pytest
from kazoo.exceptions import NoAuthError
from kazoo.protocol.serialization import Delete, Exists, GetACL, GetData, SetACL
from kazoo.security import ACL, ANYONE_ID_UNSAFE, Id
from tests.support.zookeeper import SecureWorld, ZooKeeperWorld
from tests.zookeeper.test_in_the_way import UNREAD, findings, make, run, taken_up
from tests.zookeeper.test_keys import OWN
from tests.zookeeper.test_security import member, rights_of, send

from neti import log
from neti.errors import RegistryError
from neti.model import entry
from neti.oneshot.documents import told_by
from neti.registry.detail import Document, encode, for_members
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.layout import Layout
from neti.registry.zookeeper.registry import ZooKeeperRegistry

pytestmark = pytest.mark.zookeeper

SUBNET = IPv4Network("192.168.0.0/24")
ANYBODY = ACL(rights.READ | rights.CREATE, ANYONE_ID_UNSAFE)
CHIEF, BOB = "CN=chief,OU=operators", "CN=b,OU=hosts"
ROGUE = ACL(rights.READ | rights.WRITE, Id("x509", BOB))
WHOLE = Document(name="web", stage="down", problems=("disk",), written=1_700_000_000)


def register(registry: ZooKeeperRegistry, host_id: str = "a", *, generation: int = 0) -> str:
    overlay = registry.acquire(host_id, SUBNET)
    name = entry.encode(member(host_id, 1, overlay=overlay, generation=generation))
    registry.register(
        host_id=host_id,
        name=name,
        data=b"",
        detail=encode(for_members(WHOLE)),
        report=encode(WHOLE),
        overlay=overlay,
        machine="00ff",
    )
    return name


def test_only_operators_and_the_host_itself_read_its_report(secure: SecureWorld) -> None:
    host, other = secure.open_as("host-a"), secure.open_as("host-b")
    name = register(host)
    answer = send(other, lambda root: GetData(f"{root}/reports/a", None))
    assert isinstance(answer, NoAuthError)
    read, _ = send(host, lambda root: GetData(f"{root}/reports/a", None))
    assert read == encode(WHOLE)
    chief = secure.open_as("operator-chief")
    assert rights.owners(rights_of(chief, "reports/a")) == ["CN=a,OU=hosts"]
    told = told_by(other, {"a": name})
    assert (told.by, told.in_part) == ({"a": for_members(WHOLE)}, True)
    told = told_by(chief, {"a": name})
    assert (told.by, told.in_part) == ({"a": WHOLE}, False)


def test_without_rights_everybody_reads_it_and_agents_lay_out_its_place(
    world: ZooKeeperWorld,
) -> None:
    """In a tree of an earlier version too."""
    registry = world.open()
    registry.acquire("a", SUBNET)
    world.client.delete(f"{world.prefix}/reports")
    name = register(registry)
    assert told_by(world.open(), {"a": name}).by == {"a": WHOLE}
    assert world.client.get(f"{world.prefix}/agents/a")[0] == encode(for_members(WHOLE))


def test_in_a_tree_of_an_earlier_version_the_document_is_all_of_it_until_init(
    secure: SecureWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(log, "info", lambda event, **_: said.append(event))
    chief, host = secure.open_as("operator-chief"), secure.open_as("host-a")
    chief.inspect(lambda attempt, layout: attempt.one(Delete(layout.reports, -1)))
    name = register(host)
    host.describe("a", encode(for_members(WHOLE)), encode(WHOLE))
    assert said == ["report_for_all"]
    for registry in (chief, secure.open_as("host-b")):
        assert told_by(registry, {"a": name}).by == {"a": WHOLE}
    (found,) = [one for one in findings(secure, tmp_path) if one["code"] == "no-reports"]
    assert (found["severity"], found["then"]) == ("note", "neti registry init")
    assert run(secure, tmp_path, "registry", "init").exit_code == 0
    assert not [one for one in findings(secure, tmp_path) if one["code"] == "no-reports"]
    host.describe("a", encode(for_members(WHOLE)), encode(WHOLE))
    assert told_by(chief, {"a": name}).by == {"a": WHOLE}
    assert told_by(secure.open_as("host-b"), {"a": name}).by == {"a": for_members(WHOLE)}


def test_what_an_agent_of_an_earlier_version_wrote_is_shown_as_before(secure: SecureWorld) -> None:
    host = secure.open_as("host-a")
    name = register(host)
    host.close()
    host = secure.open_as("host-a")
    host.register(host_id="a", name=name, data=b"", detail=encode(WHOLE), machine="00ff")
    assert told_by(secure.open_as("operator-chief"), {"a": name}).by == {"a": WHOLE}


def test_a_report_that_somebody_else_made_is_named_and_is_not_believed(
    secure: SecureWorld, tmp_path: Path
) -> None:
    """While the host was away, with any rights. Its document is its own, and says who it is."""
    rogue, chief = secure.open_as("host-b"), secure.open_as("operator-chief")
    make(
        rogue, "reports/a", encode(Document(stage="enforced", problems=())), acl=OWN, ephemeral=True
    )
    name = register(secure.open_as("host-a"))
    told = told_by(chief, {"a": name})
    assert told.not_own == {"a"}
    assert told.by == {"a": for_members(WHOLE)}
    rogue.close()
    make(secure.open_as("host-b"), "reports/c", b"{}", acl=UNREAD)
    codes = {one["code"] for one in findings(secure, tmp_path) if "reports/c" in one["where"]}
    assert codes == {"unreadable"}


def test_what_a_registered_host_wrote_is_not_removed(secure: SecureWorld, tmp_path: Path) -> None:
    register(secure.open_as("host-a"))
    kept = run(secure, tmp_path, "registry", "remove", "--yes", f"{secure.prefix}/reports/a")
    assert kept.exit_code == 1
    assert "it is the report of a, which is registered" in kept.stderr


@pytest.mark.parametrize("node", ["agents", "reports"])
@pytest.mark.parametrize("more", [ANYBODY, ROGUE])
def test_one_that_somebody_made_in_the_hosts_session_with_other_rights_goes_with_it(
    secure: SecureWorld, node: str, more: ACL
) -> None:
    """Who resumes a session makes nodes in it, and chooses their rights."""
    host, chief = secure.open_as("host-a"), secure.open_as("operator-chief")
    name = register(host)

    def plant(name: str) -> None:
        acl = [one for one in rights_of(chief, f"{node}/a") if one.id != more.id]
        send(chief, lambda root: Delete(f"{root}/{node}/a", -1))
        rogue = taken_up(secure, host, name)
        make(rogue, f"{node}/a", b"{}", acl=[*acl, more], ephemeral=True)
        rogue.detach()

    plant(name)
    with pytest.raises(RegistryError, match="register it first"):
        host.describe("a", encode(for_members(WHOLE)), encode(WHOLE))
    assert not send(chief, lambda root: Exists(f"{root}/{node}/a", None))
    name = register(host, generation=1)
    assert more not in rights_of(chief, f"{node}/a")
    plant(name)
    register(host, generation=2)
    assert more not in rights_of(chief, f"{node}/a")
    host.describe("a", encode(for_members(WHOLE)), encode(WHOLE))


def codes_of(secure: SecureWorld, folder: Path) -> dict[str, str]:
    found = findings(secure, folder)
    judged = ("document-rights", "report-rights")
    return {one["code"]: one["then"] for one in found if one["code"] in judged}


def name_operators(chief: ZooKeeperRegistry, subjects: list[str]) -> None:
    """As an init of an earlier version does, or zkCli.sh: of the tree's own nodes alone."""

    def change(attempt: Attempt, layout: Layout) -> None:
        for path in [*layout.parents(), layout.fleet]:
            ((acl, _),) = attempt.each([GetACL(path)])
            named = rights.closed(subjects, members=rights.world(acl))
            assert not isinstance(attempt.each([SetACL(path, named, -1)])[0], Exception)

    chief.inspect(change)


def test_an_operator_who_is_added_reads_every_report_and_one_who_is_taken_out_none(
    secure: SecureWorld, tmp_path: Path
) -> None:
    host, chief = secure.open_as("host-a"), secure.open_as("operator-chief")
    bob = secure.open_as("host-b")
    name = register(host)
    assert codes_of(secure, tmp_path) == {}
    name_operators(chief, [CHIEF, BOB])
    assert told_by(bob, {"a": name}).by == {"a": for_members(WHOLE)}
    assert codes_of(secure, tmp_path) == {"report-rights": "neti registry init"}
    (unread,) = [one for one in findings(secure, tmp_path, "host-b") if one["code"] == "unreadable"]
    assert (unread["where"], unread["then"]) == (f"{secure.prefix}/reports", "neti registry init")
    planned = chief.plan_init()
    assert [step.path for step in planned.steps] == [f"{secure.prefix}/reports/a"]
    assert chief.init(planned) == []
    assert codes_of(secure, tmp_path) == {}
    assert told_by(bob, {"a": name}).by == {"a": WHOLE}

    name_operators(chief, [CHIEF])
    session = host.inspect(lambda attempt, _: attempt.session_id)
    host.describe("a", encode(for_members(WHOLE)), encode(WHOLE))
    assert host.inspect(lambda attempt, _: attempt.session_id) == session
    assert codes_of(secure, tmp_path) == {"document-rights": "neti registry init"}
    assert chief.init(chief.plan_init()) == []
    assert isinstance(send(bob, lambda root: GetData(f"{root}/reports/a", None)), NoAuthError)
    assert codes_of(secure, tmp_path) == {}
    assert chief.plan_init().nothing
    host.describe("a", encode(for_members(WHOLE)), encode(WHOLE))
    assert host.inspect(lambda attempt, _: attempt.session_id) == session
    assert told_by(chief, {"a": name}).by == {"a": WHOLE}


def test_init_takes_away_a_report_of_which_nobody_can_say_whose_it_is(
    secure: SecureWorld, tmp_path: Path
) -> None:
    host, chief = secure.open_as("host-a"), secure.open_as("operator-chief")
    name = register(host)
    acl = [*rights_of(chief, "reports/a"), ROGUE]
    send(chief, lambda root: SetACL(f"{root}/reports/a", acl, -1))
    assert codes_of(secure, tmp_path) == {"document-rights": "neti registry init"}
    (step,) = chief.plan_init().steps
    assert (step.path, step.deletes) == (f"{secure.prefix}/reports/a", True)
    assert chief.init(chief.plan_init()) == []
    host.describe("a", encode(for_members(WHOLE)), encode(WHOLE))
    assert told_by(chief, {"a": name}).by == {"a": WHOLE}
    assert codes_of(secure, tmp_path) == {}

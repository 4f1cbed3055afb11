"""What refuses a start for good, and what is only named where this host has been a member."""

import dataclasses
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from types import MappingProxyType

import pytest
from tests.support.agents import FakeMachine

from neti import log
from neti.agent.beginning import Beginning, configure_log
from neti.errors import ConfigError, IdentityError
from neti.host.network import Route
from neti.model import Host, Site
from neti.model.problems import Problems
from neti.model.settings import Settings
from neti.stage import stages
from neti.stage.stages import Record
from neti.stage.way_in import OperatorSession
from neti.state.loaded import Loaded
from neti.state.records import Self

HOST = Host(id="a", site="ec2", private=IPv4Address("10.0.0.1"), public=IPv4Address("198.51.100.1"))
SETTINGS = Settings(
    path=Path("neti.yml"),
    sites={"ec2": Site(name="ec2"), "vpc": Site(name="vpc")},
    zk_hosts=MappingProxyType({"ec2": ("10.0.0.5:2181",)}),
)
GOOD = """\
sites: {ec2: {private: [10.0.0.0/8]}, vpc: {private: [10.0.0.0/8]}}
zk_hosts: {ec2: ["10.0.0.9:2181"]}
ssh_whitelist: [10.0.0.77/32]
"""


class Start:
    """One start; ``known``: whether this host has been a member."""

    def __init__(self, *, known: bool, settings: Settings = SETTINGS) -> None:
        self.problems = Problems()
        self.waited: list[str] = []
        self.pauses: list[float] = []
        self.machine = FakeMachine(HOST.private)
        self.begin = Beginning(settings, HOST if known else None, self.problems, self.waited.append)

    def identity(self, *answers: Host | IdentityError) -> Host:
        left = list(answers)

        def discover() -> Host:
            answer = left.pop(0) if len(left) > 1 else left[0]
            if isinstance(answer, IdentityError):
                raise answer
            return answer

        return self.begin.identity(discover, self.pauses.append)

    def preflight(self) -> None:
        self.begin.preflight(self.machine, HOST, self.begin.registry(HOST))


def route_inside(start: Start) -> None:
    inside = IPv4Network("192.168.16.0/20")
    start.machine.routes.append(Route(inside, "docker0", "4", None, None))


def registry_host(start: Start) -> None:
    start.machine.private = IPv4Address("10.0.0.5")


@pytest.mark.parametrize(
    ("wrong", "code"), [(route_inside, "overlay"), (registry_host, "registry_host")]
)
def test_a_member_starts_with_a_problem_where_another_host_refuses(
    wrong: Callable[[Start], None], code: str
) -> None:
    new = Start(known=False)
    wrong(new)
    with pytest.raises(ConfigError):
        new.preflight()
    member = Start(known=True)
    wrong(member)
    member.preflight()
    assert [one.code for one in member.problems] == [code]


def test_an_invalid_file_is_a_problem_of_a_member_and_refused_of_a_copy() -> None:
    """A folder that was copied from another machine holds a configuration, and no member."""
    refused = ConfigError("neti.yml:3: reject_all: expected true or false")
    with pytest.raises(ConfigError):
        Start(known=False).begin.configuration_refused(refused)
    member = Start(known=True)
    member.begin.configuration_refused(refused)
    assert "reject_all" in member.problems.sentence("reload")


def test_a_file_without_a_server_for_this_site_leaves_the_last_good_one(tmp_path: Path) -> None:
    good = tmp_path / "neti.yml.good"
    good.write_text(GOOD)
    elsewhere = dataclasses.replace(
        SETTINGS, zk_hosts=MappingProxyType({"vpc": ("10.0.0.7:2181",)})
    )
    with pytest.raises(ConfigError):
        Start(known=False, settings=elsewhere).begin.with_servers(good, HOST)
    member = Start(known=True, settings=elsewhere)
    used = member.begin.with_servers(good, HOST)
    assert used.zk_hosts["ec2"] == ("10.0.0.9:2181",)
    # A copy that the agent's user can write must not lead anywhere else.
    assert (used.path, used.table_files_path) == (SETTINGS.path, SETTINGS.table_files_path)
    assert "reload" in member.problems
    good.write_text("nonsense: [")
    with pytest.raises(ConfigError, match="lists no server"):
        Start(known=True, settings=elsewhere).begin.with_servers(good, HOST)


def test_a_member_goes_on_as_it_was_while_nobody_says_who_it_is() -> None:
    new = Start(known=False)
    with pytest.raises(IdentityError):
        new.identity(IdentityError("a page in place of an id"))
    assert sum(new.pauses) == 47
    assert any("does not know who this host is" in what for what in new.waited)
    member = Start(known=True)
    assert member.identity(IdentityError("a page in place of an id")) == HOST
    assert "goes on as a" in member.problems.sentence("identity")


def test_a_site_that_is_gone_is_no_site_to_go_on_in() -> None:
    settings = dataclasses.replace(SETTINGS, sites={"vpc": Site(name="vpc")})
    with pytest.raises(IdentityError):
        Start(known=True, settings=settings).identity(IdentityError("in no site's range"))


def test_one_answer_without_the_public_address_is_not_believed() -> None:
    without = dataclasses.replace(HOST, public=None)
    member = Start(known=True)
    assert member.identity(without, HOST) == HOST
    assert Start(known=True).identity(without, without) == without
    new = Start(known=False)
    assert new.identity(without, HOST) == without
    assert not new.pauses


def test_what_a_start_waits_for_is_told_before_it_waits() -> None:
    start = Start(known=True)
    start.identity(HOST)
    assert start.waited[-1] == "it asks who this host is"
    start.begin.registry(HOST)
    assert start.waited[-1] == "it looks up the names in zk_hosts"


def test_a_log_file_that_cannot_be_written_stops_no_start(tmp_path: Path) -> None:
    problems = Problems()
    settings = dataclasses.replace(SETTINGS, log_file=tmp_path / "gone" / "neti.log")
    try:
        configure_log(settings, "text", problems)
    finally:
        log.configure(None)
    assert "events go to the journal" in problems.sentence("log")


@pytest.mark.parametrize(
    ("edited", "client", "counts"),
    [
        ("10.0.0.176/32", "10.0.0.77", False),  # a typing error, with its author still in
        ("10.0.0.0/24", "10.0.0.77", True),
        ("10.0.0.176/32", "203.0.113.9", True),  # a stranger's, from before it was enforced
        ("10.0.0.176/32", None, True),  # after a boot nobody is in
    ],
)
def test_a_start_shuts_out_nobody_who_is_in(
    tmp_path: Path, edited: str, client: str | None, counts: bool
) -> None:
    """The file was edited, and the agent restarted instead of reloaded: the last good one stays."""
    good = tmp_path / "neti.yml.good"
    good.write_text(GOOD)
    new = dataclasses.replace(SETTINGS, ssh_whitelist=(IPv4Network(edited),))
    start = Start(known=True, settings=new)
    enforced = stages.confirmed(stages.commanded(stages.configured(Record(), False), True))
    loaded = Loaded(itself=Self(host=HOST), record=enforced)
    open_now = [] if client is None else [session(client)]
    used = start.begin.let_in_again(good, loaded, lambda ports: open_now if 22 in ports else [])
    assert (used is new) is counts
    assert ("reload" in start.problems) is not counts
    if not counts:
        assert used.ssh_whitelist == (IPv4Network("10.0.0.77/32"),)
        assert (used.path, used.table_files_path) == (new.path, new.table_files_path)
        assert "neti reload --anyway" in start.problems.sentence("reload")
        shadow = dataclasses.replace(loaded, record=stages.configured(Record(), False))
        assert (
            Start(known=True, settings=new).begin.let_in_again(good, shadow, lambda _: open_now)
            is new
        )
        good.unlink()
        again = Start(known=True, settings=new)
        assert again.begin.let_in_again(good, loaded, lambda _: open_now) is new


def session(client: str) -> OperatorSession:
    return OperatorSession(
        client=IPv4Address(client),
        client_port=50000,
        local=HOST.private,
        local_port=22,
        found="connection",
        sure=True,
        how="",
    )

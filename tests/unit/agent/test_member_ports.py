"""``member_ports`` wait, are tried, and are in force: by the file, commands, and the kernel."""

import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from tests.support.agents import Box, World, world

from neti.agent import explaining, shadow_log
from neti.agent import kept_out as agent_kept_out
from neti.agent import preview as agent_preview
from neti.agent.conditions import own_codes
from neti.agent.figures import figures
from neti.agent.shadow_evidence import ShadowEvidence
from neti.agent.shadow_log import accept_losing
from neti.cli.explain import lines as explain_lines
from neti.cli.preview import _suggest, lines
from neti.cli.status import _status_lines
from neti.errors import DataplaneError, KernelMoved, NetiError
from neti.model.groups import GroupLine, Groups, MemberPort, MemberPorts
from neti.monitoring.check import judge
from neti.monitoring.explained import Pair, pair_of
from neti.monitoring.metrics import metrics
from neti.monitoring.preview import Preview, preview_of
from neti.monitoring.situation import Level, Limits, Situation
from neti.registry.detail import decode
from neti.registry.groups import encode
from neti.registry.memory import MemoryRegistry
from neti.ruleset.objects import Transaction
from neti.ruleset.set_names import SetName, group_sets
from neti.stage import kept_out as stage_kept_out
from neti.stage.kept_out import Others
from neti.stage.shadow import Listener, Sighting
from neti.stage.stages import GROUPS_MISSING, PORTS_LOST
from neti.stage.way_in import OperatorSession

BOTH = {"ipv4", "ipv6"}
DB: tuple[MemberPort, ...] = (MemberPort(("app",), "tcp", 5432, 5432),)
WIDER: MemberPorts = (MemberPort(("app", "web"), "tcp", 5432, 5432),)
OTHER: tuple[MemberPort, ...] = (MemberPort(("web",), "tcp", 80, 80),)
CHAIN = "members_before"  # of what only the policy in force admits


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def define(fleet: World, edition: int = 1, **groups: list[str]) -> None:
    lines = {name: tuple(map(GroupLine, ids)) for name, ids in groups.items()}
    MemoryRegistry(fleet.server).change_setting("groups", encode(Groups(lines, edition)))
    fleet.settle()


def started(fleet: World, ports: MemberPorts = DB, **changes: Any) -> Box:
    define(fleet, app=["ec2-2"], web=["ec2-3"])
    box = fleet.started(1, member_ports=ports, **changes)
    for number in (2, 3):
        fleet.started(number)
    return box


def enforced(fleet: World, ports: MemberPorts = DB) -> Box:
    """And nothing is asked of members yet."""
    box = started(fleet, None)
    box.ask("enforce", wait=True, seconds=60)
    box.ask("confirm")
    reload(box, ports)
    return box


def confirmed(fleet: World, ports: MemberPorts = DB) -> Box:
    box = started(fleet, ports)
    box.ask("enforce", wait=True, seconds=60)
    assert box.ask("confirm")["result"]["stage"] == "enforced"
    return box


def reload(box: Box, ports: MemberPorts) -> None:
    box.new_settings = replace(box.running.core.settings, member_ports=ports)
    assert "error" not in box.ask("reload")
    box.settings = box.running.core.settings


def again(fleet: World, box: Box) -> None:
    box.stop()
    box.start()
    fleet.settle()


def in_force(box: Box) -> MemberPorts:
    ports = box.running.core.stage.record.member_ports
    assert box.running.core.members.ports_in_force == ports
    return ports


def waits(box: Box) -> bool:
    """As the kernel's rules have it."""
    return CHAIN in box.dataplane.read().chain_names


def narrowed(box: Box) -> set[str]:
    return set(box.dataplane.narrowed())


def test_on_a_host_that_is_enforced_a_reload_shuts_nothing(fleet: World) -> None:
    box = enforced(fleet)
    assert in_force(box) is None
    assert waits(box)
    assert narrowed(box) == set()
    fleet.pass_time(700)
    assert narrowed(box) == set()


def test_they_are_tried_alone_and_the_kernel_ends_it(fleet: World) -> None:
    box = enforced(fleet)
    for _ in range(2):
        assert box.ask("enforce", wait=True, seconds=60)["result"]["of"] == ["member_ports"]
        assert narrowed(box) == BOTH
        assert box.dataplane.read().armed_for_good
        told = box.told()
        assert told.stage == "enforced"
        assert told.trial is not None
        assert told.trial.of == ("member_ports",)
        box.dataplane.expire()
        fleet.pass_time(61)
        assert narrowed(box) == set()
        assert box.dataplane.read().armed_for_good
        assert in_force(box) is None
        assert "the trial of member_ports ended unconfirmed" in box.problems()["trial_expired"]
    box.ask("enforce", wait=True, seconds=60)
    transactions = len(box.dataplane.transactions)
    box.ask("confirm")
    # Of these, the first took the time-out off and turned to the rules that hold now.
    first = [type(one).__name__ for one in box.dataplane.transactions[transactions].commands]
    assert first[0] == "DeleteElements"
    assert {"RewriteChains", "CreateTable"} & set(first)
    assert in_force(box) == DB
    assert not waits(box)
    assert narrowed(box) == set()
    assert "trial_expired" not in box.problems()
    assert "already" in box.ask("enforce")["result"]["said"]


def test_confirm_after_the_end_says_so_and_what_waits(fleet: World) -> None:
    box = enforced(fleet)
    assert "; member_ports wait until 'neti enforce'" in box.ask("confirm")["result"]["said"]
    box.ask("enforce", wait=True, seconds=60)
    box.dataplane.expire()
    fleet.pass_time(61)
    said = str(box.ask("confirm")["error"])
    assert "nothing to confirm. The last one ended unconfirmed: nobody confirmed it" in said
    reload(box, None)  # it is not asked for any more
    assert "wait" not in box.ask("confirm")["result"]["said"]


def test_what_the_kernel_refuses_at_the_confirmation_is_said(fleet: World) -> None:
    box = enforced(fleet)
    box.ask("enforce", wait=True, seconds=60)
    box.dataplane.failing = "Operation not permitted"
    said = str(box.ask("confirm")["error"])
    assert "the kernel did not confirm it: Operation not permitted" in said
    box.dataplane.failing = None
    fleet.pass_time(61)
    box.ask("enforce", wait=True, seconds=60)
    box.dataplane.expire()
    assert "the kernel had ended it already" in str(box.ask("confirm")["error"])
    assert in_force(box) is None


def test_a_confirmation_is_tried_again_where_the_kernel_moved(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = enforced(fleet)
    box.ask("enforce", wait=True, seconds=60)
    apply, moved = box.dataplane.apply, [KernelMoved("File exists")]

    def busy(transaction: Transaction) -> None:
        if moved:
            raise moved.pop()
        apply(transaction)

    monkeypatch.setattr(box.dataplane, "apply", busy)
    assert "error" not in box.ask("confirm")
    assert in_force(box) == DB
    assert not waits(box)


def test_what_is_confirmed_stays_so_if_it_cannot_be_read_back(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    box = enforced(fleet)
    box.ask("enforce", wait=True, seconds=60)
    reconciler, gone = box.running.core.out.reconciler, [DataplaneError("no buffer space")]
    took = reconciler._took

    def unread(*what: Any) -> None:
        if gone:
            raise gone.pop()
        took(*what)

    monkeypatch.setattr(reconciler, "_took", unread)
    assert "error" not in box.ask("confirm")
    assert in_force(box) == DB
    assert "no buffer space" in box.problems()["kernel"]
    fleet.pass_time(30)
    assert "kernel" not in box.problems()
    assert not waits(box)
    assert narrowed(box) == set()
    assert box.dataplane.read().armed_for_good


def test_a_file_that_says_the_same_in_other_words_does_not_end_the_trial(fleet: World) -> None:
    box = enforced(fleet, WIDER)
    box.ask("enforce", wait=True, seconds=60)
    reordered: MemberPorts = (
        MemberPort(("web",), "tcp", 5432, 5432),
        MemberPort(("app",), "tcp", 5432, 5432),
    )
    reload(box, reordered)
    assert narrowed(box) == BOTH
    assert "error" not in box.ask("confirm")
    assert in_force(box) == reordered
    assert not waits(box)


def test_groups_that_are_not_needed_any_more_go_with_the_confirmation(fleet: World) -> None:
    box = confirmed(fleet, WIDER)
    assert box.elements("group_web_4") == {"10.0.0.3": "", "198.51.100.3": ""}
    reload(box, DB)
    assert box.elements("group_web_4") == {"10.0.0.3": "", "198.51.100.3": ""}
    box.ask("enforce", wait=True, seconds=60)
    box.ask("confirm")
    assert in_force(box) == DB
    assert box.elements("group_web_4") == {}
    assert box.elements("group_app_4") == {"10.0.0.2": "", "198.51.100.2": ""}
    applied = len(box.dataplane.transactions)
    fleet.pass_time(700)
    assert box.dataplane.transactions[applied:] == []
    assert box.dataplane.refused == []


def told(box: Box, code: str = "member_ports_wait") -> tuple[str, str]:
    """What status and the metrics say, and the problem if there is one."""
    status = box.told()
    found = [m for m in metrics(figures(box.running)) if m.name == "neti_member_ports"]
    stages = [s.labels["stage"] for m in found for s in m.samples if s.value]
    assert stages == ([] if status.member_ports == "none" else [status.member_ports])
    document = decode(box.running.registration.describing.documents()[1])
    assert document.member_ports == status.member_ports.replace(" ", "-")
    said = [line for line in _status_lines(status) if line.startswith("ports ")]
    assert len(said) == (status.member_ports != "none")
    return status.member_ports, box.problems().get(code, "")


def test_status_and_metrics_say_what_is_in_force_of_them(fleet: World) -> None:
    box = started(fleet, None)
    assert told(box) == ("none", "")
    reload(box, DB)
    assert told(box) == ("waiting", "")  # where nobody is kept out, that is no problem
    box.ask("enforce", wait=True, seconds=60)
    assert told(box) == ("trial", "")
    box.ask("confirm")
    assert told(box) == ("in force", "")
    reload(box, OTHER)
    state, problem = told(box)
    assert state == "waiting"
    assert "until 'neti enforce' has tried it" in problem
    box.ask("down")
    assert told(box) == ("waiting", "")


def test_in_shadow_they_are_tried_with_reject_all(fleet: World) -> None:
    box = started(fleet)
    assert waits(box)
    said = box.ask("enforce", wait=True, seconds=60)["result"]
    assert said["of"] == ["reject_all", "member_ports"]
    assert narrowed(box) == BOTH
    box.ask("confirm")
    assert in_force(box) == DB
    assert not waits(box)
    assert box.dataplane.read().armed_for_good


def test_a_new_host_tries_them_with_what_its_file_wishes(fleet: World) -> None:
    """Nobody types anything on a host that a group of machines starts by itself."""
    box = started(fleet, reject_all=True)
    fleet.pass_time(31)
    told = box.told()
    assert told.trial is not None
    assert told.trial.of == ("reject_all", "member_ports")
    assert narrowed(box) == BOTH


def test_what_the_file_wishes_does_not_wait_for_groups_that_nobody_defined(fleet: World) -> None:
    """Then it is as if the file had no ``member_ports``, which go on waiting."""
    box = started(fleet, (*DB, MemberPort(("nobody",), "tcp", 81, 81)), reject_all=True)
    fleet.pass_time(31)
    told = box.told()
    assert told.trial is not None
    assert told.trial.of == ("reject_all",)
    assert narrowed(box) == set()


def test_what_the_file_wishes_does_not_fail_because_of_them_twice(fleet: World) -> None:
    """A trial with them that nobody confirmed is tried again without."""
    box = started(fleet, reject_all=True)
    fleet.pass_time(31)
    box.shadow.kept = ("5432/tcp (1 member, ec2-3 for one)",)
    while box.running.core.stage.record.failures == 0:
        box.dataplane.expire()
        fleet.pass_time(60)
    box.shadow.kept = ()
    fleet.pass_time(301)
    trial = box.running.core.stage.record.trial
    assert box.running.core.stage.record.confirmed or trial is not None
    assert trial is None or trial.member_ports is None
    assert narrowed(box) == set()


def test_what_adds_is_in_force_at_once_and_what_takes_away_waits(fleet: World) -> None:
    box = confirmed(fleet)
    reload(box, WIDER)
    assert in_force(box) == WIDER
    assert not waits(box)
    reload(box, DB)
    assert in_force(box) == WIDER
    assert waits(box)
    reload(box, None)
    assert in_force(box) is None
    assert not waits(box)
    assert "narrowed" not in {name for name, _ in box.dataplane.table.sets}  # type: ignore[union-attr]


def test_another_file_ends_the_trial_of_them(fleet: World) -> None:
    box = enforced(fleet)
    box.ask("enforce", wait=True, seconds=60)
    reload(box, OTHER)
    assert narrowed(box) == set()
    assert box.told().trial is None
    assert "trial_expired" not in box.problems()
    box.ask("relax")
    box.ask("enforce", wait=True, seconds=60)
    assert narrowed(box) == BOTH
    reload(box, DB)
    assert narrowed(box) == set()
    told = box.told()
    assert told.trial is not None
    assert told.trial.of == ("reject_all",)
    box.ask("confirm")
    assert in_force(box) is None


def test_relax_opens_them_and_down_keeps_them(fleet: World) -> None:
    box = confirmed(fleet)
    box.ask("down")
    assert box.dataplane.table is None
    box.ask("up")
    assert in_force(box) == DB
    assert not waits(box)
    box.ask("relax")
    assert in_force(box) is None
    assert waits(box)
    assert not box.dataplane.read().drops
    box.ask("enforce", wait=True, seconds=60)
    assert narrowed(box) == BOTH
    box.ask("relax")
    assert narrowed(box) == set()


@pytest.mark.parametrize("booted", [True, False])
def test_they_outlast_a_restart(fleet: World, booted: bool) -> None:
    box = confirmed(fleet)
    reload(box, OTHER)
    if booted:
        fleet.boot, box.dataplane.table = "boot-2", None
    again(fleet, box)
    assert in_force(box) == (*OTHER, *DB)
    assert waits(box)
    assert narrowed(box) == set()


def lose(fleet: World, box: Box, *names: str, torn: bool) -> None:
    """Over a restart of the agent."""
    box.stop()
    for name in names:
        path = box.settings.table_files_path / name
        path.write_bytes(b"torn") if torn else path.unlink()
    box.start()
    fleet.settle()


@pytest.mark.parametrize("torn", [True, False])
@pytest.mark.parametrize("ports", [DB, OTHER])
def test_a_lost_record_opens_them_and_says_so(fleet: World, torn: bool, ports: MemberPorts) -> None:
    """Nobody knows by which they were in force, and nothing is shut without a trial. Also where
    the file had others, which waited."""
    box = confirmed(fleet)
    reload(box, ports)
    before = in_force(box)
    lose(fleet, box, "stage.json", torn=torn)  # there is a copy
    assert in_force(box) == before
    assert told(box, "member_ports_lost")[1] == ""
    lose(fleet, box, "stage.json", "stage.json.copy", torn=torn)
    assert box.told().stage == "enforced"
    assert in_force(box) is None
    assert waits(box)
    assert narrowed(box) == set()
    assert told(box, "member_ports_lost")[1].startswith(PORTS_LOST)
    assert told(box)[1] == ""  # one problem, and not that of a host whose turn has not come
    situation = Situation(status=box.told(), agent="answers")
    findings = judge(situation, Limits()).findings
    assert [one.level for one in findings if one.text.startswith(PORTS_LOST)] == [Level.CRITICAL]
    again(fleet, box)
    assert told(box, "member_ports_lost")[1].startswith(PORTS_LOST)
    reload(box, WIDER)  # as long as a trial is needed, no file ends it
    again(fleet, box)
    assert told(box, "member_ports_lost")[1].startswith(PORTS_LOST)
    box.ask("enforce", wait=True, seconds=60)
    assert told(box, "member_ports_lost") == ("trial", "")
    box.ask("confirm")
    assert told(box, "member_ports_lost") == ("in force", "")
    again(fleet, box)
    assert told(box, "member_ports_lost") == ("in force", "")


@pytest.mark.parametrize("by", ["file", "relax"])
def test_a_loss_ends_for_good_with_an_operators_word(fleet: World, by: str) -> None:
    box = confirmed(fleet)
    lose(fleet, box, "stage.json", "stage.json.copy", torn=False)
    assert told(box, "member_ports_lost")[1] != ""
    if by == "file":
        reload(box, None)
        reload(box, DB)
    else:
        box.ask("relax")
    again(fleet, box)
    assert told(box, "member_ports_lost") == ("waiting", "")


def test_a_lost_record_of_what_waited_is_no_loss(fleet: World) -> None:
    box = enforced(fleet)
    lose(fleet, box, "stage.json", "stage.json.copy", torn=False)
    assert box.told().stage == "enforced"
    assert told(box, "member_ports_lost") == ("waiting", "")
    assert told(box)[1] != ""


@pytest.mark.parametrize("torn", [True, False])
def test_a_file_of_groups_that_is_torn_or_gone_shuts_no_port(fleet: World, torn: bool) -> None:
    """Until the registry says who is in which. All that speak of it say the same."""
    box = confirmed(fleet)
    assert not waits(box)
    box.stop()
    groups = box.settings.table_files_path / "groups.json"
    if torn:
        groups.write_bytes(b"torn")
    else:
        groups.unlink()
    fleet.server.stop()
    box.start()
    fleet.settle()
    assert waits(box)
    assert box.told().stage == "enforced"
    assert told(box) == ("waiting", "")
    assert box.problems()["groups_missing"] == GROUPS_MISSING
    assert f"ports     {GROUPS_MISSING}" in _status_lines(box.told())
    situation = Situation(status=box.told(), agent="answers")
    findings = [one for one in judge(situation, Limits()).findings if "in which" in one.text]
    assert [(one.level, one.text) for one in findings] == [(Level.CRITICAL, GROUPS_MISSING)]
    assert "groups_missing" in own_codes(box.running.core)  # which neti fleet shows
    assert GROUPS_MISSING in box.ask("enforce")["result"]["said"]
    for source in ("10.0.0.3", "ec2-3", "ec2-2"):
        found = explained(box, source, 5432)
        assert {one.admitted for one in found.answers} == {True}
        text = "\n".join(explain_lines(found))
        assert GROUPS_MISSING in text
        assert "neti enforce" not in text
    elsewhere = "\n".join(explained(box, "here", 80, dest="ec2-2").notes)
    assert "it is not known which groups ec2-2 is in" in elsewhere
    preview = preview_of(json.loads(json.dumps(box.ask("preview")["result"])))
    assert preview.kept_out is not None
    assert not preview.kept_out.groups_known
    assert not preview.kept_out.suggestion
    assert GROUPS_MISSING in "\n".join(lines(preview))
    with pytest.raises(NetiError, match="nothing can be suggested"):
        _suggest(preview, as_json=True)
    assert box.running.core.stage.record.member_ports == DB
    fleet.server.start()
    fleet.settle()
    assert in_force(box) == DB
    assert not waits(box)
    assert told(box) == ("in force", "")
    assert "groups_missing" not in box.problems()
    assert "10.0.0.2" in box.elements("group_app_4")


def test_a_file_that_was_edited_while_no_agent_ran_waits_too(fleet: World) -> None:
    box = confirmed(fleet, WIDER)
    box.settings = replace(box.settings, member_ports=DB)
    again(fleet, box)
    assert in_force(box) == WIDER
    assert waits(box)


@pytest.mark.parametrize("killed", ["before the kernel", "in the trial", "after the kernel"])
@pytest.mark.parametrize("alone", [True, False])
def test_killed_on_the_way(fleet: World, killed: str, alone: bool) -> None:
    box = enforced(fleet) if alone else started(fleet)
    box.ask("enforce", wait=True, seconds=60)
    core = box.running.core
    if killed == "before the kernel":
        box.dataplane.expire()
    elif killed == "after the kernel":
        rules = box.running.kernel.rules(DB)
        core.out.reconciler.confirm_trial(core.members.elements, rules)
    again(fleet, box)
    # Of them alone the kernel shows no confirmation: it counts as none, and nobody is kept out.
    done = killed == "after the kernel" and not alone
    assert in_force(box) == (DB if done else None)
    assert waits(box) is not done
    assert (narrowed(box) == BOTH) is (killed == "in the trial")
    told = box.told()
    assert (told.stage == "enforced") is (alone or done)
    if killed != "in the trial" and not done:
        assert "trial_expired" in box.problems()


def test_a_reboot_ends_a_trial_of_them(fleet: World) -> None:
    box = enforced(fleet)
    box.ask("enforce", wait=True, seconds=60)
    fleet.boot, box.dataplane.table = "boot-2", None
    again(fleet, box)
    assert in_force(box) is None
    assert waits(box)
    assert narrowed(box) == set()
    assert box.status()["stage"] == "enforced"


def test_another_program_that_empties_the_map_ends_the_trial(fleet: World) -> None:
    box = enforced(fleet)
    box.ask("enforce", wait=True, seconds=600)
    assert box.dataplane.table is not None
    box.dataplane.table.narrowed.clear()
    fleet.pass_time(90)
    assert narrowed(box) == set()
    assert "another program removed the trial" in box.problems()["trial_expired"]


def test_evidence_counts_whom_they_keep_out(fleet: World) -> None:
    box = enforced(fleet)
    box.shadow.kept = ("5432/tcp (1 member, ec2-3 for one)",)
    said = box.ask("enforce", seconds=60)["error"]
    assert "ports in use that member_ports would shut to members: 5432/tcp" in said
    assert "neti preview --suggest" in said
    assert narrowed(box) == set()
    box.shadow.kept = ()
    box.ask("enforce", seconds=60)
    box.shadow.kept = ("5432/tcp (1 member, ec2-3 for one)",)
    fleet.pass_time(45)
    found = {one.what: one for one in box.told().evidence}
    assert not found["member_ports"].holds
    assert "kept out of 5432/tcp" in found["member_ports"].sentence
    box.dataplane.expire()
    fleet.pass_time(20)
    assert in_force(box) is None
    # Who says so beforehand accepts it, even if members have sent nothing else.
    box.dataplane.counted = {"admitted": 10}
    fleet.pass_time(31)
    box.dataplane.counted = {"admitted": 20}
    box.ask("enforce", seconds=60, anyway=True)
    fleet.pass_time(45)
    assert in_force(box) == DB


def test_groups_that_nobody_knows_are_objected_to(fleet: World) -> None:
    box = enforced(fleet, (MemberPort(("app", "dba"), "tcp", 5432, 5432),))
    said = box.ask("enforce", seconds=60)["error"]
    assert "member_ports names dba, which no operator has defined" in said
    assert box.ask("enforce", seconds=60, anyway=True)["result"]["of"] == ["member_ports"]
    other = fleet.started(4, member_ports=DB)
    MemoryRegistry(fleet.server).change_setting("groups", None)
    fleet.settle()
    assert "groups_held" in other.problems()
    assert "the registry's groups are not followed" in other.ask("enforce", seconds=60)["error"]


def test_the_operators_own_session_is_not_shut_out(fleet: World) -> None:
    """It comes from a member that reaches SSH as such, and is in no group of that port."""
    box = enforced(fleet)
    session = OperatorSession(
        client=ip_address("10.0.0.3"),
        client_port=5000,
        local=ip_address("10.0.0.1"),
        local_port=22,
        found="connection",
        sure=True,
        how="",
    )
    said = box.ask("enforce", seconds=60, session=session.document(), anyway=True)["error"]
    assert "10.0.0.3 is the address of member ec2-3, and member_ports let nobody in to" in said
    assert "22/tcp: [GROUP]" in said
    assert narrowed(box) == set()
    for ports in ((MemberPort(("web",), "tcp", 22, 22),), (MemberPort(("web",)),)):
        reload(box, ports)
        said = box.ask("enforce", seconds=60, session=session.document())
        assert said["result"]["of"] == ["member_ports"], said
    # One that is open all the same is missing in the evidence.
    box.ask("relax")
    reload(box, DB)
    box.sessions = [session]
    box.ask("enforce", seconds=60)
    fleet.pass_time(45)
    found = {one.what: one for one in box.told().evidence}
    assert not found["way in"].holds


def test_a_file_does_not_shut_out_an_open_session_of_a_member_that_no_group_lets_in(
    fleet: World,
) -> None:
    """While ssh_whitelist has it, that lets it in; taken out of there it would be kept out."""
    whitelist = (ip_network("198.51.100.200/32"), ip_network("10.0.0.3/32"))
    box = started(fleet, DB, ssh_whitelist=whitelist)
    box.sessions = [
        OperatorSession(
            client=ip_address("10.0.0.3"),
            client_port=5000,
            local=ip_address("10.0.0.1"),
            local_port=22,
            found="connection",
            sure=True,
            how="",
        )
    ]
    box.ask("enforce", wait=True, seconds=60)
    box.ask("confirm")
    less = replace(box.settings, ssh_whitelist=whitelist[:1])
    box.new_settings = less
    assert "10.0.0.3 is the address of member ec2-3" in box.ask("reload")["error"]
    box.new_settings = replace(less, member_ports=(*DB, MemberPort(("web",), "tcp", 22, 22)))
    assert "error" not in box.ask("reload")


@pytest.mark.usefixtures("listening")
def test_a_record_that_is_full_is_no_evidence(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shadow_log, "SEEN_SIZE", 4)
    box = enforced(fleet)
    evidence = ShadowEvidence(box.running.core, box.running.shadow)
    came = [Sighting(ip_address("10.0.0.2"), "tcp", port, 4, 0.0) for port in (1, 2, 3, 4)]
    box.dataplane.unasked_seen = came
    assert any("the record of members is full" in one for one in evidence.kept_out())


# --- what is recorded, and shown ---

POSTGRES = Listener("tcp", 5432, ip_address("0.0.0.0"))


@pytest.fixture
def listening(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (agent_kept_out, agent_preview):
        monkeypatch.setattr(module, "listeners", lambda: [POSTGRES])


def shown(box: Box) -> Preview:
    return preview_of(json.loads(json.dumps(box.ask("preview")["result"])))


@pytest.mark.usefixtures("listening")
def test_who_would_be_kept_out_is_shown_with_the_line_to_write(fleet: World) -> None:
    box = enforced(fleet)
    came = [Sighting(ip_address(f"10.0.0.{n}"), "tcp", 5432, 4, 0.0) for n in (2, 3, 9)]
    box.dataplane.unasked_seen = came
    kept = shown(box).kept_out
    assert kept is not None
    assert kept.state == "waiting"
    (row,) = kept.ports  # ec2-2 is in app, and 10.0.0.9 is nobody's
    assert (row.port, row.waits, row.answered, row.members) == (5432, True, True, 1)
    assert [(one.id, one.groups, one.packets) for one in row.top] == [("ec2-3", ("web",), 4)]
    assert row.line == "member_ports: {5432/tcp: [app, web]}"
    assert kept.suggestion == ("member_ports:", "  5432/tcp: [app, web]")
    assert kept.commands == ()
    text = "\n".join(lines(shown(box)))
    assert "Members that member_ports would keep out. Nobody is kept out yet" in text
    assert "ec2-3 (10.0.0.3), in web: 4 packets" in text
    assert "member_ports: {5432/tcp: [app, web]}" in text
    # The record outlasts the agent, and the file that lets it in.
    again(fleet, box)
    assert [row.packets for row in shown(box).kept_out.ports] == [4]  # type: ignore[union-attr]
    reload(box, WIDER)
    assert shown(box).kept_out.ports == ()  # type: ignore[union-attr]
    reload(box, None)
    assert shown(box).kept_out is None


@pytest.mark.usefixtures("listening")
@pytest.mark.parametrize("state", ["waiting", "in force"])
def test_a_members_scan_costs_no_more_than_what_is_listed(
    fleet: World, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop's thread looks, and the watchdog kills one that takes long."""
    box = enforced(fleet) if state == "waiting" else confirmed(fleet)
    came = [Sighting(ip_address("10.0.0.3"), "tcp", port, 4, 0.0) for port in range(5000, 5500)]
    box.dataplane.unasked_seen = came
    if state == "in force":
        box.dataplane.seen = came
    asked: list[Any] = []

    def fitting(ids: Any, everybody: Others) -> Any:
        asked.append(everybody.of_group)
        return stage_fitting(ids, everybody)

    stage_fitting = stage_kept_out.fitting
    monkeypatch.setattr(stage_kept_out, "fitting", fitting)
    kept = shown(box).kept_out
    assert kept is not None
    assert kept.state == state
    assert 0 < len(asked) <= 101
    assert len({id(one) for one in asked}) == 1  # built once
    assert len(kept.ports) == 100
    assert kept.ports[0].port == 5432
    assert kept.more == 400
    assert "  and 400 more, where nothing listens or fewer members came" in lines(shown(box))


@pytest.mark.usefixtures("listening")
def test_who_is_kept_out_for_good_is_shown_as_that(fleet: World) -> None:
    """The kernel records such a member as it does a stranger, who is not among these."""
    box = confirmed(fleet)
    box.dataplane.seen = [Sighting(ip_address(f"10.0.0.{n}"), "tcp", 5432, 4, 0.0) for n in (3, 9)]
    # From before the trial.
    box.dataplane.unasked_seen = [Sighting(ip_address("10.0.0.3"), "tcp", 5433, 4, 0.0)]
    found = shown(box)
    assert found.kept_out is not None
    assert found.kept_out.state == "in force"
    assert [(row.waits, row.top[0].id) for row in found.kept_out.ports] == [(False, "ec2-3")]
    assert [one.address for row in found.ports for one in row.top] == ["10.0.0.9"]
    box.dataplane.seen += [Sighting(ip_address("10.0.0.3"), "tcp", 5433, 4, 0.0)]
    assert shown(box).let_in == ()  # only members came there, and they are kept out
    assert found.kept_out.suggestion == ("member_ports:", "  5432/tcp: [app]")
    text = "\n".join(lines(found))
    assert "Members that member_ports keep out:" in text
    assert "--suggest" not in text


@pytest.mark.usefixtures("listening")
def test_who_is_kept_out_already_does_not_wait_for_what_is_narrowed_further(fleet: World) -> None:
    """Of before the first trial they are on record, and the next one takes nothing from them."""
    box = enforced(fleet)
    came = [Sighting(ip_address("10.0.0.3"), "tcp", 5432, 4, 0.0)]
    box.dataplane.unasked_seen = came
    assert [row.waits for row in shown(box).kept_out.ports] == [True]  # type: ignore[union-attr]
    box.ask("enforce", wait=True, seconds=60, anyway=True)
    assert box.ask("confirm")["result"]["stage"] == "enforced"
    reload(box, (*DB, *OTHER))
    reload(box, DB)  # so that port 80 waits
    box.dataplane.unasked_seen = [*came, Sighting(ip_address("10.0.0.3"), "tcp", 80, 4, 0.0)]
    kept = shown(box).kept_out
    assert kept is not None
    assert kept.state == "waiting"
    assert [(row.port, row.waits) for row in kept.ports] == [(80, True)]
    assert "5432" not in " ".join(ShadowEvidence(box.running.core, box.running.shadow).kept_out())


@pytest.mark.usefixtures("listening")
def test_the_evidence_is_what_came_since_the_trial_began(fleet: World) -> None:
    box = enforced(fleet)
    evidence = ShadowEvidence(box.running.core, box.running.shadow)
    assert evidence.kept_out() == ()
    box.dataplane.unasked_seen = [Sighting(ip_address("10.0.0.3"), "tcp", 5432, 4, 0.0)]
    words = ("5432/tcp (1 member, ec2-3 for one)",)
    assert evidence.kept_out() == words
    now = box.running.core.since()
    assert evidence.kept_out(now - 1) == words
    assert evidence.kept_out(now) == ()
    accept_losing(box.running.shadow.folder, [("tcp", 5432)], now)
    assert evidence.kept_out() == ()


@pytest.mark.usefixtures("listening")
def test_what_the_policy_in_force_refuses_is_no_evidence_against_another_trial(
    fleet: World,
) -> None:
    box = confirmed(fleet)
    evidence = ShadowEvidence(box.running.core, box.running.shadow)
    since = box.running.core.since() - 1
    box.dataplane.seen = [Sighting(ip_address("10.0.0.3"), "tcp", 5432, 4, 0.0)]
    assert evidence.refused_members(since) == ()
    box.dataplane.seen = [Sighting(ip_address("10.0.0.2"), "tcp", 5432, 4, 0.0)]
    assert evidence.refused_members(since) == ("ec2-2",)


# --- neti explain ---


def explained(box: Box, source: str, port: int, dest: str = "here", **more: Any) -> Pair:
    said = box.ask("explain", source=source, dest=dest, port=port, **more)
    assert "error" not in said, said
    return pair_of(json.loads(json.dumps(said["result"])))


def test_many_members_are_explained_as_one_by_one(fleet: World) -> None:
    """In each stage, so that ``neti verify --ports`` and ``neti explain`` never differ."""
    box = started(fleet)
    ids, ports = ["ec2-2", "ec2-3"], [("tcp", 5432), ("udp", 53), ("tcp", 5433)]

    def same() -> list[bool]:
        names = [f"{number}/{proto}" for proto, number in ports]
        said = box.ask("explain_many", ids=[*ids, "nobody-1"], ports=names)["result"]["pairs"]
        found = [pair_of(json.loads(json.dumps(one))) for one in said]
        assert found == [
            explained(box, host_id, number, udp=proto == "udp")
            for host_id in ids
            for proto, number in ports
        ]
        return [one.answers[0].admitted for one in found]

    assert same() == [True] * 6
    box.ask("enforce", wait=True, seconds=60)
    same()
    box.ask("confirm")
    assert same() == [True, False, False, False, False, False]


def test_a_question_about_many_looks_at_the_fleet_once(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    box, look = started(fleet), Mock(wraps=agent_kept_out.peers_at)
    monkeypatch.setattr(explaining, "peers_at", look)
    box.ask("explain_many", ids=["ec2-2", "ec2-3"], ports=["1/tcp", "2/tcp", "3/udp"])
    assert look.call_count == 1


def test_a_member_is_connected_to_only_where_it_comes_from(fleet: World) -> None:
    core = started(fleet).running.core
    overlay = core.members.fleet.members["ec2-2"].overlay

    def at(source: str, host_id: str) -> object:
        return agent_kept_out.overlay_at(core, IPv4Address(source), host_id)

    assert at("10.0.0.2", "ec2-2") == overlay
    assert at("10.0.0.3", "ec2-2") is None
    assert at("10.0.0.2", "ec2-3") is None
    assert at("10.0.0.2", "nobody-1") is None
    assert at(str(overlay), "ec2-2") is None  # in the clear nobody comes by that one


def test_a_pair_is_explained_in_each_stage(fleet: World) -> None:
    box = started(fleet)

    def says(source: str, port: int) -> set[tuple[bool, bool]]:
        found = explained(box, source, port)
        return {(one.admitted, bool(one.ahead)) for one in found.answers}

    for source in ("ec2-3", "10.0.0.3", str(fleet.boxes[2].running.core.members.overlay)):
        assert says(source, 5432) == {(True, True)}, source
    assert says("ec2-2", 5432) == {(True, False)}
    for own in ("here", "ec2-1", "127.0.0.1", "::1"):
        assert says(own, 5432) == {(True, False)}, own
    box.ask("enforce", wait=True, seconds=60)
    assert says("127.0.0.1", 5432) == {(True, False)}
    assert says("ec2-3", 5432) == {(False, True)}
    assert says("10.0.0.99", 5432) == {(False, True)}
    box.ask("confirm")
    assert says("ec2-3", 5432) == says("10.0.0.99", 5432) == {(False, False)}
    assert says("ec2-2", 5432) == {(True, False)}
    assert says("ec2-2", 5433) == {(False, False)}
    found = explained(box, "ec2-3", 5432, dest="ec2-1")
    assert [one.address for one in found.answers] == ["10.0.0.3", "198.51.100.3"]
    text = "\n".join(explain_lines(found))
    assert "ec2-3 (10.0.0.3) does NOT reach 5432/tcp of this host: it is member ec2-3" in text
    assert "member_ports let only app in to 5432/tcp" in text


def test_of_another_host_is_told_what_is_known(fleet: World) -> None:
    box = started(fleet)
    found = explained(box, "ec2-1", 80, dest="ec2-2", udp=True)
    assert not found.here
    assert found.answers == ()
    text = "\n".join(explain_lines(found))
    assert "run 'neti explain ec2-1 here 80 --udp' there" in text
    # Elsewhere 'here' is another host.
    here = "\n".join(explained(box, "here", 80, dest="ec2-2").notes)
    assert "run 'neti explain ec2-1 here 80' there" in here
    assert "ec2-1 is in no group" in here
    assert "ec2-2 is in app" in text
    assert "by the road: plain" in text
    assert "nobody-1 is no member" in "\n".join(explained(box, "nobody-1", 80, "ec2-2").notes)
    assert (
        "is no member that this host knows"
        in box.ask("explain", source="nobody-1", dest="here", port=80)["error"]
    )


def test_a_start_that_knows_nobody_keeps_the_groups_that_only_what_is_in_force_names(
    fleet: World,
) -> None:
    """The file names others, the members' file is torn, and the registry is away."""
    box = confirmed(fleet)
    reload(box, OTHER)
    assert in_force(box) == (*OTHER, *DB)
    sets: tuple[SetName, ...] = (*group_sets("app"), *group_sets("web"), "peers4", "overlay")
    held = {one: dict(box.elements(one)) for one in sets}
    assert all(held[one] for one in (group_sets("app")[0], group_sets("web")[0], "peers4"))
    box.stop()
    for name in ("members.jsonl", "members.jsonl.old"):
        (box.settings.table_files_path / name).unlink(missing_ok=True)
    fleet.server.stop()
    box.start()
    fleet.settle()
    assert not box.running.core.members.known
    assert waits(box)
    assert {one: dict(box.elements(one)) for one in sets} == held
    reload(box, (*OTHER, MemberPort(("web",), "tcp", 81, 81)))
    assert not box.running.core.members.known
    assert {one: dict(box.elements(one)) for one in sets} == held
    fleet.server.start()
    fleet.settle()
    fleet.pass_time(1)
    assert box.running.core.members.known
    assert {one: dict(box.elements(one)) for one in sets} == held

"""Shadow, trial, enforced: who wishes, what begins, what confirms, what ends."""

import dataclasses
import errno
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from tests.support.agents import Box, World, world
from tests.support.examples import share_of

from neti import durable
from neti.agent.told import Reload
from neti.dataplane.monitor import RulesChanged
from neti.model.said import Said
from neti.ruleset.enforce import (
    OFF,
    PERMANENT,
    RELAXED,
    Enforcement,
    confirm_trial,
    enforce_commands,
)
from neti.ruleset.objects import FOREIGN, DeleteElements, Drop
from neti.stage import stages
from neti.stage.stages import RETRY_PAUSES, Record, Stage, Trial
from neti.stage.way_in import OperatorSession
from neti.state import marks
from neti.state.folder import StateFolder

ARMED = {"ipv4": "drop", "ipv6": "drop"}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


# --- wishes ---


def test_the_later_of_a_changed_value_and_a_command_wins() -> None:
    """A value that did not change says nothing, however often it is read."""
    record = stages.configured(Record(), True)
    assert record.wished
    record = stages.commanded(record, False)
    record = stages.configured(record, True)
    assert not record.wished
    record = stages.configured(record, False)
    record = stages.configured(record, True)
    assert record.wished


def test_the_first_reading_counts_as_a_change() -> None:
    assert stages.configured(Record(), True).wished
    assert not stages.configured(Record(), False).wished


def test_what_is_enforced_already_is_not_put_on_trial_again() -> None:
    """By the configuration catching up with a command, or by a second command."""
    record = stages.confirmed(stages.commanded(stages.configured(Record(), False), True))
    assert stages.configured(record, True).confirmed
    assert stages.commanded(record, True).confirmed
    assert not stages.commanded(record, False).confirmed


def trial(deadline: float = 100, boot: str = "b") -> Trial:
    return Trial(boot=boot, deadline=deadline, began=0, seconds=100)


def test_a_failed_wish_of_the_configuration_is_tried_again_with_growing_pauses() -> None:
    record, now = stages.configured(Record(), True), 0.0
    for pause in (*RETRY_PAUSES, RETRY_PAUSES[-1]):
        assert stages.may_begin(record, now)
        record = stages.unconfirmed(stages.begun(record, trial()), ("why",), now)
        assert not stages.may_begin(record, now + pause - 1)
        now += pause
        assert record.why == ("why",)


def test_a_failed_wish_of_a_command_is_not_tried_again() -> None:
    record = stages.commanded(stages.configured(Record(), False), True)
    record = stages.unconfirmed(stages.begun(record, trial()), ("why",), 0)
    assert not stages.may_begin(record, 1e9)


@pytest.mark.parametrize(
    ("boot", "monotonic", "armed", "expected"),
    [
        ("b", 50, False, Stage.TRIAL),
        ("b", 150, False, Stage.SHADOW),
        ("other", 50, False, Stage.SHADOW),
        ("b", 50, True, Stage.ENFORCED),  # killed right after the confirmation
        ("other", 50, True, Stage.SHADOW),  # a kernel of another boot holds nothing of ours
    ],
)
def test_what_a_restart_makes_of_a_trial(
    boot: str, monotonic: float, armed: bool, expected: Stage
) -> None:
    record = stages.begun(stages.commanded(Record(), True), trial())
    again = stages.resumed(record, boot=boot, monotonic=monotonic, now=0, armed=armed)
    assert again.stage is expected


def test_after_the_deadline_nothing_is_wished_for_in_the_kernel() -> None:
    record = stages.begun(stages.commanded(Record(), True), trial())
    assert stages.enforcement(record, 40) == Enforcement(seconds=60)
    assert stages.enforcement(record, 100) is OFF


class Wishes(RuleBasedStateMachine):
    """Any sequence of what may happen: nothing but a confirmation makes it permanent."""

    def __init__(self) -> None:
        super().__init__()
        self.record = Record()
        self.now = 0.0
        self.ever_confirmed = False

    @rule(value=st.booleans())
    def configure(self, value: bool) -> None:
        changed = value != self.record.configured
        self.record = stages.configured(self.record, value)
        if changed:
            assert self.record.wished == value

    @rule(on=st.booleans())
    def command(self, on: bool) -> None:
        self.record = stages.commanded(self.record, on)
        assert self.record.wished == on

    @rule()
    def begin(self) -> None:
        if stages.may_begin(self.record, self.now):
            self.record = stages.begun(self.record, trial(self.now + 100))

    @rule()
    def confirm(self) -> None:
        if self.record.trial is not None:
            self.record = stages.confirmed(self.record)

    @rule(seconds=st.sampled_from((10.0, 200.0, 20_000.0)))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        if self.record.trial is not None and self.record.trial.deadline <= self.now:
            self.record = stages.unconfirmed(self.record, ("why",), self.now)

    @rule(boot=st.sampled_from(("b", "c")))
    def restart(self, boot: str) -> None:
        self.record = stages.resumed(
            self.record, boot=boot, monotonic=self.now, now=self.now, armed=self.record.confirmed
        )

    @invariant()
    def one_stage_that_was_wished_for(self) -> None:
        held = stages.enforcement(self.record, self.now)
        if held:
            assert self.record.wished
        assert held.permanent == self.record.confirmed
        assert not (self.record.confirmed and self.record.trial)


TestWishes = Wishes.TestCase
TestWishes.settings = settings(max_examples=share_of(80), stateful_step_count=30, deadline=None)


# --- map enforce ---


@pytest.mark.parametrize(
    ("wanted", "held"),
    [
        (OFF, {}),
        (PERMANENT, {"ipv4": None, "ipv6": None}),
        (Enforcement(seconds=60), {"ipv4": 59, "ipv6": 59}),
    ],
)
def test_what_is_as_it_should_be_is_left_alone(
    wanted: Enforcement, held: dict[str, int | None]
) -> None:
    assert enforce_commands(wanted, held) == ()


def test_a_trial_that_is_gone_is_not_begun_again() -> None:
    """Whatever else is there is removed: half a trial is none."""
    assert enforce_commands(Enforcement(seconds=60), {}) == ()
    half = " ".join(map(str, enforce_commands(Enforcement(seconds=60), {"ipv4": 30})))
    assert "delete element inet neti enforce { ipv4 }" in half
    assert "timeout" not in half


def test_a_trial_that_somebody_made_longer_gets_its_own_end_back() -> None:
    for held in ({"ipv4": None, "ipv6": None}, {"ipv4": 4000, "ipv6": 60}):
        assert enforce_commands(Enforcement(seconds=60), held)[-1] == Drop(60_000)


def test_nothing_is_added_that_is_there() -> None:
    """Linux before 5.10 refuses a verdict that is there already, and a time-out stays as it was.
    What is not ours, the mark of 'neti relax' too, goes when the host is armed."""
    commands = enforce_commands(PERMANENT, {"ipv4": FOREIGN, "ipv6": None, "78": FOREIGN})
    assert commands == (DeleteElements("enforce", ("ipv4", "ipv6", "78")), Drop())
    assert enforce_commands(PERMANENT, {}) == (Drop(),)
    on_trial = Enforcement(seconds=60)
    assert confirm_trial(on_trial) == (DeleteElements("enforce", ("ipv4", "ipv6")), Drop())


def test_the_mark_of_relax_stays_while_nothing_is_dropped() -> None:
    assert enforce_commands(RELAXED, {"78": FOREIGN}) == ()
    assert enforce_commands(OFF, {"78": FOREIGN}) != ()  # the disk has it now
    assert enforce_commands(RELAXED, {"78": FOREIGN, "ipv4": 9}) == (
        DeleteElements("enforce", ("ipv4",)),
    )


# --- in the agent ---


def trialled(fleet: World, **changes: Any) -> Box:
    one = fleet.started(1, **changes)
    fleet.started(2)
    fleet.pass_time(1)
    return one


def enforce(box: Box, **arguments: object) -> dict[str, object]:
    answer: dict[str, object] = box.ask("enforce", **arguments)
    return answer


def test_the_agent_confirms_by_evidence(fleet: World) -> None:
    one = trialled(fleet)
    assert enforce(one, seconds=90)["result"] == {"stage": "trial", "seconds": 90}
    assert one.elements("enforce") == {"ipv4": "drop 90", "ipv6": "drop 90"}
    fleet.pass_time(50)
    assert one.status()["stage"] == "trial"
    fleet.pass_time(15)
    assert one.status()["stage"] == "enforced"
    assert one.elements("enforce") == ARMED
    assert all(found["holds"] for found in one.status()["evidence"])


def let_expire(fleet: World, box: Box, seconds: int) -> None:
    """The kernel's clock and the agent's, a second at a time."""
    for _ in range(seconds - 1):
        fleet.pass_time(1)
    box.dataplane.expire()
    fleet.pass_time(2)


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        ("registry", "registry"),
        ("members", "members"),
        ("refused", "refused members"),
        ("uses", "ports in use"),
        ("full", "record"),
    ],
)
def test_missing_evidence_leaves_it_unconfirmed_and_says_what(
    fleet: World, spoil: str, word: str
) -> None:
    """The kernel goes back to shadow, and a command is not tried again by itself."""
    one = trialled(fleet)
    if spoil == "members":
        one.dataplane.counted["admitted"] = 0
        fleet.pass_time(61)
        one.dataplane.counted["admitted"] = 500
    enforce(one, seconds=60)
    if spoil == "registry":
        fleet.server.stop()
    if spoil == "refused":
        one.shadow.members = ("ec2-2",)
    if spoil == "uses":
        one.shadow.uses = ("8080/tcp",)
    if spoil == "full":
        one.shadow.full = "the record of ports with a listener is full"
    let_expire(fleet, one, 60)
    status = one.status()
    assert status["stage"] == "shadow"
    assert status["trial"]["state"] == "expired"
    assert any(why.startswith(f"{word}:") for why in status["trial"]["why"])
    assert one.elements("enforce") == {}
    fleet.pass_time(100_000)
    assert one.elements("enforce") == {}


def test_a_trial_that_could_not_be_confirmed_is_not_begun(fleet: World) -> None:
    """While the registry is out of step the evidence for it cannot come."""
    one = trialled(fleet)
    fleet.server.stop()
    fleet.settle()
    refused = str(enforce(one, seconds=60)["error"])
    assert "the registry is not in step" in refused
    assert "--anyway" in refused
    assert one.elements("enforce") == {}
    assert one.status()["stage"] == "shadow"
    assert enforce(one, seconds=60, anyway=True)["result"] == {"stage": "trial", "seconds": 60}


def test_ports_in_use_want_an_answer_before_anything_is_dropped(fleet: World) -> None:
    """An operator is told which, and says that they may be lost, here or before."""
    one = trialled(fleet)
    one.shadow.used = {("tcp", 8080): "8080/tcp (3 sources, 10.0.0.7 for one)"}
    refused = str(enforce(one, seconds=60)["error"])
    assert "8080/tcp (3 sources, 10.0.0.7 for one)" in refused
    assert "--anyway" in refused
    assert one.elements("enforce") == {}
    assert enforce(one, seconds=60, anyway=True)["result"] == {"stage": "trial", "seconds": 60}
    assert one.shadow.used == {}
    fleet.pass_time(45)
    assert one.status()["stage"] == "enforced"


@pytest.mark.parametrize("answered", [False, True])
def test_the_configuration_does_not_confirm_over_an_unanswered_port(
    fleet: World, answered: bool
) -> None:
    """Nobody calls during the trial, and it stays unconfirmed all the same, unless somebody answers
    while it runs."""
    one = fleet.box(1, reject_all=True, trial_seconds=60)
    one.shadow.used = {("tcp", 8080): "8080/tcp (3 sources, 10.0.0.7 for one)"}
    one.start()
    fleet.settle()
    fleet.pass_time(1)
    assert one.status()["stage"] == "trial"
    if answered:
        one.shadow.give_up([("tcp", 8080)])
        fleet.pass_time(50)
        assert one.status()["stage"] == "enforced"
        return
    let_expire(fleet, one, 60)
    status = one.status()
    assert status["stage"] == "shadow"
    assert any(why.startswith("preview: in use") for why in status["trial"]["why"])


def test_a_short_trial_says_over_which_time_it_is_compared(fleet: World) -> None:
    """Members are counted every 30 s, so what came before is never looked for in less."""
    one = trialled(fleet)
    one.dataplane.counted["admitted"] = 0
    fleet.pass_time(60)
    for _ in range(24):  # in the middle between two counts
        fleet.pass_time(1)
    one.dataplane.counted["admitted"] = 500
    enforce(one, seconds=12)
    let_expire(fleet, one, 12)
    why = "; ".join(one.status()["trial"]["why"])
    assert "500 were in the 24 s before it" in why, why


def test_what_the_configuration_wishes_for_is_tried_again(fleet: World) -> None:
    one = trialled(fleet, reject_all=True)
    assert one.status()["stage"] == "trial"
    one.shadow.uses = ("8080/tcp",)
    let_expire(fleet, one, 120)
    assert one.status()["stage"] == "shadow"
    one.shadow.uses = ()
    fleet.pass_time(RETRY_PAUSES[0])
    assert one.status()["stage"] == "trial"
    fleet.pass_time(100)
    assert one.status()["stage"] == "enforced"


def test_only_the_operators_word(fleet: World) -> None:
    one = trialled(fleet)
    enforce(one, seconds=60, wait=True)
    fleet.pass_time(55)
    assert one.status()["trial"]["state"] == "running"
    assert one.ask("confirm")["result"] == {"stage": "enforced"}
    assert one.elements("enforce") == ARMED


@pytest.mark.parametrize("how", ["asked", "without the agent"])
def test_neti_down_ends_a_trial_and_is_named_for_it(fleet: World, how: str) -> None:
    """Not somebody unknown; and up brings no trial back."""
    one = trialled(fleet)
    enforce(one, seconds=60, wait=True)
    if how == "asked":
        one.ask("down")
        assert one.status()["trial"]["state"] == "expired"
    else:
        one.stop()
        one.dataplane.table = None
        (one.settings.table_files_path / "down").touch()
        one.start()
    fleet.pass_time(5)
    one.ask("up")
    fleet.pass_time(1)
    status = one.status()
    assert status["stage"] == "shadow"
    assert status["trial"]["why"] == ["neti down took the trial out of the kernel"]
    assert status["trial"]["failures"] == 1
    assert one.elements("enforce") == {}


def test_a_confirmation_that_comes_too_late_arms_nothing(fleet: World) -> None:
    """The process was stopped between deciding and applying: the kernel decides."""
    one = trialled(fleet)
    enforce(one, seconds=60, wait=True)
    fleet.pass_time(30)
    one.dataplane.expire()
    assert "the kernel had ended it already" in one.ask("confirm")["error"]
    assert one.elements("enforce") == {}
    assert "no trial is running" in one.ask("confirm")["error"]


@pytest.mark.parametrize("how", ["reload", "drift", "restart", "replacement"])
def test_an_expired_trial_is_armed_by_nothing(fleet: World, how: str) -> None:
    one = trialled(fleet)
    enforce(one, seconds=60, wait=True)
    one.dataplane.expire()
    if how == "reload":
        one.new_settings = dataclasses.replace(one.settings, ssh_port=2222)
        one.running.tell(Reload())
    elif how == "drift":
        one.running.tell(RulesChanged(1, "nft"))
    elif how == "replacement":
        one.dataplane.table = None
        one.running.tell(RulesChanged(1, "nft"))
    else:
        one.stop()
        one.start()
    fleet.pass_time(1)
    fleet.pass_time(1)
    assert one.elements("enforce") == {}
    assert one.status()["stage"] == "shadow"


def test_a_running_trial_is_carried_through_reload_and_restart(fleet: World) -> None:
    one = trialled(fleet)
    enforce(one, seconds=60, wait=True)
    one.new_settings = dataclasses.replace(one.settings, ssh_port=2222)
    one.running.tell(Reload())
    fleet.pass_time(1)
    assert one.status()["stage"] == "trial"
    one.stop()
    one.start()
    fleet.pass_time(1)
    assert one.status()["stage"] == "trial"
    assert one.elements("enforce") == {"ipv4": "drop 60", "ipv6": "drop 60"}
    assert one.ask("confirm")["result"] == {"stage": "enforced"}


def test_enforced_outlives_a_restart_and_drift_is_repaired(fleet: World) -> None:
    one = trialled(fleet)
    enforce(one, seconds=60)
    fleet.pass_time(50)
    assert one.status()["stage"] == "enforced"
    one.stop()
    one.dataplane.table = None
    one.start()
    assert one.elements("enforce") == ARMED
    assert one.dataplane.table is not None
    one.dataplane.table.enforce.clear()
    one.running.tell(RulesChanged(77, "nft"))
    fleet.pass_time(1)
    assert one.elements("enforce") == ARMED
    assert one.status()["drift"]["repairs"] == 1


def test_relax_and_the_configuration(fleet: World) -> None:
    """relax holds over restarts, until the configuration's value changes."""
    one = trialled(fleet, reject_all=True)
    fleet.pass_time(100)
    assert one.status()["stage"] == "enforced"
    one.ask("relax")
    assert one.elements("enforce") == {}
    one.stop()
    one.start()
    fleet.pass_time(1000)
    assert one.status()["stage"] == "shadow"
    for value in (False, True):
        one.new_settings = dataclasses.replace(one.settings, reject_all=value)
        one.running.tell(Reload())
        fleet.pass_time(1)
    assert one.status()["stage"] == "trial"


@pytest.mark.parametrize("hung", [True, False])
@pytest.mark.parametrize("on_disk", [True, False])
def test_relaxed_without_the_agent_it_stays_in_shadow(
    fleet: World, hung: bool, on_disk: bool
) -> None:
    """Also where reject_all is true: the command is the later word. And a later one counts."""
    one = trialled(fleet, reject_all=True, trial_seconds=60)
    fleet.pass_time(1)
    fleet.pass_time(50)
    assert one.status()["stage"] == "enforced"
    folder = one.running.core.out.folder
    if not hung:
        one.stop()
    one.dataplane.disarm()  # as ``relax_alone`` does
    if on_disk:
        marks.leave(folder.path, marks.RELAXED, Said(1.0, "alice, ssh 198.51.100.7", None))
    assert ARMED.items() - one.elements("enforce").items() == ARMED.items()
    if not hung:
        one.start()
    elif not on_disk:
        one.running.tell(RulesChanged(pid=1, program="neti"))
    fleet.pass_time(120)
    assert one.elements("enforce") == {}
    assert one.status()["stage"] == "shadow"
    assert one.running.core.stage.record.relaxed
    if on_disk:
        assert one.running.core.stage.record.said_by == "alice, ssh 198.51.100.7"
    assert not folder.is_relaxed
    assert "result" in enforce(one, seconds=60)
    fleet.pass_time(1)
    assert one.status()["stage"] == "trial"
    assert one.elements("enforce") != {}


TYPED_IN = {
    "client": "203.0.113.9",
    "client_port": 50000,
    "local": "10.0.0.1",
    "local_port": 22,
    "found": "connection",
    "sure": True,
    "how": "the connection that sshd holds",
}


def test_arming_is_refused_without_a_way_in(fleet: World) -> None:
    one = trialled(fleet, ssh_whitelist=())
    assert "ssh_whitelist is empty" in str(enforce(one)["error"])
    assert one.elements("enforce") == {}
    covered = trialled(fleet)
    refused = str(enforce(covered, session=TYPED_IN)["error"])
    assert "203.0.113.9 is not in ssh_whitelist" in refused
    assert covered.elements("enforce") == {}
    assert "result" in enforce(covered, session=TYPED_IN | {"client": "198.51.100.200"})


@pytest.mark.parametrize("stage", ["shadow", "trial", "enforced", "reject_all"])
def test_a_reload_does_not_shut_out_who_asks_for_it(fleet: World, stage: str) -> None:
    """A typing error in ssh_whitelist is refused in the session that it would end, where the host
    drops or is about to."""
    one = trialled(fleet)
    (let_in,) = one.settings.ssh_whitelist
    if stage in ("trial", "enforced"):
        enforce(one, seconds=60)
        fleet.pass_time(50 if stage == "enforced" else 1)
        assert one.status()["stage"] == stage
    wrong = (ip_network("192.0.2.0/28"),)
    one.new_settings = dataclasses.replace(
        one.settings, ssh_whitelist=wrong, reject_all=stage == "reject_all"
    )
    session = {**TYPED_IN, "client": str(let_in[0])}
    if stage == "shadow":
        assert one.ask("reload", session=session)["result"]["changed"] == ["ssh_whitelist"]
        return
    refused = str(one.ask("reload", session=session)["error"])
    assert "would not be let in any more" in refused
    assert "neti reload --anyway" in refused
    assert one.running.core.settings.ssh_whitelist == (let_in,)
    assert "reload" in one.problems()
    done = one.ask("reload", session=session, anyway=True)["result"]
    assert "ssh_whitelist" in done["changed"]
    # It is shut out by now: what it asks for next takes nothing from it.
    one.new_settings = dataclasses.replace(one.new_settings, linger_seconds=7)
    fleet.pass_time(1)
    if one.status()["stage"] != "shadow":
        assert "result" in one.ask("reload", session=session)


def test_up_does_not_shut_out_who_types_it(fleet: World) -> None:
    """While Neti was down the whitelist was edited, and nobody looked whose session that ends."""
    one = trialled(fleet)
    (let_in,) = one.settings.ssh_whitelist
    session = {**TYPED_IN, "client": str(let_in[0])}
    enforce(one, seconds=60)
    fleet.pass_time(50)
    one.ask("down")
    one.new_settings = dataclasses.replace(
        one.settings, ssh_whitelist=(ip_network("192.0.2.0/28"),)
    )
    one.running.tell(Reload())
    fleet.pass_time(1)
    refused = str(one.ask("up", session=session)["error"])
    assert "Neti stays down: this SSH session" in refused
    assert one.status()["stage"] == "down"
    assert one.ask("up", session=session, anyway=True)["result"]["stage"] == "enforced"


@pytest.mark.parametrize("how", ["reload", "SIGHUP"])
@pytest.mark.parametrize("stage", ["shadow", "trial", "enforced", "reject_all"])
def test_a_reload_shuts_out_nobody_who_is_in(fleet: World, stage: str, how: str) -> None:
    """Whoever asks for it: configuration management does, while an operator is in."""
    one = trialled(fleet)
    (let_in,) = one.settings.ssh_whitelist
    one.sessions = [session(str(let_in[0])), session("203.0.113.9")]
    if stage in ("trial", "enforced"):
        one.sessions.pop()
        enforce(one, seconds=60)
        fleet.pass_time(50 if stage == "enforced" else 1)
        assert one.status()["stage"] == stage
        one.sessions.append(session("203.0.113.9"))  # from before; nobody's
    wrong = (ip_network("192.0.2.0/28"),)
    one.new_settings = dataclasses.replace(
        one.settings, ssh_whitelist=wrong, reject_all=stage == "reject_all"
    )
    if how == "SIGHUP":
        one.running.tell(Reload())
        fleet.settle()
    else:
        one.ask("reload")
    if stage == "shadow":
        assert one.running.core.settings.ssh_whitelist == wrong
        return
    assert one.running.core.settings.ssh_whitelist == (let_in,)
    assert f"the open SSH session {let_in[0]} port 50000" in one.problems()["reload"]
    assert "neti reload --anyway" in one.problems()["reload"]
    assert "ssh_whitelist" in one.ask("reload", anyway=True)["result"]["changed"]
    assert one.running.core.settings.ssh_whitelist == wrong


def test_a_reload_names_the_ports_that_its_trial_shuts(fleet: World) -> None:
    """'neti enforce' would have refused."""
    one = trialled(fleet)
    one.shadow.used = {("tcp", 8080): "8080/tcp (2 sources, 192.0.2.7 for one)"}
    one.new_settings = one.settings
    assert one.ask("reload")["result"]["would_be_lost"] == []
    one.new_settings = dataclasses.replace(one.settings, reject_all=True)
    answer = one.ask("reload")["result"]
    assert answer["would_be_lost"] == ["8080/tcp (2 sources, 192.0.2.7 for one)"]


def test_no_evidence_confirms_while_somebody_is_in_who_would_not_get_in_again(fleet: World) -> None:
    one = trialled(fleet)
    one.new_settings = dataclasses.replace(one.settings, reject_all=True, trial_seconds=60)
    one.sessions = [session("203.0.113.9")]
    one.running.tell(Reload())
    fleet.pass_time(1)
    fleet.pass_time(50)
    assert one.status()["stage"] == "trial"
    assert "way in: the open SSH session 203.0.113.9" in "; ".join(one.status()["trial"]["why"])
    let_expire(fleet, one, 15)
    assert one.status()["stage"] == "shadow"
    assert "would not be let in again" in "; ".join(one.status()["trial"]["why"])
    one.sessions.clear()
    fleet.pass_time(RETRY_PAUSES[0] + 1)
    fleet.pass_time(50)
    assert one.status()["stage"] == "enforced"


def session(client: str) -> OperatorSession:
    return OperatorSession.from_document({**TYPED_IN, "client": client})


def test_a_trial_that_waits_for_a_word_is_not_replaced_by_one_that_does_not(fleet: World) -> None:
    """Two people: the first is promised that nothing but 'neti confirm' makes it permanent."""
    one = trialled(fleet)
    enforce(one, seconds=60, wait=True)
    assert "only 'neti confirm'" in str(enforce(one, seconds=10)["error"])
    fleet.pass_time(1)
    assert one.status()["trial"]["confirms"] == "operator"
    assert "result" in enforce(one, seconds=30, wait=True)


def test_a_trial_is_replaced_by_no_shorter_one(fleet: World) -> None:
    one = trialled(fleet)
    enforce(one, seconds=90)
    fleet.pass_time(1)
    assert "running for 89 s more" in str(enforce(one, seconds=10)["error"])
    assert one.status()["trial"]["seconds"] == 90
    assert "result" in enforce(one, seconds=90)
    assert "result" in enforce(one, seconds=30, wait=True)


def test_a_whitelist_that_is_emptied_later_ends_enforcement(fleet: World) -> None:
    """Rather open and loud than locked."""
    one = trialled(fleet)
    enforce(one, seconds=60)
    fleet.pass_time(50)
    one.new_settings = dataclasses.replace(one.settings, ssh_whitelist=())
    one.running.tell(Reload())
    fleet.pass_time(1)
    assert one.elements("enforce") == {}
    assert one.status()["stage"] == "shadow"
    assert "NOT in force" in one.problems()["arming"]
    for command in ("enforce", "confirm"):
        assert "ssh_whitelist is empty" in str(one.ask(command)["error"])
    assert one.elements("enforce") == {}


def test_a_host_that_is_down_is_not_said_to_be_enforced(fleet: World) -> None:
    one = trialled(fleet)
    enforce(one, seconds=60)
    fleet.pass_time(50)
    assert one.status()["stage"] == "enforced"
    one.ask("down")
    for command in ("enforce", "confirm"):
        assert "Neti is down on this host" in str(one.ask(command)["error"])


def test_a_kernel_that_refuses_to_arm_says_so(fleet: World) -> None:
    one = trialled(fleet)
    one.dataplane.failing = "Device or resource busy"
    assert "busy" in str(enforce(one)["error"])
    one.dataplane.failing = None
    fleet.pass_time(30)
    assert one.elements("enforce") == {}
    assert one.status()["stage"] == "shadow"


def test_lost_state_does_not_open_an_enforced_host(fleet: World) -> None:
    """The kernel holds what only a confirmation makes, and the configuration still wants it."""
    one = trialled(fleet, reject_all=True)
    fleet.pass_time(100)
    one.stop()
    (one.settings.table_files_path / "stage.json").unlink()
    one.start()
    fleet.pass_time(1)
    assert one.status()["stage"] == "enforced"
    assert one.elements("enforce") == ARMED


def edited(path: Path) -> None:
    """One bit of it is another: torn, as its checksum tells."""
    path.write_bytes(path.read_bytes()[:9] + b" " + path.read_bytes()[10:])


def confirmed_by_command(fleet: World) -> Box:
    one = trialled(fleet)
    enforce(one, seconds=90)
    one.ask("confirm")
    assert one.status()["stage"] == "enforced"
    one.stop()
    return one


def rebooted(fleet: World, one: Box) -> None:
    fleet.boot = "boot-2"
    one.dataplane.table = None


@pytest.mark.parametrize("lost", ["torn", "empty", "missing"])
def test_a_torn_stage_is_read_from_its_copy(fleet: World, lost: str) -> None:
    """Though the configuration does not say reject_all, and the kernel is empty. It is named until
    it is whole again, which it is at once."""
    one = confirmed_by_command(fleet)
    path = one.settings.table_files_path / "stage.json"
    if lost == "missing":
        path.unlink()
    elif lost == "empty":
        path.write_bytes(b"")
    else:
        edited(path)
    rebooted(fleet, one)
    loaded = StateFolder(one.settings.table_files_path).load("this machine")
    assert any("stage.json" in fault for fault in loaded.faults)
    one.start()
    fleet.pass_time(1)
    assert one.elements("enforce") == ARMED
    assert one.status()["stage"] == "enforced"
    assert "state" not in one.problems()
    assert not StateFolder(one.settings.table_files_path).load("this machine").faults


@pytest.mark.parametrize("lost", ["torn", "missing"])
def test_without_a_record_what_the_kernel_holds_for_good_counts(fleet: World, lost: str) -> None:
    """Also where a command made it, and the configuration never said reject_all."""
    one = confirmed_by_command(fleet)
    for name in ("stage.json", "stage.json.copy"):
        path = one.settings.table_files_path / name
        path.unlink() if lost == "missing" else edited(path)
    one.start()
    fleet.pass_time(1)
    assert one.elements("enforce") == ARMED
    assert one.status()["stage"] == "enforced"
    assert one.status()["problems"] == []
    one.ask("relax")
    assert one.elements("enforce") == {}


def test_a_host_that_was_opened_by_lost_files_says_so(fleet: World) -> None:
    """Until somebody has said again what it should be."""
    one = confirmed_by_command(fleet)
    for name in ("stage.json", "stage.json.copy"):
        edited(one.settings.table_files_path / name)
    rebooted(fleet, one)
    one.start()
    fleet.pass_time(1)
    assert one.status()["stage"] == "shadow"
    assert list(one.problems()) == ["stage_lost"]
    one.ask("relax")
    assert one.status()["problems"] == []


def test_an_enforced_host_that_knows_nobody_is_open_until_it_does(fleet: World) -> None:
    """Its members are lost with the disk, and the registry is away: nobody would get in."""
    fleet.started(2)
    one = confirmed_by_command(fleet)
    for path in one.settings.table_files_path.glob("members*"):
        path.unlink()
    rebooted(fleet, one)
    fleet.server.stop()
    one.start()
    fleet.pass_time(1)
    assert one.elements("enforce") == {}
    assert one.status()["stage"] == "shadow"
    assert "arming" in one.problems()
    assert "the members are not known yet" in one.problems()["arming"]
    fleet.server.start()
    fleet.pass_time(1)
    assert one.elements("peers4")
    assert one.elements("enforce") == ARMED
    assert one.status()["stage"] == "enforced"
    assert "arming" not in one.problems()


def test_an_enforced_host_that_knows_nobody_stays_as_the_kernel_has_it(fleet: World) -> None:
    """Only its agent was restarted: who is in the kernel gets in, and nobody else."""
    fleet.started(2)
    one = confirmed_by_command(fleet)
    for path in one.settings.table_files_path.glob("members*"):
        path.unlink()
    before = one.elements("peers4")
    fleet.server.stop()
    one.start()
    fleet.pass_time(1)
    assert one.elements("peers4") == before
    assert one.elements("enforce") == ARMED
    assert one.status()["stage"] == "enforced"


def test_a_host_that_was_never_enforced_is_not_armed_by_a_copy(fleet: World) -> None:
    """Relaxed is relaxed in both files."""
    one = confirmed_by_command(fleet)
    one.start()
    one.ask("relax")
    one.stop()
    edited(one.settings.table_files_path / "stage.json")
    rebooted(fleet, one)
    one.start()
    fleet.pass_time(1)
    assert one.elements("enforce") == {}
    assert one.status()["stage"] == "shadow"


# --- a disk that takes nothing ---


def break_disk(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Only these files cannot be written (all, where none is named)."""
    whole = durable.replace

    def refused(path: Path, content: bytes, mode: int) -> None:
        if not names or path.name in names:
            raise OSError(errno.EIO, "Input/output error", str(path))
        whole(path, content, mode)

    monkeypatch.setattr(durable, "replace", refused)


def codes(box: Box) -> set[str]:
    return {one["code"] for one in box.status()["problems"]}


def test_what_was_decided_while_the_disk_failed_is_written_when_it_can_be(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And another file's success does not hide it."""
    one = confirmed_by_command(fleet)
    one.start()
    fleet.pass_time(1)
    with monkeypatch.context() as broken:
        break_disk(broken, "stage.json", "stage.json.copy")
        said = one.ask("relax")["result"]
        assert "stage.json" not in said["stage"]
        assert "cannot be written" in said["unsaved"]
        fleet.started(3)  # another file is written
        fleet.pass_time(60)
        assert {"disk", "stage_not_saved"} <= codes(one)
    fleet.pass_time(60)
    assert not {"disk", "stage_not_saved"} & codes(one)
    folder = one.settings.table_files_path
    record = StateFolder(folder).load("this machine").record
    assert record is not None
    assert record.relaxed


def test_a_restart_does_not_undo_a_relax_that_no_disk_took(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel is the witness."""
    one = confirmed_by_command(fleet)
    one.start()
    fleet.pass_time(1)
    with monkeypatch.context() as broken:
        break_disk(broken, "stage.json", "stage.json.copy")
        one.ask("relax")
        one.stop()
    one.start()
    fleet.pass_time(5)
    assert one.status()["stage"] == "shadow"
    assert not ARMED.keys() & one.elements("enforce").keys()


def test_nothing_is_confirmed_that_is_not_on_disk(
    fleet: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trialled(fleet)
    enforce(one, seconds=60, wait=True)
    with monkeypatch.context() as broken:
        break_disk(broken, "stage.json")
        assert "not outlast a reboot" in one.ask("confirm")["error"]
        assert one.status()["stage"] == "trial"
    assert one.ask("confirm")["result"] == {"stage": "enforced"}


def test_a_kernel_that_enforces_is_not_opened_by_an_older_record(fleet: World) -> None:
    """Such as a copy of the state folder that was put back."""
    one = confirmed_by_command(fleet)
    folder = StateFolder(one.settings.table_files_path)
    folder.load("this machine")
    folder.save_record(Record(configured=False))
    one.start()
    fleet.pass_time(5)
    assert one.status()["stage"] == "enforced"
    assert "stage_adopted" in codes(one)


def test_relaxing_works_while_everything_else_is_refused(fleet: World) -> None:
    one = confirmed_by_command(fleet)
    one.start()
    fleet.pass_time(1)
    one.dataplane.failing = "nftables refused the structure"
    assert one.ask("relax")["result"]["stage"] == "shadow"
    assert not ARMED.keys() & one.elements("enforce").keys()

"""status, fleet, check, metrics and alarms say the same of every state: held side by side.

Each state is made with a whole agent in memory. What it tells is what the readers get: the status
document goes to ``neti check``, the figures to the metrics and from there to the alarms, the detail
in the registry to ``neti fleet``.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from tests.support.agents import Box, World, world

from neti.agent.config_read import ConfigRead
from neti.cli.status import is_well
from neti.fleet import attendance, listing
from neti.model import Encrypt, Member, entry
from neti.model.document import read
from neti.model.settings import RegistryTLS
from neti.monitoring.check import judge
from neti.monitoring.figures import Figures
from neti.monitoring.metrics import metrics
from neti.monitoring.situation import FAMILIES, KernelLook, Level, Limits, Situation
from neti.registry import Stale, detail
from neti.registry.memory import MemoryRegistry
from neti.state.folder import StateFolder

TLS: Final = RegistryTLS(ca=Path("/ca"), cert=Path("/cert"), key=Path("/key"))
RULES: Final = [
    rule
    for group in yaml.safe_load((Path(__file__).parents[3] / "deploy/neti-alerts.yml").read_text())[
        "groups"
    ]
    for rule in group["rules"]
]
# What has a limit in time, a rate, or a target that is asked: not of one moment.
_NOT_OF_A_MOMENT: Final = re.compile(r"\[|up\{|node_textfile|/ neti_")


@dataclass(frozen=True)
class Told:
    """``stage``: everywhere. ``codes``: of the problems. ``well``: exit code 0 of ``neti status``.
    ``alarms``: at once, if they last. ``gate``: ``fleet --require enforced``."""

    stage: str
    codes: set[str]
    well: bool
    check: Level
    alarms: set[str]
    gate: bool


def nothing(_fleet: World, _one: Box) -> None:
    pass


def enforce(fleet: World, one: Box) -> None:
    one.ask("enforce", seconds=60)
    one.ask("confirm")
    fleet.pass_time(1)


def down(fleet: World, one: Box) -> None:
    one.ask("down")
    fleet.pass_time(1)


def enforced_and_down(fleet: World, one: Box) -> None:
    enforce(fleet, one)
    down(fleet, one)


def trial(_fleet: World, one: Box) -> None:
    one.ask("enforce", seconds=60)


def expired(fleet: World, one: Box) -> None:
    one.ask("enforce", seconds=10)
    fleet.pass_time(30)


def relaxed(fleet: World, one: Box) -> None:
    """Against what the file says."""
    one.running.core.take_settings(replace(one.settings, reject_all=True))
    one.running.staging.configured()
    one.ask("relax")
    fleet.pass_time(1)


def relaxed_by_all(fleet: World, one: Box) -> None:
    """The file does not say otherwise."""
    enforce(fleet, one)
    one.ask("relax")
    fleet.pass_time(1)


def unread(fleet: World, one: Box) -> None:
    path = fleet.folder / "neti.yml"
    path.write_text("a: 1\n")
    one.running.core.out.config_read = ConfigRead(path, b"a: 2\n")


def lost(fleet: World, one: Box) -> None:
    _lose(fleet, 2)


def held(fleet: World, one: Box) -> None:
    for number in range(3, 9):
        fleet.started(number)
    fleet.pass_time(1)
    _lose(fleet, *range(2, 9))
    fleet.pass_time(1000)


def _lose(fleet: World, *numbers: int) -> None:
    for box in fleet.boxes:
        if box.agent is not None and box.host.id in {f"ec2-{n}" for n in numbers}:
            session = StateFolder(box.settings.table_files_path).load("this machine").session
            assert session is not None
            box.stop()
            fleet.server.expire(session)
    fleet.pass_time(1)


def no_way_in(fleet: World, one: Box) -> None:
    enforce(fleet, one)
    one.running.core.take_settings(replace(one.settings, ssh_whitelist=()))
    one.running.staging.configured()
    one.running.kernel.resync("test")
    fleet.pass_time(1)


def refused(fleet: World, one: Box) -> None:
    one.dataplane.failing = "Device or resource busy"
    fleet.started(3)
    fleet.pass_time(1)


def stale(fleet: World, one: Box) -> None:
    one.running.tell(Stale("server 1 refuses"))
    one.running.step()
    fleet.clock.advance(90)


def asks_for_encryption(fleet: World, one: Box) -> None:
    """Of the other site, which has a member whose file asks for none. Nothing is in force yet."""
    fleet.started(1, "vpc")
    sites = {**fleet.sites, "vpc": replace(fleet.sites["vpc"], encrypt=Encrypt.REQUIRE)}
    one.stop()
    one.settings = replace(one.settings, sites=sites, registry_tls=TLS)
    one.start()
    MemoryRegistry(fleet.server).change_setting("strict", b"on 2026-11-27T12:00:00Z")
    fleet.pass_time(1)
    one.running.core.problems.clear("certificate")  # there is no such file


def cuts_off(fleet: World, one: Box) -> None:
    asks_for_encryption(fleet, one)
    one.ask("enforce", seconds=60, anyway=True)
    fleet.pass_time(50)
    one.ask("confirm")
    fleet.pass_time(1)
    one.running.core.problems.clear("certificate")


def opened(fleet: World, one: Box) -> None:
    enforce(fleet, one)
    for port, sources in ((5432, ["203.0.113.9", "10.9.0.0/16"]), (80, ["2001:db8::/64"])):
        said = {"first": port, "last": port, "proto": "tcp", "seconds": 7200}
        assert "result" in one.ask("open", sources=sources, **said)
    fleet.pass_time(61)


STATES: dict[str, tuple[Callable[[World, Box], None], Told]] = {
    "shadow": (nothing, Told("shadow", set(), True, Level.OK, set(), False)),
    "enforced": (enforce, Told("enforced", set(), True, Level.OK, set(), True)),
    "open for a time": (opened, Told("enforced", set(), True, Level.OK, set(), True)),
    "trial": (trial, Told("trial", set(), True, Level.OK, set(), False)),
    "trial expired": (
        expired,
        Told(
            "shadow", {"trial_expired"}, False, Level.CRITICAL, {"NetiNotEnforced"}, False
        ),
    ),
    "down": (down, Told("down", {"down"}, False, Level.WARNING, {"NetiDown"}, False)),
    "down though it is to be enforced": (
        enforced_and_down,
        Told(
            "down", {"down_open"}, False, Level.CRITICAL, {"NetiDown", "NetiNotEnforced"}, False
        ),
    ),
    "relaxed against the file": (
        relaxed,
        Told("shadow", {"relaxed"}, False, Level.WARNING, {"NetiRelaxed"}, False),
    ),
    "relaxed": (relaxed_by_all, Told("shadow", set(), True, Level.OK, set(), False)),
    "configuration not read": (
        unread,
        Told("shadow", {"config_unread"}, False, Level.WARNING, {"NetiProblem"}, False),
    ),
    "lost": (lost, Told("shadow", {"lost"}, True, Level.WARNING, {"NetiMembersLost"}, False)),
    "held": (
        held,
        Told("shadow", {"held"}, False, Level.CRITICAL, {"NetiRemovalsHeld"}, False),
    ),
    "enforced without a way in": (
        no_way_in,
        Told("shadow", {"arming"}, False, Level.CRITICAL, {"NetiNotEnforced"}, False),
    ),
    "the kernel refuses": (
        refused,
        Told("shadow", {"kernel"}, False, Level.CRITICAL, {"NetiCritical"}, False),
    ),
    "encryption is required, and not in effect": (
        asks_for_encryption,
        Told(
            "shadow",
            {"encryption_not_in_effect"},
            False,
            Level.WARNING,
            {"NetiEncryptionNotInEffect"},
            False,
        ),
    ),
    "one without a key is cut off": (
        cuts_off,
        Told("enforced", {"encryption_keyless"}, False, Level.WARNING, {"NetiProblem"}, True),
    ),
    "not in step": (
        stale,
        Told("shadow", {"registry"}, False, Level.WARNING, {"NetiRegistryStale"}, False),
    ),
}  # fmt: skip


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.mark.parametrize(("make", "told"), STATES.values(), ids=STATES.keys())
def test_all_say_the_same(fleet: World, make: Callable[[World, Box], None], told: Told) -> None:
    one = fleet.started(1)
    fleet.started(2)
    fleet.pass_time(1)
    make(fleet, one)
    status, figures = one.told(), read(Figures, one.ask("metrics")["result"])
    row = _row(one)
    assert status.stage == figures.stage == row["stage"] == told.stage
    assert _shown_stage(figures) == told.stage
    problems = status.problems
    assert {problem.code for problem in problems} == told.codes
    assert set(figures.problems) == {problem.severity.value for problem in problems}
    assert is_well(status) is told.well
    kernel = KernelLook(
        table=told.stage != "down", drops=frozenset(FAMILIES if _drops(one) else ())
    )
    verdict = judge(Situation(status=status, kernel=kernel), Limits())
    assert verdict.level is told.check, verdict.line
    assert f"stage={['down', 'shadow', 'trial', 'enforced'].index(told.stage) - 1}" in verdict.line
    assert len(status.openings) == figures.openings == row["openings"]
    assert len(status.openings) == (3 if make is opened else 0)
    assert verdict.line.endswith(f"openings={figures.openings};;;0")
    assert _alarms(figures) == told.alarms
    assert (attendance.unmet([row], [], ["enforced"], row["written"] or 0.0) == []) is told.gate
    expected = Situation(status=status, kernel=kernel, expected="enforced")
    well = told.gate and told.check is Level.OK
    assert (judge(expected, Limits()).level is Level.OK) is well


def test_what_agent_and_kernel_say_differently_is_critical(fleet: World) -> None:
    """Enforced and open, or in shadow and dropping; the agent's word is not taken for it."""
    one = fleet.started(1)
    drops = KernelLook(table=True, drops=frozenset(FAMILIES))
    in_shadow = Situation(status=one.told(), kernel=drops)
    assert judge(in_shadow, Limits()).level is Level.CRITICAL
    enforce(fleet, one)
    is_open = Situation(status=one.told(), kernel=KernelLook(table=True))
    assert judge(is_open, Limits()).level is Level.CRITICAL


def _row(one: Box) -> dict[str, Any]:
    """As ``neti fleet`` has it, from what the host told the registry."""
    (name,) = [n for n in one.registry.names() if n.endswith(f".{one.host.id}") and n[0] == "1"]
    member = entry.parse(name)
    assert isinstance(member, Member)
    reports = one.registry.reports([one.host.id]) or ()
    told = {told.host_id: detail.decode(told.document) for told in reports}
    (row,) = listing.rows({one.host.id: member}, told)
    return row


def _drops(one: Box) -> bool:
    return bool(one.elements("enforce"))


def _shown_stage(figures: Figures) -> str:
    (stage,) = [m for m in metrics(figures) if m.name == "neti_stage"]
    (word,) = [sample.labels["stage"] for sample in stage.samples if sample.value == 1]
    return word


def _alarms(figures: Figures) -> set[str]:
    """Those whose condition holds now; as Prometheus would ask, but without its times."""
    found = metrics(figures)
    return {
        rule["alert"]
        for rule in RULES
        if not _NOT_OF_A_MOMENT.search(rule["expr"])
        and all(_holds(part, found) for part in rule["expr"].split(" and "))
    }


def _holds(condition: str, found: list[Any]) -> bool:
    match = re.fullmatch(
        r"(?:on \(instance\) )?(?:max by \(job\) \()?(\w+)(?:\{(.*)\})?\)? (==|>) ([\d.]+)",
        condition.strip(),
    )
    assert match is not None, condition
    name, labels, operator, limit = match.groups()
    wanted = re.findall(r'(\w+)(=~|!~|=|!=)"([^"]*)"', labels or "")
    for metric in found:
        for sample in metric.samples if metric.name == name else ():
            if all(_fits(sample.labels.get(key, ""), *rest) for key, *rest in wanted):
                value, bound = sample.value, float(limit)
                if value == bound if operator == "==" else value > bound:
                    return True
    return False


def _fits(value: str, operator: str, pattern: str) -> bool:
    match operator:
        case "=":
            return value == pattern
        case "!=":
            return value != pattern
        case "=~":
            return re.fullmatch(pattern, value) is not None
        case _:
            return re.fullmatch(pattern, value) is None

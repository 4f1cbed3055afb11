"""``neti check``'s verdict: every condition well and unwell, the worst first, one line."""

import copy
import re
import struct
from dataclasses import replace
from typing import Any

import pytest
from tests.support.compiled_rules import CompiledRules

from neti.dataplane.conntrack_limit import Fill
from neti.dataplane.foreign.nft import SetElement
from neti.dataplane.netlink import attribute, nested
from neti.model.problems import problem
from neti.monitoring.check import judge
from neti.monitoring.kernel_look import dropping_families
from neti.monitoring.situation import FAMILIES, KernelLook, Level, Limits, Situation
from neti.monitoring.status import status_of
from neti.stage.taking_up import STAGE_LOST

BOTH = frozenset(FAMILIES)


def said(code: str, sentence: str) -> dict[str, str]:
    """A problem as the status document carries it."""
    return problem(code, sentence).document()


STATUS: dict[str, Any] = {
    "version": "1",
    "id": "web-1",
    "site": "ec2",
    "private": "10.0.0.1",
    "down": False,
    "registered": True,
    "stage": "enforced",
    "registry": {"fresh": True, "reason": None, "stale_seconds": None},
    "members": {"total": 12, "lost": 0},
    "lost": [],
    "skipped": {"count": 0, "entries": {}},
    "problems": [],
    "trial": None,
    "holds": [],
    "drift": {"repairs": 3, "fight": None},
}
GONE = {"id": "h1", "overlay": "192.168.0.1", "since": 1.0}
DROPPING = KernelLook(table=True, as_written=True, drops=BOTH)
WELL = Situation(status=status_of(STATUS), kernel=DROPPING, conntrack=12.0)
PERFORMANCE = re.compile(r"([a-z_]+)=(U|-?[0-9.]+(s|%|c|))(;-?[0-9.]*){1,4}")


def with_status(**changes: Any) -> Situation:
    """All well but for these keys; ``registry__fresh`` means the key within."""
    status = copy.deepcopy(STATUS)
    for name, value in changes.items():
        outer, _, inner = name.partition("__")
        if inner:
            status[outer][inner] = value
        else:
            status[outer] = value
    return replace(WELL, status=status_of(status))


def test_all_is_well() -> None:
    """One line, exit code 0, and every figure."""
    verdict = judge(WELL, Limits())
    assert verdict.line == (
        "NETI OK - enforced, 12 members, registry in step | members=12;;;0 lost=0;0;;0 held=0;;;0 "
        "stale=0s;60;3600;0 conntrack=12%;80;95;0;100 drift_repairs=3c;;;0 stage=2;;;-1;2 "
        "openings=0;;;0"
    )
    assert (verdict.level, verdict.findings, verdict.passing) == (Level.OK, (), False)


SHADOW = KernelLook(table=True, as_written=True)


def in_shadow(**changes: Any) -> Situation:
    """Though enforcement is requested."""
    wished = {"wished": {"reject_all": True, "by": "configuration"}, **changes}
    return replace(with_status(stage="shadow", **wished), kernel=SHADOW)


UNWELL: dict[str, tuple[Situation, Level, str]] = {
    "not dropping": (
        replace(WELL, kernel=SHADOW),
        Level.CRITICAL,
        "the stage is enforced, but the kernel does not drop ipv4 and ipv6 input",
    ),
    "one family": (
        replace(WELL, kernel=replace(DROPPING, drops=frozenset({"ipv4"}))),
        Level.CRITICAL,
        "does not drop ipv6 input",
    ),
    "not dropping in a trial": (
        replace(with_status(stage="trial"), kernel=SHADOW),
        Level.CRITICAL,
        "the stage is trial, but",
    ),
    "no table": (
        replace(WELL, kernel=KernelLook(table=False)),
        Level.CRITICAL,
        "table inet neti is not in the kernel",
    ),
    "no table in shadow": (
        replace(with_status(stage="shadow"), kernel=KernelLook(table=False)),
        Level.CRITICAL,
        "table inet neti is not in the kernel",
    ),
    "dormant": (replace(WELL, kernel=replace(DROPPING, dormant=True)), Level.CRITICAL, "dormant"),
    "dropping in shadow": (with_status(stage="shadow"), Level.CRITICAL, "the stage is shadow, but"),
    "edited": (
        replace(WELL, kernel=replace(DROPPING, as_written=False)),
        Level.WARNING,
        "not what the agent wrote",
    ),
    "trial expired": (
        with_status(trial={"state": "expired", "why": ["peer db-1 was cut off"]}),
        Level.CRITICAL,
        "ended unconfirmed: peer db-1 was cut off",
    ),
    "not in force any more": (
        in_shadow(problems=[said("arming", "reject_all is NOT in force any more: no way in")]),
        Level.CRITICAL,
        "NETI CRITICAL - reject_all is NOT in force any more: no way in",
    ),
    "not armed": (
        in_shadow(problems=[said("arming", "reject_all is NOT in force: unknown")]),
        Level.CRITICAL,
        "NETI CRITICAL - reject_all is NOT in force: unknown",
    ),
    "requested": (in_shadow(), Level.CRITICAL, "requested, but the stage is shadow"),
    "opened by lost files": (
        in_shadow(
            wished={"reject_all": False, "by": "configuration"},
            problems=[said("stage_lost", STAGE_LOST[False])],
        ),
        Level.CRITICAL,
        f"NETI CRITICAL - {STAGE_LOST[False]} | ",
    ),
    "held": (
        with_status(holds=[{"id": f"h{n}", "overlay": "x", "since": 1.0} for n in range(7)]),
        Level.CRITICAL,
        "removals held back: 7 (h0, h1, h2, h3, h4 and 2 more)",
    ),
    "held, and the list is cut short": (
        with_status(holds=[GONE], members={"total": 9000, "lost": 0, "held": 2000}),
        Level.CRITICAL,
        "removals held back: 2000 (h1 and 1999 more)",
    ),
    "fight": (
        with_status(drift={"repairs": 9, "fight": "another program (ufw) undoes repairs"}),
        Level.CRITICAL,
        "another program (ufw) undoes repairs",
    ),
    "stale": (
        with_status(registry={"fresh": False, "reason": "suspended", "stale_seconds": 60.0}),
        Level.WARNING,
        "not in step with the registry for 60 s (suspended)",
    ),
    "stale for long": (
        with_status(registry={"fresh": False, "reason": "lost", "stale_seconds": 3600.0}),
        Level.CRITICAL,
        "for 3600 s (lost)",
    ),
    "stale since whenever": (
        with_status(registry={"fresh": False, "reason": "lost"}),
        Level.WARNING,
        "for an unknown time",
    ),
    "not registered": (with_status(registered=False), Level.WARNING, "is not registered"),
    "lost": (
        with_status(members={"total": 3, "lost": 1}, lost=[{**GONE, "id": "db-1", "seconds": 7.4}]),
        Level.WARNING,
        "members lost: 1 (db-1), the first for 7 s",
    ),
    "skipped": (with_status(skipped={"count": 11}), Level.WARNING, "entries not believed: 11"),
    "problem": (with_status(problems=[said("route", "no address")]), Level.WARNING, "no address"),
    "conntrack": (replace(WELL, conntrack=80.0), Level.WARNING, "80 % full"),
    "conntrack nearly full": (replace(WELL, conntrack=95.0), Level.CRITICAL, "95 % full"),
    "no agent": (
        Situation(agent="absent", agent_says="no agent is running", kernel=DROPPING),
        Level.CRITICAL,
        "no agent is running",
    ),
    "hangs": (
        Situation(agent="silent", agent_says="the agent hangs: 10 s", kernel=DROPPING),
        Level.CRITICAL,
        "the agent hangs: 10 s",
    ),
    "down without agent": (
        Situation(agent="absent", switched_off="neti=off", kernel=KernelLook(table=False)),
        Level.WARNING,
        "switched off on this host (neti=off)",
    ),
    "down with agent": (
        replace(with_status(down=True), kernel=KernelLook(table=False)),
        Level.WARNING,
        "switched off",
    ),
    "down although it is to be enforced": (
        replace(
            with_status(down=True, stage="down", wished={"reject_all": True, "by": "command"}),
            kernel=KernelLook(table=False),
        ),
        Level.CRITICAL,
        "so reject_all is not in force and everything gets in",
    ),
    "down although it is to be enforced, without an agent": (
        Situation(agent="absent", switched_off="neti down was called", wished=True),
        Level.CRITICAL,
        "so reject_all is not in force and everything gets in",
    ),
    "relaxed against the file": (
        in_shadow(
            wished={"reject_all": False, "by": "command"},
            problems=[said("relaxed", "relaxed by root")],
        ),
        Level.WARNING,
        "relaxed by root",
    ),
    "not read": (with_status(problems=[said("config_unread", "unread")]), Level.WARNING, "unread"),
    "not as expected": (
        replace(with_status(stage="shadow"), kernel=SHADOW, expected="enforced"),
        Level.CRITICAL,
        "expected enforced, but this host is in shadow",
    ),
    "enforced, against the expectation": (
        replace(WELL, expected="shadow"),
        Level.CRITICAL,
        "expected shadow, but this host is enforced",
    ),
    "down, against the expectation": (
        Situation(agent="absent", switched_off="neti down", wished=False, expected="shadow"),
        Level.CRITICAL,
        "expected shadow, but this host is down",
    ),
    "not yet as expected": (
        replace(with_status(stage="trial"), expected="enforced"),
        Level.WARNING,
        "a trial is still running",
    ),
    "down, and the table is there": (
        Situation(agent="absent", switched_off="neti=off", kernel=DROPPING),
        Level.WARNING,
        "still in the kernel",
    ),
    "configuration": (Situation(config_fault="neti.yml:3: oh"), Level.CRITICAL, "neti.yml:3: oh"),
    "blind": (Situation(blind=("run this as root",)), Level.UNKNOWN, "run this as root"),
}  # fmt: skip


@pytest.mark.parametrize(("seen", "level", "words"), UNWELL.values(), ids=UNWELL.keys())
def test_each_condition(seen: Situation, level: Level, words: str) -> None:
    """Its level, its words, and a line that a monitoring system can read."""
    verdict = judge(seen, Limits())
    assert verdict.level is level
    text, bar, performance = verdict.line.partition(" | ")
    assert bar
    assert text.startswith(f"NETI {level.name} - ")
    assert words in f"{text} | "
    assert "\n" not in verdict.line
    assert all(PERFORMANCE.fullmatch(word) for word in performance.split(" "))


@pytest.mark.parametrize(
    "seen",
    [
        with_status(trial={"state": "running", "seconds_left": 41.7, "why": []}, stage="trial"),
        with_status(registry={"fresh": False, "reason": "x", "stale_seconds": 59.0}),
        with_status(skipped={"count": 10}),
        with_status(problems=[said("lost", "1 member is lost")]),
        replace(WELL, expected="enforced"),
        replace(with_status(stage="shadow"), kernel=SHADOW, expected="shadow"),
        Situation(agent="absent", switched_off="neti down", wished=False, expected="down"),
        replace(with_status(stage="shadow"), kernel=SHADOW),
        in_shadow(wished={"reject_all": False, "by": "command"}),
        in_shadow(wished=None),
        replace(WELL, conntrack=79.9),
        replace(WELL, conntrack=None),
        replace(WELL, kernel=replace(DROPPING, as_written=None)),
        with_status(problems=[said("registry", "suspended")]),
        with_status(problems=[said("conntrack", str(Fill(80, 100).problem))]),
    ],
)
def test_just_not_unwell(seen: Situation) -> None:
    """The other side of every limit; and what has a limit of its own is no problem besides."""
    assert judge(seen, Limits()).level is Level.OK


def test_a_running_trial_is_shown() -> None:
    """With the time that it has left."""
    seen = with_status(trial={"state": "running", "seconds_left": 41.7, "why": []}, stage="trial")
    assert "NETI OK - trial (42 s left), 12 members" in judge(seen, Limits()).line


def test_an_opened_host_is_said_once() -> None:
    """Whether the agent's sentence or the ended trial says it."""
    sentence = "reject_all is true but NOT in force: members unknown"
    assert (
        judge(in_shadow(problems=[said("arming", sentence)]), Limits()).line.count("NOT in force")
        == 1
    )
    expired = in_shadow(trial={"state": "expired", "why": ["x"]})
    assert len(judge(expired, Limits()).findings) == 1


def test_a_registry_that_is_not_in_step_is_not_said_to_be() -> None:
    """Also where it is too short to be a finding."""
    seen = with_status(registry={"fresh": False, "reason": "x", "stale_seconds": 12.4})
    verdict = judge(seen, Limits())
    assert verdict.level is Level.OK
    assert verdict.line.startswith(
        "NETI OK - enforced, 12 members, not in step with the registry for 12 s | "
    )


def test_keys_of_another_version_may_be_missing() -> None:
    """An agent that says less is no reason to fail."""
    told = ("version", "id", "site", "private", "stage", "registered")
    bare = {key: STATUS[key] for key in told} | {"registry": {"fresh": True}}
    assert judge(replace(WELL, status=status_of(bare)), Limits()).level is Level.OK
    odd = dict(STATUS, holds=None, drift=None, lost=None, skipped=None, members=None, problems=None)
    assert judge(replace(WELL, status=status_of(odd)), Limits()).level is Level.OK


def test_all_are_named_the_worst_first() -> None:
    """Critical, unknown, warning; those that did not decide bear their level."""
    seen = replace(
        with_status(holds=[GONE], problems=[said("disk", "disk full"), said("route", "no route")]),
        blind=("no rights",),
    )
    verdict = judge(seen, Limits())
    assert verdict.level is Level.CRITICAL
    assert verdict.line.startswith(
        "NETI CRITICAL - removals held back: 1 (h1): look at them, then 'neti release'; "
        "unknown: no rights; warning: disk full; warning: no route | "
    )


def test_a_fight_is_said_once() -> None:
    """The agent lists it among its problems too."""
    seen = with_status(
        drift={"repairs": 9, "fight": "ufw fights"}, problems=[said("fight", "ufw fights")]
    )
    assert judge(seen, Limits()).line.count("ufw fights") == 1


def test_limits_are_the_callers() -> None:
    """Every one of them moves its condition."""
    wide = Limits(
        stale_warning=1e6,
        lost_warning=5,
        skipped_warning=50,
        conntrack_warning=99.0,
        conntrack_critical=100.0,
    )
    for name in (
        "stale",
        "stale for long",
        "lost",
        "skipped",
        "conntrack",
        "conntrack nearly full",
    ):
        assert judge(UNWELL[name][0], wide).level is Level.OK


def test_words_of_others_cannot_break_the_line() -> None:
    """A bar would begin the figures, a newline a second line."""
    seen = with_status(problems=[said("disk", "a|b\nc\x1b[31m"), said("route", "x" * 1000)])
    line = judge(seen, Limits()).line
    assert "a/b c\\u001b[31m" in line
    assert line.count("|") == 1
    assert len(line) < 900


@pytest.mark.parametrize(
    ("name", "passing"),
    [
        ("not dropping", True),
        ("no table", True),
        ("edited", True),
        ("held", False),
        ("lost", False),
    ],
)
def test_what_may_pass_is_worth_a_second_look(name: str, passing: bool) -> None:
    """Between two steps of the agent, its word and the kernel differ for a moment."""
    assert judge(UNWELL[name][0], Limits()).passing is passing


# --- what the kernel drops ---

BASE = "chain input { type filter hook input priority -10; policy accept; %s\n}"
JUDGE = "chain judge { %s\n}"
VERDICT = "meta nfproto vmap @enforce"
GOTO = BASE % "goto judge"


def key(family: int, code: int = 0) -> SetElement:
    """An element of map enforce, with its verdict: 0 is drop, 1 accept."""
    return bytes((family,)), nested(2, attribute(1, struct.pack(">i", code))), 0


@pytest.mark.parametrize(
    ("chains", "elements", "families"),
    [
        ([JUDGE % VERDICT, GOTO], [key(2), key(10)], BOTH),
        ([JUDGE % VERDICT, GOTO], [key(2)], {"ipv4"}),
        ([JUDGE % VERDICT, GOTO], [key(10)], {"ipv6"}),
        ([JUDGE % VERDICT, GOTO], [key(2, code=1)], set()),
        ([JUDGE % VERDICT, GOTO], [], set()),
        ([JUDGE % VERDICT, BASE % ""], [key(2), key(10)], set()),
        ([JUDGE % "", GOTO], [key(2), key(10)], set()),
        ([JUDGE % VERDICT], [key(2), key(10)], set()),
        ([JUDGE % VERDICT, BASE % "accept; goto judge"], [key(2)], set()),
    ],
)
def test_what_is_dropped_is_read_from_the_rules(
    chains: list[str], elements: list[SetElement], families: set[str]
) -> None:
    """Hook, way to the verdict, and the verdict itself must all be there, for each family."""
    map_ = "map enforce { typeof meta nfproto : verdict; flags timeout; }"
    text = "\n".join(("table inet neti {", map_, *chains, "}\n"))
    assert dropping_families(CompiledRules(text, {"enforce": elements})) == families


# --- the encrypted road ---


def encrypted(**changes: Any) -> Situation:
    """Enforced with require, and all of it kept, but for these keys."""
    held = {
        "implementation": "module",
        "mtu": 1420,
        "require_configured": True,
        "requires": True,
        "sites": {
            "vpc": {"asked": "require", "required": 3},
            "lab": {"asked": "prefer", "plain": 1, "trying": 1, "preferred": 2},
        },
    }
    return with_status(encryption={**held, **changes})


CUT_OFF = {"vpc": {"asked": "require", "required": 3, "none": 2}}
IN_THE_CLEAR = {"vpc": {"asked": "require", "required": 3, "trying": 2}}
PREFERRED = {"vpc": {"asked": "prefer", "trying": 1, "preferred": 3}}
BROKEN = ("it is not up",)


def test_encryption_that_is_kept_is_no_finding() -> None:
    """What is only preferred may be in the clear."""
    assert judge(encrypted(), Limits()).findings == ()


@pytest.mark.parametrize(
    ("seen", "level", "text"),
    [
        (encrypted(sites=IN_THE_CLEAR), Level.CRITICAL, "members are reached in the clear: 2 in"),
        (
            encrypted(sites=IN_THE_CLEAR, requires=False),
            Level.WARNING,
            "neti.yml requires encryption, but that is not in effect",
        ),
        (
            encrypted(sites=CUT_OFF, keyless=2, keyless_ids=["v-1", "v-2"]),
            Level.WARNING,
            "2 members without a WireGuard key cannot be reached (v-1, v-2)",
        ),
        (
            # One of them has a key, and is about to get a peer. Another has none, and is reached.
            encrypted(sites=CUT_OFF, keyless=2, keyless_cut_off=1, keyless_cut_off_ids=["v-2"]),
            Level.WARNING,
            "1 member without a WireGuard key cannot be reached (v-2)",
        ),
        (encrypted(implementation=None), Level.CRITICAL, "there is no WireGuard device"),
        (replace(encrypted(), road=BROKEN), Level.CRITICAL, "road is broken (it is not up)"),
        (
            replace(
                encrypted(requires=False, require_configured=False, sites=PREFERRED), road=BROKEN
            ),
            Level.WARNING,
            "the encrypted road is broken: it is not up",
        ),
        (
            # By gateways, through which nothing goes in the clear.
            replace(encrypted(requires=False, require_configured=False), road=BROKEN),
            Level.CRITICAL,
            "members that must be reached by it cannot be",
        ),
    ],
)
def test_encryption_that_is_not_kept(seen: Situation, level: Level, text: str) -> None:
    """Critical where it is required, and in effect."""
    verdict = judge(seen, Limits())
    assert verdict.level is level
    assert text in verdict.line


def test_during_a_trial_it_is_not_said_to_be_out_of_effect() -> None:
    assert judge(encrypted(requires=False, on_trial=True), Limits()).findings == ()


def test_who_has_no_key_is_not_blamed_for_a_member_that_has_one() -> None:
    seen = encrypted(sites=CUT_OFF, keyless=2, keyless_ids=["v-1", "v-2"], keyless_cut_off=0)
    assert judge(seen, Limits()).findings == ()


def test_without_a_device_members_are_not_blamed_for_it() -> None:
    line = judge(encrypted(implementation=None, sites=CUT_OFF), Limits()).line
    assert "without a WireGuard key" not in line


def test_a_road_that_nobody_asked_for_is_not_looked_for() -> None:
    """prefer without a module: the problem encryption_missing says so, once."""
    seen = encrypted(implementation=None, requires=False, require_configured=False, sites=PREFERRED)
    assert judge(seen, Limits()).findings == ()

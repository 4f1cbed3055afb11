"""The dataplane's contract: the same on the kernel of dictionaries and on the real one."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from simulation.clock import HostClock, Time
from simulation.gate import Gate
from simulation.kernel import SimulatedKernel
from tests.support.netns import Net, network, require_root

from neti.dataplane import Dataplane, compiler
from neti.dataplane.conntrack import GoesOn
from neti.dataplane.elsewhere import words_of
from neti.dataplane.in_words import in_words
from neti.dataplane.memory import MemoryDataplane
from neti.dataplane.nftables import NftablesDataplane
from neti.dataplane.reconciler import Reconciler
from neti.errors import DataplaneError, KernelMoved, StructureRefused
from neti.model import Encrypt, Reach, Site
from neti.model.groups import MemberPort
from neti.model.settings import OpenPort, Settings
from neti.ruleset.delta import Elements
from neti.ruleset.enforce import (
    OFF,
    PERMANENT,
    RELAXED,
    REQUIRED,
    Enforcement,
    arming,
    begin_trial,
    confirm_trial,
    enforce_commands,
)
from neti.ruleset.objects import (
    FOREVER,
    NO_TABLE,
    OPTIONAL,
    AddElements,
    AddTimed,
    Chain,
    CreateTable,
    DeleteElements,
    DeleteTable,
    Drop,
    KernelState,
    RewriteChains,
    Structure,
    Transaction,
)
from neti.ruleset.plan import plan
from neti.ruleset.policy import structure
from neti.ruleset.replace import replacement
from neti.ruleset.set_names import SetName, group_sets, opening_set_of
from neti.ruleset.surroundings import Surroundings

SETTINGS = Settings(path=Path("neti.yml"))
ETH = Surroundings(uplinks=("eth0",), ssh_untracked=True)
STRUCTURE = structure(SETTINGS, ETH)
OTHER_RULES = structure(replace(SETTINGS, open_ports=(OpenPort(8080, 8080, "tcp"),)), ETH)
MORE_SETS = Structure((*STRUCTURE.sets, ("counter other", "packets 0 bytes 0")), STRUCTURE.chains)
ENCRYPTING = structure(
    replace(SETTINGS, sites={"vpc": Site(name="vpc", encrypt=Encrypt.REQUIRE)}), ETH
)
NARROWING = Structure(
    (*STRUCTURE.sets, ("map narrowed", "typeof meta nfproto : verdict; flags timeout")),
    STRUCTURE.chains,
)
PASSING = structure(
    replace(
        SETTINGS,
        sites={
            "vpc": Site(
                name="vpc", encrypt=Encrypt.REQUIRE, reached_by=Reach.GATEWAY, gateways=("a",)
            )
        },
    ),
    ETH,
)
APP4, APP6 = group_sets("app")
WEB4, WEB6 = group_sets("web-front")
GROUPED = structure(
    replace(SETTINGS, member_ports=(MemberPort(("app", "web-front"), "tcp", 5432, 5432),)), ETH
)
OTHER_GROUPS = structure(
    replace(SETTINGS, member_ports=(MemberPort(("app", "late"), "tcp", 5432, 5432),)), ETH
)
OPENED = structure(SETTINGS, replace(ETH, openings=((4, 24), (6, 128))))
NET4, HOST6 = opening_set_of(4, 24), opening_set_of(6, 128)
# What the sets hold that not every table has, where that is no IPv4 address.
_OF_OPTIONAL: dict[SetName, dict[str, str]] = {
    "clear6": {"2001:db8::1": ""},
    "gateway_near": {"17": "10.0.0.2"},
    "gateway_far": {"16385": "198.51.100.2", "16386": "198.51.100.3", "32767": "198.51.100.2"},
    "gateway_inside": {"16385": "10.0.0.11", "16386": "10.0.0.12"},
    "gateway_own": {"10.0.0.11": "16385", "10.0.0.12": "16386"},
    "gateway_direct": {"16390": "203.0.113.9"},
    "gateway_public": {"203.0.113.9": "16390", "203.0.113.10": "16391"},
}
HELD: dict[SetName, dict[str, str]] = {
    "overlay": {"192.168.0.9": "10.0.0.9", "192.168.0.10": "10.0.0.10"},
    "peers4": {"10.0.0.9": "", "198.51.100.1": ""},
    "peers6": {"2001:db8::1": ""},
    "across4": {"198.51.100.1": ""},
    "across6": {"2001:db8::1": ""},
    "tcp_listening": {"22": "", "65535": ""},
    "udp_listening": {"53": ""},
}


class NoConnections:
    def end_connections_to(
        self, destinations: list[IPv4Address], goes_on: GoesOn | None = None
    ) -> int:
        return len(destinations)


@pytest.fixture
def net() -> Iterator[Net]:
    require_root()
    with network() as made:
        yield made


@pytest.fixture(params=["memory", "simulation", pytest.param("kernel", marks=pytest.mark.kernel)])
def dataplane(request: pytest.FixtureRequest) -> Iterator[Dataplane]:
    if request.param == "memory":
        yield MemoryDataplane()
        return
    if request.param == "simulation":
        yield SimulatedKernel(HostClock(Time()), Gate())
        return
    made: Net = request.getfixturevalue("net")
    with closing(made.inside(made.host, NftablesDataplane)) as real:
        yield real


@pytest.fixture
def taken_down(request: pytest.FixtureRequest, dataplane: Dataplane) -> Callable[[], None]:
    """As by ``neti down`` where no disk takes the word."""

    def act() -> None:
        for step in (dataplane.remove, dataplane.mark_down):
            if isinstance(
                dataplane, NftablesDataplane
            ):  # these open a socket where they are called
                made: Net = request.getfixturevalue("net")
                made.inside(made.host, step)
            else:
                step()

    return act


def apply(dataplane: Dataplane, *commands: Any) -> None:
    dataplane.apply(Transaction(commands))


def filled(dataplane: Dataplane) -> None:
    apply(
        dataplane,
        CreateTable(STRUCTURE),
        *(AddElements(where, items) for where, items in HELD.items()),
        AddTimed("revoked4", {"203.0.113.7": 600}),
        AddTimed("revoked6", {"2001:db8::7": 600}),
        AddTimed("grace", {"ipv4": 600, "ipv6": 600}),
    )


def wishing(held: dict[SetName, dict[str, str]]) -> Elements:
    elements = Elements(revoke_seconds=900)
    for where, items in held.items():
        for key, value in items.items():
            elements.want(where, key, value)
    return elements


def test_no_table(dataplane: Dataplane) -> None:
    assert dataplane.read() == NO_TABLE
    assert dataplane.structure() is None
    assert dataplane.enforce() == dataplane.counters() == dataplane.timed("grace") == {}
    with pytest.raises(KernelMoved):
        apply(dataplane, DeleteTable())


def test_a_table_that_was_put_in_place_of_the_one_that_was_read_stays(
    dataplane: Dataplane, taken_down: Callable[[], None]
) -> None:
    filled(dataplane)
    first = dataplane.read().handle
    assert first is not None
    apply(dataplane, DeleteTable(first), CreateTable(STRUCTURE))
    second = dataplane.read()
    assert second.handle not in (None, first)
    assert not second.marked_down
    with pytest.raises(KernelMoved):
        apply(dataplane, DeleteTable(first), CreateTable(STRUCTURE))
    assert dataplane.read() == second
    taken_down()  # while the agent stands still
    with pytest.raises(KernelMoved):
        apply(dataplane, DeleteTable(second.handle), CreateTable(STRUCTURE))
    with pytest.raises(KernelMoved):
        apply(dataplane, CreateTable(STRUCTURE))
    assert dataplane.read().marked_down


def test_what_was_written_is_read(dataplane: Dataplane) -> None:
    """Every set, in the same words."""
    filled(dataplane)
    state = dataplane.read()
    assert {where: dict(state.elements[where]) for where in HELD} == HELD
    assert set(state.chain_names) == {chain.name for chain in STRUCTURE.chains}
    assert state.structure == dataplane.structure()
    assert state.definitions == dataplane.definitions(STRUCTURE)
    for where, keys in (
        ("revoked4", {"203.0.113.7"}),
        ("revoked6", {"2001:db8::7"}),
        ("grace", {"ipv4", "ipv6"}),
    ):
        held = state.timed[where]  # type: ignore[index]  # all three are names of sets
        assert held.keys() == keys
        assert all(300 < left <= 600 for left in held.values())
    assert state.enforce == {}


def test_what_is_open_for_a_time(dataplane: Dataplane) -> None:
    """Keys of three parts, in the same words; and what is not there is refused."""
    keys = {"203.0.113.0 . tcp . 5432": 600, "203.0.113.0 . udp . 1": 600}
    keys6 = {"2001:db8::9 . tcp . 65535": 600}
    apply(dataplane, CreateTable(OPENED), AddTimed(NET4, keys), AddTimed(HOST6, keys6))
    timed = dataplane.read().timed
    assert [timed[where].keys() for where in (NET4, HOST6)] == [keys.keys(), keys6.keys()]
    assert all(300 < left <= 600 for where in (NET4, HOST6) for left in timed[where].values())
    for wrong in (
        AddTimed(NET4, {"203.0.113.0 . udp . 1": 5}),
        AddTimed(opening_set_of(4, 32), {"203.0.113.9 . tcp . 5432": 5}),
        DeleteElements(NET4, ("203.0.113.0 . tcp . 5433",)),
    ):
        with pytest.raises(KernelMoved):
            apply(dataplane, wrong)
    apply(dataplane, DeleteElements(NET4, tuple(keys)), AddTimed(NET4, dict.fromkeys(keys, 60)))
    assert all(left <= 60 for left in dataplane.timed(NET4).values())
    apply(dataplane, DeleteTable(), CreateTable(STRUCTURE))
    assert NET4 not in dataplane.read().timed


@pytest.mark.parametrize(
    "command",
    [
        AddElements("peers4", {"10.0.0.50": "", "10.0.0.9": ""}),
        AddElements("overlay", {"192.168.0.9": "10.0.0.9"}),
        AddElements("overlay", {"192.168.0.9": "10.0.0.66"}),
        AddElements("tcp_listening", {"22": ""}),
        AddTimed("revoked4", {"203.0.113.7": 5}),
        DeleteElements("peers6", ("2001:db8::1", "2001:db8::2")),
        DeleteElements("enforce", ("78",)),
        DeleteElements("grace", ("0",)),
        CreateTable(STRUCTURE),
        RewriteChains(STRUCTURE, ("input", "none")),
    ],
    ids=lambda command: str(command)[:40],
)
def test_a_kernel_that_is_not_as_it_was_read_refuses_all(
    dataplane: Dataplane, command: Any
) -> None:
    """What is added must be absent, what is deleted there; and nothing else took effect."""
    filled(dataplane)
    before = dataplane.read()
    with pytest.raises(KernelMoved):
        apply(dataplane, AddElements("peers4", {"10.0.0.77": ""}), Drop(), command)
    after = dataplane.read()
    assert (after.structure, after.elements, after.enforce) == (
        before.structure,
        before.elements,
        {},
    )


def test_a_value_changes_by_delete_and_add(dataplane: Dataplane) -> None:
    filled(dataplane)
    moved = {"192.168.0.9": "10.0.0.66"}
    apply(dataplane, DeleteElements("overlay", ("192.168.0.9",)), AddElements("overlay", moved))
    assert dataplane.read().elements["overlay"]["192.168.0.9"] == "10.0.0.66"


def test_stages(dataplane: Dataplane) -> None:
    """Shadow, trial, enforced, and back; a trial that is over cannot be confirmed."""
    filled(dataplane)
    for wanted in (OFF, PERMANENT, OFF):
        apply(dataplane, *enforce_commands(wanted, dataplane.enforce()))
        assert dataplane.read().armed_for_good is bool(wanted)
        assert enforce_commands(wanted, dataplane.enforce()) == ()
    with pytest.raises(DataplaneError):
        apply(dataplane, *confirm_trial(Enforcement(seconds=60)))
    assert dataplane.enforce() == {}
    apply(dataplane, Drop(60_000))
    left = dataplane.enforce()
    assert left.keys() == {"ipv4", "ipv6"}
    assert all(seconds is not None and 30 < seconds <= 60 for seconds in left.values())
    assert dataplane.read().armed
    apply(dataplane, *confirm_trial(Enforcement(seconds=60)))
    assert dataplane.read().armed_for_good


def test_what_is_in_the_clear_is_refused_on_trial_and_for_good(dataplane: Dataplane) -> None:
    """Beside map enforce, each by its own time."""
    apply(dataplane, CreateTable(STRUCTURE))
    with pytest.raises(KernelMoved):
        apply(dataplane, *begin_trial(Enforcement(permanent=True, require=60), {}))
    assert dataplane.enforce() == {}
    apply(dataplane, DeleteTable(), CreateTable(ENCRYPTING), *REQUIRED.commands())
    assert dataplane.read().requires_for_good
    assert arming(REQUIRED, dataplane.read()) == ()
    apply(dataplane, *arming(OFF, dataplane.read()))
    state = dataplane.read()
    assert state.require == {}
    assert not state.requires
    for good in (PERMANENT, OFF):
        on_trial = Enforcement(permanent=good.permanent, seconds=300, require=60)
        apply(dataplane, *enforce_commands(good, dataplane.enforce()))
        with pytest.raises(KernelMoved):
            apply(dataplane, *confirm_trial(on_trial))
        apply(dataplane, *begin_trial(on_trial, dataplane.enforce(), dataplane.require()))
        state = dataplane.read()
        assert state.armed_for_good is bool(good)
        assert state.require is not None
        assert all(30 < (left or 0) <= 60 for left in state.require.values())
        assert state.requires
        assert not state.requires_for_good
        assert arming(on_trial, state) == ()
        apply(dataplane, *confirm_trial(on_trial))
        assert arming(REQUIRED, dataplane.read()) == ()
        assert dataplane.read().requires_for_good
        apply(dataplane, *arming(good, dataplane.read()))
        assert dataplane.read().require == {}


@pytest.mark.parametrize("stage", [REQUIRED, Enforcement(permanent=True, require=300)])
def test_a_new_table_goes_on_refusing_what_is_in_the_clear(
    dataplane: Dataplane, stage: Enforcement
) -> None:
    """For no longer than before. A trial that is over by then is not carried over."""
    elements = wishing({})
    elements.enforce(stage)
    reconciler = Reconciler(dataplane, NoConnections(), None)
    reconciler.resync(ENCRYPTING, elements)
    assert dataplane.read().requires is (stage == REQUIRED)  # only begin_trial begins one
    reconciler.begin_trial(elements)
    more = Structure((*ENCRYPTING.sets, *MORE_SETS.sets[-1:]), ENCRYPTING.chains)
    elements.enforce(replace(stage, require=None if stage.require is None else 500))
    done = reconciler.resync(more, elements)
    assert done.planned.structure == "all"
    state = dataplane.read()
    assert state.armed_for_good
    assert state.requires
    assert all(left is None or left <= 300 for left in (state.require or {}).values())
    assert reconciler.resync(more, elements).drift == ()
    reconciler.resync(STRUCTURE, elements)
    assert dataplane.read().require is None
    reconciler.resync(ENCRYPTING, elements)
    assert dataplane.read().requires is (stage == REQUIRED)


def test_members_are_kept_out_on_trial_only(dataplane: Dataplane) -> None:
    """Beside map enforce, by the kernel's own clock: nothing in map narrowed is for good."""
    on_trial = Enforcement(permanent=True, narrow=60)
    apply(dataplane, CreateTable(STRUCTURE), *PERMANENT.commands())
    assert dataplane.read().narrowed is None
    with pytest.raises(KernelMoved):
        apply(dataplane, *begin_trial(on_trial, dataplane.enforce()))
    apply(dataplane, DeleteTable(), CreateTable(NARROWING), *PERMANENT.commands())
    assert dataplane.read().narrowed == {}
    assert arming(on_trial, dataplane.read()) == ()  # only begin_trial begins one
    with pytest.raises(KernelMoved):
        apply(dataplane, *confirm_trial(on_trial))
    for _ in range(2):
        held = dataplane.enforce(), dataplane.require(), dataplane.narrowed()
        apply(dataplane, *begin_trial(on_trial, *held))
        state = dataplane.read()
        assert state.armed_for_good
        assert state.narrows
        assert all(30 < (left or 0) <= 60 for left in (state.narrowed or {}).values())
        assert arming(on_trial, state) == ()
    apply(dataplane, *confirm_trial(on_trial))
    assert dataplane.narrowed() == {}
    apply(dataplane, on_trial.keep_out())
    apply(dataplane, *arming(PERMANENT, dataplane.read()))
    assert dataplane.narrowed() == {}


def test_a_new_table_keeps_members_out_for_no_longer_than_the_old_one(dataplane: Dataplane) -> None:
    elements = wishing({})
    elements.enforce(Enforcement(permanent=True, narrow=300))
    reconciler = Reconciler(dataplane, NoConnections(), None)
    reconciler.resync(NARROWING, elements)
    assert not dataplane.read().narrows  # only begin_trial begins one
    reconciler.begin_trial(elements)
    assert reconciler.judges(elements.enforcement)
    elements.enforce(Enforcement(permanent=True, narrow=500))
    more = Structure((*NARROWING.sets, *MORE_SETS.sets[-1:]), NARROWING.chains)
    assert reconciler.resync(more, elements).planned.structure == "all"
    state = dataplane.read()
    assert state.armed_for_good
    assert state.narrows
    assert all(left is None or left <= 300 for left in (state.narrowed or {}).values())
    elements.enforce(PERMANENT)
    apply(dataplane, *arming(PERMANENT, state))
    apply(dataplane, Enforcement(narrow=60).keep_out())
    assert reconciler.resync(more, elements).drift == ()
    assert dataplane.narrowed() == {}


def test_chains_are_rewritten_and_sets_stay(dataplane: Dataplane) -> None:
    filled(dataplane)
    before = dataplane.read()
    apply(dataplane, RewriteChains(OTHER_RULES, before.chain_names))
    after = dataplane.read()
    assert after.structure != before.structure
    assert (after.elements, after.definitions) == (before.elements, before.definitions)
    assert after.timed["grace"].keys() == before.timed["grace"].keys()
    apply(dataplane, RewriteChains(STRUCTURE, after.chain_names))
    assert dataplane.structure() == before.structure


def test_a_structure_is_the_same_whoever_wrote_it(dataplane: Dataplane) -> None:
    """Written anew, it is listed as before: by that it is known to be untouched."""
    filled(dataplane)
    before = dataplane.structure()
    elements = wishing(HELD)
    kernel = dataplane.read()
    elements.kernel_is(kernel)
    dataplane.apply(replacement(STRUCTURE, elements, kernel, grace_seconds=0))
    assert dataplane.structure() == before


def planned(dataplane: Dataplane, wanted: Structure, kernel: KernelState) -> str:
    elements = wishing(HELD)
    elements.kernel_is(kernel)
    return plan(wanted, elements, kernel, None, definitions=dataplane.definitions).structure


def test_only_equal_sets_stay(dataplane: Dataplane) -> None:
    """A version that wants one counter more replaces all: its rules could name it."""
    filled(dataplane)
    kernel = dataplane.read()
    assert planned(dataplane, OTHER_RULES, kernel) == "chains"
    assert planned(dataplane, MORE_SETS, kernel) == "all"
    assert planned(dataplane, MORE_SETS, NO_TABLE) == "new"


def test_a_rule_that_names_what_is_not_there_is_refused(dataplane: Dataplane) -> None:
    """And those of before stay: another version's chains never come without its sets."""
    filled(dataplane)
    before = dataplane.read()
    newer = Chain("newer", None, ('counter name "other" return',))
    rules = RewriteChains(Structure(MORE_SETS.sets, (newer, *STRUCTURE.chains)), before.chain_names)
    with pytest.raises(DataplaneError):
        apply(dataplane, rules)
    assert dataplane.structure() == before.structure


@pytest.mark.parametrize("stage", [OFF, PERMANENT, Enforcement(seconds=300)])
def test_an_upgrade_to_a_version_with_other_sets_is_live(
    dataplane: Dataplane, stage: Enforcement
) -> None:
    """Members, stage, removed sources and the grace time go over, and the next look changes
    nothing; whatever the version before noted about the structure."""
    filled(dataplane)
    if stage:
        apply(dataplane, stage.drop())
    elements = wishing(HELD)
    elements.enforce(stage)
    reconciler = Reconciler(dataplane, NoConnections(), None)
    done = reconciler.resync(MORE_SETS, elements)
    assert done.planned.structure == "all"
    state = dataplane.read()
    assert {where: dict(state.elements[where]) for where in HELD} == HELD
    assert state.timed["revoked4"].keys() == {"203.0.113.7"}
    assert 300 < state.timed["grace"]["ipv4"] <= 600
    assert state.armed is bool(stage)
    assert state.armed_for_good is stage.permanent
    again = reconciler.resync(MORE_SETS, elements)
    assert (again.planned.structure, again.planned.transaction) == ("as is", Transaction())
    assert again.drift == ()
    assert reconciler.resync(OTHER_RULES, elements).planned.structure == "all"
    assert reconciler.resync(STRUCTURE, elements).planned.structure == "chains"


def test_nothing_is_ever_added_that_is_there(
    dataplane: Dataplane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kernel before Linux 5.10 refuses a verdict that is there already, and no kernel refreshes a
    time-out. So without another program nothing is refused, not even to be tried again: through
    every stage, and with members that come back and leave again."""
    refused: list[str] = []
    apply_whole = dataplane.apply

    def watched(transaction: Transaction) -> None:
        try:
            apply_whole(transaction)
        except DataplaneError as error:
            refused.append(str(error))
            raise

    monkeypatch.setattr(dataplane, "apply", watched)
    elements = wishing(HELD)
    reconciler = Reconciler(dataplane, NoConnections(), None)

    def resync(wanted: Structure, enforcement: Enforcement) -> None:
        elements.enforce(enforcement)
        reconciler.resync(wanted, elements)

    def trial() -> None:
        elements.enforce(Enforcement(seconds=300))
        reconciler.begin_trial(elements)

    def come_and_go() -> None:
        """Twice: the second time the kernel has the removed source already."""
        for _ in range(2):
            elements.unwant("peers4", "10.0.0.9")
            reconciler.commit(elements)
            reconciler.commit(elements)
            elements.want("peers4", "10.0.0.9")
            elements.spare(elements.never_revoke ^ {"10.0.0.9"})
            reconciler.commit(elements)

    for wanted in (STRUCTURE, OTHER_RULES, MORE_SETS):
        resync(wanted, OFF)
        trial()
        trial()  # a longer one takes its place
        resync(wanted, Enforcement(seconds=300))
        reconciler.confirm_trial(elements)
        resync(wanted, PERMANENT)
        come_and_go()
        reconciler.disarm()
        reconciler.disarm()
        resync(wanted, RELAXED)
        trial()
        reconciler.disarm()
        trial()  # by which the word of relaxing goes
        reconciler.confirm_trial(elements)
        resync(wanted, PERMANENT)
        resync(wanted, PERMANENT)
    assert dataplane.read().armed_for_good
    assert refused == []


def test_many_members_in_one_transaction(dataplane: Dataplane) -> None:
    """As many as a subnet has, and each is read back."""
    first, real = int(IPv4Address("192.168.0.1")), int(IPv4Address("10.0.0.1"))
    items = {str(IPv4Address(first + n)): str(IPv4Address(real + n)) for n in range(16_382)}
    peers = dict.fromkeys(items.values(), "")
    apply(
        dataplane,
        CreateTable(STRUCTURE),
        AddElements("overlay", items),
        AddElements("peers4", peers),
    )
    state = dataplane.read()
    assert dict(state.elements["overlay"]) == items
    assert dict(state.elements["peers4"]) == peers


# --- the real kernel alone ---


@pytest.mark.kernel
def test_both_doors_see_the_same(net: Net) -> None:
    """What netlink wrote, nft lists; what nft writes, netlink reads."""

    def nft(*words: str) -> str:
        command = ["ip", "netns", "exec", net.host, "nft", *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with closing(net.inside(net.host, NftablesDataplane)) as dataplane:
        filled(dataplane)
        apply(dataplane, Drop(90_000))
        listed = {}
        for where, items in HELD.items():
            kind = "map" if where == "overlay" else "set"
            answer = json.loads(nft("-n", "-j", "list", kind, "inet", "neti", where))["nftables"]
            found = next(item[kind]["elem"] for item in answer if kind in item)
            listed[where] = dict(found) if kind == "map" else dict.fromkeys(map(str, found), "")
            assert listed[where] == items
        assert "drop" in nft("list", "map", "inet", "neti", "enforce")
        nft("delete table inet neti")
        assert dataplane.structure() is None
        text = Transaction(
            (CreateTable(STRUCTURE), *(AddElements(w, i) for w, i in HELD.items()))
        ).text()
        subprocess.run(
            ["ip", "netns", "exec", net.host, "nft", "-f", "-"], input=text, text=True, check=True
        )
        by_nft = dataplane.read()
        assert {where: dict(by_nft.elements[where]) for where in HELD} == HELD
        nft("delete table inet neti")
        filled(dataplane)
        assert dataplane.structure() == by_nft.structure
        for change in (
            "insert rule inet neti input accept",
            "add chain inet neti input { policy drop; }",
            "add set inet neti more { type ipv4_addr; }",
            "add quota inet neti q { over 5 mbytes }",
            "add table inet neti { flags dormant; }",
        ):
            nft(change)
            assert dataplane.structure() != by_nft.structure, change
            nft("delete table inet neti")
            filled(dataplane)
        nft("add element inet neti revoked4 { 203.0.113.8 }")
        assert dataplane.timed("revoked4")["203.0.113.8"] == FOREVER
        nft("add element inet neti enforce { ipv4 : accept }")
        assert not dataplane.read().armed
        apply(dataplane, *enforce_commands(PERMANENT, dataplane.enforce()))
        assert dataplane.read().armed_for_good


@pytest.mark.kernel
def test_the_table_is_told_in_nfts_words(net: Net, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the very words of nft, rule by rule; where the library crashes, that is an error."""
    with closing(net.inside(net.host, NftablesDataplane)) as dataplane:
        filled(dataplane)
        command = ["ip", "netns", "exec", net.host, "nft", "-a", "-s", "list", "table"]
        done = subprocess.run([*command, "inet", "neti"], capture_output=True, check=True)
        listed = in_words(done.stdout.decode())
        words = dataplane.words()
        assert words == listed
        assert {name: len(rules) for name, rules in words.rules.items()} == {
            chain.name: len(chain.rules) for chain in STRUCTURE.chains
        }
        assert words.heads["peers4"] == "set peers4 { type ipv4_addr }"
        lines = (dataplane.structure() or "").splitlines()
        said = words.of(lines)
        assert 'iif "lo" accept' in said.values()
        assert all(line in said for line in lines if line.startswith(("rule ", "set ", "chain ")))
        monkeypatch.setattr(compiler, "_CHILD", "-c")  # a program that is no library's
        with pytest.raises(DataplaneError):
            dataplane.words()
        assert words_of(dataplane, lines) == {}


@pytest.mark.kernel
def test_a_refused_rule_is_named(net: Net) -> None:
    """By its chain and in its own words, though the kernel says a number only."""
    chains = tuple(
        replace(chain, rules=(*chain.rules, "jump input")) if chain.name == "judge" else chain
        for chain in STRUCTURE.chains
    )
    with closing(net.inside(net.host, NftablesDataplane)) as dataplane:
        with pytest.raises(DataplaneError, match=r"chain judge: jump input"):
            apply(dataplane, CreateTable(Structure(STRUCTURE.sets, chains)))
        assert dataplane.structure() is None
        with pytest.raises(DataplaneError, match=r"nftables refused the rules: .*syntax"):
            apply(dataplane, CreateTable(Structure((("set x", "no such"),), ())))


@pytest.mark.kernel
def test_who_may_not_is_told_so(net: Net) -> None:
    """Without CAP_NET_ADMIN, in one sentence."""
    program = (
        "from neti.dataplane.nftables import NftablesDataplane\n"
        "from neti.ruleset.objects import DeleteTable, Transaction\n"
        "from neti.errors import DataplaneUnavailable\n"
        "try: NftablesDataplane().apply(Transaction((DeleteTable(),)))\n"
        "except DataplaneUnavailable as error: print(error)\n"
    )
    words = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--reuid=65534"]
    words += ["--clear-groups", "--regid=65534", sys.executable, "-c", program]
    done = subprocess.run(
        ["ip", "netns", "exec", net.host, *words], capture_output=True, text=True, check=False
    )
    assert "CAP_NET_ADMIN" in done.stdout, done.stderr


def test_a_table_tells_which_sets_it_lacks(dataplane: Dataplane) -> None:
    """Only hosts that encrypt have them. An element without its set is no half of a change."""
    apply(dataplane, CreateTable(STRUCTURE))
    assert dataplane.read().missing == OPTIONAL
    with pytest.raises(KernelMoved):
        apply(
            dataplane,
            AddElements("peers4", {"10.0.0.9": ""}),
            AddElements("tunneled", {"192.168.0.9": ""}),
        )
    assert not dataplane.read().elements["peers4"]
    assert dataplane.read().require is None
    reconciler, elements = Reconciler(dataplane, NoConnections(), None), wishing(HELD)
    held = {where: _OF_OPTIONAL.get(where, {"192.168.0.9": ""}) for where in OPTIONAL}
    for where, items in held.items():
        for key, value in items.items():
            elements.want(where, key, value)
    reconciler.resync(PASSING, elements)
    state = dataplane.read()
    assert not state.missing
    assert {where: state.elements[where] for where in OPTIONAL} == held
    # One by one, and several of which one is taken out: each kind of key and value.
    for where, items in held.items():
        key, value = next(iter(items.items()))
        elements.unwant(where, key, value)
    reconciler.commit(elements)
    gone = {where: dict(list(items.items())[1:]) for where, items in held.items()}
    state = dataplane.read()
    assert {where: state.elements[where] for where in OPTIONAL} == gone
    reconciler.resync(STRUCTURE, elements)
    assert dataplane.read().missing == OPTIONAL
    assert not elements.pending


def grouping(held: dict[SetName, dict[str, str]]) -> Elements:
    elements = Elements(revoke_seconds=900)
    elements.look_at((APP4, APP6, WEB4, WEB6))
    for where, items in (HELD | held).items():
        for key, value in items.items():
            elements.want(where, key, value)
    return elements


def test_sets_of_groups_come_with_the_rules_and_their_elements_one_by_one(
    dataplane: Dataplane,
) -> None:
    filled(dataplane)
    held: dict[SetName, dict[str, str]] = {
        APP4: {"10.0.0.9": "", "192.168.0.9": ""},
        APP6: {"2001:db8::1": ""},
        WEB4: {},
        WEB6: {},
    }
    elements = grouping(held)
    assert not any(where in held for where in elements.changes().added)  # nothing was read yet
    elements.kernel_is(dataplane.read())
    assert not elements.pending  # without the sets there is nothing that a commit could do
    reconciler = Reconciler(dataplane, NoConnections(), None)
    assert reconciler.resync(GROUPED, elements).planned.structure == "all"
    state = dataplane.read()
    assert {where: dict(state.elements[where]) for where in held} == held
    again = reconciler.resync(GROUPED, elements)
    assert (again.planned.transaction, again.drift) == (Transaction(), ())

    elements.unwant(APP4, "10.0.0.9")
    elements.want(WEB4, "10.0.0.9")
    elements.want(WEB6, "2001:db8::2")
    assert reconciler.commit(elements).count() == 3
    state = dataplane.read()
    assert dict(state.elements[APP4]) == {"192.168.0.9": ""}
    assert dict(state.elements[WEB4]) == {"10.0.0.9": ""}
    assert dict(state.elements[WEB6]) == {"2001:db8::2": ""}
    assert dict(state.elements["peers4"]) == HELD["peers4"]

    apply(dataplane, DeleteElements(WEB6, ("2001:db8::2",)), AddElements(APP4, {"10.0.0.66": ""}))
    repaired = reconciler.resync(GROUPED, elements)
    assert set(repaired.drift) == {f"1 in {WEB6}", f"1 in {APP4}"}
    state = dataplane.read()
    assert dict(state.elements[APP4]) == {"192.168.0.9": ""}
    assert dict(state.elements[WEB6]) == {"2001:db8::2": ""}

    elements.look_at(())
    assert reconciler.resync(STRUCTURE, elements).planned.structure == "all"
    assert APP4 not in dataplane.read().elements


def test_a_set_of_a_group_that_is_not_there_refuses_all(dataplane: Dataplane) -> None:
    apply(dataplane, CreateTable(STRUCTURE))
    with pytest.raises(KernelMoved):
        apply(dataplane, AddElements("peers4", HELD["peers4"]), AddElements(APP4, {"10.0.0.9": ""}))
    assert not dataplane.read().elements["peers4"]


def test_rules_that_are_refused_leave_the_groups_of_those_that_stand(dataplane: Dataplane) -> None:
    """The former rules go on looking at them, while members come and go."""
    reconciler = Reconciler(dataplane, NoConnections(), None)
    reconciler.resync(GROUPED, grouping({APP4: {"10.0.0.9": ""}, WEB4: {"198.51.100.1": ""}}))
    late4, late6 = group_sets("late")
    elements = wishing({**HELD, "peers4": {"10.0.0.9": "", "10.0.0.12": ""}})
    elements.look_at((APP4, APP6, late4, late6))
    elements.want(APP4, "10.0.0.12")
    elements.want(late4, "10.0.0.9")
    broken = Structure(
        OTHER_GROUPS.sets,
        (*OTHER_GROUPS.chains, Chain("broken", None, ("ip saddr @nowhere drop",))),
    )
    with pytest.raises(StructureRefused):
        reconciler.resync(broken, elements)
    state = dataplane.read()
    assert dict(state.elements["peers4"]) == {"10.0.0.9": "", "10.0.0.12": ""}
    assert dict(state.elements[APP4]) == {"10.0.0.12": ""}
    assert dict(state.elements[WEB4]) == {"198.51.100.1": ""}
    assert late4 not in state.elements
    assert not elements.pending
    assert reconciler.resync(OTHER_GROUPS, elements).planned.structure == "all"
    state = dataplane.read()
    assert dict(state.elements[late4]) == {"10.0.0.9": ""}
    assert WEB4 not in state.elements

"""Elements and transactions, held against a small model of the kernel."""

from collections.abc import Iterable, Mapping
from random import Random
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.ruleset.delta import Changes, Elements
from neti.ruleset.objects import (
    MAPS,
    NO_TABLE,
    OPTIONAL,
    ORDERED,
    TIMED,
    AddElements,
    AddTimed,
    Chain,
    Command,
    CreateTable,
    DeleteElements,
    DeleteTable,
    KernelState,
    RewriteChains,
    Structure,
    Transaction,
)
from neti.ruleset.replace import replacement
from neti.ruleset.set_names import SetName

REVOKE_SECONDS: Final = 900
STRUCTURE: Final = Structure(
    (("map overlay", "type ipv4_addr : ipv4_addr"), ("set peers4", "type ipv4_addr")),
    (Chain("judge", None, ("accept",)), Chain("input", "type filter hook input;", ("drop",))),
)

# With the sets that not every structure has.
EVERY_SET: Final = Structure(
    (*STRUCTURE.sets, *((f"{'map' if w in MAPS else 'set'} {w}", "") for w in OPTIONAL)),
    STRUCTURE.chains,
)

Wish = tuple[SetName, str, str]


class ModelKernel:
    """The table's elements, as strict as the real ones: nothing absent can be deleted, and nothing
    that is there can be added."""

    def __init__(self, elements: Mapping[SetName, Mapping[str, str]] | None = None) -> None:
        self.elements: dict[SetName, dict[str, str]] = {where: {} for where in ORDERED}
        self.timed: dict[SetName, dict[str, int]] = {where: {} for where in TIMED}
        for where, items in (elements or {}).items():
            self.elements[where].update(items)

    def run(self, commands: Iterable[Command]) -> None:
        for command in commands:
            match command:
                case DeleteTable():
                    self.elements = {where: {} for where in ORDERED}
                    self.timed = {where: {} for where in TIMED}
                case AddElements(where, items):
                    assert not items.keys() & self.elements[where].keys(), "File exists"
                    assert all(bool(value) == (where in MAPS) for value in items.values())
                    self.elements[where].update(items)
                case AddTimed(where, timeouts):
                    assert not timeouts.keys() & self.timed[where].keys(), "File exists"
                    self.timed[where].update(timeouts)
                case DeleteElements(where, keys):
                    held = self.timed[where] if where in TIMED else self.elements[where]
                    for key in keys:
                        del held[key]
                case _:
                    assert isinstance(command, CreateTable)

    def state(self) -> KernelState:
        return KernelState(
            structure="listed",
            elements={where: dict(items) for where, items in self.elements.items()},
            timed={where: dict(items) for where, items in self.timed.items()},
        )


def values(where: SetName) -> tuple[str, ...]:
    return ("v1", "v2", "v3") if where in MAPS else ("",)


ELEMENTS: Final[list[Wish]] = [
    (where, key, value) for where in ORDERED for key in ("a", "b", "c") for value in values(where)
]
elements_strategy = st.sampled_from(ELEMENTS)
contents = st.dictionaries(
    st.tuples(st.sampled_from(ORDERED), st.sampled_from("abcd")),
    st.sampled_from(("v1", "v9")),
).map(
    lambda flat: {
        where: {
            key: (value if where in MAPS else "")
            for (held, key), value in flat.items()
            if held == where
        }
        for where in ORDERED
    }
)


def wishing(wishes: Iterable[Wish]) -> Elements:
    elements = Elements(revoke_seconds=REVOKE_SECONDS)
    for wish in wishes:
        elements.want(*wish)
    return elements


def commit(elements: Elements, kernel: ModelKernel) -> Changes:
    changes = elements.changes()
    kernel.run(changes.commands())
    elements.applied(changes)
    return changes


def desired(elements: Elements) -> dict[SetName, dict[str, str]]:
    return {where: elements.desired(where) for where in ORDERED}


# --- elements ---


@given(st.data())
def test_the_kernel_ends_with_what_is_still_wanted(data: st.DataObject) -> None:
    """Whatever is wanted and taken back, and whenever it is committed, the kernel follows."""
    elements, kernel = Elements(revoke_seconds=REVOKE_SECONDS), ModelKernel()
    wanted: list[Wish] = []
    for _ in range(data.draw(st.integers(0, 25))):
        act = data.draw(st.sampled_from(("want", "want", "unwant", "commit")))
        if act == "want":
            wanted.append(data.draw(elements_strategy))
            elements.want(*wanted[-1])
        elif act == "unwant" and wanted:
            elements.unwant(*wanted.pop(data.draw(st.integers(0, len(wanted) - 1))))
        elif act == "commit":
            commit(elements, kernel)
    commit(elements, kernel)
    expected: dict[SetName, dict[str, str]] = {where: {} for where in ORDERED}
    for where, key, value in sorted(wanted, reverse=True):
        expected[where][key] = value  # the smallest comes last and stays
    assert kernel.elements == desired(elements) == expected
    assert elements.kernel == kernel.elements
    assert not elements.pending
    assert {w: set(t) for w, t in kernel.timed.items() if w != "grace"} == elements.revoked
    # A peer is never among the removed sources, and whoever was a peer and is none stays there.
    assert not set(kernel.timed["revoked4"]) & set(kernel.elements["peers4"])


@given(st.lists(elements_strategy, max_size=12), st.randoms(use_true_random=False))
def test_the_order_of_wishes_does_not_matter(wishes: list[Wish], random: Random) -> None:
    """Two agents that learn the same in another order want the same."""
    shuffled = list(wishes)
    random.shuffle(shuffled)
    assert desired(wishing(wishes)) == desired(wishing(shuffled))


@given(st.lists(elements_strategy, max_size=12), contents)
def test_any_kernel_content_converges(
    wishes: list[Wish], held: dict[SetName, dict[str, str]]
) -> None:
    """Whatever was read back, one commit makes it what is wanted, and a second does nothing."""
    elements, kernel = wishing(wishes), ModelKernel(held)
    elements.kernel_is(kernel.state())
    commit(elements, kernel)
    assert kernel.elements == desired(elements)
    assert elements.changes() == Changes()
    elements.kernel_is(kernel.state())
    assert not elements.pending
    assert elements.changes() == Changes()


@given(st.lists(elements_strategy, max_size=12), contents)
def test_a_replacement_converges_too_and_keeps_removed_sources_out(
    wishes: list[Wish], held: dict[SetName, dict[str, str]]
) -> None:
    """The whole table anew holds the same as the difference would, removed sources included."""
    by_difference, by_replacement = ModelKernel(held), ModelKernel(held)
    for kernel in (by_difference, by_replacement):
        kernel.timed["revoked4"] = {"a": 17, "x": 5, "y": 0}
        kernel.timed["grace"] = {"ipv4": 33}
    elements = wishing(wishes)
    state = by_difference.state()
    elements.kernel_is(state)
    by_replacement.run(replacement(EVERY_SET, elements, state, grace_seconds=60).commands)
    commit(elements, by_difference)
    assert by_replacement.elements == by_difference.elements == desired(elements)
    assert by_replacement.timed["grace"] == {"ipv4": 33}
    peers = elements.desired("peers4")
    expected = {"a": 17, "x": 5} | dict.fromkeys(held["peers4"], REVOKE_SECONDS)
    assert by_replacement.timed["revoked4"] == {k: v for k, v in expected.items() if k not in peers}


def test_a_shared_address_goes_with_its_last_claimant() -> None:
    """Of many members behind one public address, one that leaves cuts off none of the others."""
    elements, kernel = wishing([("peers4", "198.51.100.1", "")] * 3), ModelKernel()
    commit(elements, kernel)
    for _ in range(2):
        elements.unwant("peers4", "198.51.100.1")
        assert commit(elements, kernel) == Changes()
    elements.unwant("peers4", "198.51.100.1")
    changes = commit(elements, kernel)
    assert changes.removed == {"peers4": ["198.51.100.1"]}
    assert changes.revoked == {"revoked4": {"198.51.100.1": REVOKE_SECONDS}}


def test_a_removed_peer_is_revoked_and_one_that_returns_is_pardoned() -> None:
    """The very transaction that takes a peer out puts it among the removed sources, and back."""
    elements, kernel = wishing([("peers6", "2001:db8::1", "")]), ModelKernel()
    commit(elements, kernel)
    elements.unwant("peers6", "2001:db8::1")
    gone = elements.changes()
    assert Transaction(tuple(gone.commands())).text() == (
        "add element inet neti revoked6 { 2001:db8::1 timeout 900s }\n"
        "delete element inet neti peers6 { 2001:db8::1 }\n"
    )
    commit(elements, kernel)
    elements.want("peers6", "2001:db8::1")
    back = commit(elements, kernel)
    assert back.pardoned == {"revoked6": ["2001:db8::1"]}
    assert kernel.timed["revoked6"] == {}
    assert elements.revoked["revoked6"] == frozenset()


def test_an_address_that_leaves_and_returns_between_commits_is_never_touched() -> None:
    """What went back and forth unseen costs the kernel nothing, and leaves no trace behind."""
    elements, kernel = wishing([("peers4", "a", "")]), ModelKernel()
    commit(elements, kernel)
    elements.unwant("peers4", "a")
    elements.want("peers4", "a")
    assert elements.pending
    assert commit(elements, kernel) == Changes()
    assert not elements.pending


def test_a_map_value_changes_by_delete_and_add() -> None:
    """Re-adding a key with another value is an error in the kernel, so the old one goes first."""
    elements, kernel = wishing([("overlay", "a", "v1")]), ModelKernel()
    commit(elements, kernel)
    elements.want("overlay", "a", "v2")
    elements.unwant("overlay", "a", "v1")
    assert [str(one) for one in commit(elements, kernel).commands()] == [
        "delete element inet neti overlay { a }",
        "add element inet neti overlay { a : v2 }",
    ]
    assert kernel.elements["overlay"] == {"a": "v2"}


def test_what_was_held_back_is_still_to_be_done() -> None:
    """Applying a part of the changes forgets nothing of the rest."""
    elements, kernel = wishing([("peers4", "a", ""), ("overlay", "a", "v1")]), ModelKernel()
    part = Changes(added={"peers4": {"a": ""}})
    kernel.run(part.commands())
    elements.applied(part)
    assert elements.pending
    assert elements.changes() == Changes(added={"overlay": {"a": "v1"}})
    commit(elements, kernel)
    assert not elements.pending


def test_a_wish_made_while_changes_are_on_their_way_is_kept() -> None:
    """The answer to an older transaction does not cover a newer wish for the same key."""
    elements, kernel = wishing([("overlay", "a", "v1")]), ModelKernel()
    changes = elements.changes()
    elements.want("overlay", "a", "v0")
    kernel.run(changes.commands())
    elements.applied(changes)
    commit(elements, kernel)
    assert kernel.elements["overlay"] == {"a": "v0"}


@pytest.mark.parametrize(
    ("wishes", "wrong"),
    [
        ([], ("overlay", "a", "v1")),
        ([("overlay", "a", "v1")], ("overlay", "a", "v2")),
        ([("overlay", "a", "v1")] * 2, ("overlay", "a", "v2")),
    ],
)
def test_taking_back_what_was_never_wanted_is_an_error(wishes: list[Wish], wrong: Wish) -> None:
    """A caller who miscounts hears of it, and what others wanted stays."""
    elements = wishing(wishes)
    before = desired(elements)
    with pytest.raises(KeyError):
        elements.unwant(*wrong)
    assert desired(elements) == before


def test_forgotten_removed_sources_are_not_pardoned_again() -> None:
    """What the kernel let expire needs no pardon."""
    elements, kernel = Elements(revoke_seconds=REVOKE_SECONDS), ModelKernel()
    elements.kernel_is(KernelState(structure="", timed={"revoked4": {"a": 5, "b": 5}}))
    elements.forget_revoked("revoked4", ["a", "never"])
    assert elements.revoked["revoked4"] == frozenset({"b"})
    kernel.timed["revoked4"]["b"] = 5
    elements.want("peers4", "a")
    elements.want("peers4", "b")
    assert commit(elements, kernel).pardoned == {"revoked4": ["b"]}


def test_changes_are_counted_by_element() -> None:
    """A changed value counts as the removal and the addition that it is."""
    changes = Changes()
    assert changes.count() == 0
    changes.remove("overlay", "a")
    changes.add("overlay", "a", "v2")
    changes.revoke("revoked4", "b", 5)
    assert changes.count() == 2


# --- the whole table ---


def test_a_structure_prints_as_a_file_for_nft() -> None:
    """Sets before chains, one rule a line, a newline before each closing brace."""
    assert STRUCTURE.text() == (
        "table inet neti {\n"
        "\tmap overlay {\n\t\ttype ipv4_addr : ipv4_addr\n\t}\n\n"
        "\tset peers4 {\n\t\ttype ipv4_addr\n\t}\n\n"
        "\tchain judge {\n\t\taccept\n\t}\n\n"
        "\tchain input {\n\t\ttype filter hook input;\n\t\tdrop\n\t}\n"
        "}\n"
    )
    assert "set" not in STRUCTURE.chains_text()


def test_a_first_table_starts_its_grace_and_deletes_nothing() -> None:
    """Only a table that is there can be deleted; only a new one has older connections to spare."""
    commands = replacement(STRUCTURE, wishing([]), NO_TABLE, grace_seconds=60).commands
    assert commands[0] == CreateTable(STRUCTURE)
    assert str(commands[-1]) == "add element inet neti grace { ipv4 timeout 60s, ipv6 timeout 60s }"
    assert replacement(STRUCTURE, wishing([]), NO_TABLE, grace_seconds=0).commands == (
        CreateTable(STRUCTURE),
    )


def test_replacing_a_table_does_not_start_its_grace_anew() -> None:
    """The grace time runs once, however often the rules are replaced."""
    kernel = KernelState(structure="x", timed={"grace": {"ipv4": 7, "ipv6": 0}})
    commands = replacement(STRUCTURE, wishing([]), kernel, grace_seconds=60).commands
    assert commands[0] == DeleteTable()
    assert [c for c in commands if isinstance(c, AddTimed)] == [AddTimed("grace", {"ipv4": 7})]


def test_chains_are_rewritten_without_a_word_about_sets() -> None:
    """All are flushed before any is deleted, since a chain that is jumped to cannot go."""
    assert (
        str(RewriteChains(STRUCTURE, ("input", "judge")))
        == (
            "flush chain inet neti input\n"
            "flush chain inet neti judge\n"
            "delete chain inet neti input\n"
            "delete chain inet neti judge\n"
        )
        + STRUCTURE.chains_text()
    )


def test_a_source_that_is_revoked_again_gets_its_whole_time() -> None:
    """One that is there is deleted first: adding it would be refused, or not renew it."""
    elements = wishing([("peers4", "a", ""), ("peers4", "b", "")])
    held = KernelState(
        structure="", elements={"peers4": {"a": "", "b": ""}}, timed={"revoked4": {"a": 5}}
    )
    elements.kernel_is(held)
    elements.unwant("peers4", "a")
    elements.unwant("peers4", "b")
    commands = list(elements.changes().commands())
    assert commands[0] == DeleteElements("revoked4", ("a",))
    assert isinstance(commands[1], AddTimed)
    assert commands[1].timeouts == {"a": REVOKE_SECONDS, "b": REVOKE_SECONDS}


def test_an_empty_transaction_is_falsy_and_prints_nothing() -> None:
    """Nothing to do looks like nothing."""
    assert not Transaction()
    assert Transaction().text() == ""
    two = (DeleteTable(), DeleteElements("peers4", ("10.0.0.9",)))
    assert Transaction(two).text() == (
        "delete table inet neti\ndelete element inet neti peers4 { 10.0.0.9 }\n"
    )

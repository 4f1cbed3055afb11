"""What differs between a group and what it should let in: whatever both are, and for ever."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from neti.aws.calls import Place
from neti.aws.changes import of_group
from neti.aws.groups import Group, Rule, description, difference, is_marked

MARK, OTHER = "neti zk-groups sg-0aa1", "neti zk-groups sg-0aa10"
HERE = Place("default", "us-east-1")

rules = st.builds(
    Rule,
    protocol=st.sampled_from(["tcp", "udp"]),
    first=st.just(2181),
    last=st.just(2181),
    source=st.sampled_from([f"198.51.100.{n}/32" for n in range(6)] + ["pl-own", "pl-office"]),
    description=st.sampled_from(["", "office", f"{MARK}: zk-1", f"{OTHER}: zk-1", MARK]),
)
held = st.lists(rules, unique=True).map(tuple)  # AWS knows a rule once, whatever it is for


@given(held, st.lists(rules))
def test_applying_the_difference_arrives_and_does_so_once(
    before: tuple[Rule, ...], goal: list[Rule]
) -> None:
    """All that is wanted is there, all that was foreign is still there, nothing else of the mark's
    is; and then nothing differs."""
    wanted = [replace(rule, description=description(MARK, "x")) for rule in goal]
    group = Group(place=HERE, id="sg-1", rules=before)
    differs = difference(group, wanted, MARK, own_lists={"pl-own"})
    after = tuple(rule for rule in (*before, *differs.add) if rule not in differs.remove)
    foreign = [r for r in before if not is_marked(r, MARK) and r.source != "pl-own"]
    assert set(wanted) <= set(after)
    assert all(rule in after for rule in foreign)
    assert set(after) <= set(wanted) | set(foreign)
    again = difference(replace(group, rules=after), wanted, MARK, own_lists={"pl-own"})
    assert (again.add, again.remove) == ((), ())


@given(held, st.lists(rules))
def test_nothing_is_added_after_something_was_removed(
    before: tuple[Rule, ...], goal: list[Rule]
) -> None:
    """Unless the operator asks for it."""
    group = Group(place=HERE, id="sg-1", rules=before)
    differs = difference(group, goal, MARK)
    signs = [line[0] for change in of_group(group, differs) for line in change.means]
    assert signs == sorted(signs)  # '+' sorts before '-'
    turned = of_group(group, differs, remove_first=True)
    assert sorted(map(str, turned)) == sorted(map(str, of_group(group, differs)))


def test_a_mark_is_not_a_longer_ones() -> None:
    """sg-0aa1 is not sg-0aa10: the rules of one pair are not the other's."""
    rule = Rule(protocol="tcp", first=1, last=1, source="pl-1", description=f"{OTHER}: zk-1")
    assert is_marked(rule, OTHER)
    assert not is_marked(rule, MARK)


@given(st.text())
def test_a_description_is_one_that_aws_accepts(text: str) -> None:
    """Names of instances are anybody's text."""
    told = description(MARK, text)
    assert len(told) <= 255
    assert told.isascii()
    assert not set(told) & set("\"'<>\\|\n\t")
    assert is_marked(
        replace(Rule(protocol="tcp", first=1, last=1, source="x"), description=told), MARK
    )

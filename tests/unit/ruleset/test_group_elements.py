"""Members' addresses, once more for each of their groups, whatever happens in which order."""

from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from neti.model import Encrypt, Host, Member, Road, Site, entry
from neti.model.groups import GroupLine, Groups, MemberPort, MemberPorts
from neti.model.settings import Settings
from neti.ruleset.desired import Membership
from neti.ruleset.objects import KernelState
from neti.ruleset.policy_members import groups_of
from neti.ruleset.reach import elements_of
from neti.ruleset.set_names import SetName, group_sets

HOST: Final = Host(id="me", site="ec2", private=IPv4Address("10.0.0.1"), public=None)
MEMBERS: Final = tuple(
    Member(
        id=f"m-{n}",
        site="ec2" if n % 2 else "vpc",
        private=IPv4Address(f"10.0.0.{n + 10}"),
        # The first two share an address, as behind a NAT.
        public=IPv4Address(f"198.51.100.{max(n, 1)}"),
        overlay=IPv4Address(f"192.168.0.{n + 10}"),
        extended=True,
        more=(ip_address(f"2001:db8::{n + 10}"),),
    )
    for n in range(4)
)
_names: Final = ("app", "db", "web-front")
_line = st.builds(GroupLine, st.sampled_from(("m-*", "m-?", "m-0", "m-1", "m-3", "x")))
_groups = st.dictionaries(st.sampled_from(_names), st.lists(_line, max_size=2).map(tuple)).map(
    lambda lines: Groups(lines, edition=1)
)
_ports: st.SearchStrategy[MemberPorts] = st.none() | st.lists(
    st.sampled_from((*_names, "members")), min_size=1, max_size=3, unique=True
).map(lambda names: (MemberPort(tuple(names), "tcp", 80, 80),))
_number = st.integers(0, len(MEMBERS) - 1)
_step = st.one_of(
    st.tuples(st.just("joins"), _number),
    st.tuples(st.just("leaves"), _number),
    st.tuples(st.just("road"), st.tuples(_number, st.sampled_from((None, *Road)))),
    st.tuples(st.just("groups"), st.none() | _groups),
    st.tuples(st.just("in force"), _ports),
    st.tuples(st.just("reload"), _ports),
)


def empty(ports: MemberPorts) -> Membership:
    sites = {"ec2": Site(name="ec2", encrypt=Encrypt.PREFER), "vpc": Site(name="vpc")}
    settings = Settings(path=Path("neti.yml"), sites=sites, member_ports=ports)
    return Membership.empty(settings, HOST, frozenset())


def after(members: Membership, what: str, by: Any) -> Membership:
    if what == "joins":
        member = MEMBERS[by]
        members.fleet.appeared(entry.encode(member))
        members.fleet.lease_read(member.overlay, member.id)
        members.fleet.data_read(entry.encode(member), entry.encode_data(member.more))
    elif what == "leaves":
        members.fleet.appeared(entry.encode_departure(MEMBERS[by]))
        members.fleet.vanished(entry.encode(MEMBERS[by]), now=0.0)
    elif what == "road":
        members.goes_by(MEMBERS[by[0]].id, by[1])
    elif what == "groups":
        members.group_members(by, now=0.0)
    elif what == "in force":
        members.admit_by(by)
    else:
        later = empty(by)
        later.succeed(members, now=0.0, remember=True)
        members = later
    members.take_changes()
    return members


ALL: Final[MemberPorts] = tuple(MemberPort((name,), "tcp", 80, 80) for name in _names)
FIRST: Final = Groups({"app": (GroupLine("m-*"),), "db": (GroupLine("m-0"),)}, edition=1)


@given(st.just(ALL) | _ports, st.lists(_step, min_size=1, max_size=12))
def test_the_sets_hold_what_they_would_in_a_new_table(
    ports: MemberPorts, steps: list[tuple[str, Any]]
) -> None:
    members, defined, in_force = empty(ports), Groups({}), None
    begin = [*(("joins", n) for n in range(len(MEMBERS))), ("groups", FIRST)]
    for what, by in [*begin, *steps]:
        members = after(members, what, by)
        defined = (by or Groups({})) if what == "groups" else defined
        in_force = by if what == "in force" else in_force
        names = groups_of(members.settings, in_force)
        expected: dict[SetName, set[str]] = {
            where: set() for name in names for where in group_sets(name)
        }
        for member in members.fleet.members.values():
            sites, road = members.settings.sites, members.road_of(member)
            held = list(elements_of(member, host=HOST, sites=sites, road=road))
            for name in names:
                if any(_fits(line, member.id) for line in defined.lines.get(name, ())):
                    four, six = group_sets(name)
                    expected[four] |= {e.key for e in held if e.where in ("peers4", "tunnel_peers")}
                    expected[six] |= {e.key for e in held if e.where == "peers6"}
        sets = [where for where in members.elements.sets if where in expected]
        assert {where: set(members.elements.desired(where)) for where in sets} == expected
        assert members.needed_groups == members.groups.needed == names


def _fits(line: GroupLine, member: str) -> bool:
    return line.pattern in (member, "m-*", "m-?")


def test_a_join_is_its_own_elements_and_those_of_its_groups() -> None:
    """However many members and groups there are."""
    ports = tuple(MemberPort((name,), "tcp", n, n) for n, name in enumerate(_names, 1))
    members = after(empty(ports), "groups", Groups({"app": (GroupLine("m-*"),)}, edition=1))
    for n in (0, 2, 3):
        members = after(members, "joins", n)
    elements = members.elements
    held = {where: elements.desired(where) for where in elements.sets}
    elements.kernel_is(KernelState(structure="", elements=held))
    members = after(members, "joins", 1)
    changes = members.elements.changes()
    four, six = group_sets("app")
    assert changes.removed == {}
    assert set(changes.added[four]) == {"10.0.0.11"}  # the shared address is there already
    assert set(changes.added[six]) == {"2001:db8::11"}
    assert set(changes.added) <= {"overlay", "peers4", "peers6", "across4", "across6", four, six}

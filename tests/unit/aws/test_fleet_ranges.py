"""What ``neti aws ip-ranges --fleet`` opens, over many runs: no more than a first run would."""

import os
import random
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from neti.aws import fleet_memory
from neti.aws.fleet_memory import Memory
from neti.aws.fleet_ranges import FleetSources, of_fleet, refuse_mass_removal
from neti.aws.ip_ranges import FLEET, Shape
from neti.errors import NetiError
from neti.model import Member, Reach, Site

GROUP = "sg-0aa1"
SITES = {"ec2": Site(name="ec2"), "vpc": Site(name="vpc")}


def _member(number: int, public: str | None, *, site: str = "vpc") -> Member:
    return Member(
        id=f"h-{number}",
        site=site,
        private=IPv4Address("10.0.0.0") + number,
        public=IPv4Address(public) if public else None,
        overlay=IPv4Address("192.168.0.0") + number,
    )


def _run(
    members: Mapping[str, Member],
    leased: set[str],
    held: Mapping[str, str],
    memory: Memory,
    *,
    most: int | None,
    sites: Mapping[str, Site] = SITES,
) -> FleetSources:
    return of_fleet(
        members.values(),
        leased,
        held,
        group=GROUP,
        memory=memory,
        own_site="ec2",
        sites=sites,
        shape=Shape(mark=FLEET, max_rules=most),
    )


def _opened(made: FleetSources) -> set[IPv4Network]:
    return {IPv4Network(cidr) for cidr in made.sources.cidrs}


@pytest.mark.parametrize("seed", range(2))
def test_the_opening_never_grows_by_what_earlier_runs_left(seed: int) -> None:
    """One host is lost for good while all others are replaced, one after the other, 300 times."""
    chance = random.Random(seed)

    def somewhere() -> str:
        return str(IPv4Address(chance.choice((3, 18, 52, 54)) << 24 | chance.getrandbits(24)))

    members = {f"h-{n}": _member(n, somewhere()) for n in range(24)}
    leased = set(members)
    made = _run(members, leased, {}, Memory(), most=13)
    lost: dict[str, Member] = {}
    for number in range(24, 324):
        if number == 30 or (number > 30 and chance.random() < 0.05):
            gone = chance.choice(sorted(members))
            lost[gone] = members.pop(gone)
        else:
            gone = chance.choice(sorted(members))
            del members[gone]
            leased.discard(gone)
        if lost and chance.random() < 0.1:
            back = chance.choice(sorted(lost))
            del lost[back]
            leased.discard(back)
        members[f"h-{number}"] = _member(number, somewhere())
        leased.add(f"h-{number}")
        made = _run(members, leased, made.sources.cidrs, made.memory, most=13)
        everybody = members | lost
        fresh = _run(everybody, set(everybody), {}, Memory(), most=13)
        opened = _opened(made)
        assert opened == _opened(fresh)
        assert made.sources.surplus == sum(n.num_addresses for n in opened) - len(everybody)
        assert all(any(m.public in network for network in opened) for m in everybody.values())


def test_a_lost_host_keeps_its_own_address_and_no_prefix() -> None:
    """The prefix around it goes when the others in it go."""
    members = {f"h-{n}": _member(n, f"198.51.{n}.1") for n in range(1, 5)}
    first = _run(members, set(members), {}, Memory(), most=3)
    assert _opened(first) == {IPv4Network("198.51.0.0/21")}
    left = {"h-1": members["h-1"]}
    made = _run(left, {"h-1", "h-4"}, first.sources.cidrs, first.memory, most=5)
    assert _opened(made) == {IPv4Network("198.51.1.1/32"), IPv4Network("198.51.4.1/32")}
    assert made.kept == ("198.51.4.1/32",)
    assert made.sources.surplus == 0


def test_prefixes_of_another_machines_runs_stay_as_they_are_and_no_wider() -> None:
    """Nobody here knows who is in them: they stay for as long as those are lost who are now."""
    members = {"h-1": _member(1, "198.51.1.1")}
    held = {"203.0.0.0/20": f"{FLEET}: 7 hosts, widened", "198.51.1.1/32": f"{FLEET}: 7 hosts"}
    made = _run(members, {"h-1", "h-9"}, held, Memory(), most=9)
    assert _opened(made) == {IPv4Network("203.0.0.0/20"), IPv4Network("198.51.1.1/32")}
    assert made.sources.surplus == 4096
    # Later somebody else is lost, whom this memory knows: that is no reason to keep it.
    members["h-2"] = _member(2, "198.51.2.1")
    made = _run(members, {"h-1", "h-2", "h-9"}, made.sources.cidrs, made.memory, most=9)
    del members["h-2"]
    made = _run(members, {"h-1", "h-2", "h-9"}, made.sources.cidrs, made.memory, most=9)
    assert IPv4Network("203.0.0.0/20") in _opened(made)
    made = _run(members, {"h-1", "h-2"}, made.sources.cidrs, made.memory, most=9)
    assert _opened(made) == {IPv4Network("198.51.1.1/32"), IPv4Network("198.51.2.1/32")}


def test_an_address_shared_by_more_hosts_than_a_description_names_stays() -> None:
    """The last of them is lost, and the description was cut before it."""
    members = {f"h-{n}": _member(n, "198.51.100.1") for n in range(100, 200)}
    first = _run(members, set(members), {}, Memory(), most=None)
    assert "h-199" not in first.sources.cidrs["198.51.100.1/32"]
    other = {"h-1": _member(1, "198.51.100.2")}
    made = _run(other, {"h-1", "h-199"}, first.sources.cidrs, first.memory, most=None)
    assert made.kept == ("198.51.100.1/32",)


def test_a_peered_site_comes_by_its_private_addresses() -> None:
    """As agents let it in: the public ones too, unless both sites are peered."""
    peered = Site(name="vpc", reached_by=Reach.PRIVATE)
    members = {"h-1": _member(1, "198.51.100.1"), "h-2": _member(2, None)}
    made = _run(
        members, set(members), {}, Memory(), most=None, sites={"ec2": SITES["ec2"], "vpc": peered}
    )
    assert set(made.sources.cidrs) == {"10.0.0.1/32", "10.0.0.2/32", "198.51.100.1/32"}
    assert made.without_public == ()
    both = {"ec2": Site(name="ec2", reached_by=Reach.PRIVATE), "vpc": peered}
    made = _run(members, set(members), {}, Memory(), most=None, sites=both)
    assert set(made.sources.cidrs) == {"10.0.0.1/32", "10.0.0.2/32"}


def test_half_of_the_fleet_is_counted_in_hosts() -> None:
    """Not in prefixes: a replaced host may change most of these, and most hosts share a few."""
    members = {f"h-{n}": _member(n, f"198.51.{n}.1") for n in range(64)}
    first = _run(members, set(members), {}, Memory(), most=5)
    del members["h-5"]
    members["h-64"] = _member(64, "203.0.113.1")
    made = _run(members, set(members), first.sources.cidrs, first.memory, most=5)
    refuse_mass_removal(made.held, made.removed)
    few = {host: members[host] for host in ("h-1", "h-64")}
    made = _run(few, set(few), made.sources.cidrs, made.memory, most=5)
    with pytest.raises(NetiError, match="would be removed at once"):
        refuse_mass_removal(made.held, made.removed)


def test_the_memory_outlasts_the_process(tmp_path: Path) -> None:
    """As it was; what is not one of these files is refused, and a pipe does not hang."""
    members = {"h-1": _member(1, "198.51.1.1"), "h-2": _member(2, None)}
    held = {"203.0.0.0/20": f"{FLEET}: 7 hosts, widened"}
    memory = _run(members, {"h-1", "h-2", "h-3"}, held, Memory(), most=9).memory
    path = tmp_path / "state" / "fleet-addresses.json"
    assert fleet_memory.load(path) == Memory()
    fleet_memory.save(path, memory, [GROUP])
    assert fleet_memory.load(path) == memory
    for junk in ("", "[]", "{}", '{"format": 2}', "[" * 100_000, "\x00"):
        path.write_text(junk)
        with pytest.raises(NetiError, match="was not written by"):
            fleet_memory.load(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(NetiError, match="cannot be read"):
        fleet_memory.load(path)


def test_two_processes_that_follow_a_site_each_share_one_memory(tmp_path: Path) -> None:
    """Neither takes the other's prefixes for somebody else's, whoever writes last."""
    members = {f"h-{n}": _member(n, f"198.51.{n}.1") for n in range(1, 5)}
    path = tmp_path / "fleet-addresses.json"
    one, other = fleet_memory.load(path), fleet_memory.load(path)
    made = _run(members, set(members), {}, one, most=3)
    fleet_memory.save(path, made.memory, [GROUP])
    fleet_memory.save(path, other.after("sg-2", held=(), planned=["10.0.0.0/8"], kept={}), ["sg-2"])
    memory = fleet_memory.load(path)
    assert memory.left == {GROUP: frozenset(made.sources.cidrs), "sg-2": frozenset({"10.0.0.0/8"})}

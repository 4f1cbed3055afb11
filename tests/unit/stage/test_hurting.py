"""What a whole fleet would lose: counted by port, with one line that keeps it."""

from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from hypothesis import given
from hypothesis import strategies as st

from neti.registry.hurts import Hurt, Hurts
from neti.stage.hurting import Lost, wide_enough
from neti.stage.hurting import lost as lost_now

NETWORKS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 32)),
        st.tuples(st.integers(2**64, 2**128 - 1), st.integers(1, 128)),
    ).map(lambda pair: ip_network(f"{ip_address(pair[0])}/{pair[1]}", strict=False)),
    max_size=30,
)


NOW = 1_800_000_000.0
DAY = 86_400.0


def lost(told: Mapping[str, Hurts | None]) -> Lost:
    return lost_now(told, NOW, DAY)


def hurts(*at: Hurt, ports: int | None = None) -> Hurts:
    return Hurts(ports=len(at) if ports is None else ports, sources=9, at=at)


def on(port: str, *networks: str, sources: int = 1) -> Hurt:
    return Hurt(port=port, sources=sources, networks=networks)


def test_the_port_of_most_hosts_comes_first_with_a_line_for_all_of_them() -> None:
    found = lost(
        {
            "b": hurts(on("9100/tcp", "10.0.0.1/32"), on("5432/tcp", "10.0.1.0/25", sources=3)),
            "a": hurts(on("5432/tcp", "10.0.1.128/25", sources=2)),
            "c": hurts(),
        }
    )
    first, second = found.ports
    assert (first.port, first.hosts, first.sources) == ("5432/tcp", ("a", "b"), 5)
    assert (first.line, first.wider) == ("{port: 5432, from: [10.0.1.0/24]}", True)
    assert (second.line, second.wider) == ("{port: 9100, from: [10.0.0.1]}", False)
    assert (found.hosts, found.silent, found.cut) == (3, (), {})


def test_whoever_does_not_say_is_named_and_so_is_who_has_more_ports() -> None:
    found = lost({"quiet": None, "full": hurts(on("80/tcp"), ports=3), "old": hurts(ports=2)})
    assert found.silent == ("quiet",)
    assert found.cut == {"full": 2, "old": 2}


def test_whoever_has_not_watched_for_long_is_named() -> None:
    """A version before does not say since when: that is not known, here."""
    since = {"old": NOW - DAY, "young": NOW - 45, "ahead": NOW + 9, "before": None}
    told = {
        i: Hurts(ports=0, sources=0, since=None if at is None else int(at))
        for i, at in since.items()
    }
    assert lost({**told, "quiet": None}).young == ("ahead", "young")


def test_one_that_everybody_uses_is_open_to_everybody() -> None:
    """A line for the others alone would shut those out."""
    found = lost({"a": hurts(on("53/udp")), "b": hurts(on("53/udp", "10.0.0.0/24"))})
    assert (found.ports[0].line, found.ports[0].wider) == ('"53/udp"', True)


def test_what_open_ports_cannot_let_in_has_no_line() -> None:
    """On one of the hosts what comes must be encrypted: with a line for the tier it would not."""
    encrypted = Hurt(port="80/tcp", sources=1, networks=None)
    found = lost({"a": hurts(encrypted), "b": hurts(on("80/tcp", "10.0.0.0/24"))})
    assert found.ports[0].line is None
    assert lost({"a": hurts(on("7/sctp", "10.0.0.0/24"))}).ports[0].line is None


@given(NETWORKS, st.integers(1, 8))
def test_wider_networks_let_in_all_that_were_named(named: list[object], most: int) -> None:
    """And nobody is a silent loss: either each is inside one of them, or everybody is let in."""
    wide = wide_enough(named, most)  # type: ignore[arg-type]
    assert len(wide) <= most
    assert not wide or all(
        any(one.version == held.version and one.subnet_of(held) for held in wide)  # type: ignore[attr-defined]
        for one in named
    )


def test_few_addresses_stay_as_they_are() -> None:
    hosts = [ip_network(f"10.{n}.0.7") for n in range(4)]
    assert wide_enough(hosts, 4) == tuple(hosts)
    near = [ip_network(f"10.0.0.{2 * n}") for n in range(20)]
    assert wide_enough(near, 4) == (ip_network("10.0.0.0/24"),)

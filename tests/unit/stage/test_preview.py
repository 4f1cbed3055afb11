"""The preview: what matters on top, noise at the bottom, and a line that really lets in."""

from dataclasses import replace
from ipaddress import IPv4Network, ip_address, ip_network
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.agent.preview import hosts_file_names, told
from neti.cli.preview import lines
from neti.config import load
from neti.model.settings import OpenPort
from neti.monitoring.preview import Preview, Wanted
from neti.stage.preview import (
    Noise,
    Row,
    View,
    Whose,
    let_in_since,
    open_entry,
    open_line,
    rows,
    without_noise,
)
from neti.stage.record import Record
from neti.stage.shadow import Listener, Sighting, port_name

NOW = 1_800_000_000.0
ANY = ip_address("0.0.0.0")
NGINX = Listener("tcp", 8080, ANY, 7, 812, "nginx", "nginx.service")
SITE = (IPv4Network("10.0.0.0/16"),)


def seen(
    source: str, port: int = 8080, packets: int = 1, idle: float = 5.0, **more: Any
) -> Sighting:
    return Sighting(ip_address(source), more.pop("protocol", "tcp"), port, packets, idle, **more)


def record(*sightings: Sighting) -> Record:
    made = Record(NOW - 3600)
    made.take(sightings, NOW)
    return made


def view(*listening: Listener, **more: Any) -> View:
    return View(listening=listening, site=SITE, now=NOW, **more)


def only(found: list[Row]) -> Row:
    assert len(found) == 1
    return found[0]


# --- the order ---


def test_what_would_hurt_stands_on_top_and_noise_at_the_bottom() -> None:
    """Listened for and used in-site; listened for by strangers; missed; noise."""
    scan = [seen(f"8.8.{n}.8", 23) for n in range(40)]
    found = rows(
        record(
            *scan,
            seen("10.0.0.9", 9000),  # nobody listens, but it is one of ours
            seen("8.8.8.8", 443),  # somebody listens, one packet from the internet
            seen("10.0.0.9", 8080),
            seen("8.8.8.8", 22, 500),  # insists, though nobody listens
        ),
        view(NGINX, Listener("tcp", 443, ANY)),
    )
    assert [(row.port[1], row.rank) for row in found] == [
        (8080, "used"),
        (443, "heard"),
        (9000, "missed"),
        (22, "missed"),
        (23, "noise"),
    ]


def test_of_used_ports_the_recently_used_comes_first_then_private_then_many() -> None:
    """In that order."""
    sockets = [Listener("tcp", port, ANY, port) for port in (1, 2, 3, 4)]
    found = rows(
        record(
            seen("10.0.0.9", 1, 99, idle=3000.0),
            seen("8.8.8.8", 2, 99),
            seen("10.0.0.9", 3, 2),
            seen("10.0.0.9", 4),
            seen("10.0.0.8", 4),
        ),
        replace(view(*sockets), now=NOW + 86_400 - 100),
    )
    assert [row.port[1] for row in found] == [4, 3, 2, 1]


@pytest.mark.parametrize(
    ("listening", "sighting", "rank"),
    [
        (NGINX, seen("8.8.8.8", packets=3), "used"),  # comes back
        (NGINX, seen("8.8.8.8", packets=2), "heard"),
        (replace(NGINX, address=ip_address("127.0.0.1")), seen("8.8.8.8"), "noise"),
        (replace(NGINX, address=ip_address("::1")), seen("8.8.8.8"), "noise"),
        (replace(NGINX, protocol="udp"), seen("8.8.8.8"), "noise"),
        (replace(NGINX, address=ip_address("10.0.0.5")), seen("fd00::9"), "used"),
        (NGINX, seen("10.0.0.9", 80, redirected=8080), "used"),
        (NGINX, seen("10.0.0.9", 8080, redirected=8081), "missed"),
        (NGINX, seen("10.0.0.9", 80, forwarded=True), "used"),
    ],
)
def test_who_listens_is_who_gets_the_packet(
    listening: Listener, sighting: Sighting, rank: str
) -> None:
    """Not on loopback, unless redirected; in a container without any socket here."""
    row = only(rows(record(sighting), view(listening)))
    assert row.rank == rank


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 9)), max_size=40))
def test_no_port_and_no_packet_is_lost_on_the_way(packets: list[tuple[int, int]]) -> None:
    """Rows and noise together are the record."""
    kept = record(
        *(seen(str(ip_address(source)), port, source % 12 + 1) for source, port in set(packets))
    )
    shown, noise = without_noise(kept, rows(kept, view(replace(NGINX, port=4))))
    total = sum(s.packets for use in kept.ports.values() for s in use.sources.values())
    assert len(shown) + noise.ports == len(kept.ports)
    assert sum(row.packets for row in shown) + noise.packets == total


def test_noise_is_counted_by_ports_and_by_different_sources() -> None:
    """A scanner of many ports is one source."""
    kept = record(seen("8.8.8.8", 21), seen("8.8.8.8", 23), seen("8.8.4.4", 23, 2))
    assert without_noise(kept, rows(kept, view())) == ([], Noise(2, 2, 4))


# --- the line ---


def loaded(line: str, tmp_path: Path) -> OpenPort:
    path = tmp_path / "neti.yml"
    path.write_text(f"registry: embedded:{tmp_path}/registry.db\nopen_ports:\n  - {line}\n")
    return load(path).open_ports[0]


@pytest.mark.parametrize(
    ("sightings", "line"),
    [
        ([seen("10.0.0.9")], "{port: 8080, from: [10.0.0.9]}"),
        ([seen("10.0.0.8"), seen("10.0.0.9")], "{port: 8080, from: [10.0.0.8/31]}"),
        (
            [seen("10.0.0.9"), seen("8.8.8.8")],
            "{port: 8080, from: [10.0.0.9]}",
        ),  # not the passer-by
        ([seen("fd00::1")], '{port: 8080, from: ["fd00::1"]}'),
        ([seen(f"10.0.{n}.1") for n in range(9)], "{port: 8080, from: [10.0.0.0/16]}"),
        ([seen(f"192.168.{n}.1") for n in range(0, 18, 2)], "8080"),  # many, and not of the site
        ([seen("8.8.8.8")], "8080"),
    ],
)
def test_the_line_names_sources_while_they_are_few(
    sightings: list[Sighting], line: str, tmp_path: Path
) -> None:
    """Merged; many of the site by the site's range; else everyone."""
    row = only(rows(record(*sightings), view(NGINX)))
    assert row.line == line
    assert loaded(line, tmp_path).first == 8080


def test_members_need_no_line_when_they_are_let_in_by_now() -> None:
    """But a member's address that is not let in does."""
    sources = [seen("10.0.0.8"), seen("10.0.0.9")]
    eight, nine = (ip_address(f"10.0.0.{n}").packed for n in (8, 9))
    members = {eight: Whose("web-1", True), nine: Whose("web-2", False)}
    row = only(rows(record(*sources), view(NGINX, members=members)))
    assert row.line == "{port: 8080, from: [10.0.0.9]}"
    members[nine] = Whose("web-2", True)
    assert rows(record(*sources), view(NGINX, members=members)) == []


def test_what_open_ports_cannot_say_has_no_line() -> None:
    """It knows TCP and UDP."""
    sctp = seen("10.0.0.9", protocol="sctp")
    assert only(rows(record(sctp), view(replace(NGINX, protocol="sctp")))).line is None


@hypothesis.settings(deadline=None)  # each example is a file that is loaded
@given(
    st.sampled_from(["tcp", "udp"]),
    st.integers(1, 65535),
    st.lists(
        st.ip_addresses().filter(lambda a: getattr(a, "ipv4_mapped", None) is None), unique=True
    ),
)
def test_the_line_is_a_configuration_that_opens_just_that(
    tmp_path_factory: pytest.TempPathFactory, protocol: Any, number: int, sources: list[Any]
) -> None:
    """Every line loads, for that port, that protocol and these networks."""
    networks = [ip_network(address) for address in sources]
    line = open_line((protocol, number), networks)
    opened = loaded(line, tmp_path_factory.mktemp("line"))
    assert opened == OpenPort(number, number, protocol, tuple(networks))


@given(
    st.sampled_from(["tcp", "udp"]),
    st.tuples(st.integers(1, 65535), st.integers(1, 65535)).map(sorted),
    st.lists(
        st.ip_addresses().filter(lambda a: getattr(a, "ipv4_mapped", None) is None), unique=True
    ),
)
@hypothesis.settings(deadline=None)
def test_what_is_open_already_is_written_as_it_was_meant(
    tmp_path_factory: pytest.TempPathFactory, protocol: Any, span: list[int], sources: list[Any]
) -> None:
    """Whoever pastes the whole line changes nothing of it."""
    first, last = span
    before = OpenPort(first, last, protocol, tuple(map(ip_network, sources)))
    assert loaded(open_entry(before), tmp_path_factory.mktemp("line")) == before


def test_the_line_to_paste_has_what_is_open_already() -> None:
    """Otherwise whoever pastes it would shut that."""
    row = Wanted(
        protocol="tcp",
        port=9090,
        rank="used",
        packets=1,
        sources=1,
        first=0.0,
        last=0.0,
        open_ports="{port: 9090, from: [10.0.0.1]}",
    )
    shown = Preview(agent=True, stage="shadow", since=0.0, now=0.0, ports=(row,))
    line = "              open_ports: [{port: 9090, from: [10.0.0.1]}]"
    assert line in list(lines(shown))
    more = replace(shown, open_ports=("80", '"53/udp"'))
    assert '              open_ports: [80, "53/udp", {port: 9090, from: [10.0.0.1]}]' in list(
        lines(more)
    )


@pytest.mark.parametrize(
    ("opened", "left"),
    [
        ((OpenPort(8080, 8080, "tcp"),), set()),
        ((OpenPort(8000, 8100, "tcp"),), set()),
        ((OpenPort(8080, 8080, "tcp", (ip_network("10.0.0.0/16"),)),), {"8.8.8.8"}),
        ((OpenPort(8080, 8080, "udp"),), {"10.0.0.9", "8.8.8.8"}),
        ((OpenPort(8081, 9000, "tcp"),), {"10.0.0.9", "8.8.8.8"}),
        ((OpenPort(8080, 8080, "tcp", (ip_network("2001:db8::/32"),)),), {"10.0.0.9", "8.8.8.8"}),
    ],
)
def test_what_open_ports_lets_in_by_now_is_named_once_and_not_listed(
    opened: tuple[OpenPort, ...], left: set[str]
) -> None:
    """An engineer who has pasted the line looks again: the port must be off the list."""
    kept = record(seen("10.0.0.9"), seen("8.8.8.8"))
    seen_by = view(NGINX, opened=opened)
    found = rows(kept, seen_by)
    assert {str(source.address) for row in found for source in row.top} == left
    text = "\n".join(lines(document(kept, seen_by)))
    assert ("Not listed: 8080/tcp. Everybody who came there is let in by now" in text) is (not left)


@pytest.mark.parametrize(
    ("forwarded", "way_in", "trusted", "left"),
    [
        (False, ["10.0.0.0/16"], [], {"8.8.8.8"}),
        (False, [], ["10.0.0.0/16"], {"8.8.8.8"}),
        (False, ["10.0.0.0/16"], ["8.8.8.0/24"], set()),
        (True, ["10.0.0.0/16"], ["8.8.8.0/24"], {"10.0.0.9"}),
        (False, ["2001:db8::/32"], ["2001:db8::/32"], {"10.0.0.9", "8.8.8.8"}),
    ],
)
def test_what_ssh_whitelist_and_trusted_let_in_by_now_is_not_listed(
    forwarded: bool, way_in: list[str], trusted: list[str], left: set[str]
) -> None:
    """Otherwise neti enforce refuses for a port that it would not shut. What is published by a
    container is no SSH of this host's."""
    kept = record(
        seen("10.0.0.9", 22, forwarded=forwarded), seen("8.8.8.8", 22, forwarded=forwarded)
    )
    opened = (OpenPort(22, 22, "tcp", tuple(map(ip_network, way_in))),) if way_in else ()
    found = rows(kept, view(way_in=opened, trusted=tuple(map(ip_network, trusted))))
    assert {str(source.address) for row in found for source in row.top} == left


def test_members_that_are_let_in_by_now_do_not_hide_who_is_not() -> None:
    """All hosts were in each other's shadow before they were members: that is over."""
    members = {ip_address("10.0.0.9").packed: Whose("web-2", True)}
    kept = record(seen("10.0.0.9", packets=500), seen("8.8.8.8"), seen("10.0.0.9", 9000))
    row = only(rows(kept, view(NGINX, members=members)))
    assert (row.rank, row.packets, row.sources) == ("heard", 1, 1)
    assert let_in_since(kept, view(NGINX, members=members)) == [("tcp", 9000)]


# --- as it is printed ---


def document(kept: Record, seen_by: View, *, everything: bool = False, **more: Any) -> Preview:
    found = rows(kept, seen_by)
    shown, noise = without_noise(kept, found)
    made = Preview(
        agent=True,
        stage="shadow",
        since=kept.since,
        now=NOW,
        ports=tuple(told(row, {}, {}, 0.0) for row in (found if everything else shown)),
        noise=noise,
        noise_listed=everything,
        let_in=tuple(port_name(port) for port in let_in_since(kept, seen_by)),
    )
    return replace(made, **more)


def test_a_member_in_the_shadow_is_explained() -> None:
    """Whose address it is, and why it is there at all."""
    packed = ip_address("10.0.0.9").packed
    for admitted, words in (
        (False, "member web-2, but this address of it is not believed or not let in"),
        (None, "member web-2, only the agent knows whether it is let in"),
    ):
        members = {packed: Whose("web-2", admitted)}
        kept = record(seen("10.0.0.9"))
        assert words in "\n".join(lines(document(kept, view(NGINX, members=members))))


def test_what_required_encryption_refuses_is_not_offered_for_opening() -> None:
    """The line would let in, in the clear, just what is to come through the tunnel. Others who
    came to that port are offered as before, and so are strangers by a public address."""
    nine, eight = ip_address("10.0.0.9").packed, ip_address("10.0.0.8").packed
    members = {nine: Whose("web-2", False, "clear")}
    (row,) = rows(record(seen("10.0.0.9")), view(NGINX, members=members))
    assert row.line is None
    shown = "\n".join(lines(document(record(seen("10.0.0.9")), view(NGINX, members=members))))
    assert "member web-2, in the clear, which required encryption refuses" in shown
    assert "open_ports:" not in shown
    both = record(seen("10.0.0.9"), seen("10.0.0.8"))
    (row,) = rows(both, view(NGINX, members=members))
    assert row.line == "{port: 8080, from: [10.0.0.8]}"
    members[eight] = Whose("web-3", False, "outside")
    (row,) = rows(both, view(NGINX, members=members))
    assert row.line == "{port: 8080, from: [10.0.0.8]}"


STRANGERS = [f"192.168.{n}.1" for n in range(0, 18, 2)]  # too many to name, and not of the site
OWN_SITE = [f"10.0.{n}.1" for n in range(9)]


@pytest.mark.parametrize(
    ("member", "others"),
    [
        (seen("203.0.113.7", packets=2), []),  # it came seldom
        (seen("203.0.113.7", packets=2), STRANGERS),
        (seen("203.0.113.7", packets=9), STRANGERS),
        (seen("10.0.77.7"), OWN_SITE),  # in the ranges that hold them
    ],
)
def test_no_line_lets_in_by_the_way_what_must_come_encrypted(
    member: Sighting, others: list[str]
) -> None:
    """A line for everybody, or for a whole range, lets that member in too."""
    kept = record(member, *map(seen, others))
    (row,) = rows(kept, view(NGINX))
    assert row.line is not None
    members = {member.source.packed: Whose("vpc-1", False, "clear")}
    (row,) = rows(kept, view(NGINX, members=members))
    assert row.line is None
    members = {member.source.packed: Whose("vpc-1", False)}
    (row,) = rows(kept, view(NGINX, members=members))
    assert row.line is not None


def test_the_head_says_the_stage_and_since_when() -> None:
    """In shadow that nothing is dropped; enforced that it is; and when the agent is away."""
    kept = record(seen("10.0.0.9"))

    def head(**more: Any) -> str:
        return "\n".join(list(lines(document(kept, view(NGINX), **more)))[:4])

    assert "nothing is dropped" in head()
    assert "Recorded since 20" in head()
    assert "(60 min)" in head()
    assert "new connections like these are refused" in head(stage="enforced")
    assert "nothing is recorded" in head(stage="down")
    assert "The agent does not answer" in head(agent=False, stage=None)
    assert "Only root can see" in head(agent=False, stage=None)
    assert "problem: torn" in head(faults=["torn"])


def test_noise_is_one_line_unless_it_is_asked_for() -> None:
    """One line with its size, or one for each port."""
    kept = record(seen("10.0.0.9"), *(seen(f"8.8.{n}.8", n + 1) for n in range(50)))
    text = "\n".join(lines(document(kept, view(NGINX))))
    assert "Noise: 50 packets from 50 sources to 50 ports" in text
    assert "8.8.3.8" not in text
    everything = "\n".join(lines(document(kept, view(NGINX), everything=True)))
    assert "8.8.3.8" in everything
    assert "Noise:" not in everything


def test_accepted_ports_are_marked() -> None:
    """In the listing and at its end, also when nothing came to them."""
    accepted = {("tcp", 8080): NOW, ("udp", 53): NOW}
    kept = record(seen("10.0.0.9"))
    shown = document(kept, view(NGINX, accepted=accepted), accepted={"8080/tcp": 1, "53/udp": 1})
    text = "\n".join(lines(shown))
    assert "nginx (pid 812, nginx.service)   (accepted as lost)" in text
    assert "Accepted as lost: 8080/tcp, 53/udp." in text


def test_names_come_from_the_hosts_file(tmp_path: Path) -> None:
    """The first name of an address; what is no line of hosts(5) is passed over."""
    hosts = tmp_path / "hosts"
    hosts.write_text(
        "127.0.0.1 localhost\n10.0.0.9\tcron cron.example # job\n\nnonsense\n10.0.0.8\n"
    )
    names = hosts_file_names(hosts)
    assert names == {ip_address("127.0.0.1"): "localhost", ip_address("10.0.0.9"): "cron"}
    assert hosts_file_names(tmp_path / "missing") == {}

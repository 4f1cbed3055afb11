"""The way out by a few netlink messages, on a real kernel: no library, no listing."""

import subprocess

import pytest
from tests.support.netns import Net

from neti.dataplane import way_out
from neti.dataplane.way_out import Held

pytestmark = pytest.mark.kernel

TABLE = """
table inet neti {
    map enforce {
        typeof meta nfproto : verdict
        flags timeout
        elements = { ipv4 : drop, ipv6 : drop }
    }
    set peers4 {
        type ipv4_addr
        elements = { 10.0.0.9 }
    }
    chain judge {
        meta nfproto vmap @enforce
    }
    chain input {
        type filter hook input priority 10; policy accept;
        ip saddr @peers4 accept
        jump judge
    }
}
table inet other {
    chain c {
        type filter hook input priority 0; policy accept;
    }
}
"""


def nft(net: Net, text: str) -> None:
    words = ["ip", "netns", "exec", net.host, "nft", "-f", "-"]
    subprocess.run(words, input=text, text=True, check=True)


def listed(net: Net) -> str:
    words = ["ip", "netns", "exec", net.host, "nft", "list", "ruleset"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def routes(net: Net) -> str:
    words = ["ip", "-N", "-n", net.host, "-4", "route", "show", "table", "all"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def test_disarming_empties_the_map_and_leaves_a_mark(net: Net) -> None:
    nft(net, TABLE)
    assert net.inside(net.host, way_out.held) == Held(drops=True)
    assert net.inside(net.host, way_out.disarm) is True
    text = listed(net)
    assert ": drop" not in text
    assert "10.0.0.9" in text
    assert net.inside(net.host, way_out.held) == Held(relaxed=True)
    assert net.inside(net.host, way_out.disarm) is True  # again changes nothing
    assert net.inside(net.host, way_out.held) == Held(relaxed=True)


def test_a_trial_is_told_by_its_time_out(net: Net) -> None:
    nft(net, TABLE.replace("ipv4 : drop, ipv6 : drop", "ipv4 timeout 60s : drop"))
    assert net.inside(net.host, way_out.held) == Held(drops=True, trial=True)
    assert net.inside(net.host, way_out.disarm) is True
    assert net.inside(net.host, way_out.held) == Held(relaxed=True)


@pytest.mark.parametrize("end", ["", " timeout 60s"])
def test_that_encryption_is_required_is_told_too(net: Net, end: str) -> None:
    """By the same way, and whether it has an end."""
    flags = "flags timeout; " if end else ""
    nft(net, TABLE)
    nft(
        net,
        f"add set inet neti require {{ type nf_proto; {flags}}}\n"
        f"add element inet neti require {{ ipv4{end}, ipv6{end} }}\n",
    )
    on_trial = bool(end)
    held = net.inside(net.host, way_out.held)
    assert held == Held(drops=True, requires=True, requires_on_trial=on_trial)
    assert net.inside(net.host, way_out.disarm) is True
    assert net.inside(net.host, way_out.held) == Held(relaxed=True)


@pytest.mark.parametrize("encrypts", [False, True])
def test_what_is_on_trial_for_members_ends_too(net: Net, encrypts: bool) -> None:
    nft(net, TABLE)
    if encrypts:
        nft(net, "add set inet neti require { type nf_proto; }\n")
    nft(
        net,
        "add map inet neti narrowed { type nf_proto : verdict; flags timeout; }\n"
        "add element inet neti narrowed { ipv4 timeout 60s : drop, ipv6 timeout 60s : drop }\n",
    )
    assert net.inside(net.host, way_out.disarm) is True
    assert ": drop" not in listed(net)
    assert net.inside(net.host, way_out.held) == Held(relaxed=True)


def test_a_map_of_another_make_is_emptied_without_the_mark(net: Net) -> None:
    nft(
        net,
        "table inet neti {\nmap enforce {\ntype mark : verdict\nelements = { 1 : drop }\n}\n}\n",
    )
    assert net.inside(net.host, way_out.disarm) is True
    assert ": drop" not in listed(net)


def test_without_a_table_or_map_there_is_nothing_to_do(net: Net) -> None:
    assert net.inside(net.host, way_out.disarm) is False
    assert net.inside(net.host, way_out.remove_table) is False
    assert net.inside(net.host, way_out.held) is None
    nft(net, "table inet neti { }")
    assert net.inside(net.host, way_out.disarm) is False
    assert net.inside(net.host, way_out.held) == Held()


def test_the_table_goes_and_others_stay(net: Net) -> None:
    nft(net, TABLE)
    assert net.inside(net.host, way_out.remove_table) is True
    text = listed(net)
    assert "neti" not in text
    assert "table inet other" in text


def test_the_mark_of_down_is_an_empty_dormant_table(net: Net) -> None:
    assert net.inside(net.host, way_out.has_down_mark) is False
    nft(net, TABLE)
    assert net.inside(net.host, way_out.has_down_mark) is False
    net.inside(net.host, way_out.remove_table)
    net.inside(net.host, way_out.leave_down_mark)
    assert net.inside(net.host, way_out.has_down_mark) is True
    assert net.inside(net.host, way_out.remove_table) is True


def test_only_routes_with_our_number_go_whatever_their_table_is(net: Net) -> None:
    for words in (
        ["192.168.0.0/18", "dev", "lo", "protocol", "78"],
        ["192.168.9.0/24", "dev", "lo", "protocol", "78", "table", "500", "metric", "7"],
        ["192.168.77.0/24", "dev", "lo", "protocol", "79"],
    ):
        subprocess.run(["ip", "-n", net.host, "route", "add", *words], check=True)
    led = net.inside(net.host, way_out.remove_routes)
    assert sorted(map(str, led)) == ["192.168.0.0/18", "192.168.9.0/24"]
    left = routes(net)
    assert "proto 78" not in left
    assert "192.168.77.0/24" in left
    assert net.inside(net.host, way_out.remove_routes) == []

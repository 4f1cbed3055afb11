"""That the benchmarks run and say what they measured; never how fast anything is."""

import os
import sys
import time
from ipaddress import IPv4Address
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from benchmarks import (
    audit,
    change,
    connect_hook,
    docs,
    embedded,
    encrypted_fleet,
    gateway,
    gateway_road,
    pipeline2014,
    proofs,
    whole_agents,
    wireguard_peers,
)
from benchmarks.figures import Line, Report, Times, once, significant
from benchmarks.fleet import member, moved
from benchmarks.kernel import NotInTime
from benchmarks.kernels import Kernels
from benchmarks.pairs import SERVER, pairs
from benchmarks.process import run_inside
from benchmarks.scale import TINY
from benchmarks.svg import Bars, Lines
from tests.support.netns import require_root

from neti.dataplane import other_table
from neti.errors import NetiError
from neti_lab import namespaces
from neti_lab.state import open_state
from neti_lab.wiring import Node, Wiring
from neti_lab.zookeeper import require_package


def test_a_table_says_the_ratio_of_the_medians_first() -> None:
    report = Report("x")
    lines = [Line("join", Times([0.002, 0.001, 0.003]), Times([0.5])), Line("alone", once(1), None)]
    report.compare(lines, ours="Neti", other="2014")
    assert report.lines[2].split() == [
        *("0.00400", "join", "ms", "2.00", "3.00", "3", "500", "-", "1"),
    ]
    assert report.lines[3].split() == ["-", "alone", "ms", "1,000", "-", "1", "-", "-", "-"]


def test_numbers_have_three_digits_that_mean_something() -> None:
    assert [significant(n) for n in (0, 1234.5, 12.345, 1.2345, 0.12345, 0.0012345)] == [
        *("0", "1,234", "12.3", "1.23", "0.123", "0.00123"),
    ]


@pytest.mark.parametrize(
    "plot",
    [
        Bars("a < b", "ms", [("1,000", {"Neti": 1.2, "2014": 500.0})], logarithmic=True),
        Bars("nothing", "ms", [("1,000", {"Neti": 0.0})]),
        Lines("growth", "ms", "members", {"Neti": [(1, 2.0)], "2014": [(1, 3.0), (10, 30.0)]}),
    ],
)
def test_a_drawing_is_a_document(plot: Bars | Lines) -> None:
    assert ElementTree.fromstring(plot.svg()).tag.endswith("svg")


def test_a_page_is_changed_between_its_marks_only(tmp_path: Path) -> None:
    page = tmp_path / "benchmarks.md"
    page.write_text("before\n<!-- change -->\nold\n<!-- end change -->\nafter\n")
    drawing = Bars("t", "ms", [("x", {"Neti": 1.0})])
    for _ in range(2):
        docs.put(page, "change", ["1 ms  "], {"change-x": drawing})
    image = "![t](benchmarks/change-x.svg)"
    block = f"<!-- change -->\n```\n1 ms\n```\n\n{image}\n<!-- end change -->"
    assert page.read_text() == f"before\n{block}\nafter\n"
    assert (tmp_path / "benchmarks" / "change-x.svg").exists()
    with pytest.raises(NetiError, match="no place"):
        docs.put(page, "packets", [], {})


def test_a_member_that_moves_twice_is_back_and_newer() -> None:
    once_moved = moved(member(3))
    assert once_moved.private != member(3).private
    again = moved(once_moved)
    assert (again.private, again.public) == (member(3).private, member(3).public)
    assert again.generation == 2


def test_the_2014_rules_have_one_translation_for_each_member() -> None:
    text = pipeline2014.iptables_text([("100.64.0.9", "10.0.0.9")], reject_all=True)
    assert "-A OUTPUT -d 100.64.0.9/32 -j DNAT --to-destination 10.0.0.9\n" in text
    assert ":INPUT DROP" in text
    swapped = pipeline2014.ipset_text([str(IPv4Address("10.0.0.9"))])
    assert swapped.splitlines()[1:] == [
        "add neti-new 10.0.0.9", "swap neti-new neti", "destroy neti-new",
    ]  # fmt: skip


@pytest.mark.kernel
def test_one_rule_is_all_that_its_way_needs_to_lead_to_the_server() -> None:
    require_root()
    with pairs(["dnat"]) as made:
        pair = made["dnat"]
        assert pair.target == str(SERVER.overlay)
        ask = pair.inside("client", [sys.executable, "-m", "benchmarks.talk", "peer", pair.target])
        assert run_inside([*ask, "-"]).output.strip() == pair.target


@pytest.mark.kernel
def test_many_kernels_have_an_address_when_the_last_of_them_has() -> None:
    require_root()
    names = [f"neti-bench-{os.getpid()}-k{number}" for number in range(3)]
    overlay, other = IPv4Address("100.64.0.9"), IPv4Address("100.64.0.10")

    def add(name: str, address: IPv4Address) -> None:
        rules = "add table inet neti; add map inet neti overlay { type ipv4_addr : ipv4_addr; }"
        rules += f"; add element inet neti overlay {{ {address} : 10.0.0.9 }}"
        namespaces.call_inside(name, lambda: other_table.write(rules))

    try:
        nodes = tuple(Node(namespace=name) for name in names)
        namespaces.build(Wiring(create=tuple(names), links=(), nodes=nodes))
        with Kernels(names) as kernels:
            kernels.watch(overlay)
            began = time.perf_counter()
            for name in names:
                add(name, overlay)
            seen = kernels.seen(seconds=10)
            assert set(seen) == set(names)
            assert all(began < at for at in seen.values())
            kernels.watch(other)
            add(names[0], other)
            with pytest.raises(NotInTime, match="2 kernels"):
                kernels.seen(seconds=0.1)
    finally:
        namespaces.delete(names)


@pytest.mark.kernel
def test_a_lab_of_whole_agents_is_gone_when_measuring_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    require_root()

    def fail(_: object) -> None:
        raise NetiError("as it happens")

    monkeypatch.setattr(whole_agents, "_until_idle", fail)
    with pytest.raises(NetiError, match="as it happens"):
        whole_agents.measure(TINY)
    name = f"bench{os.getpid()}"
    assert not namespaces.existing(f"neti-{name}-")
    assert not open_state(name).exists


@pytest.mark.kernel
@pytest.mark.zookeeper
@pytest.mark.parametrize(
    "row",
    [
        *(audit, change, connect_hook, embedded, encrypted_fleet, gateway, gateway_road, proofs),
        wireguard_peers,
    ],
)
def test_a_row_runs_in_its_smallest_form(row: ModuleType) -> None:
    require_root()
    require_package()
    report = row.run(TINY)
    assert len(report.lines) > 2

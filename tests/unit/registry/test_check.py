"""What 'neti registry check' says of a server, from the server's words alone."""

import json
import re
import shlex
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.cli.registry import _print_findings
from neti.model.entry import HOST_ID
from neti.registry.zookeeper.check_judge import _goodbyes, _halves, _lasting, judge_tree
from neti.registry.zookeeper.check_servers import _version
from neti.registry.zookeeper.check_tree import Tree
from neti.registry.zookeeper.finding import CODES, Finding, accepted, joined
from neti.registry.zookeeper.layout import Layout

SRVR = "Zookeeper version: {}-5a02a05eddb59aee6ac762f7ea82e92a68eb9c0f, built on 2022-02-25"


def said(version: str, told: bool | None = None) -> list[tuple[str, str]]:
    found = _version("zk1:2281", SRVR.format(version), lambda: told)
    return [(one.severity, one.sentence) for one in found]


@pytest.mark.parametrize(("told", "words"), [(True, "tried here, and open"), (None, "could not")])
def test_a_known_hole_is_named_and_who_may_have_mended_it(told: bool | None, words: str) -> None:
    """A server tells its maker's version and not that of its package."""
    ((severity, sentence),) = said("3.8.0", told)
    assert severity == "warning"
    assert "CVE-2024-23944" in sentence
    assert words in sentence
    assert "deb12u2" in sentence


def test_a_hole_that_was_tried_and_is_mended_is_a_note() -> None:
    """Debian's package keeps its number."""
    ((severity, sentence),) = said("3.8.0", told=False)
    assert severity == "note"
    assert "tried here, and mended" in sentence


def test_versions_without_it_are_not_mentioned() -> None:
    assert said("3.8.4", told=True) == said("3.9.2", told=True) == []


def test_the_same_at_three_servers_is_one_finding_and_may_be_accepted() -> None:
    """By its code; a fault is not."""
    found = [Finding("warning", f"zk{n}:2181", "is old", "CVE-2024-23944") for n in (1, 2, 3)]
    found = [Finding("note", "x", "y"), *found, Finding("fault", "z", "is open", "open-plain")]
    assert [(one.severity, one.where) for one in joined(found)] == [
        ("fault", "z"),
        ("warning", "zk1:2181, zk2:2181, zk3:2181"),
        ("note", "x"),
    ]
    now = joined(accepted(found, ["CVE-2024-23944", "open-plain"]))
    assert [one.severity for one in now] == ["fault", "note", "note"]
    assert [one.sentence for one in now if one.code == "CVE-2024-23944"] == ["is old (accepted)"]
    assert "open-plain" not in CODES


def test_a_registration_without_a_session_is_a_fault() -> None:
    """It keeps its host out, or speaks for it, for good; junk is named elsewhere."""
    tree = _tree(
        agents=frozenset({"web-1", "web-2"}),
        sessions={
            "/neti/agents/web-1": 0,
            "/neti/agents/web-2": 7,
            "/neti/ip-map/1.0a000001c6336401c0a80001.5.ec2.db-1": 0,
            "/neti/ip-map/junk": 0,
        },
    )
    found = list(_lasting(tree))
    assert [(one.severity, one.where) for one in found] == [
        ("fault", "/neti/agents/web-1"),
        ("fault", "/neti/ip-map/1.0a000001c6336401c0a80001.5.ec2.db-1"),
    ]
    assert "keeps the host web-1 from registering" in found[0].sentence


def test_findings_are_counted_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    _print_findings(
        [Finding("warning", "zk1", "is old"), *[Finding("note", "zk1", "x")] * 2], False
    )
    assert capsys.readouterr().out.splitlines()[-1] == "0 faults, 1 warning, 2 notes"


@pytest.mark.parametrize(
    ("goodbye", "named"), [("left.zz.db-1", True), ("left.5.db-1", True), ("left.4.db-1", False)]
)
def test_a_goodbye_beside_its_hosts_entry_is_named(goodbye: str, named: bool) -> None:
    """One from before a return is of an older generation; so is nobody's concern."""
    tree = _tree(names=("1.0a000001c6336401c0a80001.5.ec2.db-1", "left.7.gone-1", goodbye))
    assert [one.where for one in _goodbyes(tree)] == ([f"/neti/ip-map/{goodbye}"] if named else [])


IDS = st.one_of(
    st.sampled_from(["x';reboot;'", "$(reboot)", "i-0bbb ", "--help", "\u202eabc", "a\nb", "db-1"]),
    st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1),
)


@given(says=IDS, host_id=IDS)
def test_no_text_that_another_wrote_gets_into_a_command_but_as_one_inert_word(
    says: str, host_id: str
) -> None:
    """Whatever a half lease says, and whatever a node is called."""
    overlay = IPv4Address("192.168.0.1")
    paths = [f"/neti/id-to-ip/{host_id}", f"/neti/agents/{host_id}", f"/neti/ip-map/{host_id}"]
    known = HOST_ID.fullmatch(host_id) is not None
    tree = _tree(
        by_overlay={overlay: says},
        by_id={host_id: None} if known else {},
        names=(host_id,),
        misnamed=() if known else (paths[0], paths[1]),
        sessions=dict.fromkeys(paths, 0),
        below={paths[0]: 1},
        unread=frozenset({paths[1]}),
        acls={path: [] for path in LAYOUT.parents()},
        records={host_id: None} if known else {},
    )
    for one in judge_tree(tree, secure=True):
        words = shlex.split(one.command())
        assert words[:3] in ([], ["neti", "registry", "remove"], ["neti", "lease", "release"])
        if words[:3] == ["neti", "lease", "release"]:
            assert HOST_ID.fullmatch(words[3])
        for word in words:  # one that was too long has an ellipsis in its middle
            assert re.fullmatch(r"[A-Za-z0-9._~/+%-]*(…[A-Za-z0-9._~/+%-]*)?", word)


def test_a_half_lease_that_can_be_given_up_is(capsys: pytest.CaptureFixture[str]) -> None:
    tree = _tree(by_overlay={IPv4Address("192.168.0.1"): "a"}, by_id={"b": None})
    assert [(one.where, one.command()) for one in _halves(tree) if one.severity == "fault"] == [
        ("/neti/ip-to-id/192.168.0.1", "neti registry remove /neti/ip-to-id/192.168.0.1"),
        ("/neti/id-to-ip/b", "neti lease release b"),
    ]


def test_thirty_thousand_nodes_of_one_member_bury_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The gravest first, the first ten of a kind, and how many more there are; JSON has all."""
    cheap = [
        Finding("fault", f"/neti/agents/j{n}", f"keeps j{n} out", "no-session", nodes=(f"/j{n}",))
        for n in range(30_000)
    ]
    found = joined([*cheap, Finding("fault", "zk1:2181", "lets everyone in", "open-plain")])
    _print_findings(found, False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "fault    zk1:2181: lets everyone in"
    assert len(lines) == 1 + 2 * 10 + 1 + 1
    assert lines[-2].strip() == "and 29990 more like this: --json lists them all"
    assert lines[-1] == "30001 faults, 0 warnings, 0 notes"
    _print_findings(found, True)
    assert len(json.loads(capsys.readouterr().out)["findings"]) == 30_001


LAYOUT = Layout.below(
    "/neti",
    iptoid="ip-to-id",
    idtoip="id-to-ip",
    ip_map="ip-map",
    interval="interval",
    maxchange="maxchange",
)


def _tree(**parts: Any) -> Tree:
    nothing: dict[str, Any] = {
        "by_overlay": {},
        "by_id": {},
        "names": (),
        "agents": frozenset(),
        "acls": {},
        "sessions": {},
        "below": {},
        "unread": frozenset(),
        "misnamed": (),
        "clock_ahead": None,
    }
    return Tree(layout=LAYOUT, **{**nothing, **parts})

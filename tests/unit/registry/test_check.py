"""What 'neti registry check' says of a server, from the server's words alone."""

import pytest

from neti.cli.registry import _print_findings
from neti.registry.zookeeper.check import (
    CODES,
    Finding,
    Tree,
    _goodbyes,
    _lasting,
    _version,
    accepted,
    joined,
)
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
        without_session=(
            "/neti/agents/web-1",
            "/neti/ip-map/1.0a000001c6336401c0a80001.5.ec2.db-1",
            "/neti/ip-map/junk",
        )
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


def _tree(*, names: tuple[str, ...] = (), without_session: tuple[str, ...] = ()) -> Tree:
    return Tree(
        layout=Layout.below(
            "/neti",
            iptoid="ip-to-id",
            idtoip="id-to-ip",
            ip_map="ip-map",
            interval="interval",
            maxchange="maxchange",
        ),
        by_overlay={},
        by_id={},
        names=names,
        agents=frozenset(),
        acls={},
        without_session=without_session,
        clock_ahead=None,
    )

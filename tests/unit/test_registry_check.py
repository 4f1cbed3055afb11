"""What 'neti registry check' says of a server, from the server's words alone."""

import pytest

from neti.cli.registry import _print_findings
from neti.registry.zookeeper_check import Finding, Tree, _goodbyes, _version
from neti.registry.zookeeper_layout import Layout

SRVR = "Zookeeper version: {}-5a02a05eddb59aee6ac762f7ea82e92a68eb9c0f, built on 2022-02-25"


def said(version: str) -> list[tuple[str, str]]:
    found = _version("zk1:2281", SRVR.format(version))
    return [(one.severity, one.sentence) for one in found]


def test_a_known_hole_is_named_and_who_may_have_mended_it() -> None:
    """A server tells its maker's version and not that of its package."""
    ((severity, sentence),) = said("3.8.0")
    assert severity == "warning"
    assert "CVE-2024-23944" in sentence
    assert "unless your distribution has put the fix in" in sentence
    assert "deb12u2" in sentence


def test_versions_without_it_are_not_mentioned() -> None:
    assert said("3.8.4") == said("3.9.2") == []


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
    tree = Tree(
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
        names=("1.0a000001c6336401c0a80001.5.ec2.db-1", "left.7.gone-1", goodbye),
        agents=frozenset(),
        acls={},
        clock_ahead=None,
    )
    assert [one.where for one in _goodbyes(tree)] == ([f"/neti/ip-map/{goodbye}"] if named else [])

"""What 'neti registry check' says of the rights of documents and reports, from the tree alone."""

from typing import Any

import pytest
from kazoo.security import ACL, Id
from tests.unit.registry.test_check_records import CHIEF, codes, tree

from neti.registry.zookeeper import rights
from neti.registry.zookeeper.check_documents import judge_documents
from neti.registry.zookeeper.check_judge import judge_tree

HOST = Id("x509", "CN=a")
READ_WRITE = rights.READ | rights.WRITE
BOSS = ACL(rights.ALL, Id("x509", CHIEF))
OWN = ACL(READ_WRITE, HOST)
ODD = [("document-rights", "/neti")]


def judged(path: str, acl: list[Any], **parts: Any) -> list[tuple[str, str]]:
    host_id = frozenset({"a"})
    found = tree({}, {path: acl, **parts}, agents=host_id, reports=host_id)
    return codes(list(judge_documents(found)))


@pytest.mark.parametrize(
    ("path", "made"),
    [
        ("/neti/agents/a", [BOSS, OWN, *rights.READ_ONLY]),
        ("/neti/reports/a", [BOSS, OWN]),
    ],
)
def test_what_an_agent_makes_is_nothing_to_speak_of_and_more_is_a_fault(
    path: str, made: list[ACL]
) -> None:
    assert judged(path, made) == []
    assert judged(path, [*made, ACL(rights.READ, Id("x509", "CN=b"))]) == ODD
    assert judged(path, [*made, ACL(rights.ALL, Id("x509", "CN=former"))]) == ODD
    assert judged(path, [*made, ACL(rights.READ, Id("ip", "10.0.0.1"))]) == ODD
    assert judged(path, [*made, ACL(rights.CREATE, rights.READ_ONLY[0].id)]) == ODD


def test_a_report_that_everybody_reads_is_a_fault_and_one_that_an_operator_does_not_a_warning() -> (
    None
):
    assert judged("/neti/reports/a", [BOSS, OWN, *rights.READ_ONLY]) == ODD
    both = rights.closed([CHIEF, "CN=bob"], members=rights.READ)
    parts = {"/neti/ip-map": both}
    assert judged("/neti/reports/a", [BOSS, OWN], **parts) == [("report-rights", "/neti/reports")]
    assert judged("/neti/agents/a", [BOSS, OWN, *rights.READ_ONLY], **parts) == []


def test_where_there_are_no_rights_or_another_finding_tells_this_one_is_silent() -> None:
    for acl in (list(rights.OPEN), [OWN], [ACL(rights.ALL, HOST)]):
        assert judged("/neti/reports/a", acl) == []
    assert judged("/neti/reports/a", [OWN, BOSS], **{"/neti/ip-map": list(rights.OPEN)}) == []


def test_reports_that_a_later_operator_may_not_read_are_one_finding_and_not_for_deletion() -> None:
    hosts = [f"h{number}" for number in range(40)]
    paths = {f"/neti/reports/{host_id}" for host_id in hosts}
    unread = frozenset({*paths, "/neti/reports/gone"})
    vouched = dict.fromkeys(hosts, "")
    found = judge_tree(tree({}, {}, unread=unread, vouched=vouched), secure=True)
    those, other = [one for one in found if one.code == "unreadable"]
    assert those.where == "/neti/reports/gone"
    assert (other.where, other.command()) == ("/neti/reports", "neti registry init")
    assert other.sentence.startswith("40 reports of registered hosts may not be read")
    assert set(other.nodes) == paths

"""``neti verify --ports`` with real packets: what a member's agent says of its connections to this
host is what the host's rules do, and what ``neti explain`` says of them.

B runs the command; its ``member_ports`` are in force. A's responder connects to it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from typing import Any

import pytest
from tests.support.netns import Server, require_root
from tests.support.tunnel_net import A, B, TwoSites, nft, two_sites

from neti.agent.responder import Responder
from neti.model import Encrypt, Road
from neti.model.document import plain
from neti.model.groups import GroupLine, Groups, MemberPort, MemberPorts
from neti.monitoring.explained import Answer, Pair
from neti.monitoring.status import Registry, Status
from neti.oneshot.verify_ports import Asked, PortRow, verify_ports
from neti.stage.explain import Known, explain

pytestmark = pytest.mark.kernel

OPEN, SHUT, NOBODY = 5432, 40001, 5433
PORTS: MemberPorts = (MemberPort(("app",), "tcp", OPEN, NOBODY),)


@pytest.fixture(name="sites")
def _sites() -> Iterator[TwoSites]:
    require_root()
    with two_sites() as made:
        made.b.ports_in_force = PORTS
        made.b.configured(Encrypt.PREFER, member_ports=PORTS)
        made.b.enforce()
        groups = Groups({"app": (GroupLine(A.site),)}, edition=1)
        made.b.members.group_members(groups, now=0.0)
        made.b.reconciler.commit(made.b.members.elements)
        yield made


@contextmanager
def answering(sites: TwoSites) -> Iterator[None]:
    """A's agent, as far as it answers others."""

    def overlay_of(_source: IPv4Address, host_id: str) -> IPv4Address | None:
        return IPv4Address(B.overlay) if host_id == B.site else None

    def started() -> Responder:
        made = Responder(7077, A.site, lambda _source: True, overlay_of=overlay_of)
        made.start()  # its threads are in the namespace of this one
        return made

    responder = sites.a.inside(started)
    try:
        yield
    finally:
        responder.close()


def verified(sites: TwoSites, road: Road, *groups: str) -> dict[int, PortRow]:
    b = sites.b
    source = IPv4Address(A.overlay if road is Road.PREFERRED else A.public)

    def predicted(ids: list[str], names: list[str]) -> Any:
        return {"pairs": [plain(pair(int(n.partition("/")[0]))) for _ in ids for n in names]}

    def pair(port: int) -> Pair:
        found = explain(
            Known(
                settings=b.settings,
                source=source,
                proto="tcp",
                port=port,
                ids=(A.site,),
                groups=frozenset(groups),
                in_force=PORTS,
                stage="enforced",
            )
        )
        said = Answer(address=str(source), admitted=found.admitted, by=found.by)
        return Pair(
            source=A.site,
            dest="here",
            protocol="tcp",
            port=port,
            here=True,
            stage="enforced",
            answers=(said,),
        )

    itself = Status(
        version="1",
        id=B.site,
        site=B.site,
        private=str(b.host.private),
        public=B.public,
        overlay=B.overlay,
        stage="enforced",
        registry=Registry(fresh=True),
    )
    member = {"id": A.site, "site": A.site, "overlay": A.overlay, "road": road.value}
    ports = tuple(("tcp", port) for port in (OPEN, SHUT, NOBODY))
    asked = Asked(b.settings, itself, [member], (), ports, 10.0)
    found = b.inside(lambda: verify_ports(asked, predicted))
    return {row.port: row for row in found.rows}


@pytest.mark.parametrize("road", [Road.PLAIN, Road.PREFERRED])
def test_what_a_member_says_is_what_the_rules_do(sites: TwoSites, road: Road) -> None:
    """And what this host finds at the member's end is its own."""
    if road is Road.PREFERRED:
        sites.both(road)
    for port in (OPEN, SHUT):
        Server(sites.b.net, sites.b.net.host, port)
    Server(sites.a.net, sites.a.net.host, SHUT)
    with answering(sites):
        rows = verified(sites, road, "app")
    assert {port: (row.admitted, row.inward) for port, row in rows.items()} == {
        OPEN: (True, "answered"),
        SHUT: (False, "silent"),
        NOBODY: (True, "refused"),
    }
    assert {port: row.outward for port, row in rows.items()} == {
        OPEN: "refused",
        SHUT: "answered",
        NOBODY: "refused",
    }
    assert not any(row.disagrees or row.unknown for row in rows.values())


def test_a_rule_of_another_program_disagrees(sites: TwoSites) -> None:
    Server(sites.b.net, sites.b.net.host, OPEN)
    other = (
        "table inet other {{ chain in {{ type filter hook input priority 5; tcp dport {} {}; }}; }}"
    )
    nft(sites.b.net.host, other.format(OPEN, "drop"))
    with answering(sites):
        row = verified(sites, Road.PLAIN, "app")[OPEN]
        assert (row.admitted, row.inward) == (True, "silent")
        assert "what else drops on the way" in row.disagrees
        nft(sites.b.net.host, "delete table inet other")
        nft(sites.b.net.host, other.format(OPEN, "reject with tcp reset"))
        row = verified(sites, Road.PLAIN, "app")[OPEN]
        assert (row.admitted, row.inward) == (True, "refused")
        assert "and something listens there" in row.disagrees


def test_rules_that_the_kernel_lacks_disagree(sites: TwoSites) -> None:
    """The agent believes that the member is in no group, and the kernel lets it in."""
    Server(sites.b.net, sites.b.net.host, OPEN)
    with answering(sites):
        row = verified(sites, Road.PLAIN)[OPEN]
    assert (row.admitted, row.inward) == (False, "answered")
    assert "whether the kernel has the rules" in row.disagrees


def test_who_does_not_answer_is_not_known(sites: TwoSites) -> None:
    row = verified(sites, Road.PLAIN, "app")[OPEN]
    assert (row.admitted, row.inward, row.outward) == (True, None, "refused")
    assert "its agent cannot be asked: refused" in row.unknown

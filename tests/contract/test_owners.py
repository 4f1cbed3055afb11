"""What every registry with rights promises where two certificates speak of one host."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from tests.support.recorder import Recorder
from tests.support.worlds import ClosedWorld

from neti.errors import IdentityHeld, NotAdmitted, OtherOwner
from neti.registry import Detail, Registry
from neti.registry.record import HostRecord

SUBNET = IPv4Network("192.168.0.0/24")
OVERLAY = IPv4Address("192.168.0.1")
A = "1.0a000001c6336401c0a80001.0.ec2.a"
A2 = "1.0a000001c6336401c0a80001.1.ec2.a"
LEFT = "left.0.a"
HERE, THERE = "00ff", "00aa"


def register(registry: Registry, name: str = A, *, machine: str = HERE) -> None:
    registry.register(
        host_id="a", name=name, data=b"", detail=b"{}", overlay=OVERLAY, machine=machine
    )


def vouched(registry: Registry, name: str) -> bool:
    record = registry.records()["a"]
    named = record.record is not None and record.record.word == name
    return named and registry.made([name]) == {name: record.written}


def left(world: ClosedWorld) -> Registry:
    """Registered by ``host-a``, and gone."""
    host = world.open_as("host-a")
    register(host)
    host.leave(host_id="a", name=A, departure=LEFT)
    host.close()
    return world.open_as("host-b")


@pytest.mark.parametrize("machine", [HERE, THERE, ""])
def test_another_certificate_registers_nobody_who_is_there(
    closed: ClosedWorld, machine: str
) -> None:
    """Whatever machine it says it is."""
    host, other = closed.open_as("host-a"), closed.open_as("host-b")
    register(host)
    before = host.records()
    with pytest.raises(IdentityHeld):
        register(other, A2, machine=machine)
    assert host.records() == before
    assert vouched(host, A)
    assert host.names() == {A}


def test_nor_who_is_gone(closed: ClosedWorld) -> None:
    other = left(closed)
    with pytest.raises(OtherOwner):
        register(other, A2)
    assert other.records()["a"].record == HostRecord(overlay=OVERLAY, word=LEFT, machine=HERE)
    register(closed.open_as("host-a"), A2)
    assert vouched(other, A2)


def test_another_certificate_says_goodbye_for_nobody(closed: ClosedWorld) -> None:
    host, other = closed.open_as("host-a"), closed.open_as("host-b")
    register(host)
    with pytest.raises(IdentityHeld):
        other.leave(host_id="a", name=A, departure=LEFT)
    assert vouched(host, A)


def test_the_same_certificate_takes_over_on_the_same_machine_only(closed: ClosedWorld) -> None:
    register(closed.open_as("host-a"))
    with pytest.raises(IdentityHeld):
        register(closed.open_as("host-a"), A2, machine=THERE)
    again = closed.open_as("host-a")
    register(again, A2)
    assert vouched(again, A2)


def test_a_released_id_is_whose_that_comes_first(closed: ClosedWorld) -> None:
    other = left(closed)
    closed.open_as("operator-chief").release("a")
    register(other, A2)
    assert vouched(other, A2)
    with pytest.raises(IdentityHeld):
        register(closed.open_as("host-a"), A)


def test_an_operator_releases_nobody_who_is_there(closed: ClosedWorld) -> None:
    host = closed.open_as("host-a")
    host.acquire("a", SUBNET)
    register(host)
    chief = closed.open_as("operator-chief")
    with pytest.raises(IdentityHeld):
        chief.release("a")
    with pytest.raises(IdentityHeld):
        chief.move("a", "b")
    assert vouched(host, A)


def test_with_admission_only_who_was_admitted_begins_and_by_its_certificate(
    closed: ClosedWorld,
) -> None:
    closed.need_admission()
    host, other = closed.open_as("host-a"), closed.open_as("host-b")
    with pytest.raises(NotAdmitted):
        register(host)
    closed.admit("a", "host-a")
    (held,) = host.leases()  # nobody can be in the way of it any more
    assert host.acquire("a", SUBNET) == held
    with pytest.raises(IdentityHeld):
        register(other)
    register(host)
    assert vouched(host, A)


def test_an_operator_reads_whose_each_id_is_that_holds_a_lease(closed: ClosedWorld) -> None:
    closed.need_admission()
    closed.admit("a", "host-a")
    closed.admit("b", "host-b")
    closed.admit("c", "host-a")  # two with one certificate
    chief = closed.open_as("operator-chief")
    owners = chief.owners()
    assert owners.keys() == {"a", "b", "c"}
    assert owners["a"] == owners["c"] != owners["b"]
    chief.release("c")  # its record stays, and is its certificate's
    assert chief.owners() == {"a": owners["a"], "b": owners["b"]}


def test_with_admission_a_released_id_stays_its_certificates(closed: ClosedWorld) -> None:
    other = left(closed)
    closed.need_admission()
    closed.open_as("operator-chief").release("a")
    assert other.records()["a"].record == HostRecord()
    with pytest.raises(IdentityHeld):
        register(other, A2)
    register(closed.open_as("host-a"), A2)


def test_what_an_earlier_session_said_stands_until_it_ends_and_the_host_hears_of_that(
    closed: ClosedWorld,
) -> None:
    """Without a word the host would not know that nobody can read what it says."""
    former, host, recorder = closed.open_as("host-a"), closed.open_as("host-a"), Recorder()
    former.watch(recorder)
    session = recorder.until_fresh()
    old, new = (b'{"name": "old"}', b'{"pid": 1}'), (b'{"name": "new"}', b'{"pid": 2}')

    def says(registry: Registry, name: str, detail: bytes, report: bytes) -> bool:
        return registry.register(
            host_id="a", name=name, data=b"", detail=detail, report=report, machine=HERE
        )

    assert says(former, A, *old)
    assert not says(host, A2, *new)
    assert not host.describe("a", *new)
    chief = closed.open_as("operator-chief")
    assert [one.document for one in chief.details()] == [old[0]]
    former.detach()
    closed.expire(session)
    assert host.describe("a", *new)
    assert [one.document for one in chief.details()] == [new[0]]
    assert [one.document for one in chief.reports(["a"]) or []] == [new[1]]


def test_members_delete_nothing_and_what_they_made_goes_with_their_session(
    closed: ClosedWorld,
) -> None:
    host, recorder = closed.open_as("host-a"), Recorder()
    host.watch(recorder)
    session = recorder.until_fresh()
    register(host)
    register(host, A2)
    assert host.names() == {A, A2}
    host.detach()
    closed.expire(session)
    assert closed.open_as("host-b").names() == set()


def test_a_report_is_for_operators_and_no_member_reads_it(closed: ClosedWorld) -> None:
    host, other = closed.open_as("host-a"), closed.open_as("host-b")
    host.register(host_id="a", name=A, data=b"", detail=b'{"name": "a"}', report=b'{"stage": "x"}')
    host.describe("a", b'{"name": "a"}', b'{"stage": "down"}')
    assert other.reports(["a"]) is None
    assert [one.document for one in other.details()] == [b'{"name": "a"}']
    operator = closed.open_as("operator-chief")
    assert operator.reports(["a"]) == [Detail("a", b'{"stage": "down"}')]
    assert not operator.unreadable()

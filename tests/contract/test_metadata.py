"""The simulation's metadata service answers as the real client hears EC2's."""

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from typing import Protocol

import pytest
from simulation.metadata import SimulatedMetadata

from neti.identity.ec2 import Ec2Source
from neti.identity.imds import MetadataClient
from neti.identity.source import SourceSilent
from neti.model import Host
from neti_lab.metadata import Fault, InstanceMetadata, MetadataService

ID, PRIVATE, PUBLIC = "i-0a1b2c3d", IPv4Address("10.0.0.11"), IPv4Address("198.51.100.11")
Answer = tuple[str, IPv4Address | None, IPv4Address | None]


class Metadata(Protocol):
    def ask(self) -> Answer: ...

    def leave_public_out(self) -> None: ...

    def fall_silent(self) -> None: ...


class Real:
    def __init__(self, service: MetadataService) -> None:
        self._service = service

    def ask(self) -> Answer:
        client = MetadataClient(self._service.endpoint, sleep=lambda _: None)
        told = Ec2Source(client).read()
        return told.id, told.private, told.public

    def leave_public_out(self) -> None:
        self._service.change(public=None)

    def fall_silent(self) -> None:
        self._service.fail(Fault.UNAVAILABLE)


class Simulated:
    def __init__(self) -> None:
        host = Host(id=ID, site="ec2", private=PRIVATE, public=PUBLIC)
        self._double = SimulatedMetadata(lambda: host)

    def ask(self) -> Answer:
        told = self._double.answer()
        return told.id, told.private, told.public

    def leave_public_out(self) -> None:
        self._double.odd = True

    def fall_silent(self) -> None:
        self._double.silent = True


def _real() -> Iterator[Metadata]:
    service = MetadataService(
        InstanceMetadata(instance_id=ID, private=PRIVATE, public=PUBLIC, vpc_id="vpc-0aa1")
    )
    service.start()
    yield Real(service)
    service.close()


def _simulated() -> Iterator[Metadata]:
    yield Simulated()


@pytest.fixture(params=[_real, _simulated], ids=["real", "simulated"])
def metadata(request: pytest.FixtureRequest) -> Iterator[Metadata]:
    made: Callable[[], Iterator[Metadata]] = request.param
    yield from made()


def test_it_says_who_this_machine_is(metadata: Metadata) -> None:
    assert metadata.ask() == (ID, PRIVATE, PUBLIC)


def test_an_address_that_it_leaves_out_is_none(metadata: Metadata) -> None:
    metadata.leave_public_out()
    assert metadata.ask() == (ID, PRIVATE, None)


def test_silence_is_no_answer(metadata: Metadata) -> None:
    metadata.fall_silent()
    with pytest.raises(SourceSilent):
        metadata.ask()

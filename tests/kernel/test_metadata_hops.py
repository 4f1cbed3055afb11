"""The metadata service's hop limit, with packets: what a container behind the instance gets."""

import socket
from ipaddress import IPv4Address

import pytest
from tests.support.netns import PRIVATE, Net

from neti.identity.imds import MetadataClient
from neti.identity.source import SourceSilent
from neti_lab.metadata import InstanceMetadata, MetadataService

pytestmark = pytest.mark.kernel


def _read(service: MetadataService, *, timeout: float = 10.0) -> str | None:
    client = MetadataClient(service.endpoint, timeout=timeout, sleep=lambda _seconds: None)
    return client.get("/latest/meta-data/instance-id")


def test_a_container_gets_a_token_only_with_two_hops(net: Net) -> None:
    """With EC2's default of one hop its request is answered into the void, and the instance's own
    is not."""
    listener = net.inside(net.host, lambda: socket.create_server((PRIVATE, 8053)))
    instance = InstanceMetadata(instance_id="i-0a1b2c3d", private=IPv4Address(PRIVATE))
    service = MetadataService(instance, listener)
    service.start()
    try:
        assert net.inside(net.host, lambda: _read(service)) == "i-0a1b2c3d"
        with pytest.raises(SourceSilent, match="no complete answer in time"):
            net.inside(net.container, lambda: _read(service, timeout=0.4))
        service.change(hop_limit=2)
        assert net.inside(net.container, lambda: _read(service)) == "i-0a1b2c3d"
    finally:
        service.close()

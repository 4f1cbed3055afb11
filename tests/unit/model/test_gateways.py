"""Each overlay address has one port on all gateways, or the numbers are refused."""

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.model.gateways import PORTS, GatewayPorts, PortRange

SUBNET = IPv4Network("192.168.0.0/18")


def test_a_18_fits_into_the_ports_that_are_usual_to_the_last_one() -> None:
    """And they are below those that Linux gives to callers."""
    ports = GatewayPorts(SUBNET, 51820)
    assert ports.port(SUBNET[0]) == 16384 == PORTS.first
    assert ports.port(SUBNET[-1]) == 32767 == PORTS.last
    assert len(PORTS) == SUBNET.num_addresses
    assert str(PORTS) == "16384-32767"


@pytest.mark.parametrize(("first", "last"), [(1023, 2000), (5, 5), (2000, 1999), (60000, 65536)])
def test_what_is_no_range_of_ports_is_refused(first: int, last: int) -> None:
    with pytest.raises(ValueError, match=f"{first}-{last} is no range within 1024-65535"):
        PortRange(first, last)


def test_an_overlay_of_more_addresses_than_ports_is_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match="has 32768 addresses, and 16384-32767 are only 16384"):
        GatewayPorts(IPv4Network("192.168.0.0/17"), 51820)
    GatewayPorts(SUBNET, 51820, PortRange(20000, 36383))
    with pytest.raises(ValueError, match="are only 16383 ports"):
        GatewayPorts(SUBNET, 51820, PortRange(20000, 36382))


@pytest.mark.parametrize("port", [16384, 20000, 32767])
def test_wireguards_own_port_is_none_of_them(port: int) -> None:
    """It tells a host's packet from a gateway's."""
    with pytest.raises(ValueError, match=f"port {port} is WireGuard's"):
        GatewayPorts(SUBNET, port)
    GatewayPorts(SUBNET, 16383)
    GatewayPorts(SUBNET, 32768)


def test_an_address_outside_has_no_port() -> None:
    ports = GatewayPorts(SUBNET, 51820)
    for outside in ("192.168.64.0", "192.167.255.255"):
        with pytest.raises(ValueError, match=f"{outside} is not in"):
            ports.port(IPv4Address(outside))


@given(st.integers(18, 32), st.integers(0, 2**32 - 1), st.integers(1024, 65535), st.data())
def test_port_and_address_lead_to_each_other(
    length: int, where: int, first: int, data: st.DataObject
) -> None:
    subnet = IPv4Network((where, length), strict=False)
    last = data.draw(st.integers(first, 65535))
    span = PortRange(first, last)
    if subnet.num_addresses > len(span):
        with pytest.raises(ValueError, match="a gateway needs one for each"):
            GatewayPorts(subnet, 1, span)
        return
    ports = GatewayPorts(subnet, 1, span)
    address = subnet[data.draw(st.integers(0, subnet.num_addresses - 1))]
    assert ports.port(address) in span
    assert ports.overlay(ports.port(address)) == address
    asked = data.draw(st.integers(0, 65535))
    found = ports.overlay(asked)
    assert found is None or ports.port(found) == asked
    assert (found is not None) == (0 <= asked - first < subnet.num_addresses)

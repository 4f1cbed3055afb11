"""Which addresses may be believed."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.fleet.admission import Admission
from neti.model import IPAddress, Member, Site

ENSEMBLE = IPv4Address("10.0.9.9")
SITES = MappingProxyType(
    {
        "ec2": Site(name="ec2", private=(IPv4Network("10.0.0.0/8"),)),
        "vpc": Site(
            name="vpc",
            private=(IPv4Network("10.21.0.0/16"), IPv4Network("10.22.0.0/16")),
            public=(IPv4Network("54.208.0.0/16"),),
        ),
        "dc": Site(name="dc"),
    }
)
ADMISSION = Admission(
    sites=SITES,
    overlay_subnet=IPv4Network("192.168.0.0/18"),
    reserved=frozenset({ENSEMBLE, IPv6Address("2001:db8::9")}),
)


def member(
    *,
    site: str = "vpc",
    private: str = "10.21.0.5",
    public: str | None = "54.208.0.5",
    overlay: str = "192.168.0.5",
) -> Member:
    return Member(
        id="db-1",
        site=site,
        private=IPv4Address(private),
        public=IPv4Address(public) if public is not None else None,
        overlay=IPv4Address(overlay),
    )


@pytest.mark.parametrize(
    "fine",
    [
        member(),
        member(private="10.22.255.255"),
        member(public=None),
        member(site="ec2", private="10.1.2.3", public="8.8.8.8"),
        member(site="dc", private="172.16.0.1", public="8.8.8.8"),
        member(overlay="192.168.0.1"),
        member(overlay="192.168.63.254"),
    ],
)
def test_a_member_within_its_sites_ranges_is_believed(fine: Member) -> None:
    """Ranges bind where they are given, and a missing one binds nothing."""
    assert ADMISSION.objection(fine) is None


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (member(site="moon"), "site 'moon' is not configured here"),
        (member(overlay="192.168.64.0"), "is outside 192.168.0.0/18"),
        (member(overlay="192.168.0.0"), "is reserved in"),
        (member(overlay="192.168.63.255"), "is reserved in"),
        (member(private="10.23.0.5"), "outside site vpc's private ranges"),
        (member(public="54.209.0.5"), "outside site vpc's public ranges"),
        (member(site="dc", private="127.0.0.1"), "which is no host's"),
        (member(site="dc", private="0.0.0.0"), "which is no host's"),
        (member(site="dc", private="169.254.169.254"), "which is no host's"),
        (member(site="dc", private="224.0.0.1"), "which is no host's"),
        (member(site="dc", private="255.255.255.255"), "which is no host's"),
        (member(site="dc", private="192.168.1.1"), "inside the overlay subnet"),
        (member(site="dc", public="192.168.1.1"), "inside the overlay subnet"),
        (member(site="dc", public="127.1.1.1"), "which is no host's"),
        (member(site="dc", private=str(ENSEMBLE)), "belongs to the registry's servers"),
        (member(site="ec2", private="10.0.0.5", public=str(ENSEMBLE)), "registry's servers"),
    ],
)
def test_a_hostile_or_mistaken_member_is_refused_with_the_reason(bad: Member, reason: str) -> None:
    """Each kind of address that SPEC names is refused, in words that name the address or site."""
    objection = ADMISSION.objection(bad)
    assert objection is not None
    assert reason in objection


@given(private=st.ip_addresses(v=4), public=st.ip_addresses(v=4), overlay=st.ip_addresses(v=4))
def test_whoever_is_believed_has_only_unicast_addresses_outside_the_overlay(
    private: IPv4Address, public: IPv4Address, overlay: IPv4Address
) -> None:
    """No address whatever gets in that could not be a host's own."""
    claim = member(site="dc", private=str(private), public=str(public), overlay=str(overlay))
    if ADMISSION.objection(claim) is None:
        assert overlay in ADMISSION.overlay_subnet
        for address in (private, public):
            assert not address.is_multicast
            assert not address.is_loopback
            assert not address.is_link_local
            assert not address.is_unspecified
            assert not address.is_reserved
            assert address not in ADMISSION.overlay_subnet


def addresses(*texts: str) -> tuple[IPAddress, ...]:
    return tuple(ip_address(text) for text in texts)


def test_further_addresses_are_judged_one_by_one() -> None:
    """One bad further address takes none of the others with it."""
    good = addresses("10.21.0.6", "54.208.0.6", "2001:db8::5", "fd12::5")
    bad = addresses(
        "10.99.0.6", "127.0.0.1", "192.168.0.9", "::1", "fe80::1", "ff02::1", "::", "::ffff:8.8.8.8"
    )
    mixed = tuple(address for pair in zip(bad, good * 2, strict=True) for address in pair)
    assert set(ADMISSION.believed(member(), mixed)) == set(good)


@pytest.mark.parametrize(
    "embedding",
    ["2002:808:808::1", "2001:0:808:808::1", "64:ff9b::808:808", "64:ff9b:1::1", "::ffff:8.8.8.8"],
)
@pytest.mark.parametrize("ranges", [(), (IPv6Network("::/0"),)])
def test_an_ipv6_address_that_stands_for_ipv4_is_never_let_in(
    embedding: str, ranges: tuple[IPv6Network, ...]
) -> None:
    """6to4, Teredo and NAT64 would let in IPv4 hosts past the site's IPv4 ranges. Not even a
    site's IPv6 ranges allow them."""
    admission = Admission(
        sites={"dc": Site(name="dc", ipv6=ranges)}, overlay_subnet=ADMISSION.overlay_subnet
    )
    assert admission.believed(member(site="dc"), addresses(embedding)) == ()


def test_ipv6_addresses_are_confined_to_their_sites_ranges() -> None:
    """A site with ranges believes nothing outside them; its IPv4 ranges are as they were."""
    site = Site(name="dc", ipv6=(IPv6Network("2001:db8:1::/48"),))
    admission = Admission(sites={"dc": site}, overlay_subnet=ADMISSION.overlay_subnet)
    inside, outside = addresses("2001:db8:1::5"), addresses("2001:db8:2::5", "fd12::5")
    assert admission.believed(member(site="dc"), inside + outside) == inside
    assert admission.believed(member(site="dc"), addresses("8.8.8.8")) == addresses("8.8.8.8")


def test_metadata_services_and_registry_servers_are_no_further_addresses() -> None:
    """A member cannot have peers let in the registry or EC2's instance services."""
    more = addresses("169.254.169.254", "fd00:ec2::254", "2001:db8::9", str(ENSEMBLE))
    assert ADMISSION.believed(member(site="dc"), more) == ()


@pytest.mark.parametrize("site", ["ec2", "dc"])
def test_a_site_without_public_ranges_allows_any_further_address(site: str) -> None:
    """A secondary elastic address is as good as the first one, which no range binds there."""
    more = addresses("8.8.8.8")
    assert ADMISSION.believed(member(site=site), more) == more


def test_a_reserved_private_address_is_another_hosts_in_another_site() -> None:
    """Ranges may overlap: 10.0.0.202 there is not the server 10.0.0.202 here."""
    server = IPv4Address("10.0.0.202")
    sites = {
        name: Site(name=name, private=(IPv4Network("10.0.0.0/16"),)) for name in ("ec2", "vpc")
    }
    admission = Admission(
        sites=sites,
        overlay_subnet=IPv4Network("192.168.0.0/16"),
        reserved=frozenset({server}),
        own_site="ec2",
    )

    def member(site: str, public: IPv4Address | None = None) -> Member:
        overlay = IPv4Address("192.168.0.9")
        return Member(id="a", site=site, private=server, public=public, overlay=overlay)

    assert "registry's servers" in str(admission.objection(member("ec2")))
    assert admission.objection(member("vpc")) is None
    assert "registry's servers" in str(admission.objection(member("vpc", public=server)))

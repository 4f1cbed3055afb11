"""Who this host is on Google and on Azure, and which cloud it is."""

import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.errors import IdentityError
from neti.identity import discover, gcp
from neti.identity.azure import AzureSource
from neti.identity.clouds import FirstThatKnows
from neti.identity.ec2 import Ec2Source
from neti.identity.gcp import GcpSource
from neti.identity.imds import MetadataClient
from neti.identity.json_answer import document
from neti.identity.metadata import Answer, MetadataHttp
from neti.identity.site import decide_site
from neti.identity.source import Identity, IdentitySource, NotThisCloud, SourceSilent
from neti.model import Site
from neti.model.settings import Settings
from neti_lab.metadata import (
    Address,
    Fault,
    InstanceMetadata,
    Interface,
    MetadataService,
)

PRIVATE, PUBLIC = IPv4Address("10.0.0.11"), IPv4Address("198.51.100.11")
IPV6 = IPv6Address("2001:db8::11")
SECOND = Interface(
    mac="02:00:00:00:00:02",
    addresses=(Address(private=IPv4Address("10.9.0.7"), public=IPv4Address("198.51.100.99")),),
    vpc_id="other",
)
GOOGLE = InstanceMetadata(
    cloud="gcp",
    instance_id="4513456781234567890",
    private=PRIVATE,
    public=PUBLIC,
    vpc_id="prod",
    ipv6=(IPV6,),
    interfaces=(SECOND,),
)
AZURE = InstanceMetadata(
    cloud="azure",
    instance_id="5c08b38e-4d57-4c23-ac45-aca61037f084",
    private=PRIVATE,
    public=PUBLIC,
    vpc_id="8D10da13-8125-4ba9-a717-bf7490507b3d/Prod-RG",
    ipv6=(IPV6,),
    interfaces=(SECOND,),
)
EC2 = InstanceMetadata(instance_id="i-0a1b2c3d", private=PRIVATE, vpc_id="vpc-0aa1")


@pytest.fixture(name="google")
def _google() -> Iterator[MetadataService]:
    yield from _served(GOOGLE)


@pytest.fixture(name="azure")
def _azure() -> Iterator[MetadataService]:
    yield from _served(AZURE)


@pytest.fixture(name="ec2")
def _ec2() -> Iterator[MetadataService]:
    yield from _served(EC2)


def _served(instance: InstanceMetadata) -> Iterator[MetadataService]:
    service = MetadataService(instance)
    service.start()
    yield service
    service.close()


def http(service: MetadataService, *, timeout: float = 10.0) -> MetadataHttp:
    return MetadataHttp(service.endpoint, timeout=timeout, sleep=lambda _: None)


def google_at(service: MetadataService) -> GcpSource:
    return GcpSource(http(service))


def azure_at(service: MetadataService, mac: str | None = AZURE.mac) -> AzureSource:
    return AzureSource(http(service), lambda: mac)


def auto(service: MetadataService) -> FirstThatKnows:
    client = MetadataClient(service.endpoint, timeout=10.0, sleep=lambda _: None)
    return FirstThatKnows((Ec2Source(client), google_at(service), azure_at(service)))


def test_google_describes_its_instance(google: MetadataService) -> None:
    """The number is the id, and nic0 is the host's card, whatever other cards there are."""
    assert google_at(google).read() == Identity(
        id="4513456781234567890",
        private=PRIVATE,
        public=PUBLIC,
        ipv6=(IPV6,),
        networks=("prod", "projects/1234/networks/prod"),
        cloud="gcp",
    )


def test_azure_describes_its_machine(azure: MetadataService) -> None:
    """The UUID is 25 characters of base 36, and the card is the default route's: the first one in
    the answer is another."""
    assert azure_at(azure).read() == Identity(
        id=base36(AZURE.instance_id),
        private=PRIVATE,
        public=PUBLIC,
        ipv6=(IPV6,),
        networks=(
            "8d10da13-8125-4ba9-a717-bf7490507b3d",
            "8d10da13-8125-4ba9-a717-bf7490507b3d/prod-rg",
            "prod-rg",
        ),
        cloud="azure",
    )


def base36(text: str) -> str:
    found = azure_id(text)
    assert int(found, 36) == int(text.replace("-", ""), 16)
    assert len(found) == 25
    return found


def azure_id(text: str) -> str:
    for service in _served(replace(AZURE, instance_id=text)):
        return azure_at(service).read().id
    raise AssertionError


def test_two_machines_of_azure_never_have_one_id() -> None:
    """Leading zeros stay, so ids are as long as each other and as different as the UUIDs."""
    assert azure_id("00000000-0000-0000-0000-000000000001") == "0" * 24 + "1"
    assert azure_id("ffffffff-ffff-ffff-ffff-ffffffffffff") == "f5lxx1zz5pnorynqglhzmsp33"


@pytest.mark.parametrize("source", [google_at, azure_at])
def test_without_a_public_address(source: Any, request: pytest.FixtureRequest) -> None:
    """Empty text is how both say that there is none."""
    service = request.getfixturevalue("google" if source is google_at else "azure")
    service.change(public=None)
    assert source(service).read().public is None


def test_an_address_of_azures_load_balancer(azure: MetadataService) -> None:
    """A standard public address is not told with the machine, but with the load balancer."""
    azure.change(balanced=True)
    assert azure_at(azure).read().public == PUBLIC


def test_azures_load_balancer_that_does_not_answer_is_no_none(azure: MetadataService) -> None:
    """A 503 there must not take the public address away."""
    azure.change(balanced=True)
    azure.fail(Fault.UNAVAILABLE, path="2020-10-01")
    with pytest.raises(SourceSilent, match="503"):
        azure_at(azure).read()


@pytest.mark.parametrize("mac", [None, "02:00:00:00:00:0f"])
def test_azures_cards_without_the_default_routes(azure: MetadataService, mac: str | None) -> None:
    """Which card is the host's is not guessed."""
    with pytest.raises(IdentityError, match="cannot be told which card is this host's"):
        azure_at(azure, mac).read()


def test_azures_only_card_needs_no_route(azure: MetadataService) -> None:
    azure.change(interfaces=())
    assert azure_at(azure, None).read().private == PRIVATE


@pytest.mark.parametrize("fault", [Fault.THROTTLED, Fault.UNAVAILABLE, Fault.SERVER_ERROR])
@pytest.mark.parametrize("cloud", ["google", "azure"])
def test_trouble_is_no_answer(cloud: str, fault: Fault, request: pytest.FixtureRequest) -> None:
    """429 and 5xx are asked again, and then the service counts as silent: never as "none"."""
    service = request.getfixturevalue(cloud)
    service.fail(fault)
    with pytest.raises(SourceSilent, match=str(fault.value)):
        (google_at if cloud == "google" else azure_at)(service).read()
    with pytest.raises(SourceSilent):
        auto(service).read()


@pytest.mark.parametrize("fault", [Fault.GARBAGE, Fault.FORBIDDEN])
@pytest.mark.parametrize("cloud", ["google", "azure"])
def test_somebody_else_answers(cloud: str, fault: Fault, request: pytest.FixtureRequest) -> None:
    """A captive portal is no cloud, and no silence either, so nothing old is used."""
    service = request.getfixturevalue(cloud)
    service.fail(fault)
    with pytest.raises(IdentityError) as caught:
        (google_at if cloud == "google" else azure_at)(service).read()
    assert not isinstance(caught.value, SourceSilent)


@pytest.mark.parametrize(("cloud", "word"), [("ec2", "ec2"), ("google", "gcp"), ("azure", "azure")])
def test_auto_finds_out_which_cloud_it_is(
    cloud: str, word: str, request: pytest.FixtureRequest
) -> None:
    assert auto(request.getfixturevalue(cloud)).read().cloud == word


def test_auto_says_what_each_of_them_said(ec2: MetadataService) -> None:
    """Where none of the three knows anything, the error has all three answers."""
    ec2.fail(Fault.NOT_FOUND)
    with pytest.raises(IdentityError) as caught:
        auto(ec2).read()
    for word in ("IMDSv2", "Metadata-Flavor", "/metadata/instance", "identity: {id:"):
        assert word in str(caught.value)


@pytest.mark.parametrize("other", ["google", "azure"])
def test_a_word_for_another_cloud_is_refused(other: str, request: pytest.FixtureRequest) -> None:
    """``identity: ec2`` on Google is an error, and nothing else is asked."""
    service = request.getfixturevalue(other)
    client = MetadataClient(service.endpoint, timeout=10.0, sleep=lambda _: None)
    with pytest.raises(NotThisCloud, match="does not speak IMDSv2"):
        Ec2Source(client).read()
    wrong: IdentitySource = azure_at(service) if other == "google" else google_at(service)
    with pytest.raises(NotThisCloud):
        wrong.read()


class _Says(MetadataHttp):
    """Answers everything with one text, as Google's server would sign it."""

    body = b""

    def ask(self, method: str, path: str, headers: Any) -> Answer:
        return Answer(200, self.body, {"metadata-flavor": "Google"})


_KEYS = st.sampled_from(
    [
        "id",
        "networkInterfaces",
        "ip",
        "accessConfigs",
        "externalIp",
        "ipv6s",
        "network",
        "compute",
        "vmId",
        "interface",
        "ipv4",
        "ipAddress",
        "privateIpAddress",
        "loadbalancer",
    ]
)
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=4),
    max_leaves=12,
)


@given(st.binary(max_size=200) | _JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_is_said_is_an_identity_or_an_error(body: bytes) -> None:
    service = _Says("http://127.0.0.1:1")
    service.body = body
    for source in (GcpSource(service), AzureSource(service, lambda: None)):
        assert len(said_by(source)) < 1000


def said_by(source: IdentitySource) -> str:
    try:
        return str(source.read().private)
    except IdentityError as error:
        return str(error)


@pytest.mark.parametrize("deep", [b"[" * 100_000, b'{"a":' * 100_000, b"[]", b'"text"'])
def test_json_of_another_shape(deep: bytes) -> None:
    with pytest.raises(IdentityError, match="JSON"):
        document("here", deep)


def configured(*sites: Site) -> Settings:
    named = MappingProxyType({site.name: site for site in sites})
    return Settings(path=Path("/etc/neti/neti.yml"), sites=named, sites_configured=bool(sites))


OLD = Site(name="old", private=(IPv4Network("10.0.0.0/8"),), networks=("staging",))
NEW = Site(name="new", private=(IPv4Network("10.0.0.0/8"),), networks=("prod", "sub-1"))
HOST = Identity(id="1", private=PRIVATE, networks=("prod", "projects/1/networks/prod"), cloud="gcp")


def test_the_site_goes_by_the_network() -> None:
    """Ranges may overlap; a network's name tells which site it is."""
    assert decide_site(configured(OLD, NEW), HOST).site == "new"
    by_subscription = replace(HOST, networks=("sub-1", "sub-1/rg", "rg"))
    assert decide_site(configured(OLD, NEW), by_subscription).site == "new"


def test_a_network_that_no_site_lists() -> None:
    with pytest.raises(IdentityError, match=r"network is dev, which no site lists .* networks: "):
        decide_site(configured(OLD, NEW), replace(HOST, networks=("dev", "projects/1/dev")))


def test_a_network_that_two_sites_list_by_different_names() -> None:
    """One by its short name and one by its long one: not decided by the order of the file."""
    also = replace(OLD, networks=("projects/1/networks/prod",))
    with pytest.raises(IdentityError, match="old and new list names of it"):
        decide_site(configured(also, NEW), HOST)


def test_a_file_of_2014_says_nothing_of_other_clouds() -> None:
    """Having no VPC id means EC2-Classic only where it is EC2 that says so."""
    two = replace(configured(), sites=MappingProxyType({n: Site(name=n) for n in ("ec2", "vpc")}))
    with pytest.raises(IdentityError, match="nothing says which site it is in"):
        decide_site(two, HOST)


def test_where_googles_server_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(gcp.HOST_VARIABLE, raising=False)
    assert gcp.endpoint() == "http://169.254.169.254"
    monkeypatch.setenv(gcp.HOST_VARIABLE, "127.0.0.1:8080")
    assert gcp.endpoint() == "http://127.0.0.1:8080"


class _Source:
    def __init__(self, *answers: Identity | IdentityError) -> None:
        self.answers = list(answers)

    def read(self) -> Identity:
        answer = self.answers.pop(0)
        if isinstance(answer, IdentityError):
            raise answer
        return answer


def found(settings: Settings, folder: Path, source: _Source) -> str:
    host = discover(settings, cache_dir=folder, source=source, machine="m", notice=lambda _: None)
    return host.site


def test_a_silent_service_leaves_the_site_as_it_was(tmp_path: Path) -> None:
    """The network's name is remembered too: by its range the host would be in the other site."""
    old = Site(name="old", private=(IPv4Network("10.0.0.0/24"),), vpc_ids=("vpc-1",))
    new = Site(name="new", private=(IPv4Network("10.0.0.0/8"),), networks=("prod",))
    source = _Source(HOST, SourceSilent("no answer"))
    settings = replace(configured(old, new), identity="gcp")
    assert found(settings, tmp_path, source) == "new"
    assert found(settings, tmp_path, source) == "new"


def test_an_answer_that_was_refused_is_not_remembered(tmp_path: Path) -> None:
    """With a silent service it would count, and by a file of 2014 as EC2-Classic's."""
    two = replace(configured(), sites=MappingProxyType({n: Site(name=n) for n in ("ec2", "vpc")}))
    source = _Source(HOST, SourceSilent("no answer"))
    with pytest.raises(IdentityError, match="nothing says which site"):
        found(two, tmp_path, source)
    with pytest.raises(SourceSilent):
        found(two, tmp_path, source)


def test_a_real_address_is_outside_the_overlay(tmp_path: Path) -> None:
    inside = replace(HOST, private=IPv4Address("192.168.0.9"))
    with pytest.raises(IdentityError, match="inside overlay_subnet"):
        found(configured(OLD, NEW), tmp_path, _Source(inside))

"""Who this host is: by metadata, configuration and cache; its site; and where Neti must not run.

The metadata service is the lab's, on the loopback. Nothing sleeps: pauses are only counted.
"""

import json
import os
import socket
import stat
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from pathlib import Path
from types import MappingProxyType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.clock import ManualClock
from neti.errors import IdentityError
from neti.identity import discover
from neti.identity.cache import IdentityCache
from neti.identity.ec2 import Ec2Source
from neti.identity.imds import (
    DEFAULT_ENDPOINT6,
    ENDPOINT_MODE_VARIABLE,
    ENDPOINT_VARIABLE,
    MetadataClient,
)
from neti.identity.machine import SOURCES, fingerprint
from neti.identity.metadata import DEFAULT_ENDPOINT, Answer, MetadataHttp
from neti.identity.site import decide_site
from neti.identity.source import Identity, SourceSilent
from neti.model import Host, Site
from neti.model.settings import Settings, StaticIdentity
from neti_lab.metadata import Fault, InstanceMetadata, MetadataService

PRIVATE, PUBLIC = IPv4Address("10.0.0.11"), IPv4Address("198.51.100.11")
IPV6 = IPv6Address("2001:db8::11")
INSTANCE = InstanceMetadata(
    instance_id="i-0a1b2c3d", private=PRIVATE, public=PUBLIC, vpc_id="vpc-0aa1", ipv6=(IPV6,)
)
IDENTITY = Identity(
    id="i-0a1b2c3d",
    private=PRIVATE,
    public=PUBLIC,
    ipv6=(IPV6,),
    vpc_id="vpc-0aa1",
    cloud="ec2",
)
EC2 = Site(name="ec2", private=(IPv4Network("10.0.0.0/8"),), vpc_ids=("vpc-0aa1",))
VPC = Site(name="vpc", private=(IPv4Network("10.21.0.0/16"),), vpc_ids=("vpc-0bb2",))


def configured(*sites: Site, **keys: object) -> Settings:
    """Settings with these sites; none are the two of a 2014 file."""
    named = sites or (Site(name="ec2"), Site(name="vpc"))
    return Settings(
        path=Path("/etc/neti/neti.yml"),
        sites=MappingProxyType({site.name: site for site in named}),
        sites_configured=bool(sites),
        **keys,  # type: ignore[arg-type]  # keys by name
    )


@pytest.fixture(name="service")
def _service() -> Iterator[MetadataService]:
    service = MetadataService(INSTANCE)
    service.start()
    yield service
    service.close()


@dataclass
class Pauses:
    """A sleep that only remembers."""

    seconds: list[float] = field(default_factory=list)

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def source_at(
    service: MetadataService, pauses: Pauses | None = None, *, fault: Fault | None = None
) -> Ec2Source:
    """``fault``: what the service is told to do. Only what hangs is not waited for."""
    timeout = 0.05 if fault is Fault.HANG else 10.0
    return Ec2Source(
        MetadataClient(endpoint=service.endpoint, timeout=timeout, sleep=pauses or Pauses())
    )


# What the metadata service says


def test_an_instance_describes_itself(service: MetadataService) -> None:
    """A good answer gives id, addresses of both families and VPC id."""
    assert source_at(service).read() == IDENTITY


def test_no_public_address_is_no_error(service: MetadataService) -> None:
    """An instance without a public address and IPv6 has an identity all the same."""
    service.change(public=None, ipv6=())
    identity = source_at(service).read()
    assert identity.public is None
    assert identity.ipv6 == ()


def test_only_a_listing_without_it_means_no_vpc(service: MetadataService) -> None:
    """Only an interface's listing that names no VPC id means that there is no VPC."""
    service.change(vpc_id=None)
    assert source_at(service).read().vpc_id is None


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("path", ["vpc-id", "02:00:00:00:00:01/", "mac"])
def test_no_failure_is_read_as_not_in_a_vpc(
    service: MetadataService, fault: Fault, path: str
) -> None:
    """Whatever fails around the VPC id is an error, never "not in a VPC"."""
    service.fail(fault, path=path)
    with pytest.raises(IdentityError):
        source_at(service, fault=fault).read()


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("path", ["", "02:00:00:00:00:01/", "vpc-id"])
def test_no_failure_puts_a_2014_host_into_ec2(
    service: MetadataService, notices: list[str], fault: Fault, path: str
) -> None:
    """Where having a VPC id decides the site, a failure decides nothing."""
    service.fail(fault, path=path)
    with pytest.raises(IdentityError):
        discover(configured(), source=source_at(service, fault=fault), notice=notices.append)
    assert not notices


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize("path", ["", "/api/token", "instance-id", "local-ipv4"])
def test_every_failure_is_one_sentence(service: MetadataService, fault: Fault, path: str) -> None:
    """Every failure of the service ends in one sentence that names its endpoint."""
    service.fail(fault, path=path)
    with pytest.raises(IdentityError) as caught:
        source_at(service, fault=fault).read()
    assert service.endpoint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", [Fault.SERVER_ERROR, Fault.HANG])
def test_what_may_pass_is_tried_again_with_growing_pauses(
    service: MetadataService, fault: Fault
) -> None:
    """A failure that may pass is tried again three times, with growing pauses."""
    pauses = Pauses()
    service.fail(fault)
    with pytest.raises(SourceSilent):
        source_at(service, pauses, fault=fault).read()
    assert pauses.seconds == sorted(pauses.seconds)
    assert len(pauses.seconds) == 3


def test_a_service_that_recovers_is_believed(service: MetadataService) -> None:
    """An answer after a failed try is as good as one at once."""
    service.fail(Fault.SERVER_ERROR)
    client = MetadataClient(endpoint=service.endpoint, sleep=lambda _seconds: service.mend())
    assert Ec2Source(client).read() == IDENTITY


@pytest.mark.parametrize("fault", [Fault.UNAUTHORIZED, Fault.GARBAGE, Fault.NOT_FOUND])
def test_a_wrong_answer_is_not_silence(service: MetadataService, fault: Fault) -> None:
    """A refusal or nonsense is an error that no cache may stand in for."""
    service.fail(fault)
    with pytest.raises(IdentityError) as caught:
        source_at(service, fault=fault).read()
    assert not isinstance(caught.value, SourceSilent)


def test_an_expired_token_is_replaced_once(service: MetadataService) -> None:
    """A token that ran out is replaced without the caller noticing."""
    client = MetadataClient(endpoint=service.endpoint)
    assert client.get("/latest/meta-data/instance-id") == "i-0a1b2c3d"
    service.tokens.forget()
    assert client.get("/latest/meta-data/instance-id") == "i-0a1b2c3d"


class _Counting(MetadataHttp):
    """Remembers the methods of its requests."""

    asked: list[str]

    def ask(self, method: str, path: str, headers: Mapping[str, str]) -> Answer:
        self.asked.append(method)
        return super().ask(method, path, headers)


def _counting(endpoint: str) -> tuple[MetadataClient, _Counting]:
    client = MetadataClient(endpoint=endpoint)
    client._service = counting = _Counting(endpoint, sleep=Pauses())
    counting.asked = []
    return client, counting


def test_one_token_serves_a_whole_reading(service: MetadataService) -> None:
    """A token is asked for once, and only again when the service says 401."""
    client, seen = _counting(service.endpoint)
    Ec2Source(client).read()
    assert seen.asked[0] == "PUT"
    assert seen.asked.count("PUT") == 1
    service.tokens.forget()
    seen.asked.clear()
    Ec2Source(client).read()
    assert seen.asked[:3] == ["GET", "PUT", "GET"]
    assert seen.asked.count("PUT") == 1


def test_a_service_that_refuses_every_token_is_not_asked_for_ever(
    service: MetadataService,
) -> None:
    """A 401 to a fresh token is final: one new token, no pause, one error that says 401."""
    client, seen = _counting(service.endpoint)
    service.fail(Fault.UNAUTHORIZED, path="instance-id")
    with pytest.raises(IdentityError, match="answered 401"):
        Ec2Source(client).read()
    assert seen.asked == ["PUT", "GET", "PUT", "GET"]
    assert seen.sleep == Pauses()


def test_nobody_listens() -> None:
    """A machine without a metadata service is told that nothing answers."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(SourceSilent, match="does not answer"):
        Ec2Source(MetadataClient(endpoint=endpoint, sleep=Pauses())).read()


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nto",
        b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe\xfd",
        b"HTTP/1.1 200 OK\r\n\r\ntwo words",
        b"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 70_000,
    ],
)
def test_what_is_no_metadata_service(raw: bytes) -> None:
    """Something else that answers at the endpoint is an error, whatever it says."""
    with _Raw(raw) as endpoint, pytest.raises(IdentityError):
        Ec2Source(MetadataClient(endpoint=endpoint, timeout=1, sleep=Pauses())).read()


class _Saying(MetadataClient):
    """Answers everything with the same bytes."""

    def __init__(self, body: bytes) -> None:
        super().__init__(endpoint="http://127.0.0.1:1", sleep=Pauses())
        self.body = body

    def _once(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, bytes]:
        return 200, self.body


@given(st.binary(max_size=80))
def test_no_answer_raises_anything_but_identity_error(body: bytes) -> None:
    """No body of an answer makes reading it raise anything but IdentityError."""
    with pytest.raises(IdentityError):
        Ec2Source(_Saying(body)).read()


def test_proxies_are_never_asked(service: MetadataService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment never gets a question about this host's identity."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert source_at(service).read() == IDENTITY


def test_the_endpoint_is_overridable_as_in_the_sdks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The endpoint follows the variables that the AWS SDKs read."""
    monkeypatch.delenv(ENDPOINT_VARIABLE, raising=False)
    assert MetadataClient().endpoint == DEFAULT_ENDPOINT
    monkeypatch.setenv(ENDPOINT_MODE_VARIABLE, "IPv6")
    assert MetadataClient().endpoint == DEFAULT_ENDPOINT6
    monkeypatch.setenv(ENDPOINT_VARIABLE, "http://192.0.2.1:8080/")
    assert MetadataClient().endpoint == "http://192.0.2.1:8080"


@pytest.mark.parametrize(
    "endpoint",
    [
        "192.0.2.1",
        "https://192.0.2.1",
        "http://",
        "http://h:99999",
        "http://h:0",
        "http://h/a b",
        "http://h\n",
        "http://user@h",
        "http://:word@h",
        "http://[::1",
        "http://h..example",
        "http://" + "h" * 64,
    ],
)
def test_an_endpoint_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """A variable that holds no endpoint is refused by its name, before anything is asked."""
    monkeypatch.setenv(ENDPOINT_VARIABLE, endpoint + "x" * (endpoint[-1] == "\n"))
    with pytest.raises(IdentityError, match=ENDPOINT_VARIABLE):
        MetadataClient()


class _Raw:
    """Answers every connection with the same bytes, whatever was asked."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        # shutdown wakes the accept in the thread; close alone does not.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65_536)
                try:
                    connection.sendall(self._answer)
                except OSError:
                    continue


# The site


@pytest.mark.parametrize(
    ("settings", "identity", "site"),
    [
        (
            configured(EC2, VPC, site="vpc"),
            Identity(id="a", private=IPv4Address("10.21.0.1")),
            "vpc",
        ),
        (configured(EC2, VPC), IDENTITY, "ec2"),
        (
            configured(EC2, VPC),
            Identity(id="a", private=IPv4Address("10.21.0.1"), vpc_id="vpc-0aa1"),
            "ec2",  # the VPC id comes before the longer prefix
        ),
        (configured(EC2, VPC), Identity(id="a", private=IPv4Address("10.21.0.1")), "vpc"),
        (configured(EC2, VPC), Identity(id="a", private=IPv4Address("10.9.0.1")), "ec2"),
        (
            configured(Site(name="a", private=EC2.private), Site(name="b", private=VPC.private)),
            Identity(id="a", private=IPv4Address("10.21.0.1"), vpc_id="vpc-0cc3"),
            "b",  # nobody lists VPC ids
        ),
    ],
)
def test_the_site(settings: Settings, identity: Identity, site: str) -> None:
    """The site is the configured one, else the VPC id's, else the longest private prefix's."""
    decision = decide_site(settings, identity)
    assert decision.site == site
    assert decision.warning is None


@pytest.mark.parametrize(("vpc_id", "site"), [("vpc-0cc3", "vpc"), (None, "ec2")])
def test_only_a_2014_file_falls_back_on_having_a_vpc(vpc_id: str | None, site: str) -> None:
    """Only a file without sites decides by having a VPC id, and warns."""
    decision = decide_site(configured(), Identity(id="a", private=PRIVATE, vpc_id=vpc_id))
    assert decision.site == site
    assert decision.warning is not None
    assert "as in 2014" in decision.warning


@pytest.mark.parametrize(
    ("settings", "identity", "says"),
    [
        (
            configured(EC2, VPC),
            Identity(id="a", private=PRIVATE, vpc_id="vpc-0cc3"),
            ["vpc-0cc3", "ec2: vpc-0aa1", "Write vpc_ids: [vpc-0cc3]"],
        ),
        (
            configured(EC2, VPC),
            Identity(id="a", private=IPv4Address("172.16.0.1")),
            ["172.16.0.1", "ec2: 10.0.0.0/8", "in no site's private range"],
        ),
        (
            configured(Site(name="a", private=EC2.private), Site(name="b", private=EC2.private)),
            Identity(id="a", private=PRIVATE),
            ["10.0.0.0/8", "a and of b", "Write site: a or site: b"],
        ),
        (
            configured(EC2, VPC, site="vpc"),
            Identity(id="a", private=PRIVATE),
            ["10.0.0.11 is outside the private ranges of its site vpc"],
        ),
        (
            configured(Site(name="a", public=(IPv4Network("203.0.113.0/24"),)), site="a"),
            Identity(id="a", private=PRIVATE, public=PUBLIC),
            ["198.51.100.11 is outside the public ranges"],
        ),
        (
            configured(identity=StaticIdentity(id="db-1", private=PRIVATE)),
            Identity(id="db-1", private=PRIVATE),
            ["this host is db-1", "Write site: ec2 or site: vpc"],
        ),
    ],
)
def test_what_cannot_be_decided_says_what_was_seen(
    settings: Settings, identity: Identity, says: list[str]
) -> None:
    """An undecidable site is an error that says what was seen and what to write."""
    with pytest.raises(IdentityError) as caught:
        decide_site(settings, identity)
    for words in says:
        assert words in str(caught.value)


_NETWORKS = st.sampled_from(["10.0.0.0/8", "10.0.0.0/16", "10.1.0.0/16", "172.16.0.0/12"])
_SITES = st.lists(_NETWORKS.map(IPv4Network), max_size=3).map(tuple)


@given(_SITES, _SITES, st.ip_addresses(v=4))
def test_a_decided_site_contains_the_host(
    a: tuple[IPv4Network, ...], b: tuple[IPv4Network, ...], private: IPv4Address
) -> None:
    """A decided site contains the host with a longer prefix than any other site."""
    sites = {"a": Site(name="a", private=a), "b": Site(name="b", private=b)}
    try:
        site = decide_site(configured(*sites.values()), Identity(id="h", private=private)).site
    except IdentityError:
        return
    other = next(name for name in sites if name != site)
    longest = max(n.prefixlen for n in sites[site].private if private in n)
    assert all(n.prefixlen < longest for n in sites[other].private if private in n)


# All together, and what is remembered


@pytest.fixture(name="notices")
def _notices() -> list[str]:
    return []


def found(
    service: MetadataService,
    folder: Path,
    notices: list[str],
    *,
    machine: str = "this machine",
    fault: Fault | None = None,
) -> Host:
    return discover(
        configured(EC2, VPC, addresses=(ip_address("10.0.0.12"),)),
        cache_dir=folder,
        clock=ManualClock(),
        source=source_at(service, fault=fault),
        machine=machine,
        notice=notices.append,
    )


HOST = Host(
    id="i-0a1b2c3d",
    site="ec2",
    private=PRIVATE,
    public=PUBLIC,
    more=(IPV6, ip_address("10.0.0.12")),
)


def test_discover(service: MetadataService, tmp_path: Path, notices: list[str]) -> None:
    """A discovered host has its site and further addresses, and its answer is kept privately."""
    assert found(service, tmp_path, notices) == HOST
    assert not notices
    assert stat.S_IMODE((tmp_path / "identity.json").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["identity.json"]


def test_discover_by_the_environment(
    service: MetadataService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no source given, the endpoint comes from the environment."""
    monkeypatch.setenv(ENDPOINT_VARIABLE, service.endpoint)
    host = discover(configured(EC2, VPC), cache_dir=tmp_path, clock=ManualClock(), machine="m")
    assert host.private == PRIVATE


def test_a_changed_address_is_seen(
    service: MetadataService, tmp_path: Path, notices: list[str]
) -> None:
    """A remembered answer never hides a new one."""
    found(service, tmp_path, notices)
    service.change(public=IPv4Address("198.51.100.99"))
    assert found(service, tmp_path, notices).public == IPv4Address("198.51.100.99")


def test_silence_is_bridged_by_the_cache(
    service: MetadataService, tmp_path: Path, notices: list[str]
) -> None:
    """While the service keeps failing, the last answer stands in, and that is said."""
    found(service, tmp_path, notices)
    service.fail(Fault.SERVER_ERROR)
    assert found(service, tmp_path, notices) == HOST
    assert "Using the answer from 0 s ago" in notices[0]


@pytest.mark.parametrize("fault", [Fault.UNAUTHORIZED, Fault.GARBAGE, Fault.NOT_FOUND])
def test_a_wrong_answer_is_not_bridged(
    service: MetadataService, tmp_path: Path, notices: list[str], fault: Fault
) -> None:
    """A service that answers wrongly is never overruled by the cache."""
    found(service, tmp_path, notices)
    service.fail(fault)
    with pytest.raises(IdentityError):
        found(service, tmp_path, notices)


def test_an_image_does_not_boot_as_its_original(
    service: MetadataService, tmp_path: Path, notices: list[str]
) -> None:
    """An answer remembered on another machine is named and never used."""
    found(service, tmp_path, notices)
    service.fail(Fault.HANG)
    with pytest.raises(SourceSilent):
        found(service, tmp_path, notices, machine="another machine", fault=Fault.HANG)
    assert "another machine's (i-0a1b2c3d" in notices[0]


def test_an_unknown_machine_remembers_nothing(
    service: MetadataService, tmp_path: Path, notices: list[str]
) -> None:
    """Without a fingerprint nothing is remembered, since nothing could bind it."""
    found(service, tmp_path, notices, machine="")
    assert not (tmp_path / "identity.json").exists()


@pytest.mark.parametrize(("boot", "age"), [("boot-1", 60.0), ("boot-2", 86_460.0)])
def test_the_age_of_an_answer_is_told_by_a_clock_that_nobody_sets(
    tmp_path: Path, boot: str, age: float
) -> None:
    """Within one boot; across a reboot only the wall clock can say."""
    clock = ManualClock()

    def cache(boot: str) -> IdentityCache:
        return IdentityCache(folder=tmp_path, machine="m", clock=clock, boot=boot, notice=print)

    cache("boot-1").remember(Identity(id="a", private=HOST.private))
    clock.advance(60.0)
    clock.set += 86_400.0
    remembered = cache(boot).recall()
    assert remembered is not None
    assert remembered.age_seconds == age


@given(st.binary(max_size=200))
def test_a_damaged_cache_is_ignored_and_said(content: bytes) -> None:
    """Whatever the cache file holds, it is ignored with one notice and raises nothing."""
    notices: list[str] = []
    cache = IdentityCache(
        folder=Path("/nowhere"), machine="m", clock=ManualClock(), boot="b", notice=notices.append
    )
    assert cache.read(content) is None
    assert len(notices) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"format": 0},
        {"format": "new"},
        {"at": "yesterday"},
        {"at": float("nan")},
        {"identity": []},
        {"identity": {"id": "a b", "private": "10.0.0.1", "public": None, "ipv6": []}},
        {"identity": {"id": "a", "private": "10.0.0.0/8", "public": None, "ipv6": []}},
    ],
)
def test_a_cache_of_another_shape_is_ignored_and_said(
    service: MetadataService, tmp_path: Path, notices: list[str], change: dict[str, object]
) -> None:
    """A cache with a part of another shape is ignored as a whole."""
    found(service, tmp_path, notices)
    path = tmp_path / "identity.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    service.fail(Fault.SERVER_ERROR)
    with pytest.raises(SourceSilent):
        found(service, tmp_path, notices)
    assert "is ignored because it is damaged" in notices[0]


def test_a_cache_of_a_later_format_is_used_if_all_is_there(
    service: MetadataService, tmp_path: Path, notices: list[str]
) -> None:
    """After a downgrade, before there is a network, a host has to know who it is."""
    before = found(service, tmp_path, notices)
    path = tmp_path / "identity.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 9, "newer": [1]}))
    service.fail(Fault.SERVER_ERROR)
    assert found(service, tmp_path, notices) == before


def test_a_folder_that_cannot_be_written_to_is_only_noticed(
    service: MetadataService, tmp_path: Path, notices: list[str]
) -> None:
    """A good answer is used even where it cannot be remembered."""
    (tmp_path / "file").write_text("")
    assert found(service, tmp_path / "file", notices) == HOST
    assert "could not be saved" in notices[0]


def test_a_link_in_the_folder_is_not_followed(
    service: MetadataService, tmp_path: Path, notices: list[str]
) -> None:
    """Remembering never writes through a link that somebody laid."""
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / ".identity.json.new").symlink_to(target)
    found(service, tmp_path, notices)
    assert target.read_text() == "precious"


def test_static_identity_asks_nobody(tmp_path: Path) -> None:
    """A static identity is used as written, and nothing is remembered of it."""
    own = StaticIdentity(id="db-1", private=PRIVATE, ipv6=IPV6)
    host = discover(configured(EC2, VPC, identity=own), cache_dir=tmp_path, clock=ManualClock())
    assert host == Host(id="db-1", site="ec2", private=PRIVATE, public=None, more=(IPV6,))
    assert not os.listdir(tmp_path)


def test_too_many_addresses_for_an_entry() -> None:
    """More addresses than an entry holds are an error on this host only."""
    many = tuple(ip_address(int(IPv6Address("2001:db8::")) + n) for n in range(65))
    own = StaticIdentity(id="db-1", private=PRIVATE)
    with pytest.raises(IdentityError, match="65 further addresses"):
        discover(configured(EC2, identity=own, addresses=many))


def test_commands_that_only_look_leave_nothing_behind(
    service: MetadataService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a folder for the cache nothing is written, and silence is an error."""
    monkeypatch.chdir(tmp_path)
    assert discover(configured(EC2, VPC), source=source_at(service)).id == "i-0a1b2c3d"
    service.fail(Fault.SERVER_ERROR)
    with pytest.raises(SourceSilent):
        discover(configured(EC2, VPC), source=source_at(service))
    assert not os.listdir(tmp_path)


def test_a_host_without_a_public_address_is_a_host(service: MetadataService) -> None:
    """A host that has no public address is registered without one, in its site."""
    service.change(public=None, ipv6=())
    host = discover(configured(EC2, VPC), source=source_at(service))
    assert host == Host(id="i-0a1b2c3d", site="ec2", private=PRIVATE, public=None)


def test_the_remembered_answer_tells_its_age(
    service: MetadataService, tmp_path: Path, notices: list[str]
) -> None:
    """An old answer is used with a notice of how old it is, however long the silence."""
    clock = ManualClock()
    for _ in range(2):
        host = discover(
            configured(EC2, VPC),
            cache_dir=tmp_path,
            clock=clock,
            source=source_at(service),
            machine="m",
            notice=notices.append,
        )
        service.fail(Fault.SERVER_ERROR)
        clock.advance(86_400)
    assert host.private == PRIVATE
    assert "the answer from 86400 s ago" in notices[0]


# The machine


def test_the_fingerprint_tells_machines_apart(tmp_path: Path) -> None:
    """A copied disk on other hardware has another fingerprint, and no raw id is in it."""
    machine_id, product = tmp_path / "machine-id", tmp_path / "product_uuid"
    machine_id.write_text("3d1219c7c4c5404aaa1f6d2a48adfda4\n")
    alone = fingerprint([machine_id, product])
    product.write_text("ec2f1e0a-0000-0000-0000-000000000001\n")
    original = fingerprint([machine_id, product])
    product.write_text("ec2f1e0a-0000-0000-0000-000000000002\n")
    copied = fingerprint([machine_id, product])
    assert len({alone, original, copied}) == 3
    assert "3d1219c7" not in original


def test_the_fingerprint_is_of_the_disk_and_of_the_hardware() -> None:
    """Both the installation's id and the hardware's own are in the fingerprint."""
    assert {"machine-id", "product_uuid"} <= {path.name for path in SOURCES}


def test_no_fingerprint_without_anything_to_tell_by(tmp_path: Path) -> None:
    """Blank or missing ids give no fingerprint rather than one shared by many."""
    blank = tmp_path / "machine-id"
    blank.write_text("uninitialized\n")
    assert fingerprint([blank, tmp_path / "none", tmp_path]) == ""

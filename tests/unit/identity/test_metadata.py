"""The lab's metadata service behaves as EC2's: tokens, paths, listings, refusals, and faults."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from types import MappingProxyType
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.clock import ManualClock
from neti.identity.ec2 import Ec2Source
from neti.identity.imds import MetadataClient
from neti_lab.metadata import (
    _AT_ONCE,
    Address,
    Fault,
    InstanceMetadata,
    Interface,
    MetadataService,
    contents,
    lookup,
)

INSTANCE = InstanceMetadata(
    instance_id="i-0a1b2c3d",
    private=IPv4Address("10.0.0.11"),
    public=IPv4Address("198.51.100.11"),
    vpc_id="vpc-0aa1",
    ipv6=(IPv6Address("2001:db8::11"), IPv6Address("2001:db8::12")),
)
TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
MAC = "/latest/meta-data/network/interfaces/macs/02:00:00:00:00:01"


@pytest.fixture(name="clock")
def _clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(name="service")
def _service(clock: ManualClock) -> Iterator[MetadataService]:
    service = MetadataService(INSTANCE, monotonic=clock.monotonic)
    service.start()
    yield service
    service.close()


Headers = Mapping[str, str]


def ask(
    service: MetadataService,
    method: str,
    path: str,
    headers: Headers = MappingProxyType({}),
    *,
    timeout: float = 20.0,
) -> tuple[int, str]:
    place = urlsplit(service.endpoint)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=timeout)
    try:
        connection.request(method, path, headers=dict(headers))
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def token(service: MetadataService, seconds: str = "60") -> str:
    status, body = ask(service, "PUT", "/latest/api/token", {TTL: seconds})
    assert status == 200
    return body


def get(service: MetadataService, path: str) -> tuple[int, str]:
    return ask(service, "GET", path, {TOKEN: token(service)})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/latest/meta-data/instance-id", "i-0a1b2c3d"),
        ("/latest/meta-data/local-ipv4", "10.0.0.11"),
        ("/latest/meta-data/public-ipv4", "198.51.100.11"),
        ("/latest/meta-data/mac", "02:00:00:00:00:01"),
        (f"{MAC}/vpc-id", "vpc-0aa1"),
        (f"{MAC}/ipv6s", "2001:db8::11\n2001:db8::12"),
        ("/latest/meta-data/placement/region", "us-east-1"),
        ("/latest/meta-data/placement/availability-zone", "us-east-1a"),
        ("/latest/meta-data/instance-type", "m1.large"),
        ("/latest/meta-data/placement/", "availability-zone\nregion"),
        ("/latest/meta-data/network/interfaces/macs/", "02:00:00:00:00:01/"),
    ],
)
def test_paths(service: MetadataService, path: str, body: str) -> None:
    """Leaves and directories that the SDKs read are where EC2 has them."""
    assert get(service, path) == (200, body)


def test_directories_are_listed_with_a_slash(service: MetadataService) -> None:
    """A directory's listing marks directories with a slash, as EC2's does."""
    status, body = get(service, "/latest/meta-data/")
    assert status == 200
    assert {"instance-id", "network/", "placement/", "public-ipv4"} <= set(body.split("\n"))
    assert "ipv6s" in get(service, f"{MAC}/")[1].split("\n")


def test_the_instance_identity_document(service: MetadataService) -> None:
    """The identity document agrees with the leaves."""
    status, body = get(service, "/latest/dynamic/instance-identity/document")
    document = json.loads(body)
    assert status == 200
    assert document["instanceId"] == "i-0a1b2c3d"
    assert document["privateIp"] == "10.0.0.11"
    assert document["region"] == "us-east-1"


def test_who_opens_many_connections_gets_a_few_and_harms_nobody_for_long(
    service: MetadataService,
) -> None:
    """The rest is closed at once; when the few are gone, the service answers again."""
    parts = urlsplit(service.endpoint)
    place = (parts.hostname, parts.port or 0)
    few = [socket.create_connection(place, 20) for _ in range(_AT_ONCE)]
    with socket.create_connection(place, 20) as one_more:
        assert one_more.recv(1) == b""
    for one in few:
        one.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert one.makefile("rb").read().startswith(b"HTTP/1.1 401")
        one.close()
    assert MetadataClient(service.endpoint).get("/latest/meta-data/instance-id") == "i-0a1b2c3d"


@pytest.mark.parametrize("path", ["/latest/meta-data/nothing", "/2008-02-01/meta-data/", "/", "/x"])
def test_anything_else_is_not_found(service: MetadataService, path: str) -> None:
    """A path that is nowhere is a 404, also outside /latest/."""
    assert get(service, path)[0] == 404


def test_what_an_instance_lacks_is_not_found(service: MetadataService) -> None:
    """What an instance lacks is a 404 and in no listing."""
    service.change(public=None, vpc_id=None, ipv6=())
    assert get(service, "/latest/meta-data/public-ipv4")[0] == 404
    assert get(service, f"{MAC}/vpc-id")[0] == 404
    assert get(service, f"{MAC}/")[1].split("\n") == ["device-number", "local-ipv4s", "mac"]


@pytest.mark.parametrize("seconds", ["0", "21601", "-1", "", "ten", "²", "9" * 400])
def test_a_wrong_ttl_is_a_bad_request(service: MetadataService, seconds: str) -> None:
    """A token's lifetime outside EC2's limits is refused."""
    assert (
        ask(service, "PUT", "/latest/api/token", {TTL: seconds.encode().decode("latin-1")})[0]
        == 400
    )


def test_a_token_without_a_ttl_is_a_bad_request(service: MetadataService) -> None:
    """A token without a lifetime is refused."""
    assert ask(service, "PUT", "/latest/api/token")[0] == 400


def test_the_longest_ttl(service: MetadataService) -> None:
    """A token may live for EC2's six hours."""
    assert token(service, "21600")


def test_a_proxy_is_refused(service: MetadataService) -> None:
    """A token asked for through a proxy is refused, as EC2 does."""
    answer = ask(service, "PUT", "/latest/api/token", {TTL: "60", "X-Forwarded-For": "10.0.0.1"})
    assert answer[0] == 403


def test_nothing_without_a_token(service: MetadataService) -> None:
    """Nothing is told without a token, or with a guessed one."""
    path = "/latest/meta-data/instance-id"
    assert ask(service, "GET", path) == (401, "")
    assert ask(service, "GET", path, {TOKEN: "guessed"})[0] == 401


def test_tokens_end(service: MetadataService, clock: ManualClock) -> None:
    """A token is void from the second that it ends."""
    path, held = "/latest/meta-data/instance-id", token(service, "60")
    clock.advance(59)
    assert ask(service, "GET", path, {TOKEN: held})[0] == 200
    clock.advance(1)
    assert ask(service, "GET", path, {TOKEN: held})[0] == 401


def test_content_changes_while_it_runs(service: MetadataService) -> None:
    """A changed instance is told from the next request on."""
    service.change(public=IPv4Address("198.51.100.99"))
    assert get(service, "/latest/meta-data/public-ipv4") == (200, "198.51.100.99")
    assert service.instance.public == IPv4Address("198.51.100.99")


@pytest.mark.parametrize(
    ("fault", "status"),
    [
        (Fault.UNAUTHORIZED, 401),
        (Fault.FORBIDDEN, 403),
        (Fault.NOT_FOUND, 404),
        (Fault.THROTTLED, 429),
        (Fault.SERVER_ERROR, 500),
        (Fault.UNAVAILABLE, 503),
        (Fault.GARBAGE, 200),
    ],
)
def test_faults_begin_and_end(service: MetadataService, fault: Fault, status: int) -> None:
    """A fault holds until it is mended, and no longer."""
    service.fail(fault)
    answer = ask(service, "PUT", "/latest/api/token", {TTL: "60"})
    assert answer[0] == status
    service.mend()
    assert token(service)


def test_a_fault_may_be_on_one_path_only(service: MetadataService) -> None:
    """A fault on one path leaves the others as they were."""
    service.fail(Fault.SERVER_ERROR, path="vpc-id")
    assert get(service, f"{MAC}/vpc-id")[0] == 500
    assert get(service, "/latest/meta-data/mac")[0] == 200


def test_a_hanging_request_ends_with_the_fault(service: MetadataService) -> None:
    """A hanging service answers again once it is mended."""
    service.fail(Fault.HANG)
    with pytest.raises(TimeoutError):
        ask(service, "PUT", "/latest/api/token", {TTL: "60"}, timeout=0.05)
    service.mend()
    assert token(service)


def test_closing_ends_a_hanging_request() -> None:
    """Closing leaves no thread behind, hanging requests included."""
    before = threading.active_count()
    service = MetadataService(INSTANCE)
    service.start()
    service.fail(Fault.HANG)
    with pytest.raises(TimeoutError):
        ask(service, "GET", "/", timeout=0.05)
    service.close()
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and "process_request" in thread.name:
            thread.join(5)
    assert threading.active_count() <= before


def test_it_serves_on_a_socket_that_is_given() -> None:
    """It serves on a socket from elsewhere, and closes it in the end."""
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    service = MetadataService(INSTANCE, listener)
    service.start()
    assert service.endpoint == f"http://127.0.0.1:{port}"
    assert get(service, "/latest/meta-data/instance-id")[1] == "i-0a1b2c3d"
    service.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_a_service_that_never_started_can_be_closed() -> None:
    """Closing what never started does not wait for ever."""
    MetadataService(INSTANCE).close()


def test_kept_alive_connections_work(service: MetadataService) -> None:
    """A body that was sent is not taken for the next request."""
    place = urlsplit(service.endpoint)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=5)
    for _ in range(3):
        connection.request("PUT", "/latest/api/token", body=b"ignored", headers={TTL: "60"})
        response = connection.getresponse()
        assert response.status == 200
        assert response.read()
    connection.close()


def test_a_nonsensical_length_is_answered_at_once(service: MetadataService) -> None:
    """A negative or wordy Content-Length does not make the service wait for a body."""
    for length in ("-1", "-5", "many"):
        headers = {TTL: "60", "Content-Length": length}
        assert ask(service, "PUT", "/latest/api/token", headers, timeout=20)[0] == 200


@given(st.text(alphabet="latest/me-da0.:", max_size=60))
def test_no_path_breaks_the_lookup(path: str) -> None:
    """No path raises, and nothing outside /latest/ is found."""
    found = lookup(contents(INSTANCE), path)
    assert found is None or path.startswith("/latest/")


def test_several_addresses_and_interfaces(service: MetadataService) -> None:
    """Each interface lists its own VPC and addresses, and which public one is which private's."""
    service.change(
        further=(
            Address(private=IPv4Address("10.0.0.12"), public=IPv4Address("198.51.100.12")),
            Address(private=IPv4Address("10.0.0.13")),
        ),
        interfaces=(
            Interface(
                mac="02:00:00:00:00:02",
                vpc_id="vpc-0bb2",
                addresses=(Address(private=IPv4Address("10.9.0.1")),),
            ),
        ),
    )
    other = MAC.replace(":01", ":02")
    macs = get(service, "/latest/meta-data/network/interfaces/macs/")[1]
    assert macs == "02:00:00:00:00:01/\n02:00:00:00:00:02/"
    assert get(service, f"{MAC}/local-ipv4s")[1] == "10.0.0.11\n10.0.0.12\n10.0.0.13"
    assert get(service, f"{MAC}/public-ipv4s")[1] == "198.51.100.11\n198.51.100.12"
    assert get(service, f"{MAC}/ipv4-associations/198.51.100.12")[1] == "10.0.0.12"
    assert [get(service, f"{m}/device-number")[1] for m in (MAC, other)] == ["0", "1"]
    assert [get(service, f"{m}/vpc-id")[1] for m in (MAC, other)] == ["vpc-0aa1", "vpc-0bb2"]
    assert get(service, f"{other}/public-ipv4s")[0] == 404
    assert get(service, "/latest/meta-data/local-ipv4")[1] == "10.0.0.11"


def test_tags_are_seen_only_where_that_is_allowed(service: MetadataService) -> None:
    """EC2 does not show them here unless the instance is set to."""
    path = "/latest/meta-data/tags/instance/overlay_ip"
    assert get(service, path)[0] == 404
    service.change(tags={"overlay_ip": "192.168.0.7"})
    assert get(service, path) == (200, "192.168.0.7")


def test_a_role_is_found_where_the_sdks_look(service: MetadataService) -> None:
    """Listed by name, its keys below; without a role there is nothing."""
    path = "/latest/meta-data/iam/security-credentials/"
    assert get(service, path)[0] == 404
    service.change(role="neti")
    assert get(service, path) == (200, "neti")
    assert json.loads(get(service, f"{path}neti")[1])["Code"] == "Success"


def test_too_many_requests_are_turned_away_for_a_while(
    service: MetadataService, clock: ManualClock
) -> None:
    """429 beyond the limit, token requests included, and again answers as time passes."""
    path, held = "/latest/meta-data/instance-id", token(service)
    service.throttle(3)
    answers = [ask(service, "GET", path, {TOKEN: held})[0] for _ in range(5)]
    assert answers == [200, 200, 200, 429, 429]
    assert ask(service, "PUT", "/latest/api/token", {TTL: "60"})[0] == 429
    clock.advance(1)
    assert ask(service, "GET", path, {TOKEN: held})[0] == 200
    service.throttle(None)
    assert {ask(service, "GET", path, {TOKEN: held})[0] for _ in range(9)} == {200}


def test_the_identity_client_waits_out_throttling(
    service: MetadataService, clock: ManualClock
) -> None:
    """As it would EC2's own."""
    service.throttle(2)
    client = MetadataClient(service.endpoint, sleep=clock.advance)
    assert Ec2Source(client).read().id == "i-0a1b2c3d"


def test_stopped_and_started_it_is_the_same_with_another_public_address(
    service: MetadataService,
) -> None:
    """Id and private address stay, tokens do not; whoever holds one gets a new one."""
    client = MetadataClient(service.endpoint)
    before = Ec2Source(client).read()
    held = token(service)
    service.stop_and_start(public=IPv4Address("198.51.100.99"))
    assert ask(service, "GET", "/latest/meta-data/mac", {TOKEN: held})[0] == 401
    after = Ec2Source(client).read()
    assert (after.id, after.private) == (before.id, before.private)
    assert after.public == IPv4Address("198.51.100.99")
    service.stop_and_start(public=None)
    assert Ec2Source(client).read().public is None


def test_the_hop_limit_counts_from_outside_the_instance(service: MetadataService) -> None:
    """On the instance itself it never matters; a container behind it needs one hop more."""
    assert service.answer_ttl("127.0.0.1") is None
    assert service.answer_ttl("10.0.0.11") is None
    assert service.answer_ttl("172.17.0.2") == 0
    service.change(hop_limit=2)
    assert service.answer_ttl("172.17.0.2") == 1

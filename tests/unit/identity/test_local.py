"""Who this host is by what the machine itself says: one file for many machines."""

import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from neti.errors import IdentityError, NetiError
from neti.identity import here
from neti.identity.here import LocalSource, addresses, default_mac, machine_digits
from neti.model.settings import LocalIdentity

# Two interfaces, as the kernel prints them; 10.8.0.5 stands in table main and in table local.
TRIE = """\
Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 10.8.0.0/24 2 0 1
        |-- 10.8.0.0
           /24 link UNICAST
        |-- 10.8.0.5
           /32 host LOCAL
        |-- 10.8.0.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     |-- 172.17.0.1
        /32 host LOCAL
Local:
  +-- 10.8.0.5/32
     |-- 10.8.0.5
        /32 host LOCAL
"""
ROUTES = """\
Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
wlan0\t00000000\t0100080A\t0003\t0\t0\t600\t00000000\t0\t0\t0
eth0\t00000000\t0100080A\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth1\t00000000\t0100080A\t0002\t0\t0\t1\t00000000\t0\t0\t0
eth0\t0000080A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0
"""

GIVEN = IPv4Address("10.8.0.5")


def local(
    *,
    id: str | Path = "db-1",
    given: bool = True,
    private: IPv4Address | IPv4Network | str = GIVEN,
) -> LocalSource:
    return LocalSource(LocalIdentity(id=id, id_is_given=given, private=private))


@pytest.fixture(name="trie")
def _trie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def holds(text: str) -> None:
        (tmp_path / "trie").write_text(text)
        found = addresses(tmp_path / "trie")
        monkeypatch.setattr(here, "addresses", lambda: found)

    return holds


def test_the_only_address_in_a_range(trie: Callable[[str], None]) -> None:
    """The range says which of the machine's networks is the site's."""
    trie(TRIE)
    assert local(private=IPv4Network("10.8.0.0/16")).read().private == IPv4Address("10.8.0.5")


def test_two_addresses_in_the_range_are_not_chosen_from(trie: Callable[[str], None]) -> None:
    trie(TRIE.replace("172.17.0.1", "10.8.7.1"))
    with pytest.raises(IdentityError, match=r"10\.8\.0\.5, 10\.8\.7\.1 are all in 10\.8\.0\.0/"):
        local(private=IPv4Network("10.8.0.0/16")).read()


def test_no_address_in_the_range(trie: Callable[[str], None]) -> None:
    """What there is instead is said: mostly the range is mistyped."""
    trie(TRIE)
    with pytest.raises(IdentityError, match=r"in 10\.9\.0\.0/16.*it has 10\.8\.0\.5, 172\.17"):
        local(private=IPv4Network("10.9.0.0/16")).read()


def test_this_machines_addresses_are_what_the_kernel_lists() -> None:
    """The real file: the address by which this machine would be reached is among them."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # of a datagram: nothing is sent
        except OSError:
            pytest.skip("this machine has no way out")
        assert IPv4Address(sock.getsockname()[0]) in addresses()


def test_an_interfaces_address(monkeypatch: pytest.MonkeyPatch) -> None:
    assert here.address_of("lo") == IPv4Address("127.0.0.1")
    monkeypatch.setattr(here, "address_of", lambda name: {"eth0": GIVEN}[name])
    assert local(private="eth0").read().private == GIVEN


def test_an_address_that_no_other_host_reaches() -> None:
    """As if it had been written."""
    with pytest.raises(IdentityError, match=r"lo, which is .* says 127\.0\.0\.1, which no other"):
        local(private="lo").read()


def test_a_name_that_every_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost.localdomain")
    with pytest.raises(IdentityError, match="which every machine has until it gets one"):
        local(id="hostname", given=False).read()


def test_an_interface_that_is_not_there() -> None:
    with pytest.raises(IdentityError, match=r"the interface nosuch0.*has no IPv4 address"):
        local(private="nosuch0").read()


def test_the_same_public_address() -> None:
    own = LocalIdentity(
        id="db-1", id_is_given=True, private=IPv4Address("198.51.100.5"), public="same"
    )
    assert LocalSource(own).read().public == IPv4Address("198.51.100.5")


def test_the_host_name_up_to_its_first_dot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "db-1.prod.example.com")
    assert local(id="hostname", given=False).read().id == "db-1"


def test_an_id_that_is_really_called_so() -> None:
    assert local(id="hostname").read().id == "hostname"


@pytest.mark.parametrize("name", ["", "-db", "db 1", "x" * 41, "d\u00e4b"])
def test_a_host_name_that_is_no_id(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    with pytest.raises(IdentityError, match=r"this machine's host name is .*no host id"):
        local(id="hostname", given=False).read()


def test_an_id_from_a_file(tmp_path: Path) -> None:
    """The first line counts; a comment below it is the operator's."""
    path = tmp_path / "host-id"
    path.write_text("rack3-db-1\n# by the provisioning\n")
    assert local(id=path, given=False).read().id == "rack3-db-1"


@pytest.mark.parametrize("content", ["", "\n", "two words\n", "#db-1\n"])
def test_a_file_without_an_id(content: str, tmp_path: Path) -> None:
    path = tmp_path / "host-id"
    path.write_text(content)
    with pytest.raises(IdentityError, match=f"the first line of {path} is .*no host id"):
        local(id=path, given=False).read()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NetiError, match="nothing-here, which is to say this host's id: "):
        local(id=tmp_path / "nothing-here", given=False).read()


def test_the_machine_id_is_not_told_itself() -> None:
    """machine-id(5) asks for a hash. The same machine has the same one, always."""
    told = machine_digits("3d1219c7c4c5404aaa1f6d2a48adfda4")
    assert told == "073120a56e95159a"
    assert machine_digits("3d1219c7c4c5404aaa1f6d2a48adfda5") != told


@pytest.mark.parametrize("nothing", ["", "uninitialized"])
def test_an_image_that_has_no_machine_id_yet(nothing: str) -> None:
    with pytest.raises(IdentityError, match="this machine has no id"):
        machine_digits(nothing)


def test_the_mac_of_the_default_route(tmp_path: Path) -> None:
    """The route with the lowest metric of those that are up."""
    (tmp_path / "route").write_text(ROUTES)
    (tmp_path / "eth0").mkdir()
    (tmp_path / "eth0/address").write_text("02:00:00:00:00:01\n")
    assert default_mac(tmp_path / "route", tmp_path) == "02:00:00:00:00:01"


@pytest.mark.parametrize("text", ["", "Iface\n", "Iface\nnonsense\n", ROUTES])
def test_without_a_default_route_or_its_card(text: str, tmp_path: Path) -> None:
    (tmp_path / "route").write_text(text)
    assert default_mac(tmp_path / "route", tmp_path) is None

"""What ``neti status`` says of the encrypted road."""

from dataclasses import replace

import pytest

from neti.cli.encryption import lines
from neti.monitoring.encryption import Crossing, Encryption, Unheard
from neti.stage.excepted import Excepted

NOW = 10_000.0
SEEN = Encryption(
    implementation="module",
    port=51820,
    mtu=1420,
    public_key="AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
    peers=3,
    shaken=2,
    oldest_handshake=NOW - 90,
    last_handshake=NOW - 5,
    received=1536,
    sent=92,
    keyless=3,
    keyless_ids=("old-1", "old-2"),
    unheard_count=2,
    unheard=(Unheard(id="db-2", overlay="192.168.0.9", since=NOW - 400),),
    require_configured=True,
    sites={
        "lab": Crossing(asked="prefer", plain=1, preferred=4),
        "vpc": Crossing(asked="require", trying=1, preferred=2),
    },
)

PEERS = "3 peers, 2 with a handshake (the last 5 s ago, the oldest 90 s ago)"


@pytest.fixture(autouse=True)
def _at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: NOW)


def test_every_site_says_who_is_encrypted() -> None:
    """Which device, then each site, then who is missing."""
    first, *below = lines(SEEN)
    assert first == "encrypted by the kernel's WireGuard module, UDP 51820, MTU 1420"
    assert [line.strip() for line in below] == [
        "key AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        f"{PEERS}; 1.5 KiB received, 92 B sent",
        "lab: prefer: 4 encrypted, 1 in the clear",
        "vpc: require, which is NOT in effect: 'neti enforce': 2 encrypted, 1 in the clear",
        "3 members without a key: old-1, old-2 and 1 more",
        "no answer from db-2 (192.168.0.9), which last shook hands 400 s ago",
        "and 1 more do not answer",
    ]


def test_what_is_required_and_in_effect() -> None:
    """A member without a key is cut off then."""
    seen = replace(
        SEEN, requires=True, sites={"vpc": Crossing(asked="require", required=2, none=1)}
    )
    said = "vpc: require: 2 encrypted, 0 in the clear, 1 cut off, without a key"
    assert said in [line.strip() for line in lines(seen)]


def test_what_the_file_lets_through_is_named_beside_nothing_in_the_clear() -> None:
    ports = (Excepted("open_ports", f"{port}/tcp", 1) for port in range(80, 86))
    seen = replace(
        SEEN,
        requires=True,
        sites={"vpc": Crossing(asked="require", required=3)},
        excepted=(
            Excepted("trusted", "203.0.113.0/24", 3),
            *ports,
            Excepted("open_ports", "9/udp"),
        ),
    )
    said = [line.strip() for line in lines(seen)]
    at = said.index("vpc: require: 3 encrypted, 0 in the clear")
    one, other = said[at + 1 : at + 3]
    assert one == "may go in the clear by trusted: 203.0.113.0/24 (3 members)"
    assert other.startswith("may go in the clear by open_ports: 80/tcp (1 member), 81/tcp")
    assert other.endswith("84/tcp (1 member) and 2 more")


def test_what_is_required_on_trial_is_in_effect_until_it_ends() -> None:
    said = [line.strip() for line in lines(replace(SEEN, on_trial=True))]
    assert any(line.startswith("vpc: require, on trial: what goes in the clear") for line in said)
    assert not any("NOT in effect" in line for line in said)


def test_without_a_device_here_nobody_else_is_blamed() -> None:
    sites = {"vpc": Crossing(asked="require", none=2)}
    seen = Encryption(require_configured=True, requires=True, sites=sites)
    said = [line.strip() for line in lines(seen)]
    counts = "0 encrypted, 0 in the clear, 2 cut off, because this host has no device"
    assert f"vpc: require: {counts}" in said


def test_while_neti_is_down_nothing_is_counted() -> None:
    assert lines(SEEN, down=True) == ["encrypted by nothing: Neti is down on this host"]


def test_a_host_without_wireguard_says_so() -> None:
    first, *below = lines(Encryption(sites={"vpc": Crossing(plain=2)}))
    assert first == "encrypted by nothing: this host has no WireGuard device"
    assert [line.strip() for line in below] == ["vpc: prefer: 0 encrypted, 2 in the clear"]

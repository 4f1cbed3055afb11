"""Members for the measurements: two sites, each with private and public addresses. Pure."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final

from neti.model import Member

OVERLAY: Final = IPv4Network("100.64.0.0/16")
AGENT_ID: Final = "bench-agent"
AGENT_OVERLAY: Final = IPv4Address("100.64.0.5")
AGENT_PRIVATE: Final = IPv4Address("10.0.0.5")
AGENT_PUBLIC: Final = IPv4Address("54.0.0.5")
ZOOKEEPER: Final = IPv4Address("10.0.0.1")
ZOOKEEPER_PORT: Final = 2181
TLS_PORT: Final = 2281
_FIRST: Final = 256  # the first 256 addresses of each range are for those above
_ELSEWHERE: Final = 0x8000  # the upper half of each range is for members that move
_SITES: Final = (
    ("ec2", IPv4Address("10.0.0.0"), IPv4Address("54.0.0.0")),
    ("vpc", IPv4Address("10.1.0.0"), IPv4Address("54.1.0.0")),
)


def member(number: int) -> Member:
    """Even numbers are in the agent's own site and mean three elements to it, odd ones two."""
    site, private, public = _SITES[number % 2]
    offset = _FIRST + number
    return Member(
        id=f"i-0{number:016x}",
        site=site,
        private=private + offset,
        public=public + offset,
        overlay=OVERLAY.network_address + offset,
    )


def moved(present: Member) -> Member:
    """The same host at other addresses, which no other member has; moved twice it is back."""
    return replace(
        present,
        private=IPv4Address(int(present.private) ^ _ELSEWHERE),
        public=IPv4Address(int(present.public) ^ _ELSEWHERE) if present.public else None,
        generation=present.generation + 1,
    )


def configuration(
    state: str, tls: dict[str, str] | None = None, encrypt: str = "off"
) -> dict[str, Any]:
    """The agent's neti.yml. ``tls``: its certificate, if any. ``encrypt``: what the site vpc says.
    ``linger_seconds`` is short, so that
    a hold is seen soon, and longer than ZooKeeper takes to tell of half of the fleet: the first
    ones would be let go."""
    return {
        "sites": {
            site: {
                "private": [f"{private}/16"],
                "public": [f"{public}/16"],
                "encrypt": encrypt if site == "vpc" else "off",
            }
            for site, private, public in _SITES
        },
        "site": "ec2",
        "identity": {
            "id": AGENT_ID,
            "private": str(AGENT_PRIVATE),
            "public": str(AGENT_PUBLIC),
        },
        "zk_hosts": {"ec2": [f"{ZOOKEEPER}:{TLS_PORT if tls else ZOOKEEPER_PORT}"]},
        **({"registry_tls": tls} if tls else {}),
        "overlay_subnet": str(OVERLAY),
        "ssh_whitelist": ["10.0.0.0/24"],
        "table_files_path": state,
        "linger_seconds": 5,
    }

"""Everything on a host that is not Neti's: rules, routes, addresses, sysctls. Read, never written.

Drills compare it before and after: Neti's own table and its one route are left out.
"""

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from neti.host.network import ROUTE_PROTOCOL
from neti.ruleset.objects import FAMILY_TABLE
from neti_lab import namespaces

_SETTLE_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.2
_SYSCTLS: Final = Path("/proc/sys/net")
# Counters and what the kernel draws anew at each reading.
_MOVING: Final = frozenset({"nf_conntrack_count", "stat_refresh"})
_EXPIRY: Final = re.compile(r" expires \S+")
_QUERIES: Final = {
    "IPv4 route": ("ip", "-4", "route", "show", "table", "all"),
    "IPv6 route": ("ip", "-6", "route", "show", "table", "all"),
    "rule": ("ip", "rule", "show"),
    "IPv6 rule": ("ip", "-6", "rule", "show"),
    "address": ("ip", "-o", "address", "show"),
}


def look(namespace: str) -> dict[str, str]:
    """Each thing by its name, with what it is now."""

    def inside() -> dict[str, str]:
        return dict(_everything())

    return namespaces.call_inside(namespace, inside)


def look_settled(namespace: str) -> dict[str, str]:
    """The same once it has been the same for a moment: a new interface takes a while."""
    seen, deadline = look(namespace), time.monotonic() + _SETTLE_SECONDS
    while time.monotonic() < deadline:
        time.sleep(_PAUSE_SECONDS)
        before, seen = seen, look(namespace)
        if seen == before:
            break
    return seen


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """A sentence for each thing that is not what it was."""
    return [
        f"{name}: was {before.get(name, 'not there')!r}, is {after.get(name, 'not there')!r}"
        for name in sorted(before.keys() | after.keys())
        if before.get(name) != after.get(name)
    ]


def _everything() -> Iterator[tuple[str, str]]:
    for name, table in _tables():
        yield f"nftables {name}", table
    for what, words in _QUERIES.items():
        for line in _EXPIRY.sub("", _output(*words)).splitlines():
            if f"proto {ROUTE_PROTOCOL}" not in line:
                yield f"{what} {' '.join(line.split())}", "there"
    for legacy in ("ip_tables_names", "ip6_tables_names"):
        path = Path("/proc/self/net", legacy)
        yield f"iptables {legacy}", path.read_text() if path.exists() else ""
    for path in sorted(_SYSCTLS.rglob("*")):
        if path.is_file() and path.name not in _MOVING:
            try:
                yield f"sysctl {path.relative_to('/proc/sys')}", path.read_text().strip()
            except OSError:
                continue  # written only, or not set


def _tables() -> Iterator[tuple[str, str]]:
    for block in _output("nft", "list", "ruleset").split("\ntable "):
        name, _, body = block.removeprefix("table ").partition(" {")
        if name.strip() and name != FAMILY_TABLE:
            yield name, body.rstrip().removesuffix("}").rstrip()


def _output(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout

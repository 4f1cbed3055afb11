"""What not every kernel that Neti runs on can do: since when, and what is lost without it."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Capability:
    """``since``: the kernel, and the libnftables, that brought it; kernels of long support may have
    it earlier. ``without``: what is the case otherwise."""

    code: str
    what: str
    since: str
    without: str


CONTROL_GROUPS: Final = Capability(
    "control_groups",
    "matching packets by control group",
    "Linux 5.13",
    "leftovers show a user, but no unit or container",
)
COUNTING: Final = Capability(
    "counting",
    "counters in set elements that rules add",
    "after Linux 5.4",
    "`neti preview` goes by when packets came, not by how many came",
)
WIREGUARD: Final = Capability(
    "wireguard",
    "WireGuard in the kernel",
    "Linux 5.6",
    "encryption needs wireguard-go on the host, which costs more CPU",
)
FILTERED_CONNECTIONS: Final = Capability(
    "filtered_connections",
    "listing connections by address",
    "Linux 5.8",
    "ending a removed member's connections reads the whole table once",
)
# Not here: what Neti cannot do without. A kernel before 5.4 refuses the table as a whole, and the
# agent says so.
CAPABILITIES: Final = {
    one.code: one for one in (WIREGUARD, FILTERED_CONNECTIONS, CONTROL_GROUPS, COUNTING)
}


def table() -> str:
    """In Markdown, for docs/platforms.md."""
    rows = [f"| {one.what} | {one.since} | {one.without} |" for one in CAPABILITIES.values()]
    return "\n".join(("| what | since | without it |", "|---|---|---|", *rows))

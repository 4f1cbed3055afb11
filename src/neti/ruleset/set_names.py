"""The named sets and maps of ``table inet neti`` whose elements this program writes. Pure.

Must never do: give two groups one set.
"""

import re
from typing import Final, Literal, NewType

# A set of one family's addresses of members of a group: its name comes from the configuration.
GroupSet = NewType("GroupSet", str)
# A set of what is open for a time to sources of one prefix length.
OpeningSet = NewType("OpeningSet", str)
# Only this program adds and removes elements of these.
KeptSet = Literal[
    "overlay",
    "peers4",
    "peers6",
    "across4",
    "across6",
    "tcp_listening",
    "udp_listening",
    "tunnel_peers",
    "tunneled",
    "clear4",
    "clear6",
    "outside4",
    "gateways",
    "gateway_near",
    "gateway_far",
    "gateway_inside",
    "gateway_own",
    "gateway_direct",
    "gateway_public",
]
# The kernel's clock may end elements of these.
_EndingSet = Literal[
    "revoked4",
    "revoked6",
    "grace",
    "enforce",
    "require",
    "narrowed",
]
SetName = KeptSet | _EndingSet | GroupSet | OpeningSet

_GROUP: Final = "group_"
_OPENING: Final = re.compile(r"opening(4_[0-9]{1,2}|6_[0-9]{1,3})", re.ASCII)


def group_sets(group: str) -> tuple[GroupSet, GroupSet]:
    """The sets of a group, of IPv4 and IPv6: ``group_app_4``, ``group_app_6``. No name of a group
    has an underscore."""
    name = group.replace("-", "_")
    return GroupSet(f"{_GROUP}{name}_4"), GroupSet(f"{_GROUP}{name}_6")


def group_set(name: str) -> GroupSet | None:
    """The name as a group's set; None: it is none."""
    ours = name.startswith(_GROUP) and name.endswith(("_4", "_6"))
    return GroupSet(name) if ours else None


def opening_set_of(version: int, length: int) -> OpeningSet:
    """``opening4_32``, ``opening6_64``: by IP version and length of the sources' prefix."""
    return OpeningSet(f"opening{version}_{length}")


def opening_set(name: str) -> OpeningSet | None:
    """The name as such a set; None: it is none."""
    return OpeningSet(name) if _OPENING.fullmatch(name) else None

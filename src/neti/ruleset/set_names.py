"""The named sets and maps of ``table inet neti`` whose elements this program writes. Pure.

Must never do: give two groups one set.
"""

from typing import Final, Literal, NewType

# A set of one family's addresses of members of a group: its name comes from the configuration.
GroupSet = NewType("GroupSet", str)
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
SetName = KeptSet | _EndingSet | GroupSet

_GROUP: Final = "group_"


def group_sets(group: str) -> tuple[GroupSet, GroupSet]:
    """The sets of a group, of IPv4 and IPv6: ``group_app_4``, ``group_app_6``. No name of a group
    has an underscore."""
    name = group.replace("-", "_")
    return GroupSet(f"{_GROUP}{name}_4"), GroupSet(f"{_GROUP}{name}_6")


def group_set(name: str) -> GroupSet | None:
    """The name as a group's set; None: it is none."""
    ours = name.startswith(_GROUP) and name.endswith(("_4", "_6"))
    return GroupSet(name) if ours else None

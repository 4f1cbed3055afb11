"""The chains that record who on this host still calls members by their real addresses. Pure.

They stand behind the translation, in chains of kind ``nat``: the kernel walks those for a
connection's first packet only, and what goes to an overlay address does not come so far.

Must never do: let a packet through, drop it, or rewrite it.
"""

from collections.abc import Iterator
from typing import Final

from neti.model.settings import IPNetwork, Settings
from neti.ruleset import policy_tunnel as tunneling
from neti.ruleset.networks import by_family, listed
from neti.ruleset.objects import SEEN_SECONDS, Chain
from neti.ruleset.reach import by_link
from neti.ruleset.surroundings import SENT_MARK, Surroundings

SIZE: Final = 4096
MISSED: Final = "unlisted"  # the counter of connections for which there was no room
_ROOM: Final = f"size {SIZE}; flags dynamic,timeout; timeout {SEEN_SECONDS}s"
_FAMILIES: Final = (("ip", "4", "ipv4_addr"), ("ip6", "6", "ipv6_addr"))
# ``socket cgroupv2 level N`` matches a program that is at least so deep. A service is at 2, a login
# session at 3, a pod's container at 4; what is deeper counts as its ancestor.
_DEPTHS: Final = (4, 3, 2, 1)


def sets(surroundings: Surroundings) -> Iterator[tuple[str, str]]:
    for _, version, kind in _FAMILIES:
        rest = f"{kind} . inet_proto . inet_service; {_ROOM}"
        if surroundings.control_groups:
            yield f"set leftover_by{version}", f"type uid . cgroupsv2 . {rest}"
        yield f"set leftover{version}", f"type uid . {rest}"
        yield f"set leftover_in{version}", f"type {kind} . {rest}"
    yield f"counter {MISSED}", "packets 0 bytes 0"


# What stands behind the translation, in the chains of programs here and of containers.
AFTER_OUTPUT: Final = 'meta l4proto { tcp, udp } oif != "lo" goto leftover'
AFTER_CONTAINERS: Final = "meta l4proto { tcp, udp } goto leftover_containers"


def chains(settings: Settings, surroundings: Surroundings) -> Iterator[Chain]:
    for word, version, _ in _FAMILIES:
        rest = f"{word} daddr . meta l4proto . th dport counter }} return"
        by_group = (
            f"update @leftover_by{version} {{ meta skuid . socket cgroupv2 level {depth} . {rest}"
            for depth in (_DEPTHS if surroundings.control_groups else ())
        )
        full = f'counter name "{MISSED}"'
        alone = f"update @leftover{version} {{ meta skuid . {rest}"
        yield Chain(f"leftover_seen{version}", None, (*by_group, alone, full))
        inside = f"update @leftover_in{version} {{ {word} saddr . {rest}"
        yield Chain(f"leftover_inside{version}", None, (inside, full))
    ours = f"meta mark & {SENT_MARK:#x} != 0 return"  # WireGuard's own packets, and probes
    encrypts = tunneling.encrypts(settings, surroundings)
    to_members = tuple(_to_members(settings, surroundings.site, "leftover_seen"))
    yield Chain("leftover", None, ((ours,) if encrypts else ()) + to_members)
    inside_out = tuple(_to_members(settings, surroundings.site, "leftover_inside"))
    yield Chain("leftover_containers", None, inside_out)


def _to_members(settings: Settings, own: str, then: str) -> Iterator[str]:
    """By the ranges too, because a host that has left is in no set any more."""
    for word, version, _ in _FAMILIES:
        yield f"{word} daddr @peers{version} goto {then}{version}"
    for word, networks in by_family(_ranges(settings, own)):
        yield f"{word} daddr {listed(networks)} goto {then}{'4' if word == 'ip' else '6'}"


def _ranges(settings: Settings, own: str) -> Iterator[IPNetwork]:
    """Addresses by which members are called from here. Private ranges of other sites may be
    somebody else's, unless a link leads there."""
    here = settings.sites.get(own)
    for name, site in settings.sites.items():
        if name == own or by_link(here, site):
            yield from site.private
        yield from site.public
        yield from site.ipv6

"""The chain that limits the segment size of connections to other sites. Pure.

Must never do: let a packet in, drop it, or raise the size that it names.
"""

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Network
from typing import Final

from neti.model.settings import Settings
from neti.ruleset.networks import by_family, listed
from neti.ruleset.objects import Chain
from neti.ruleset.reach import PUBLIC_ROAD_MTU, clamped_ranges, road_mtu
from neti.ruleset.surroundings import Surroundings

# IPv4's and IPv6's headers with TCP's (RFC 9293, 3.7.1): what an MTU leaves for a segment.
_HEADERS: Final[Mapping[str, int]] = {"ip": 40, "ip6": 60}


def clamp(settings: Settings, surroundings: Surroundings) -> Iterator[Chain]:
    """The first packet of a connection to another site names a segment size that fits the road.

    Otherwise, if the hosts' own networks carry more and somebody filters ICMP, small requests work
    and large ones hang. In both directions, because each side's SYN limits what the *other* side
    sends, and that side may have no such rule. The kernel only ever lowers the size.
    """
    if not _crosses(settings, surroundings):
        return
    own = settings.sites.get(surroundings.site)
    roads: dict[int, list[IPv4Network]] = {}
    narrowest = []
    for site in settings.sites.values():
        mtu = road_mtu(site, own) if site.name != surroundings.site else None
        if mtu is not None:
            narrowest.append(mtu)
            roads.setdefault(mtu, []).extend(clamped_ranges(site))
    rules = []
    for mtu, ranges in sorted(roads.items()):
        for _, networks in by_family(ranges):
            for end in ("saddr", "daddr"):
                rules += [f"ip {end} {listed(networks)} {_segment('ip', mtu)}"]
    # For these members no range says how narrow their road is, so the narrowest counts.
    for word, where in (("ip", "across4"), ("ip6", "across6")):
        for end in ("saddr", "daddr"):
            segment = _segment(word, min(narrowest, default=PUBLIC_ROAD_MTU))
            rules.append(f"{word} {end} @{where} {segment}")
    yield Chain("clamp", None, tuple(rules))


def _segment(word: str, mtu: int) -> str:
    return f"tcp option maxseg size set {mtu - _HEADERS[word]}"


def to_clamp(settings: Settings, surroundings: Surroundings) -> Iterator[str]:
    if _crosses(settings, surroundings):
        yield "tcp flags & (syn|rst) == syn jump clamp"


def _crosses(settings: Settings, surroundings: Surroundings) -> bool:
    return any(name != surroundings.site for name in settings.sites)

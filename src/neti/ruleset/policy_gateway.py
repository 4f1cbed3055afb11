"""The chains that carry encrypted packets through gateways: on a gateway, and on the hosts at both
ends. Pure.

A gateway rewrites addresses and ports of UDP by fixed maps. It holds no key, tracks nothing and
learns nothing. Each host has one address, ``via``, for all its peers that are reached through
gateways, told apart by port; which gateway it means is said by the table. So a gateway that dies
changes elements here, and no peer of WireGuard.

A probe is a packet that a member sends to a gateway's first port, which stands for nobody. On its
way it looks like WireGuard's in every part, and the gateway sends it back as it passes on all else:
by its maps, its forwarding and its road. Only within the prober is it told from WireGuard's.

Must never do: forward anything but WireGuard's packets between members, and a probe to anybody but
its sender; or let a packet choose where another one goes.
"""

from collections.abc import Iterator
from typing import Final

from neti.model.settings import Settings
from neti.ruleset.objects import Chain
from neti.ruleset.reach import uses_gateways
from neti.ruleset.surroundings import SENT_MARK, GatewayEnd, Surroundings

# Before connection tracking (-200), which must see a member's packets come from ``via``, and what
# is passed on not at all.
_ARRIVAL: Final = -310
# After tracking, for the same reason; and after mangle (-150).
_ROUTING: Final = -145
_FORWARD: Final = -10
_DEPARTURE: Final = 300
_DELIVERY: Final = 900  # when all tables have judged
_RELAYED: Final = "meta nfproto ipv4 ct state untracked udp sport"

# The gateways that this host hears from: other sites', or its own site's if it is behind them.
_GATEWAYS: Final = ("set gateways", "type ipv4_addr")
# Port of a member behind gateways -> the public address of the one that it goes through.
_FAR: Final = ("map gateway_far", "type inet_service : ipv4_addr")
# UDP -> the private address of the gateway that a host behind it goes through.
_NEAR: Final = ("map gateway_near", "type inet_proto : ipv4_addr")
_OF_A_GATEWAY: Final = (
    # Port of a member of the own site behind gateways -> its private address; and back.
    ("map gateway_inside", "type inet_service : ipv4_addr"),
    ("map gateway_own", "type ipv4_addr : inet_service"),
    # Port of another site's member with a public address -> that address; and back.
    ("map gateway_direct", "type inet_service : ipv4_addr"),
    ("map gateway_public", "type ipv4_addr : inet_service"),
)
# What a gateway passes on: from its site and into it; where our chain lets it through, and behind
# all other programs'. Probes that it sent back. What it drops: to a port that stands for nobody,
# and what is no member's and would be forwarded between uplinks.
_COUNTED: Final = tuple(
    (f"counter {name}", "packets 0 bytes 0")
    for name in (
        *("passed_outward", "passed_inward", "relayed", "relayed_out"),
        *("probes", "gateway_unknown", "gateway_foreign"),
    )
)
_UNKNOWN: Final = 'counter name "gateway_unknown" drop'


def sets(settings: Settings, surroundings: Surroundings) -> tuple[tuple[str, str], ...]:
    """Of every host that may have to reach others by gateways, whatever its own part: so that one
    may change its part without a new table."""
    used = uses_gateways(settings.sites, surroundings.site)
    return (_GATEWAYS, _NEAR, _FAR, *_OF_A_GATEWAY, *_COUNTED) if used else ()


def chains(settings: Settings, surroundings: Surroundings) -> Iterator[Chain]:
    end = surroundings.gateway
    if end is not None and uses_gateways(settings.sites, surroundings.site):
        yield from gateway_chains(end)


def gateway_sets(end: GatewayEnd) -> tuple[tuple[str, str], ...]:
    one = _NEAR if end.behind else _FAR
    return (_GATEWAYS, one, *((*_OF_A_GATEWAY, *_COUNTED) if end.uplinks is not None else ()))


def gateway_chains(end: GatewayEnd) -> Iterator[Chain]:
    ports, hosts, tunnel = end.ports.ports, end.ports.hosts, end.ports.tunnel
    arrival = []
    if end.uplinks is not None:
        arrival.append(f"udp dport {ports} ip daddr {end.private} jump gateway_arrived")
        yield from _passing_on(end, end.uplinks)
    if end.via is not None:
        arrival.append(
            f"udp dport {tunnel} udp sport {hosts} ip saddr @gateways ip saddr set {end.via}"
        )
        through = "ip protocol map @gateway_near" if end.behind else "udp dport map @gateway_far"
        yield Chain(
            "gateway_to",
            f"type route hook output priority {_ROUTING}; policy accept;",
            (f"ip daddr {end.via} udp sport {tunnel} udp dport {hosts} ip daddr set {through}",),
        )
        probe = end.ports.probe
        came_back = f"udp dport {tunnel} udp sport {probe} ip saddr @gateways"
        yield Chain(
            "gateway_probed",
            f"type filter hook input priority {_DELIVERY}; policy accept;",
            (f"{came_back} udp dport set {probe}",),
        )
    yield Chain(
        "gateway_in",
        f"type filter hook prerouting priority {_ARRIVAL}; policy accept;",
        tuple(arrival),
    )


def probes_sent(end: GatewayEnd | None) -> tuple[str, ...]:
    """For the first chain that sees what this host sends: a probe of its agent becomes a packet of
    WireGuard's in all eyes. By the mark, which only the agent can set beside WireGuard."""
    if end is None or end.via is None:
        return ()
    probe, marked = end.ports.probe, f"meta mark & {SENT_MARK:#x} != 0"
    ours = f"udp sport {probe} udp dport {probe} {marked} ip daddr @gateways"
    return (f"{ours} udp sport set {end.ports.tunnel}",)


def _passing_on(end: GatewayEnd, uplinks: tuple[str, ...]) -> Iterator[Chain]:
    """From its site outward, and inward. A source that no map knows is left to the other chains,
    which judge it as on any host: it may be an answer to a program of this machine. What a known
    one sends to a port that stands for nobody is dropped, as nobody but a gateway sends it."""
    ports, tunnel = end.ports.ports, end.ports.tunnel
    to_wireguard = f"udp dport set {tunnel} notrack accept"
    outward, inward = 'counter name "passed_outward"', 'counter name "passed_inward"'
    # Behind the maps, as nearly all packets are for a host.
    back = (
        f"udp dport {end.ports.probe} udp sport set {end.ports.probe} ip daddr set ip saddr "
        f'counter name "probes" {to_wireguard}'
    )
    yield Chain(
        "gateway_outward",
        None,
        (
            f"ip daddr set udp dport map @gateway_far {outward} notrack accept",
            f"ip daddr set udp dport map @gateway_direct {outward} {to_wireguard}",
            # Where a site has no ranges, a member may claim as private the public address of a host
            # elsewhere. The port says whom a packet is for; probes from there are answered.
            "udp sport set ip saddr map @gateway_public goto gateway_inward",
            # All else is passed on as ever: this host may be wrong, or no other gateway better.
            f"udp dport {end.ports.probe} drop" if end.cut_off else back,
            _UNKNOWN,
        ),
    )
    yield Chain(
        "gateway_inward",
        None,
        (
            f"ip daddr set udp dport map @gateway_inside {inward} {to_wireguard}",
            back,
            _UNKNOWN,
        ),
    )
    yield Chain(
        "gateway_arrived",
        None,
        (
            # The source port becomes the sender's own: a rule whose map does not know the source
            # ends there.
            f"udp sport {tunnel} udp sport set ip saddr map @gateway_own goto gateway_outward",
            f"udp sport {tunnel} udp sport set ip saddr map @gateway_public goto gateway_inward",
            f"udp sport {ports} ip saddr @gateways goto gateway_inward",
        ),
    )
    # The address only now: routing takes a packet from this host's own address for a martian.
    yield Chain(
        "gateway_out",
        f"type filter hook postrouting priority {_DEPARTURE}; policy accept;",
        (f'{_RELAYED} {ports} counter name "relayed_out" ip saddr set {end.private}',),
    )
    named = ", ".join(f'"{name}"' for name in uplinks)
    if named:
        passed = f'{_RELAYED} {ports} counter name "relayed" accept'
        foreign = 'counter name "gateway_foreign" drop'
        yield Chain("gateway_relayed", None, (passed, foreign))
        yield Chain(
            "gateway_forward",
            f"type filter hook forward priority {_FORWARD}; policy accept;",
            (f"iifname {{ {named} }} oifname {{ {named} }} goto gateway_relayed",),
        )

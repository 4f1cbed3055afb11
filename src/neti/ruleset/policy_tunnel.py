"""The chains of the encrypted road to other sites: what goes into ``neti0`` and comes out. Pure.

Through the tunnel a host is its overlay address, and behind it its private one. Both rewritings are
done without tracking, outside of everything that tracks: so connection tracking sees the private
address at both ends, and a flow that begins while the table is away is not stuck when it is back.

The chains are there where this host's site and another one encrypt, and nowhere else: hosts that
encrypt nothing must not pay for it. The sets are there as soon as the configuration says so; the
chains once the host knows its own overlay address.

Must never do: send in the clear what should go through the tunnel, or let in anything else out of
it than a known overlay address to this host's own.
"""

from collections.abc import Iterator
from typing import Final

from neti.model.settings import Settings
from neti.ruleset import policy_require, reach
from neti.ruleset.objects import Chain
from neti.ruleset.surroundings import TUNNEL_DEVICE, Surroundings, Tunnel, Whose

SETS: Final = (
    ("set tunnel_peers", "type ipv4_addr"),  # overlay addresses with a WireGuard peer here
    ("set tunneled", "type ipv4_addr"),  # those of them to which new connections go through it
)
# After tracking and before translation, and after mangle (-150): iptables restores whole marks
# there (CONNMARK --restore-mark), and would take our bit out.
_ROUTING: Final = -145
_SOURCE: Final = 95  # of containers, before iptables' own masquerade (100), which needs an address
_DEPARTURE: Final = 300  # after all translation
_HEADERS: Final = 40  # IPv4's and TCP's without options
FROM: Final = f'iifname "{TUNNEL_DEVICE}"'
_TO: Final = f'oifname "{TUNNEL_DEVICE}"'
_SYN: Final = "tcp flags & (syn|rst) == syn"
_KNOWN: Final = f"{FROM} ip saddr @tunnel_peers"


def encrypts(settings: Settings, surroundings: Surroundings) -> bool:
    """As ``reach.encrypts`` of this host's site."""
    return reach.encrypts(settings.sites, surroundings.site)


def sets(settings: Settings, surroundings: Surroundings) -> tuple[tuple[str, str], ...]:
    return (*SETS, *policy_require.SETS) if encrypts(settings, surroundings) else ()


def tunnel_of(settings: Settings, surroundings: Surroundings) -> Tunnel | None:
    return surroundings.tunnel if encrypts(settings, surroundings) else None


def tunnel_chains(settings: Settings, surroundings: Surroundings, whose: Whose) -> Iterator[Chain]:
    tunnel = tunnel_of(settings, surroundings)
    if tunnel is None:
        return
    subnet = settings.overlay_subnet
    yield _mark(settings, tunnel)
    peer = f"ip daddr {subnet} ip daddr @tunnel_peers"
    own = (f"{peer} {whose.from_container} goto tunnel_mark",) if whose.from_container else ()
    yield Chain(
        "tunnel_containers",
        f"type filter hook prerouting priority {_ROUTING}; policy accept;",
        # Again, because mangle may have taken the bit out, and strict rp_filter goes by it.
        (f"{FROM} {_marked(tunnel)} accept", *own),
    )
    yield Chain(
        "tunnel_source",
        f"type nat hook postrouting priority {_SOURCE}; policy accept;",
        (f"{_TO} ip saddr != {tunnel.private} snat ip to {tunnel.private}",),
    )
    yield Chain("tunnel_left", None, (f"{_SYN} {_segment(tunnel)}", f"ip saddr set {tunnel.own}"))
    yield Chain(
        "tunnel_out",
        f"type filter hook postrouting priority {_DEPARTURE}; policy accept;",
        (
            f"{_TO} goto tunnel_left",
            # A program that binds its socket to another interface (SO_BINDTODEVICE, which needs no
            # root) is routed by that one, whatever the mark says.
            f'{_has_mark(tunnel)} {peer} oif != "lo" drop',
        ),
    )
    yield Chain(
        "to_overlay",
        None,
        (
            "ip daddr @tunnel_peers jump tunnel_mark",
            # Of what is made here, only the mark tells: the hook goes on naming the first way out.
            f"{_has_mark(tunnel)} ip daddr @tunnel_peers accept",
            "goto refuse",
        ),
    )
    yield Chain(
        "to_overlay_forwarded", None, (f"{_TO} ip daddr @tunnel_peers accept", "goto refuse")
    )


def refusal(tunnel: Tunnel | None, *, forwarded: bool) -> str:
    """Where what is still for an overlay address leads: what goes through the tunnel goes on."""
    if tunnel is None:
        return "goto refuse"
    return "goto to_overlay_forwarded" if forwarded else "goto to_overlay"


def known(tunnel: Tunnel | None) -> tuple[str, ...]:
    """The condition: it comes through the tunnel, from a member."""
    return (_KNOWN,) if tunnel is not None else ()


def counted(tunnel: Tunnel | None, counter: str) -> tuple[str, ...]:
    return (f'{_KNOWN} counter name "{counter}"',) if tunnel is not None else ()


def port(tunnel: Tunnel | None) -> tuple[str, ...]:
    """WireGuard's own packets, whoever sends them: it answers nobody whose key it does not know.
    Before removed sources are judged: one of those may share its address with a member."""
    # The protocol first: nearly all packets have another.
    return (f"udp dport {tunnel.port} meta nfproto ipv4 accept",) if tunnel is not None else ()


def untranslated(tunnel: Tunnel | None) -> tuple[str, ...]:
    """New connections to these go through the tunnel, even though the map may name a real address,
    by which older ones in the clear go on."""
    return ("ip daddr @tunneled return",) if tunnel is not None else ()


def arrived(tunnel: Tunnel, then: str) -> Chain:
    """For what came out of ``neti0``, before tracking. ``then``: what becomes of it if it may."""
    return Chain(
        "tunnel_arrived",
        None,
        (
            # This end's device may be the narrower one, and a route's MTU is not known to sockets
            # that were routed to lo.
            f"{_SYN} {_segment(tunnel)}",
            (
                f"ip saddr @tunnel_peers ip daddr {tunnel.own} {_marked(tunnel)} "
                f"ip daddr set {tunnel.private} {then}"
            ),
            "drop",
        ),
    )


def _mark(settings: Settings, tunnel: Tunnel) -> Chain:
    """For packets to an address in ``tunnel_peers``. A connection keeps the road on which it began,
    and answers take the one by which they were asked for. The first rule is for nearly all of them.
    """
    marked = _marked(tunnel)
    overridden = sorted(a for a in settings.nat_overrides if a in settings.overlay_subnet)
    spared = f"ip daddr {{ {', '.join(map(str, overridden))} }} return"
    return Chain(
        "tunnel_mark",
        None,
        (
            # Began through the tunnel, at either end.
            f"ct status & (confirmed | dnat) == confirmed {marked} accept",
            f"ct state untracked {marked} accept",
            f"ct direction reply {marked} accept",
            "ct status dnat return",  # began in the clear
            *((spared,) if overridden else ()),
            f"ip daddr @tunneled {marked}",
        ),
    )


def _marked(tunnel: Tunnel) -> str:
    return f"meta mark set meta mark | {tunnel.mark:#x}"


def _has_mark(tunnel: Tunnel) -> str:
    return f"meta mark & {tunnel.mark:#x} == {tunnel.mark:#x}"


def _segment(tunnel: Tunnel) -> str:
    return f"tcp option maxseg size set {tunnel.mtu - _HEADERS}"

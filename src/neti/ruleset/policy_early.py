"""The chains before connection tracking: what bypasses it, what comes out of the tunnel, and who
may send from WireGuard's port. Pure.

Every packet passes a hook, and a chain more at one costs it as much as several rules. So where the
host encrypts, one chain at each of the two hooks does all of this.

Must never do: let a packet in or out that a later chain would refuse.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from neti.model.settings import Settings
from neti.ruleset import policy_gateway, policy_require, policy_tunnel
from neti.ruleset.networks import by_family, listed
from neti.ruleset.objects import Chain
from neti.ruleset.surroundings import Surroundings, Tunnel

_PREROUTING: Final = "type filter hook prerouting priority {}; policy accept;"
_OUTPUT: Final = "type filter hook output priority {}; policy accept;"
# Before raw (-300) and mangle (-150), where other programs judge by addresses and replace marks.
_FIRST: Final = -310


def early_chains(settings: Settings, surroundings: Surroundings) -> Iterator[Chain]:
    encrypts = policy_tunnel.encrypts(settings, surroundings)
    tunnel = policy_tunnel.tunnel_of(settings, surroundings)
    inward, outward = _untracked_ssh(settings, surroundings, tunnel)
    if tunnel is not None:
        yield from _arrival(settings, tunnel, inward, surroundings.ssh_untracked)
    elif inward:
        yield Chain("untracked_in", _PREROUTING.format("raw"), inward)
    if encrypts:
        yield from _departure(settings, surroundings, tunnel, outward)
    elif outward:
        yield Chain("untracked_out", _OUTPUT.format("raw"), outward)


def _untracked_ssh(
    settings: Settings, surroundings: Surroundings, tunnel: Tunnel | None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """SSH bypasses connection tracking, so that it works when the tracking table is full. In both
    directions, because a reply that was tracked although its request was not would be dropped then.
    """
    inward: list[str] = []
    outward: list[str] = []
    port = settings.ssh_port
    for word, networks in by_family(settings.ssh_whitelist) if surroundings.ssh_untracked else ():
        from_here = listed(networks)
        # The port first: every packet passes here, and nearly all have another port.
        ours = f"{word} saddr {from_here} fib daddr type local"
        inward.append(f'tcp dport {port} iif != "lo" {ours} notrack accept')
        outward.append(f'tcp sport {port} oif != "lo" {word} daddr {from_here} notrack accept')
        if tunnel is not None and word == "ip":
            # On its way into the tunnel a packet is routed to lo first.
            through = f"ip daddr @tunnel_peers ip daddr {from_here}"
            outward.append(f"tcp sport {port} {through} notrack accept")
    return tuple(inward), tuple(outward)


def _arrival(
    settings: Settings, tunnel: Tunnel, ssh: Sequence[str], port_untracked: bool
) -> Iterator[Chain]:
    """The only drops that do not go by map ``enforce``: nothing that Neti or another program sends
    looks like this.

    Where no other table judges input, WireGuard's own packets are not tracked: so the tunnel stands
    when the tracking table is full.
    """
    to_port = f'udp dport {tunnel.port} iif != "lo" meta nfproto ipv4 goto to_port'
    if port_untracked:
        # Nearly all are for this address, and to ask the routes costs each packet more.
        local = (f"ip daddr {tunnel.private}", "fib daddr type local")
        yield Chain("to_port", None, tuple(f"{own} notrack accept" for own in local))
    if ssh:
        yield Chain("tunnel_untracked", None, tuple(ssh))
    yield policy_tunnel.arrived(tunnel, "goto tunnel_untracked" if ssh else "accept")
    # The subnet first: nearly all packets come from elsewhere.
    forged = f"ip saddr {settings.overlay_subnet} ip saddr @tunnel_peers"
    yield Chain(
        "tunnel_in",
        _PREROUTING.format(_FIRST),
        (
            f"{policy_tunnel.FROM} goto tunnel_arrived",
            f'{forged} iif != "lo" drop',
            *((to_port,) if port_untracked else ()),
            # Once more, and not by a jump, which each packet would take.
            *ssh,
        ),
    )


def _departure(
    settings: Settings, surroundings: Surroundings, tunnel: Tunnel | None, outward: Sequence[str]
) -> Iterator[Chain]:
    """Judged this early, because other programs replace marks."""
    untracked = surroundings.ssh_untracked and tunnel is not None
    yield from policy_require.by_the_port(settings)
    yield Chain(
        "from_port",
        None,
        (
            policy_require.UNMARKED,
            *(('oif != "lo" notrack accept',) if untracked else ()),
        ),
    )
    yield Chain(
        "sent",
        _OUTPUT.format(_FIRST),
        # The protocol first: nearly all packets have another.
        (
            *policy_gateway.probes_sent(surroundings.gateway),
            f"udp sport {settings.tunnel_port} meta nfproto ipv4 goto from_port",
            *outward,
        ),
    )

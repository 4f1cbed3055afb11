"""The chains that refuse what goes in the clear to and from members that must be encrypted. Pure.

They do so only while set ``require`` holds something, which the kernel itself can end. What they
look for are real addresses: what is sent to an overlay address and does not go through the tunnel
has one by then.

Must never do: refuse WireGuard's own packets, SSH, or what a stranger may do too; or depend on who
is a member.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from neti.model.settings import OpenPort, Settings
from neti.ruleset.networks import by_family, listed
from neti.ruleset.objects import Chain
from neti.ruleset.policy_judge import icmp
from neti.ruleset.surroundings import SENT_MARK, Whose

SETS: Final = (
    # Real addresses of members with which nothing may go in the clear, once it is required.
    ("set clear4", "type ipv4_addr"),
    ("set clear6", "type ipv6_addr"),
    # Addresses of the own site's members by which they do not come to each other inside it.
    ("set outside4", "type ipv4_addr"),
    ("set require", "typeof meta nfproto; flags timeout"),
    # Packets that were refused for being in the clear: new connections of this host, packets of its
    # older ones, and what came from outside.
    ("counter clear_new", "packets 0 bytes 0"),
    ("counter clear_older", "packets 0 bytes 0"),
    ("counter clear_came", "packets 0 bytes 0"),
)
_REQUIRED: Final = "meta nfproto @require"
_ICMP: Final = "meta l4proto { icmp, icmpv6 }"
UNMARKED: Final = f"meta mark & {SENT_MARK:#x} == 0 jump from_port_unmarked"


def to_clear(whose: Whose | None = None) -> Iterator[str]:
    """The rule for what this host sends; with ``whose``, for what its own containers do."""
    if whose is None:
        yield f"{_REQUIRED} jump to_clear"
    elif whose.from_container:
        yield f"{whose.from_container} {_REQUIRED} jump to_clear_forwarded"


def from_clear(*, forwarded: bool) -> str:
    """The rule for what comes in. It stands before all that lets members in."""
    return f"{_REQUIRED} jump {'from_clear_forwarded' if forwarded else 'from_clear'}"


def uncounted() -> tuple[str, ...]:
    """Conditions of packets that are not let in as a member's."""
    families = (("ip", "clear4"), ("ip6", "clear6"), ("ip", "outside4"))
    # The address first: nft 1.1 takes a protocol that a set was asked for for a conflict with it.
    return tuple(f"{word} saddr @{where} {_REQUIRED}" for word, where in families)


def require_chains(
    settings: Settings, vouched: Sequence[str], forwarded: Sequence[str]
) -> Iterator[Chain]:
    """``vouched``, ``forwarded``: what lets strangers in before they are judged."""
    # Whoever spoofs such an address comes from outside as well, so it is a stranger's.
    yield Chain("from_outside", None, (*vouched, "goto judge"))
    yield Chain("from_outside_forwarded", None, (*forwarded, "goto judge_forwarded"))
    yield from _outward(settings)
    yield from _inward(settings)


def by_the_port(settings: Settings) -> Iterator[Chain]:
    """Where ``UNMARKED`` leads, for what is sent from the tunnel's port.

    Who has the port is not yet WireGuard: once wireguard-go has ended, any program may bind it, and
    would send in the clear what the chains below let through. So it goes by the device's mark.
    """
    yield Chain(
        "from_port_unmarked",
        None,
        (
            # An overlay address leads to lo at first.
            f'oif "lo" ip daddr != {settings.overlay_subnet} accept',
            f'{_REQUIRED} counter name "clear_new" drop',
        ),
    )


def _outward(settings: Settings) -> Iterator[Chain]:
    to_one = tuple(f"{word} daddr @clear{version} goto clear_out" for word, version in _FAMILIES)
    port = f"meta nfproto ipv4 udp sport {settings.tunnel_port} return"
    yield Chain("to_clear", None, (port, *to_one))
    yield Chain("to_clear_forwarded", None, to_one)
    yield Chain(
        "clear_out",
        None,
        (
            # SSH encrypts by itself, and is the way in.
            f"tcp dport {settings.ssh_port} accept",
            f"tcp sport {settings.ssh_port} accept",
            *_trusted(settings, "daddr"),
            f"{_ICMP} accept",
            *(rule for one in settings.open_ports for rule in _answers(one)),
            # Held up and not ended: it goes on if the trial is not confirmed.
            'ct state established,related counter name "clear_older" drop',
            'counter name "clear_new" meta l4proto tcp reject with tcp reset',
            "reject with icmpx type admin-prohibited",
        ),
    )


def _inward(settings: Settings) -> Iterator[Chain]:
    """Not by ``established``, but for these: nothing else is opened in the clear."""
    answers = (
        f"tcp sport {settings.ssh_port} ct state established ct direction reply accept",
        *_trusted(settings, "saddr"),
        f"{_ICMP} ct state established,related accept",
    )
    port = f"meta nfproto ipv4 udp dport {settings.tunnel_port} return"
    # Neighbours, where two sites share a link.
    neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } ip6 hoplimit 255 accept"
    opened = bool(settings.open_ports)
    for name, chain in (("from_clear", "clear_in"), ("from_clear_forwarded", "clear_forwarded")):
        rules = (
            *(f"{word} saddr @clear{version} goto {chain}" for word, version in _FAMILIES),
            f"ip saddr @outside4 goto {name.replace('clear', 'outside')}",
        )
        yield Chain(name, None, rules if chain == "clear_forwarded" else (port, *rules))
    yield Chain(
        "clear_in",
        None,
        (*answers, neighbours, *(("jump opened",) if opened else ()), "goto clear_verdict"),
    )
    published = ("ct status dnat jump opened",) if opened else ()
    yield Chain("clear_forwarded", None, (*answers, *published, "goto clear_verdict"))
    yield Chain(
        "clear_verdict",
        None,
        # As chain verdict, but for the grace time.
        (
            *icmp(),
            "jump record",
            'counter name "clear_came"',
            'counter name "judged" meta nfproto vmap @enforce',
        ),
    )


_FAMILIES: Final = (("ip", "4"), ("ip6", "6"))


def _trusted(settings: Settings, end: str) -> Iterator[str]:
    for word, networks in by_family(settings.trusted):
        yield f"{word} {end} {listed(networks)} accept"


def _answers(port: OpenPort) -> Iterator[str]:
    """What everybody, or the member's address, may ask of this host is answered."""
    span = str(port.first) if port.first == port.last else f"{port.first}-{port.last}"
    asked = f"meta l4proto {port.proto} ct direction reply ct original proto-dst {span}"
    untracked = f"ct state untracked {port.proto} sport {span}"
    to = [f"{word} daddr {listed(networks)} " for word, networks in by_family(port.sources)] or [""]
    for where in to:
        yield f"{where}{asked} accept"
        yield f"{where}{untracked} accept"

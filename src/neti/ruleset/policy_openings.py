"""The sets and rules for ports that are open to somebody for a time. Pure.

They stand where ``open_ports`` does, but for what must be encrypted: an opening lets none of that
in. With nothing open there is no set and no rule.

Must never do: depend on what is open beyond the lengths of the sources' prefixes.
"""

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final

from neti.ruleset.objects import Chain
from neti.ruleset.openings import Lengths
from neti.ruleset.set_names import opening_set_of

JUMP: Final = "jump openings"
_PROTOCOLS: Final = ("tcp", "udp")
_FAMILY: Final = {4: ("ip", "ipv4_addr", "0.0.0.0"), 6: ("ip6", "ipv6_addr", "::")}


def sets(lengths: Lengths) -> Iterator[tuple[str, str]]:
    for version, length in lengths:
        kind = _FAMILY[version][1]
        yield (
            f"set {opening_set_of(version, length)}",
            f"type {kind} . inet_proto . inet_service; flags timeout",
        )


def chains(lengths: Lengths) -> Iterator[Chain]:
    if not lengths:
        return
    yield Chain("openings", None, tuple(_asked(lengths)))
    # What is not tracked goes by the port in the packet.
    ports = "meta l4proto { tcp, udp }"
    yield Chain(
        "openings_untracked",
        None,
        tuple(
            f"{ports} {_source(*one)} . meta l4proto . th dport @{opening_set_of(*one)} accept"
            for one in lengths
        ),
    )


def _asked(lengths: Lengths) -> Iterator[str]:
    """The port is the one that the client asked for, also where it is redirected or published; and
    only in the original direction, as for ``open_ports``."""
    yield "ct state untracked goto openings_untracked"
    yield "ct direction reply return"
    for one in lengths:
        # nft 1.0.6 takes ``ct original proto-dst`` only in a rule that has settled on a protocol.
        for proto in _PROTOCOLS:
            key = f"{_source(*one)} . meta l4proto . ct original proto-dst"
            yield f"meta l4proto {proto} {key} @{opening_set_of(*one)} accept"


def _source(version: int, length: int) -> str:
    word, _, zero = _FAMILY[version]
    whole = ip_network(f"{zero}/{length}")
    return f"{word} saddr" if length == whole.max_prefixlen else f"{word} saddr & {whole.netmask}"

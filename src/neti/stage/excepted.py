"""What may go in the clear by the configuration's own word, although encryption is required: what
``trusted`` and ``open_ports`` let through. Pure.

SSH and ICMP may too, on every host, and are not among it. Must never do: leave out what the rules
of ``neti.ruleset.policy_require`` let through by either key.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from neti.model.settings import IPNetwork, Settings
from neti.words import and_more, counted

_SHOWN: Final = 5

By = Literal["trusted", "open_ports"]


@dataclass(frozen=True, slots=True)
class Excepted:
    """``by``: the key; ``what``: its network, or its ports, as ``neti preview`` writes them.
    ``members``: how many members that must be encrypted it lets through; None: everybody."""

    by: By
    what: str
    members: int | None = None


def excepted(whose: Mapping[bytes, str], settings: Settings) -> tuple[Excepted, ...]:
    """``whose``: ids of members by their real addresses, packed, by which nothing else may go."""
    return tuple(_excepted(whose, settings))


def _excepted(whose: Mapping[bytes, str], settings: Settings) -> Iterator[Excepted]:
    sources = [network for opened in settings.open_ports for network in opened.sources]
    held = _held({*settings.trusted, *sources}, whose)
    for network in settings.trusted:
        if held[network]:
            yield Excepted("trusted", str(network), len(held[network]))
    for opened in settings.open_ports:
        span = str(opened.first) if opened.first == opened.last else f"{opened.first}-{opened.last}"
        name = f"{span}/{opened.proto}"
        if not opened.sources:
            yield Excepted("open_ports", name)
        elif ids := set[str]().union(*(held[network] for network in opened.sources)):
            yield Excepted("open_ports", name, len(ids))


def _held(networks: Iterable[IPNetwork], whose: Mapping[bytes, str]) -> dict[IPNetwork, set[str]]:
    """Whose addresses are in each network. A fleet has many addresses and a file few lengths of
    prefixes, so each address is looked up once for each length."""
    found: dict[IPNetwork, set[str]] = {network: set() for network in networks}
    lengths: dict[tuple[int, int], dict[int, IPNetwork]] = {}
    for network in found:
        shift = network.max_prefixlen - network.prefixlen
        place = lengths.setdefault((network.max_prefixlen // 8, shift), {})
        place[int(network.network_address) >> shift] = network
    for address, host_id in whose.items() if lengths else ():
        number = int.from_bytes(address)
        for (size, shift), place in lengths.items():
            if size == len(address) and (holds := place.get(number >> shift)) is not None:
                found[holds].add(host_id)
    return found


def lines(seen: Iterable[Excepted]) -> Iterator[str]:
    """A line for each key."""
    all_of = list(seen)
    for key in ("trusted", "open_ports"):
        said = [f"{one.what} ({_who(one)})" for one in all_of if one.by == key]
        if said:
            more = and_more(len(said) - _SHOWN)
            yield f"may go in the clear by {key}: {', '.join(said[:_SHOWN])}{more}"


def _who(one: Excepted) -> str:
    return "everybody" if one.members is None else counted(one.members, "member")

"""The shadow made readable: which port matters, who uses it, what to write into open_ports. Pure.

(record, listening sockets, members) -> rows, the port that would hurt most first. The internet's
noise is counted in one line. Must never do: leave a port out without saying so.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, collapse_addresses
from typing import Final, Literal

from neti.model import IPAddress
from neti.model.settings import IPNetwork, OpenPort, Settings
from neti.stage.record import Record
from neti.stage.shadow import (
    STEADY_PACKETS,
    Listener,
    Port,
    PortUse,
    Seen,
    address_of,
    answering,
    is_private,
    port_name,
)

# used: something listens, and a private or repeated source uses it. heard: something listens, and
# only passers-by came. missed: nothing listens, but a source keeps trying. noise: neither.
Rank = Literal["used", "heard", "missed", "noise"]
_ORDER: Final[tuple[Rank, ...]] = ("used", "heard", "missed", "noise")
_RECENT: Final = 86_400.0
_INSISTENT_PACKETS: Final = (
    10  # to a port where nothing listens; scanners come back, but not this often
)
_NAMED: Final = 8  # up to this many networks are named in a "from"
_SHOWN_SOURCES: Final = 5


# What required encryption refuses of a member that is believed: what must come through the tunnel,
# or what comes from a public address of the own site.
Refused = Literal["clear", "outside"]


@dataclass(frozen=True, slots=True)
class Whose:
    """The member that a source address belongs to. ``admitted``: it is let in as a peer now, so
    what is recorded came earlier and is not shown; None: not known; False: the address is not
    believed, or is not let in from there. ``refused``: by required encryption, and by nothing
    else."""

    id: str
    admitted: bool | None
    refused: Refused | None = None


@dataclass(frozen=True, slots=True)
class Formerly:
    """The member that had a source address last. ``until``: as the record's times."""

    id: str
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the record is joined with. Addresses of members are packed, as the record's are.
    ``former``: of those that no member has now."""

    listening: tuple[Listener, ...] = ()
    members: Mapping[bytes, Whose] = field(default_factory=dict)
    former: Mapping[bytes, Formerly] = field(default_factory=dict)
    site: tuple[IPv4Network, ...] = ()  # this host's own site's private ranges
    accepted: Mapping[Port, float] = field(default_factory=dict)
    opened: tuple[OpenPort, ...] = ()  # open_ports of the configuration in force
    way_in: tuple[OpenPort, ...] = ()  # its ssh_whitelist, which opens no container's port
    trusted: tuple[IPNetwork, ...] = ()
    now: float


def opened_by(settings: Settings) -> tuple[OpenPort, ...]:
    """With the tunnel's port, which Neti opens itself, and which ``open_ports`` must not have."""
    if not settings.encrypts:
        return settings.open_ports
    port = settings.tunnel_port
    return (*settings.open_ports, OpenPort(first=port, last=port, proto="udp"))


def way_in_by(settings: Settings) -> tuple[OpenPort, ...]:
    """Without networks it would be open to everyone."""
    networks, port = settings.ssh_whitelist, settings.ssh_port
    return (OpenPort(first=port, last=port, proto="tcp", sources=networks),) if networks else ()


@dataclass(frozen=True, slots=True)
class Source:
    address: IPAddress
    packets: int
    first: float
    last: float
    member: Whose | None
    near: Literal["site", "private", "internet"]
    formerly: Formerly | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One port. ``top``: the sources that matter most. ``networks``: who would have to be let in;
    none: everybody; None: that is not for open_ports to do. ``line``: it for open_ports."""

    port: Port
    rank: Rank
    packets: int
    sources: int
    first: float
    last: float
    top: tuple[Source, ...]
    listeners: tuple[Listener, ...]
    forwarded: bool
    redirected: int | None
    accepted: bool
    networks: tuple[IPNetwork, ...] | None
    line: str | None


@dataclass(frozen=True, slots=True)
class Noise:
    ports: int
    sources: int
    packets: int


def rows(record: Record, view: View) -> list[Row]:
    """Every recorded port with a source that is still not let in, neither as a member nor by
    open_ports, ssh_whitelist or trusted; the one that matters most comes first."""
    by_port: dict[Port, list[Listener]] = {}
    for one in view.listening:
        by_port.setdefault((one.protocol, one.port), []).append(one)
    found = []
    for port, recorded in record.ports.items():
        use = still_refused(port, recorded, view)
        if not use.sources:
            continue
        at = (port[0], use.redirected if use.redirected is not None else port[1])
        found.append(_row(port, use, answering(port, use, by_port.get(at, ())), view))
    return sorted(found, key=lambda row: _order(row, view.now))


def unanswered(record: Record, view: View) -> list[Row]:
    """Ports in use that reject_all would shut and that nobody has accepted losing. They need an
    answer before the kernel drops anything."""
    return [row for row in rows(record, view) if row.rank == "used" and not row.accepted]


def let_in_since(record: Record, view: View) -> list[Port]:
    """Ports that are left out of the rows, because every source that came there is let in by
    now."""
    return sorted(
        port for port, use in record.ports.items() if not still_refused(port, use, view).sources
    )


def still_refused(port: Port, use: PortUse, view: View) -> PortUse:
    """What is recorded of a port without the sources that are let in by now."""
    opened = view.opened if use.forwarded else (*view.opened, *view.way_in)
    matching = [one for one in opened if one.proto == port[0] and one.first <= port[1] <= one.last]
    if any(not one.sources for one in matching):
        return replace(use, sources={})
    networks = [*view.trusted, *(network for one in matching for network in one.sources)]

    def refused(source: bytes) -> bool:
        if _let_in(view.members.get(source)):
            return False
        return not any(address_of(source) in network for network in networks)

    return replace(use, sources={s: held for s, held in use.sources.items() if refused(s)})


def _order(row: Row, now: float) -> tuple[int, bool, bool, int, int, Port]:
    near = any(source.near != "internet" for source in row.top)
    old = row.last < now - _RECENT
    return _ORDER.index(row.rank), old, not near, -row.sources, -row.packets, row.port


def without_noise(record: Record, found: Iterable[Row]) -> tuple[list[Row], Noise]:
    """The rows to show, and a summary of the others."""
    shown: list[Row] = []
    noise: list[Row] = []
    for row in found:
        (noise if row.rank == "noise" else shown).append(row)
    sources = {source for row in noise for source in record.ports[row.port].sources}
    return shown, Noise(len(noise), len(sources), sum(row.packets for row in noise))


def _row(port: Port, use: PortUse, heard: list[Listener], view: View) -> Row:
    def worth(item: tuple[bytes, Seen]) -> tuple[bool, int, float]:
        return is_private(item[0]), item[1].packets, item[1].last

    ordered = sorted(use.sources.items(), key=worth, reverse=True)
    counts = [held.packets for _, held in ordered]
    answered = bool(heard) or use.forwarded
    steady = [
        source for source, held in ordered if is_private(source) or held.packets >= STEADY_PACKETS
    ]
    rank = _rank(answered, is_private(ordered[0][0]), max(counts), bool(steady))
    networks = _to_let_in(port, rank, steady, use.sources, view)
    return Row(
        port=port,
        rank=rank,
        packets=sum(counts),
        sources=len(ordered),
        first=min(held.first for _, held in ordered),
        last=max(held.last for _, held in ordered),
        top=tuple(_source(*item, view) for item in ordered[:_SHOWN_SOURCES]),
        listeners=tuple(heard),
        forwarded=use.forwarded,
        redirected=use.redirected,
        accepted=port in view.accepted,
        networks=networks,
        line=open_line(port, networks) if networks is not None else None,
    )


def _rank(answered: bool, private: bool, most: int, steady: bool) -> Rank:
    if answered:
        return "used" if steady else "heard"
    return "missed" if private or most >= _INSISTENT_PACKETS else "noise"


def _source(packed: bytes, held: Seen, view: View) -> Source:
    address = address_of(packed)
    near: Literal["site", "private", "internet"] = "private" if is_private(packed) else "internet"
    if isinstance(address, IPv4Address) and any(address in network for network in view.site):
        near = "site"
    return Source(
        address,
        held.packets,
        held.first,
        held.last,
        view.members.get(packed),
        near,
        view.former.get(packed),
    )


# --- the line to paste ---


def _to_let_in(
    port: Port, rank: Rank, steady: list[bytes], recorded: Iterable[bytes], view: View
) -> tuple[IPNetwork, ...] | None:
    """None: there is nothing to write, because only noise came, or what must come encrypted, or
    open_ports does not know the protocol. None in it: everybody."""
    if rank == "noise" or port[0] not in ("tcp", "udp") or not port[1]:
        return None
    # A line for what is refused in the clear would let it in unencrypted, however seldom it came.
    encrypted = {one for one in recorded if _must_be_encrypted(view.members.get(one))}
    meant = [address_of(source) for source in steady if source not in encrypted]
    if rank != "heard" and not meant:
        return None
    networks = _from(meant, view.site) if rank != "heard" else []
    held = any(address_of(one) in network for one in encrypted for network in networks)
    return None if held or (encrypted and not networks) else tuple(networks)


def _must_be_encrypted(member: Whose | None) -> bool:
    return member is not None and member.refused == "clear"


def _from(sources: list[IPAddress], site: Iterable[IPv4Network]) -> list[IPNetwork]:
    """The sources, merged; if they are many, the site's ranges that hold them all; otherwise
    everyone ([])."""
    networks = _merged(sources)
    if len(networks) <= _NAMED:
        return networks
    ranges = [network for network in site if any(source in network for source in sources)]
    held = all(any(source in network for network in ranges) for source in sources)
    return list(collapse_addresses(ranges)) if held else []


def _let_in(member: Whose | None) -> bool:
    return member is not None and member.admitted is True


def open_entry(port: OpenPort) -> str:
    """As ``open_line``, of what the configuration has already."""
    span = str(port.first) if port.first == port.last else f"{port.first}-{port.last}"
    if not port.sources:
        return span if port.proto == "tcp" else f'"{span}/{port.proto}"'
    named = "" if port.proto == "tcp" else f"proto: {port.proto}, "
    return f"{{port: {span}, {named}from: [{', '.join(map(_written, port.sources))}]}}"


def open_line(port: Port, networks: Iterable[IPNetwork]) -> str:
    """An entry of open_ports in YAML: to everyone, or from these networks only."""
    protocol, number = port
    written = ", ".join(map(_written, networks))
    if not written:
        return str(number) if protocol == "tcp" else f'"{port_name(port)}"'
    named = "" if protocol == "tcp" else f"proto: {protocol}, "
    return f"{{port: {number}, {named}from: [{written}]}}"


def _merged(sources: Iterable[IPAddress]) -> list[IPNetwork]:
    every = list(sources)
    v4 = collapse_addresses(IPv4Network(a) for a in every if isinstance(a, IPv4Address))
    v6 = collapse_addresses(IPv6Network(a) for a in every if isinstance(a, IPv6Address))
    return [*v4, *v6]


def _written(network: IPNetwork) -> str:
    single = network.prefixlen == network.max_prefixlen
    text = str(network.network_address if single else network)
    return f'"{text}"' if ":" in text else text

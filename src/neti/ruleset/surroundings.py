"""This machine as the policy sees it, and which interfaces are containers', in nft's words. Pure.

Must never do: take an interface for a container's if nft cannot name it exactly.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from neti.model.gateways import GatewayPorts
from neti.model.groups import MemberPorts
from neti.model.settings import Settings

# Interfaces of these kinds can lead to this machine's own containers; see Surroundings.
CONTAINER_KINDS: Final = '{ "bridge", "veth" }'
# Printable ASCII without the quote, the asterisk and the backslash.
PLAIN_INTERFACE: Final = re.compile(r"[!#-)+-\[\]-~]+")
TUNNEL_DEVICE: Final = "neti0"
# On WireGuard's own packets, by the device itself: only who has CAP_NET_ADMIN or CAP_NET_RAW can
# mark a socket, whereas everybody can bind a port. Another bit than ``Tunnel.mark``, which would
# lead them back into the device.
SENT_MARK: Final = 0x2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tunnel:
    """This host's end of the encrypted road. ``own``: its overlay address; ``mtu``: the device's;
    ``mark``: one bit, by which packets are routed into it."""

    own: IPv4Address
    private: IPv4Address
    mtu: int
    port: int = 51820
    mark: int = 0x1000


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayEnd:
    """This host's part. ``private``: its address, to which its public one, if any, leads one to
    one. ``via``: in WireGuard's eyes, where all peers behind gateways are; None: there is none.
    ``behind``: it has no public address of its own. ``uplinks``: of a gateway, the interfaces
    between which it passes on nothing else; None: it is no gateway. ``cut_off``: one that hears no
    gateway of another site, so hosts of its own are to go by another one.

    ValueError for a gateway that is behind one, or an uplink that nft cannot name.
    """

    ports: GatewayPorts
    private: IPv4Address
    via: IPv4Address | None
    behind: bool = False
    uplinks: tuple[str, ...] | None = None
    cut_off: bool = False

    def __post_init__(self) -> None:
        if self.uplinks is None:
            return
        if self.behind:
            raise ValueError("a gateway needs a public address of its own")
        for name in self.uplinks:
            if not PLAIN_INTERFACE.fullmatch(name):
                raise ValueError(f"nft cannot name the uplink {name!r} of a gateway")


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the policy needs to know of this machine besides its identity.

    ``uplinks``: interfaces with a default route or the private address. ``strangers``: bridges and
    veths that are no uplinks, but lead to others than this machine's own containers.
    ``indexes``: of those among both whose name nft cannot express. ``local_ports``: the range of
    local ports for outgoing connections. ``ssh_untracked``: no other table judges input, so SSH may
    bypass connection tracking. ``containers``: interfaces taken for this machine's own containers',
    to show to people; the rules go by kind, so a new container needs no new rules. ``tunnel``:
    None while the own overlay address is not known. ``gateway``: this host's part where sites are
    reached by gateways; None as well where none are. ``member_ports``: those in force on this host,
    as they were confirmed last; the file's own may be others. ``control_groups``: the kernel can
    tell by which control group (version 2) a packet was sent. ``openings``: IP version and length
    of the prefixes to which something is open for a time.
    """

    uplinks: tuple[str, ...]
    ssh_untracked: bool
    strangers: tuple[str, ...] = ()
    indexes: tuple[tuple[str, int], ...] = ()
    local_ports: tuple[int, int] = (32768, 60999)
    site: str = ""  # this host's own
    tunnel: Tunnel | None = None
    gateway: GatewayEnd | None = None
    member_ports: MemberPorts = None
    control_groups: bool = False
    openings: tuple[tuple[int, int], ...] = ()
    containers: tuple[str, ...] = field(default=(), compare=False)

    @property
    def outside(self) -> tuple[str, ...]:
        """Interfaces that are never taken for containers', whatever their kind."""
        return tuple(dict.fromkeys((*self.uplinks, *self.strangers)))


class Whose:
    """Conditions in nft's words: a packet comes from one of our containers, or goes to one.

    ``from_container`` is empty if no interface may count as a container's. An interface that nft
    cannot name counts as a stranger's for what comes from it, and as a container's for what goes
    there: so both are judged.
    """

    def __init__(self, settings: Settings, surroundings: Surroundings) -> None:
        names, indexes, named = _sayable(surroundings)
        quoted = ", ".join(f'"{name}"' for name in names)
        inward, outward = f"iifname != {{ {quoted} }}", f"oifname != {{ {quoted} }}"
        if indexes:
            listed = ", ".join(map(str, indexes))
            inward += f" iif != {{ {listed} }}"
            outward += f" oif != {{ {listed} }}"
        own, toward = f"meta iifkind {CONTAINER_KINDS}", [f"meta oifkind {CONTAINER_KINDS}"]
        if settings.container_interfaces is not None:
            chosen = _without_covered(_in_quotes(n) or "" for n in settings.container_interfaces)
            words = ", ".join(f'"{name}"' for name in chosen)
            own = f"iifname {{ {words} }}" if chosen else ""
            toward += [f"oifname {{ {words} }}"] if chosen else []
        self.from_container = f"{inward} {own}" if own and named else ""
        self.toward_container = tuple(f"{outward} {condition}" for condition in toward)


def _sayable(surroundings: Surroundings) -> tuple[list[str], list[int], bool]:
    """Names and indexes of the interfaces that are not containers', and whether these are all."""
    names, indexes, complete = ["lo"], [], True
    known = dict(surroundings.indexes)
    for interface in surroundings.outside:
        said = _in_quotes(interface)
        if said == interface:
            names.append(said)
        elif interface in known:
            indexes.append(known[interface])
        elif said is not None:
            names.append(said)
        else:
            complete = False
    return _without_covered(names), sorted(set(indexes)), complete


def _without_covered(names: Iterable[str]) -> list[str]:
    """Without the names that a pattern covers: nft refuses both in one set."""
    every = [name for name in dict.fromkeys(names) if name]
    patterns = [name[:-1] for name in every if name.endswith("*")]
    return [
        name for name in every if not any(name.startswith(p) and name != f"{p}*" for p in patterns)
    ]


def sayable(interface: str) -> bool:
    """Whether nft can name exactly this interface."""
    return PLAIN_INTERFACE.fullmatch(interface) is not None


def _in_quotes(interface: str) -> str | None:
    """The name as nft can express it; None if it cannot express even its beginning.

    The kernel allows nearly every byte in an interface's name, and nft has no escapes. Such a name
    becomes a pattern for all that begin like it: an asterisk at the end.
    """
    plain = PLAIN_INTERFACE.match(interface)
    if plain is None:
        return None
    rest = interface[len(plain[0]) :]
    return interface if not rest else f"{plain[0]}*"

"""What the policy has to know of this machine, gathered: for the agent, restore and plan alike.

Reads, changes nothing but the elements that it is given, which are wishes.
"""

from neti.dataplane.interfaces import own_containers, strangers
from neti.host.listeners import Listening
from neti.host.machine import Machine
from neti.host.network import Network
from neti.identity.preflight import resolvers_of_this_host
from neti.model import Host, IPAddress
from neti.ruleset.delta import Elements
from neti.ruleset.objects import LISTENING
from neti.ruleset.reach import never_revoked
from neti.ruleset.surroundings import Surroundings, sayable


def surroundings(
    machine: Machine, seen: Network, host: Host, *, others: tuple[str, ...]
) -> Surroundings:
    """Raises DataplaneError. ``others``: other tables that judge input."""
    found = machine.interfaces()
    uplinks, apart = seen.uplinks(host.private), strangers(found)
    unsaid = {name for name in (*uplinks, *apart) if not sayable(name)}
    return Surroundings(
        uplinks=uplinks,
        ssh_untracked=not others,
        strangers=apart,
        indexes=tuple(sorted((one.name, one.index) for one in found if one.name in unsaid)),
        local_ports=machine.local_ports(),
        site=host.site,
        containers=own_containers(found, uplinks),
        control_groups=machine.control_groups(),
    )


def note(
    elements: Elements, host: Host, seen: Network | None, reserved: frozenset[IPAddress]
) -> None:
    """Into the elements: who is never to be a removed source."""
    own, gateways = (seen.addresses(), seen.gateways) if seen is not None else (frozenset(), ())
    others = (*gateways, *resolvers_of_this_host(), *reserved)
    elements.spare(never_revoked(host, own, others))


def listen(elements: Elements, listening: Listening) -> None:
    """Into the elements: the ports at which this machine has sockets now."""
    ports = listening.ports()
    for protocol, where in LISTENING.items():
        wanted = {str(port) for proto, port in ports if proto == protocol}
        held = elements.wanted(where)
        for key in wanted - held:
            elements.want(where, key)
        for key in held - wanted:
            elements.unwant(where, key)

"""How phases find out whether all is well, by other means than Neti's own word where there are."""

import json
import socket
from typing import Final

from neti_lab import LabError, agents, namespaces
from neti_lab.migrate.company import PORTS
from neti_lab.migrate.journey import Journey
from neti_lab.pairs import Pair, complaint
from neti_lab.topology import REGISTRY_PORT, WEB_PORT, LabHost

_SSH: Final = 22
_VERIFY: Final = 7077


def served(journey: Journey) -> int:
    return int(journey.company.statistics("users").get("requests", 0))


def doors(journey: Journey, *sites: str) -> list[str]:
    """Where a stranger must not get in: all ports of these sites that anybody listens on, but the
    web's."""
    found = []
    for name in sites:
        site = journey.play.plan.site(name)
        ports = (*(port for task, port in PORTS.items() if task != "web"), WEB_PORT, _SSH, _VERIFY)
        found += [f"{host.public}:{port}" for host in site.hosts if host.public for port in ports]
        for keeper in site.keepers:
            address, port = site.door(keeper, REGISTRY_PORT)
            found.append(f"{address}:{port}")
    return found


def opens(address: tuple[str, int]) -> bool:
    """Whether a connection from the calling thread's namespace comes about."""
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True


def refused(journey: Journey, host: LabHost) -> int:
    """Packets that the host's kernel judged as let in by no rule."""
    line = namespaces.command_inside(
        journey.play.plan.namespace(host.name),
        ["nft", "-j", "list", "counter", "inet", "neti", "judged"],
    )
    document = json.loads(agents.checked(line))
    return int(document["nftables"][1]["counter"]["packets"])


def all_reached(journey: Journey) -> list[Pair]:
    """All pairs, each of them seen since this call to reach the other the right way.

    Not all of them in one pass: somebody's agent may be just being restarted in every pass.
    """
    hosts = journey.play.hosts
    found: dict[LabHost, dict[LabHost, Pair]] = {host: {} for host in hosts}

    def short(source: LabHost) -> list[Pair]:
        return [pair for pair in found[source].values() if not pair.right_way]

    def reached() -> bool:
        asked = [host for host in hosts if not found[host] or short(host)]
        for pair in journey.play.verify(asked):
            before = found[pair.source].get(pair.target)
            if before is None or not before.right_way:
                found[pair.source][pair.target] = pair
        return not any(short(host) for host in hosts)

    try:
        journey.until(reached, "not every host reaches every other")
    except LabError as error:
        complaints = [complaint(pair) for host in hosts for pair in short(host)]
        raise LabError("\n  ".join([str(error), *complaints])) from None
    return [pair for pairs in found.values() for pair in pairs.values()]

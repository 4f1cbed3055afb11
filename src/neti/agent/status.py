"""What the running agent tells of itself, as plain values for JSON. Reads, changes nothing."""

from typing import TYPE_CHECKING, Any

from neti import __version__
from neti.policy import cross_address

if TYPE_CHECKING:
    from neti.agent.loop import Agent


def document(agent: "Agent") -> dict[str, Any]:
    """For ``neti status``."""
    fleet = agent.members.fleet
    sites: dict[str, int] = {}
    for member in fleet.members.values():
        sites[member.site] = sites.get(member.site, 0) + 1
    return {
        "version": __version__,
        "id": agent.host.id,
        "site": agent.host.site,
        "private": str(agent.host.private),
        "public": str(agent.host.public) if agent.host.public else None,
        "more": [str(address) for address in agent.host.more],
        "overlay": str(agent.members.overlay) if agent.members.overlay else None,
        "entry": agent.entry,
        "registered": agent.entry is not None,
        "down": agent.down,
        "stage": agent.stage,
        "registry": {
            "kind": "embedded" if agent.settings.embedded else "zookeeper",
            "fresh": agent.fresh,
            "reason": None if agent.fresh else agent.stale_reason,
            "fresh_since": agent.fresh_at,
        },
        "members": {
            "total": len(fleet.members),
            "lost": len(fleet.lost),
            "sites": sites,
            "unreachable": sum(
                1
                for member in fleet.members.values()
                if member.id != agent.host.id
                and cross_address(member, host=agent.host, sites=agent.settings.sites) is None
            ),
        },
        "peers": sum(1 for host_id in fleet.members if host_id != agent.host.id),
        "lost": [
            {"id": host_id, "overlay": str(lost.member.overlay), "since": lost.since}
            for host_id, lost in fleet.lost.items()
        ],
        "skipped": {"count": fleet.skipped_count(), "entries": _printable(fleet.skipped())},
        "shared_private": [
            {"site": site, "address": str(address), "ids": list(ids)}
            for site, address, ids in fleet.shared_private()
        ],
        "settings": {"interval": agent.live.interval, "maxchange": agent.live.maxchange},
        "ssh": "tracked" if agent.network.others else "untracked",
        "problems": [*agent.problems.values(), *agent.live.faults.values()],
        "notes": _notes(agent),
        "warnings": list(agent.settings.warnings),
        "applies": agent.applies,
    }


def _printable(entries: dict[str, str]) -> dict[str, str]:
    """Names are untrusted: no terminal shall obey one."""
    return {
        "".join(c if c.isprintable() else "?" for c in name): why for name, why in entries.items()
    }


def _notes(agent: "Agent") -> list[str]:
    notes = []
    if agent.host.public is None:
        notes.append("this host has no public address: it is reached inside its site only")
    if agent.network.others:
        notes.append(
            f"other tables judge input too ({', '.join(agent.network.others)}): what they drop "
            "stays dropped, and SSH is not kept out of connection tracking"
        )
    return notes


def members(agent: "Agent") -> list[dict[str, Any]]:
    """Every accepted member as this agent sees it."""
    fleet = agent.members.fleet
    listed = []
    for host_id, member in sorted(fleet.members.items()):
        reached = cross_address(member, host=agent.host, sites=agent.settings.sites)
        listed.append(
            {
                "id": host_id,
                "site": member.site,
                "private": str(member.private),
                "public": str(member.public) if member.public else None,
                "overlay": str(member.overlay),
                "reached_at": str(reached) if reached else None,
                "lost": host_id in fleet.lost,
            }
        )
    return listed

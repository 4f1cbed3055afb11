"""What the running agent tells of itself, as plain values for JSON. Reads, changes nothing."""

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from neti import __version__
from neti.agent.conditions import problems_of
from neti.registry.opening import notes_of
from neti.ruleset.policy import cross_address
from neti.text import printable

FORMAT: Final = 2  # of the document; 1, without a number, had sentences as problems
_LISTED: Final = 1000  # lost and held members named; more are only counted

if TYPE_CHECKING:
    from neti.agent.loop import Agent


def document(agent: "Agent") -> dict[str, Any]:
    """For ``neti status``."""
    core = agent.core
    fleet, host, overlay = core.members.fleet, core.host, core.members.overlay
    entry = agent.registration.entry
    sites: dict[str, int] = {}
    for member in fleet.members.values():
        sites[member.site] = sites.get(member.site, 0) + 1
    return {
        "format": FORMAT,
        "version": __version__,
        "id": host.id,
        "site": host.site,
        "private": str(host.private),
        "public": str(host.public) if host.public else None,
        "more": [str(address) for address in host.more],
        "overlay": str(overlay) if overlay else None,
        "entry": entry,
        "registered": entry is not None,
        "down": core.down,
        "stage": core.stage_word,
        "wished": _wished(agent),
        "trial": agent.staging.document(),
        "evidence": agent.staging.evidence_document(),
        "registry": {
            "kind": "embedded" if core.settings.embedded else "zookeeper",
            "fresh": core.fresh,
            "reason": None if core.fresh else core.stale_reason,
            "fresh_since": _shown(agent, core.fresh_at),
            "stale_seconds": None
            if core.stale_since is None
            else round(max(0.0, core.since() - core.stale_since), 1),
        },
        "members": {
            "total": len(fleet.members),
            "lost": len(fleet.lost) - len(fleet.holds),
            "held": len(fleet.holds),
            "sites": sites,
            "unreachable": sum(
                1
                for member in fleet.members.values()
                if member.id != host.id
                and cross_address(member, host=host, sites=core.settings.sites) is None
            ),
        },
        "peers": sum(1 for host_id in fleet.members if host_id != host.id),
        "lost": _lost(agent),
        "holds": _holds(agent),
        "skipped": {
            "count": fleet.skipped_count(),
            "entries": {printable(name): why for name, why in fleet.skipped().items()},
        },
        "shared_private": [
            {"site": site, "address": str(address), "ids": list(ids)}
            for site, address, ids in fleet.shared_private()
        ],
        "settings": {"interval": core.live.interval, "maxchange": core.live.maxchange},
        "drift": {
            "repairs": agent.kernel.fight.repairs,
            "fight": agent.kernel.fight.sentence(core.now()),
        },
        "conntrack": _conntrack(agent),
        "ssh": "tracked" if agent.kernel.network.others else "untracked",
        "problems": [one.document() for one in problems_of(core)],
        "notes": _notes(agent),
        "warnings": list(core.settings.warnings),
        "applies": agent.kernel.applies,
    }


def _wished(agent: "Agent") -> dict[str, Any]:
    record = agent.core.record
    return {
        "reject_all": record.wished,
        "by": record.by,
        "configured": agent.core.settings.reject_all,
        "said_at": record.said_at,
        "said_by": record.said_by,
        "relaxed_until": agent.core.shown(record.relaxed_until),
    }


def _lost(agent: "Agent") -> list[dict[str, Any]]:
    fleet = agent.core.members.fleet
    waiting = ((i, lost) for i, lost in fleet.lost.items() if i not in fleet.holds)
    return [
        {
            "id": host_id,
            "overlay": str(lost.member.overlay),
            "since": _shown(agent, lost.since),
            "seconds": _age(agent, lost.since),
        }
        for host_id, lost in islice(waiting, _LISTED)
    ]


def _holds(agent: "Agent") -> list[dict[str, Any]]:
    fleet = agent.core.members.fleet
    return [
        {
            "id": host_id,
            "overlay": str(fleet.lost[host_id].member.overlay),
            "since": _shown(agent, hold.since),
            "seconds": _age(agent, hold.since),
            "reason": hold.reason,
        }
        for host_id, hold in islice(fleet.holds.items(), _LISTED)
    ]


def _age(agent: "Agent", since: float) -> float:
    """``since``: steady seconds."""
    return round(max(0.0, agent.core.since() - since), 1)


def _shown(agent: "Agent", since: float | None) -> float | None:
    """As the calendar shows it now."""
    return None if since is None else agent.core.steady.shown(since)


def _conntrack(agent: "Agent") -> dict[str, Any] | None:
    fill = agent.kernel.tracking.fill
    if fill is None:
        return None
    return {"tracked": fill.tracked, "limit": fill.limit, "percent": round(fill.percent, 1)}


def _notes(agent: "Agent") -> list[str]:
    notes = [*agent.kernel.tracking.notes, *agent.kernel.network.perhaps]
    if agent.core.host.public is None:
        notes.append("this host has no public address: it is reached inside its site only")
    notes += notes_of(agent.core.settings)
    if agent.kernel.network.others:
        others = ", ".join(agent.kernel.network.others)
        notes.append(
            f"other tables judge input too ({others}): what they drop stays dropped, "
            "and SSH is not kept out of connection tracking"
        )
    if agent.core.out.tagger is not None and agent.core.out.tagger.problem is not None:
        notes.append(f"the instance's tags are not set: {agent.core.out.tagger.problem}")
    return notes


def members(agent: "Agent") -> list[dict[str, Any]]:
    """Every accepted member as this agent sees it."""
    core, fleet = agent.core, agent.core.members.fleet
    listed = []
    for host_id, member in sorted(fleet.members.items()):
        reached = cross_address(member, host=core.host, sites=core.settings.sites)
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

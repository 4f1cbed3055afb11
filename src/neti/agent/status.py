"""What the running agent tells about itself and the members. Only reads."""

from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from neti import __version__
from neti.agent import encryption
from neti.agent.conditions import problems_of
from neti.agent.opening import told
from neti.model import Site
from neti.monitoring.status import (
    Drift,
    Held,
    Live,
    Lost,
    Members,
    Registry,
    Removed,
    Shared,
    Skipped,
    Status,
    Tracking,
    Wish,
)
from neti.registry.opening import notes_of
from neti.ruleset.reach import by_link
from neti.text import printable
from neti.words import counted, some

_ADDRESSES: Final = 100  # of removed members named
_OTHERS: Final = "other gateways of its site are used"
_ONE: Final = "only one of them is there"
_CUT_OFF: Final = (
    "no gateway of another site answers this gateway, so hosts of its own site go by another one "
    "where that works"
)
_LISTED: Final = 1000  # lost and held members that are named; more are only counted

if TYPE_CHECKING:
    from neti.agent.loop import Agent


def status(agent: "Agent") -> Status:
    """For ``neti status``."""
    core = agent.core
    fleet, host, overlay = core.members.fleet, core.host, core.members.overlay
    entry = agent.registration.entry
    return Status(
        version=__version__,
        id=host.id,
        site=host.site,
        private=str(host.private),
        public=str(host.public) if host.public else None,
        gateway=core.members.gateways.own_gateway(),
        more=tuple(map(str, host.more)),
        overlay=str(overlay) if overlay else None,
        entry=entry,
        registered=entry is not None,
        down=core.down.now,
        stage=core.stage.word,
        wished=_wished(agent),
        trial=agent.trying.told(),
        evidence=agent.trying.findings,
        registry=_registry(agent),
        members=_members(agent),
        peers=sum(1 for host_id in fleet.members if host_id != host.id),
        lost=tuple(_lost(agent)),
        holds=tuple(_holds(agent)),
        skipped=Skipped(
            count=fleet.skipped_count(),
            entries={printable(name): why for name, why in fleet.skipped().items()},
        ),
        records=fleet.records,
        encryption=encryption.told(core, agent.roads),
        member_ports=core.stage.ports,
        openings=tuple(told(core, core.openings.held)),
        shared_private=tuple(
            Shared(site=site, address=str(address), ids=tuple(ids))
            for site, address, ids in fleet.shared_private()
        ),
        removed=_removed(agent),
        containers=tuple(printable(name) for name in agent.kernel.containers),
        lacks=agent.kernel.lacks,
        settings=Live(interval=core.live.interval, maxchange=core.live.maxchange),
        drift=Drift(
            repairs=agent.kernel.others.fight.repairs,
            fight=agent.kernel.others.fight.sentence(core.now()),
        ),
        conntrack=_conntrack(agent),
        ssh="tracked" if agent.kernel.network.others else "untracked",
        problems=tuple(problems_of(core)),
        notes=tuple(_notes(agent)),
        warnings=tuple(core.settings.warnings),
        applies=agent.kernel.applies,
    )


def _wished(agent: "Agent") -> Wish:
    record = agent.core.stage.record
    return Wish(
        reject_all=record.wished,
        by=record.by,
        configured=agent.core.settings.reject_all,
        said_at=record.said_at,
        said_by=record.said_by,
        relaxed_until=agent.core.shown(record.relaxed_until),
    )


def _registry(agent: "Agent") -> Registry:
    core = agent.core
    stale = core.in_step.stale_seconds(core.since())
    return Registry(
        kind="embedded" if core.settings.embedded else "zookeeper",
        fresh=core.in_step.fresh,
        reason=None if core.in_step.fresh else core.in_step.reason,
        fresh_since=core.shown(core.in_step.fresh_at),
        stale_seconds=None if stale is None else round(stale, 1),
    )


def _members(agent: "Agent") -> Members:
    core, fleet = agent.core, agent.core.members.fleet
    host = core.host
    by_site: dict[str, int] = {}
    unreachable = 0
    for member in fleet.members.values():
        by_site[member.site] = by_site.get(member.site, 0) + 1
        if member.id != host.id and core.members.reached_at(member) is None:
            unreachable += 1
    return Members(
        total=len(fleet.members),
        lost=len(fleet.lost) - len(fleet.holds),
        held=len(fleet.holds),
        sites=by_site,
        unreachable=unreachable,
    )


def _lost(agent: "Agent") -> Iterator[Lost]:
    core, fleet = agent.core, agent.core.members.fleet
    waiting = ((i, lost) for i, lost in fleet.lost.items() if i not in fleet.holds)
    for host_id, lost in islice(waiting, _LISTED):
        yield Lost(
            id=host_id,
            overlay=str(lost.member.overlay),
            since=core.steady.shown(lost.since),
            seconds=_age(agent, lost.since),
        )


def _holds(agent: "Agent") -> Iterator[Held]:
    core, fleet = agent.core, agent.core.members.fleet
    for host_id, hold in islice(fleet.holds.items(), _LISTED):
        yield Held(
            id=host_id,
            overlay=str(fleet.lost[host_id].member.overlay),
            since=core.steady.shown(hold.since),
            seconds=_age(agent, hold.since),
            reason=hold.reason,
        )


def _removed(agent: "Agent") -> Removed:
    revoked = agent.core.members.elements.revoked
    keys = sorted(key for where in revoked.values() for key in where)
    return Removed(count=len(keys), addresses=tuple(keys[:_ADDRESSES]))


def _age(agent: "Agent", since: float) -> float:
    """``since``: steady seconds."""
    return round(max(0.0, agent.core.since() - since), 1)


def _conntrack(agent: "Agent") -> Tracking | None:
    fill = agent.kernel.tracking.fill
    if fill is None:
        return None
    return Tracking(tracked=fill.tracked, limit=fill.limit, percent=round(fill.percent, 1))


def _notes(agent: "Agent") -> list[str]:
    notes = [*agent.kernel.tracking.notes, *agent.kernel.network.perhaps]
    notes += _of_gateways(agent)
    if agent.core.host.public is None and not agent.core.members.gateways.own_gateway():
        notes += _without_public(agent.core.settings.sites, agent.core.host.site)
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


def _without_public(sites: Mapping[str, Site], own: str) -> Iterator[str]:
    """A site to which a link leads from here is reached by its members' private addresses."""
    others = sorted(sites.keys() - {own})
    cut_off = [one for one in others if not by_link(sites[one], sites.get(own))]
    if len(cut_off) == len(others):
        yield "this host has no public address: it is reached inside its site only"
    elif cut_off:
        yield f"this host has no public address: it is not reached from {some(cut_off)}"


def _of_gateways(agent: "Agent") -> Iterator[str]:
    members = agent.core.members
    part = members.gateways
    if (own := part.own_gateway()) is not None:
        yield f"this host is reached from other sites by gateway {own}, and reaches them by it"
    if part.is_gateway and agent.core.host.id in part.drained:
        yield "this host is a drained gateway of its site: it passes on what still comes to it"
    elif part.is_gateway:
        behind = members.elements.wanted("gateway_inside")
        yield f"this host is a gateway of its site, for {counted(len(behind), 'host')} behind it"
    if part.cut_off:
        yield _CUT_OFF
    for host_id in sorted(part.drained & part.named):
        even_so = part.is_used(host_id)
        then = "it is used even so, as no other one of its site works" if even_so else _OTHERS
        yield f"{host_id} is drained by an operator: {then}"
    for host_id, why in part.useless(members.fleet.members).items():
        yield f"{host_id} is named as a gateway and cannot be used: it {why}"
    if shared := part.sharing():
        yield f"of the gateways {some(sorted(shared))} some say the same public address: {_ONE}"


def members(agent: "Agent", ids: Collection[str] | None = None) -> list[dict[str, Any]]:
    """Every accepted member as this agent sees it, or those of ``ids``."""
    core, fleet = agent.core, agent.core.members.fleet
    listed = []
    wanted = fleet.members.keys() if ids is None else fleet.members.keys() & set(ids)
    for host_id in sorted(wanted):
        member = fleet.members[host_id]
        reached = core.members.reached_at(member)
        listed.append(
            {
                "id": host_id,
                "site": member.site,
                "private": str(member.private),
                "public": str(member.public) if member.public else None,
                "overlay": str(member.overlay),
                "reached_at": str(reached) if reached else None,
                "gateways": list(core.members.gateways.through(member)),
                "road": core.members.road_of(member).value,
                "key": str(key) if (key := fleet.keys.get(host_id)) is not None else None,
                "lost": host_id in fleet.lost,
                "drained": host_id in core.members.gateways.drained,
            }
        )
    return listed

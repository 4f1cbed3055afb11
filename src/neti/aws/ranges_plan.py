"""The work of ``neti aws ip-ranges``: from what was asked for to a plan, in words and as JSON.

Must never do: change a group (``apply`` does), or print: what there is to say goes to ``Words``.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

from neti.aws import fleet_memory, fleet_ranges, published, ranges_state, tunnel_rule
from neti.aws import ip_ranges as ranges
from neti.aws.calls import Calls
from neti.aws.fleet_memory import Memory
from neti.aws.groups import Group
from neti.aws.ip_ranges import Plan, Shape, Sources
from neti.aws.prefixes import aggregate
from neti.aws.ranges_state import Held
from neti.config import load
from neti.errors import ConfigError, NetiError
from neti.model.settings import Settings
from neti.oneshot import registered
from neti.registry import OperatorRegistry

SITE_TAG: Final = "neti_site"
MEMORY: Final = "fleet-addresses.json"
_KEPT: Final = (
    "{} addresses stay for hosts that hold a lease but are not registered. If they are gone for "
    "good, run 'neti lease gc' or 'neti lease release'"
)


RegistryOf = Callable[[Settings], AbstractContextManager[OperatorRegistry]]


class Words(Protocol):
    """Where lines for the operator go."""

    def say(self, line: str) -> None: ...

    def warn(self, sentence: str) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked for, without where and how to carry it out."""

    config: Path
    groups: tuple[str, ...]
    site: str | None
    fleet: bool
    file: Path | None
    url: str
    choice: published.Choice
    ipv6: bool
    shape: Shape
    quota: int | None
    revert: bool
    remove_first: bool
    allow_removals: bool
    as_json: bool
    memory: Path | None = None
    encrypted: bool = False
    gateways: bool = False


@dataclass(slots=True)
class Made:
    """A plan, its JSON, and what to remember before it is carried out: a host that is let in now
    may be lost by the next run."""

    plan: Plan
    document: dict[str, Any]
    memory: Memory | None = None
    path: Path | None = None
    groups: tuple[str, ...] = ()
    needed: bool = field(default=False)

    def remember(self, words: Words) -> None:
        if self.memory is None or self.path is None:
            return
        try:
            fleet_memory.save(self.path, self.memory, self.groups)
        except NetiError as error:
            if self.needed:
                raise
            words.warn(str(error))


@dataclass(slots=True)
class _Fleet:
    wanted: dict[str, list[Sources]]
    memory: Memory
    path: Path
    held: int = 0
    removed: int = 0


def make_plan(request: Request, places: list[Calls], words: Words, registry_of: RegistryOf) -> Made:
    """``registry_of``: for ``fleet``."""
    found = _groups(request, places, words)
    held = ranges_state.read(places, found, request.shape, all_lists=request.revert)
    if request.revert:
        plan = ranges.revert(found, held.lists, request.shape.mark, held.used_elsewhere)
        return Made(plan, _document(request, found, {}))
    fleet = _fleet(request, found, held, words, registry_of) if request.fleet else None
    wanted = _published(request, found, words) if fleet is None else fleet.wanted
    _advise(request, found, words)
    quotas = ranges_state.quotas(places, found, request.quota)
    plan = ranges.plan(
        found,
        wanted,
        held.lists,
        request.shape,
        quotas=quotas,
        weights=held.weights,
        remove_first=request.remove_first,
        used_elsewhere=held.used_elsewhere,
    )
    if fleet is not None and not request.allow_removals:
        fleet_ranges.refuse_mass_removal(fleet.held, fleet.removed)
    if not request.as_json:
        _say(wanted, plan, words)
    made = Made(plan, _document(request, found, wanted))
    if fleet is not None:
        made.memory, made.path = fleet.memory, fleet.path
        made.groups = tuple(_slot(request, group) for group in found)
        made.needed = request.shape.max_rules is not None
    return made


def _published(request: Request, found: list[Group], words: Words) -> dict[str, list[Sources]]:
    if request.file is not None:
        content, name = request.file.read_bytes(), str(request.file)
    else:
        content, name = published.fetch(request.url), request.url
    file = published.parse(content, name)
    if not request.as_json:
        words.say(f"{name}, of {file.created}: {request.choice}")
    sources = []
    for family in (4, 6) if request.ipv6 else (4,):
        chosen = published.choose(file, request.choice, family)
        if not chosen and family == 4:
            raise NetiError(f"{name} has no IPv4 range for {request.choice}: nothing was changed")
        if chosen:
            sources.append(ranges.sources(chosen, family, str(request.choice), request.shape))
        if not request.as_json:
            joined = len(aggregate(chosen))
            words.say(f"IPv{family}: {len(chosen)} ranges, {joined} after aggregation")
    return {group.id: sources for group in found}


def _fleet(
    request: Request, found: list[Group], held: Held, words: Words, registry_of: RegistryOf
) -> _Fleet:
    settings = load(request.config)
    path = request.memory or settings.table_files_path / MEMORY
    memory = fleet_memory.load(path)
    with registry_of(settings) as registry:
        told = registered.read(settings, registry, documents=False)
    fleet = _Fleet({}, memory, path)
    for group in found:
        site = request.site or _site_of(group, settings)
        made = fleet_ranges.of_fleet(
            told.members.values(),
            told.leases,
            held.described(group),
            group=_slot(request, group),
            memory=fleet.memory,
            own_site=site,
            sites=settings.sites,
            shape=request.shape,
            only=_only(request, site, settings),
        )
        if made.without_public:
            words.warn(f"without a public address: {', '.join(made.without_public[:10])}")
        if made.kept:
            words.warn(_KEPT.format(len(made.kept)))
        fleet.wanted[group.id] = [made.sources]
        fleet.memory = made.memory
        fleet.held += made.held
        fleet.removed += made.removed
    return fleet


def _only(request: Request, site: str | None, settings: Settings) -> frozenset[str] | None:
    if request.gateways:
        return tunnel_rule.gateways_for(site, settings.sites)
    return tunnel_rule.sites_for(site, settings.sites) if request.encrypted else None


def _slot(request: Request, group: Group) -> str:
    """Under which the memory has a group's prefixes: those for the tunnel are others."""
    if request.gateways:
        return f"{group.id} gateways"
    return f"{group.id} encrypted" if request.encrypted else group.id


def _advise(request: Request, found: list[Group], words: Words) -> None:
    """What follows from encryption between sites."""
    try:
        settings = load(request.config)
    except ConfigError:
        if request.encrypted:
            raise
        return  # AWS's ranges need no configuration
    for site in sorted({request.site or _site_of(group, settings) or "" for group in found}):
        if request.gateways:
            words.warn(tunnel_rule.inside(site, settings.tunnel_port))
            continue
        gateways = tunnel_rule.for_gateways(site, settings.sites, settings.tunnel_port)
        if gateways is not None:
            words.warn(gateways)
        if request.encrypted:
            tunnel_rule.sites_for(site or None, settings.sites)
            continue
        told = tunnel_rule.advice(site, settings.sites, request.shape, settings.tunnel_port)
        if told is not None:
            words.warn(told)


def _groups(request: Request, places: list[Calls], words: Words) -> list[Group]:
    wanted = list(request.groups)
    vpc_ids: tuple[str, ...] = ()
    if request.site is not None:
        settings = load(request.config)
        if request.site not in settings.sites:
            raise NetiError(
                f"{request.config} has no site {request.site!r}; it has {', '.join(settings.sites)}"
            )
        vpc_ids = settings.sites[request.site].vpc_ids
        wanted = wanted or [f"tag:{SITE_TAG}={request.site}"]
    missing = (lambda error: words.warn(str(error))) if request.revert else None
    return ranges_state.groups(places, wanted, vpc_ids, missing=missing)


def _site_of(group: Group, settings: Settings) -> str | None:
    return next((s.name for s in settings.sites.values() if group.vpc_id in s.vpc_ids), None)


def _say(wanted: dict[str, list[Sources]], plan: Plan, words: Words) -> None:
    for source in {id(s): s for many in wanted.values() for s in many}.values():
        told = f"IPv{source.family}: {len(source.cidrs)} prefixes, {source.asked:,} addresses"
        if source.surplus:
            share = source.surplus / source.asked
            told += f", including {source.surplus:,} surplus addresses from widening ({share:.0%})"
        words.say(told)
    for group, rule in plan.foreign:
        words.say(f"= {group.id}: {rule}  [{rule.description or 'not by Neti'}]")


def _document(
    request: Request, found: list[Group], wanted: dict[str, list[Sources]]
) -> dict[str, Any]:
    return {
        "groups": [
            {
                "id": group.id,
                "account": group.place.account,
                "region": group.place.region,
                "sources": [
                    {
                        "family": source.family,
                        "prefixes": list(source.cidrs),
                        "addresses": source.asked,
                        "surplus": source.surplus,
                    }
                    for source in wanted.get(group.id, ())
                ],
            }
            for group in found
        ],
        "revert": request.revert,
    }

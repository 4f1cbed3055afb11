"""The coverage report: the machines of an inventory against the registry, as an agent would read
it.

Pure. A machine is in Neti when its peers in every site reach it at its overlay address. For all
others the row says why not.
"""

import fnmatch
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Any, Final

from neti.errors import IdentityError
from neti.fleet.registered import Registered, id_of
from neti.identity.site import decide_site
from neti.identity.source import Identity
from neti.model import Member, Reach
from neti.model.machine import OVERLAY_TAG, Machine
from neti.model.settings import Settings

_DIGITS: Final = re.compile(r"(\d+)")
# Ids that clouds give: an EC2 instance, a number of Google's, Azure's UUID in base 36.
_OF_A_CLOUD: Final = re.compile(r"i-[0-9a-f]+|[1-9][0-9]{14,19}|[0-9a-z]{25}", re.ASCII)
UNKNOWN_SITE: Final = "?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """``why`` is None exactly for a machine in Neti. ``registered``: its agent is registered,
    although peers may not reach it from every site."""

    name: str
    id: str
    account: str
    owner: str
    region: str
    site: str
    private: str | None
    public: str | None
    overlay: str | None
    version: str | None
    stage: str | None
    why: str | None
    excluded: bool = False
    registered: bool = False

    @property
    def in_neti(self) -> bool:
        return self.why is None


@dataclass(frozen=True, slots=True)
class Total:
    site: str
    machines: int
    in_neti: int
    excluded: int

    @property
    def percent(self) -> float | None:
        """None: there is no machine to count."""
        return 100.0 * self.in_neti / self.machines if self.machines else None


def rows(
    machines: Iterable[Machine],
    registered: Registered,
    settings: Settings,
    *,
    exclude: Sequence[str] = (),
) -> list[Row]:
    """One row per machine, in natural order of names: web-9 before web-10."""
    running = list(machines)
    matched = _matched(running, registered, settings)
    faults = {id_of(name): fault for name, fault in registered.skipped.items()}
    made = [
        _row(one, matched.get(number), registered, settings, exclude, faults)
        for number, one in enumerate(running)
    ]
    return sorted(made, key=lambda row: (natural(row.name), row.id))


def totals(made: Iterable[Row], only: str | None = None) -> list[Total]:
    """By site, then "all"; or that of one site. Excluded machines count only in their own
    column."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0])
    for row in made:
        for site in (row.site, "all"):
            counts[site][0] += not row.excluded
            counts[site][1] += not row.excluded and row.in_neti
            counts[site][2] += row.excluded
    if only is not None:
        return [Total(only, *counts[only])]
    sites = sorted(counts.keys() - {"all"})
    return [Total(site, *counts[site]) for site in (*sites, "all")]


def below(made: Iterable[Row], percent: float, only: str | None = None) -> list[Total]:
    """Totals that do not reach the percentage. A total without machines reaches none."""
    return [
        total
        for total in totals(made, only)
        if (0.0 if total.percent is None else total.percent) < percent
        and (total.machines or total.site in ("all", only))
    ]


def strangers(
    machines: Iterable[Machine], registered: Registered, settings: Settings
) -> list[Member]:
    """Members that are none of these machines: they are in an account or region that was not
    asked, are not in the file, or have stopped running."""
    ours = {member.id for member in _matched(list(machines), registered, settings).values()}
    others = [member for member in registered.members.values() if member.id not in ours]
    return sorted(others, key=lambda member: natural(member.id))


def natural(text: str) -> list[tuple[int, str]]:
    """A sort key that orders numbers within names by value."""
    return [
        (int(part), "") if part.isdecimal() and part.isascii() else (-1, part.lower())
        for part in _DIGITS.split(text)
    ]


def _matched(
    machines: Sequence[Machine], registered: Registered, settings: Settings
) -> dict[int, Member]:
    """The members by the positions of their machines: a file may name two machines the same.

    A member is matched by its machine's id. Where the member or the list has an id of its own, the
    addresses tell. Private ranges repeat, so the site must match too, and exactly one machine must
    fit.
    """
    found: dict[int, Member] = {}
    for number, machine in enumerate(machines):
        known = next((one for one in machine.ids if one in registered.members), None)
        if known is not None:
            found[number] = registered.members[known]
    taken = {member.id for member in found.values()}
    by_address: dict[IPv4Address, list[Member]] = defaultdict(list)
    for member in registered.members.values():
        if member.id not in taken:
            by_address[member.private].append(member)
            if member.public is not None:
                by_address[member.public].append(member)
    meant: dict[str, list[int]] = defaultdict(list)
    for number, machine in enumerate(machines):
        if number not in found:
            for member in _by_addresses(machine, by_address, settings)[:1]:
                meant[member.id].append(number)
    for member_id, numbers in meant.items():
        if len(numbers) == 1:
            found[numbers[0]] = registered.members[member_id]
    return found


def _by_addresses(
    machine: Machine, by_address: Mapping[IPv4Address, list[Member]], settings: Settings
) -> list[Member]:
    """Which members are the machine by its addresses; the most certain first."""
    listed = machine.privates + machine.publics
    near = [member for one in listed for member in by_address.get(one, ())]
    if any(map(_OF_A_CLOUD.fullmatch, machine.ids)):
        # Two ids of clouds are two machines.
        near = [member for member in near if _OF_A_CLOUD.fullmatch(member.id) is None]
    alike = [one for one in near if _fits(machine, one)]
    if not alike:
        return []
    site = own_site(machine, settings)
    publics = machine.publics if machine.complete else listed
    silent = not machine.complete and not machine.publics
    return [
        # Public addresses are unique, even if the site is not known.
        *(m for m in alike if m.public in publics and site in (m.site, UNKNOWN_SITE)),
        *(m for m in alike if (m.public is None or silent) and m.site == site),
    ]


def _fits(machine: Machine, member: Member) -> bool:
    """Whether the member's addresses are the machine's, as far as the list states any."""
    some = not machine.complete
    listed = machine.privates
    private = member.private in listed or (some and (not listed or member.public in listed))
    public = member.public is None or member.public in machine.publics
    return private and (public or (some and (not machine.publics or member.public in listed)))


def _row(
    machine: Machine,
    member: Member | None,
    registered: Registered,
    settings: Settings,
    exclude: Collection[str],
    faults: Mapping[str, str],
) -> Row:
    excluded = any(fnmatch.fnmatchcase(machine.name, pattern) for pattern in exclude)
    site = member.site if member is not None else own_site(machine, settings)
    told = registered.told.get(member.id) if member is not None else None
    lease = next((registered.leases[i] for i in machine.ids if i in registered.leases), None)
    why = _why(machine, member, registered, settings, faults)
    if excluded and why is not None:
        why = f"excluded by name; {why}"
    return Row(
        name=machine.name or machine.id,
        id=machine.id,
        account=machine.account,
        owner=machine.owner,
        region=machine.region,
        site=site,
        private=_text(machine.privates),
        public=_text(machine.publics),
        overlay=str(member.overlay) if member is not None else str(lease) if lease else None,
        version=(told.version or None) if told is not None else None,
        stage=(told.stage or None) if told is not None else None,
        why=why,
        excluded=excluded,
        registered=member is not None,
    )


def _why(
    machine: Machine,
    member: Member | None,
    registered: Registered,
    settings: Settings,
    faults: Mapping[str, str],
) -> str | None:
    if member is None:
        return _why_unregistered(machine, registered, faults)
    if not _fits(machine, member):
        return (
            f"registered with other addresses: {member.private}, {member.public or 'none public'}"
        )
    site = settings.sites.get(member.site)
    if member.public is None and (site is None or site.reached_by is Reach.PUBLIC):
        if machine.publics:
            return "registered without its public address"
        return "registered, but without a public address, so it is reached inside its site only"
    return None


def _why_unregistered(machine: Machine, registered: Registered, faults: Mapping[str, str]) -> str:
    silent = machine.publics or not machine.complete
    also = "" if silent else "; it has no public address either"
    for one in machine.ids:
        if one in faults:
            return f"its entry is not believed: {faults[one]}"
        if one in registered.present:
            return "its entry is not believed: 'neti status' on any host says why"
        if one in registered.leases:
            return (
                f"stale registration: it holds the lease of {registered.leases[one]}, but no agent "
                f"is registered{also}"
            )
    if OVERLAY_TAG in machine.tags:
        return (
            f"stale registration: it has the tag {machine.tags[OVERLAY_TAG][:40]}, but no agent "
            f"is registered{also}"
        )
    return f"no agent{also}"


def own_site(machine: Machine, settings: Settings) -> str:
    """The site as the machine's own agent would decide it; the host that this runs on does not
    matter."""
    if not machine.privates or _lacks_its_vpc(machine, settings):
        return UNKNOWN_SITE
    identity = Identity(
        id=machine.id,
        private=machine.privates[0],
        public=machine.publics[0] if machine.publics else None,
        vpc_id=machine.vpc_id,
        networks=machine.networks + _longer(machine, settings),
        cloud=machine.cloud or "file",
    )
    try:
        return decide_site(replace(settings, site=None, identity="auto"), identity).site
    except IdentityError:
        return UNKNOWN_SITE


def _lacks_its_vpc(machine: Machine, settings: Settings) -> bool:
    """Its agent asks EC2 for the VPC and goes by it; without one, in 2014, the site was ec2."""
    matters = not settings.sites_configured or any(s.vpc_ids for s in settings.sites.values())
    return machine.cloud == "ec2" and machine.vpc_id is None and not machine.complete and matters


def _longer(machine: Machine, settings: Settings) -> tuple[str, ...]:
    """Google's agents also know their network as ``projects/NUMBER/networks/NAME``, but lists have
    the project's name. So a site's longer name is that of each network with the same last part."""
    if machine.cloud != "gcp":
        return ()
    listed = (name for site in settings.sites.values() for name in site.networks)
    own = {name.lower() for name in machine.networks}
    return tuple(n for n in listed if n not in own and n.rpartition("/")[2] in own)


def _text(addresses: Sequence[IPv4Address]) -> str | None:
    return str(addresses[0]) if addresses else None


def document(row: Row) -> dict[str, Any]:
    """For JSON and CSV."""
    return {
        "name": row.name,
        "id": row.id,
        "account": row.account,
        "account_number": row.owner or None,
        "region": row.region,
        "site": row.site,
        "private": row.private,
        "public": row.public,
        "overlay": row.overlay,
        "version": row.version,
        "stage": row.stage,
        "in_neti": row.in_neti,
        "excluded": row.excluded,
        "why": row.why,
    }

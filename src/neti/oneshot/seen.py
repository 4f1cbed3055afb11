"""The fleet as commands show it: members, who is away, and what they say of themselves.

From the registry; where that does not answer, from this host's agent. Must never do: change
anything in the registry.
"""

import contextlib
import ipaddress
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from neti.control.aside import ASIDES
from neti.control.client import AgentUnreachable
from neti.errors import NetiError, RegistryUnavailable
from neti.fleet import attendance, listing
from neti.fleet.attendance import Word
from neti.fleet.fleet import Fleet
from neti.fleet.listing import Row
from neti.fleet.naming import Words
from neti.model import Member
from neti.model.names import Names
from neti.model.settings import Settings
from neti.oneshot.away import absent, neither, stale_seconds
from neti.oneshot.documents import Told, told_by
from neti.oneshot.registered import all_skipped, entries_of, judged, known_and_expected, taken
from neti.registry import OperatorRegistry
from neti.registry.detail import Document
from neti.registry.drained import as_read
from neti.registry.names import NamesUnreadable
from neti.registry.names import decode as decode_names
from neti.ruleset.gateways import gateways_of
from neti.words import some

Documents = Callable[[OperatorRegistry, Mapping[str, str | None]], Told]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """``told``: what each host says of itself; ``taken``: what no host may be called, such as a
    site; ``leases``: the oldest first; ``skipped``: entries that no agent believes;
    ``away``: a row for everybody who holds a lease, has been here, and is no member.
    ``gateways``: by host id the one by which other sites reach it, if all that are registered work;
    ``drained``: members that operators took out of use as gateways.
    ``names``: as operators gave them; None: they are not known, or cannot be read.
    ``not_own``: members whose document another session made, so that it is not believed.
    ``unanswered``: why the registry does not answer, so that this is what this host's agent knew;
    None: it does. ``stale_seconds``: how old that is; None: the agent follows the registry, or does
    not say. ``strict``: whether it says that only what records name is believed; None: it
    does not answer."""

    members: Mapping[str, Member]
    told: Mapping[str, Document]
    taken: frozenset[str]
    skipped: Mapping[str, str]
    skipped_count: int
    away: Sequence[Row]
    leases: Mapping[ipaddress.IPv4Address, str] = field(default_factory=dict)
    unanswered: RegistryUnavailable | None = None
    stale_seconds: float | None = None
    strict: bool | None = None
    gateways: Mapping[str, str] = field(default_factory=dict)
    drained: frozenset[str] = frozenset()
    not_own: frozenset[str] = frozenset()
    in_part: bool = False
    names: Names | None = Names()

    def words(
        self, pinned: Mapping[str, str] = MappingProxyType({}), domain: str | None = None
    ) -> Words:
        """``pinned``: by word, whose it is, as the operator says."""
        return Words(taken=self.taken, leases=self.leases, pinned=pinned, domain=domain)

    def id_of(self, text: str, also: Collection[str] = ()) -> str:
        """Of a host by its id or one of its addresses; ``also``: ids that are known besides. Raises
        NetiError where it is nobody's, and where it is several hosts': two sites may have the same
        private address."""
        away = {row["id"]: row["overlay"] for row in self.away}
        if text in {*self.members, *self.leases.values(), *away, *also}:
            return text
        found = {
            member.id
            for member in self.members.values()
            if text in map(str, (member.overlay, member.private, member.public, *member.more))
        }
        found |= {host_id for overlay, host_id in self.leases.items() if str(overlay) == text}
        found |= {host_id for host_id, overlay in away.items() if overlay == text}
        if not found:
            raise NetiError(f"no host has the id or the address {text}\n→ 'neti fleet' lists them")
        if len(found) > 1:
            raise NetiError(
                f"{text} is an address of several hosts: {some(sorted(found))}\n"
                "→ name the one that you mean by its id"
            )
        return found.pop()

    def rows(self, words: Words | None = None) -> list[Row]:
        made = listing.rows(self.members, self.told, words=words or self.words())
        for row in made:
            row["gateway"] = self.gateways.get(row["id"])
        return made


def seen(
    settings: Settings,
    registry_of: Callable[[Settings], AbstractContextManager[OperatorRegistry]],
    ask: Callable[[Path, str], Any],
) -> Seen:
    """From the registry; where that does not answer, from this host's agent, who is asked by
    ``ask`` (state folder, command).

    Raises RegistryUnavailable when neither can be asked.
    """
    try:
        with registry_of(settings) as registry:
            return seen_in(settings, registry)
    except RegistryUnavailable as away:
        return instead_of(settings, away, ask)


def instead_of(
    settings: Settings, away: RegistryUnavailable, ask: Callable[[Path, str], Any]
) -> Seen:
    """By this host's agent. Raises ``away`` where it cannot be asked either."""
    try:
        members = ask(settings.table_files_path, "members")
    except AgentUnreachable as unreachable:
        raise neither(away, unreachable) from None
    found = _by_the_agent(settings, members, away)
    return replace(found, stale_seconds=stale_seconds(settings, ask))


def seen_in(settings: Settings, registry: OperatorRegistry, documents: Documents = told_by) -> Seen:
    """``documents``: reads what members say of themselves, by the entries of all of them. Raises
    RegistryUnavailable."""
    base = judged_in(settings, registry)
    return base.seen(settings, documents(registry, base.entries))


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """All but what members say of themselves. ``entries``: of each member that by which it is one;
    ``known`` and ``expected``: see ``registered.known_and_expected``."""

    fleet: Fleet
    entries: Mapping[str, str | None]
    leases: Mapping[ipaddress.IPv4Address, str]
    known: Mapping[str, ipaddress.IPv4Address]
    expected: Mapping[str, ipaddress.IPv4Address]
    drained: frozenset[str]
    names: Names | None

    def seen(self, settings: Settings, told: Told) -> Seen:
        fleet, skipped = self.fleet, all_skipped(self.fleet)
        return Seen(
            members=fleet.members,
            told=told.by,
            taken=taken(settings),
            leases=self.leases,
            skipped=skipped,
            skipped_count=fleet.skipped_count(),
            away=absent(settings, fleet, skipped, self.known, self.expected),
            strict=fleet.records == "strict",
            gateways=gateways_of(fleet.members, settings, self.drained),
            drained=self.drained & fleet.members.keys(),
            not_own=told.not_own,
            in_part=told.in_part,
            names=self.names,
        )


def judged_in(settings: Settings, registry: OperatorRegistry) -> Judged:
    """Raises RegistryUnavailable."""
    fleet, leases = judged(settings, registry)
    known, expected = known_and_expected(registry, fleet, leases)
    return Judged(
        fleet=fleet,
        entries=entries_of(fleet),
        leases=leases,
        known=known,
        expected=expected,
        drained=as_read(registry.setting("drained")),
        names=_names(registry),
    )


def from_here(settings: Settings, ids: Collection[str]) -> dict[str, Mapping[str, Any]]:
    """By id what this host's agent tells of these members; empty where there is no agent."""
    with contextlib.suppress(NetiError):
        told = ASIDES.ask(settings.table_files_path, "members")
        return {str(one["id"]): one for one in told if one["id"] in ids}
    return {}


def _by_the_agent(
    settings: Settings, members: list[dict[str, Any]], unanswered: RegistryUnavailable
) -> Seen:
    there = {one["id"]: _member(one) for one in members if not one["lost"]}
    lost = {one["id"]: one for one in members if one["lost"]}
    words = {host_id: Word("lost", None, one["site"]) for host_id, one in lost.items()}
    overlays = {i: ipaddress.IPv4Address(one["overlay"]) for i, one in lost.items()}
    # An agent of an earlier version does not tell.
    drained = frozenset(one["id"] for one in members if one.get("drained"))
    return Seen(
        members=there,
        told={},
        taken=taken(settings),
        skipped={},
        skipped_count=0,
        away=attendance.absent(overlays, there, words=words),
        unanswered=unanswered,
        gateways=gateways_of(there, settings, drained),
        drained=drained & there.keys(),
        names=None,
    )


def _names(registry: OperatorRegistry) -> Names | None:
    try:
        return decode_names(registry.setting("names"))
    except NamesUnreadable:
        return None


def _member(told: dict[str, Any]) -> Member:
    return Member(
        id=told["id"],
        site=told["site"],
        private=ipaddress.IPv4Address(told["private"]),
        public=ipaddress.IPv4Address(told["public"]) if told["public"] else None,
        overlay=ipaddress.IPv4Address(told["overlay"]),
    )

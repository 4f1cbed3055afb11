"""The fleet and what it means to this host's kernel, kept in step: Fleet -> Elements -> journal.

Pure bookkeeping in memory; the loop says when to tell the kernel and the disk.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from neti.fleet.admission import Admission
from neti.fleet.fleet import Fleet
from neti.fleet.guard import Guard
from neti.fleet.members import Change
from neti.model import Host, IPAddress, Member, entry
from neti.model.settings import Settings
from neti.ruleset.delta import Elements
from neti.ruleset.objects import KernelState, SetName
from neti.ruleset.plan import REVOKE_SECONDS
from neti.ruleset.reach import elements_of, own_elements
from neti.state.folder import Everybody
from neti.state.records import Remembered

_PEERS: Final[tuple[SetName, ...]] = ("peers4", "peers6")


@dataclass(slots=True)
class Membership:
    """Not thread-safe: the agent's loop owns it."""

    settings: Settings
    host: Host
    fleet: Fleet
    elements: Elements
    overlay: IPv4Address | None = None

    @classmethod
    def empty(
        cls,
        settings: Settings,
        host: Host,
        reserved: frozenset[IPAddress],
        guard: Guard | None = None,
    ) -> "Membership":
        admission = Admission(
            sites=settings.sites,
            overlay_subnet=settings.overlay_subnet,
            reserved=reserved,
            own_site=host.site,
        )
        return cls(
            settings=settings,
            host=host,
            fleet=Fleet(
                admission,
                linger_seconds=settings.linger_seconds,
                guard=guard,
                hold_seconds=settings.hold_seconds,
            ),
            elements=Elements(revoke_seconds=REVOKE_SECONDS),
        )

    def remember(self, members: Mapping[str, Remembered]) -> None:
        """Begin from the last good state."""
        owners: dict[IPv4Address, str] = {}
        for host_id, held in members.items():
            parsed = entry.parse(held.name)
            if held.leased and isinstance(parsed, Member):
                owners[parsed.overlay] = host_id
        self.fleet.remember(
            {held.name: held.more for held in members.values()},
            lost={
                host_id: (held.name, held.lost_since)
                for host_id, held in members.items()
                if held.lost_since is not None
            },
            owners=owners,
            holds={
                host_id: held.hold for host_id, held in members.items() if held.hold is not None
            },
            passing=[host_id for host_id, held in members.items() if held.passing],
        )

    def adopt(self, kernel: KernelState) -> bool:
        """Nothing is known of the fleet yet: wish for what the kernel holds, so that it stays.
        Whether it lets anybody in, or keeps strangers out already."""
        for where, items in kernel.elements.items():
            for key, value in items.items():
                self.elements.want(where, key, value)
        return kernel.armed_for_good or any(kernel.elements.get(where) for where in _PEERS)

    def hold_lease(self, overlay: IPv4Address | None) -> None:
        """This host's own overlay address, by which it reaches itself."""
        if overlay == self.overlay:
            return
        for old in own_elements(self.host, self.overlay) if self.overlay else ():
            self.elements.unwant(old.where, old.key, old.value)
        for new in own_elements(self.host, overlay) if overlay else ():
            self.elements.want(new.where, new.key, new.value)
        self.overlay = overlay

    def take_changes(self) -> list[Change]:
        """What became of members since the last call, already noted in the elements."""
        changes = self.fleet.take_changes()
        for change in changes:
            for member, act in (
                (change.before, self.elements.unwant),
                (change.after, self.elements.want),
            ):
                if member is not None:
                    for element in elements_of(member, host=self.host, sites=self.settings.sites):
                        act(element.where, element.key, element.value)
        return changes

    def remembered(self, host_id: str) -> Remembered | None:
        member = self.fleet.members.get(host_id)
        if member is None:
            return None
        lost = self.fleet.lost.get(host_id)
        return Remembered(
            name=entry.encode(member),
            more=member.more,
            lost_since=lost.since if lost is not None else None,
            leased=self.fleet.owners.get(member.overlay) == host_id,
            hold=self.fleet.holds.get(host_id),
            passing=host_id in self.fleet.passing,
        )

    def everybody(self) -> Everybody:
        def lazily() -> Iterator[tuple[str, Remembered]]:
            for host_id in self.fleet.members:
                held = self.remembered(host_id)
                if held is not None:
                    yield host_id, held

        return Everybody(len(self.fleet.members), lazily())

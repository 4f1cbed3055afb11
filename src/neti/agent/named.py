"""Whom an operator means by an address, a member's id or a group's name.

Must never do: take what is written as an address for the id of a member, which chooses it itself;
or choose between a member and a group of the same name.
"""

from functools import cached_property
from ipaddress import ip_address
from typing import Final

from neti.agent.core import Core
from neti.agent.kept_out import ADDRESSES, packed
from neti.errors import NetiError
from neti.model import IPAddress, Member
from neti.model.groups import EVERY_MEMBER
from neti.ruleset.reach import elements_of
from neti.text import printable

HERE: Final = "here"


class Named:
    """For one command: it looks at the fleet once, however many names there are. Not thread-safe:
    the loop's thread owns it."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def member(self, name: str) -> Member | None:
        """By its id or its overlay address."""
        address = address_of(name)
        if address is None:
            return self._core.members.fleet.members.get(name)
        return self._by_overlay.get(address)

    def addresses(self, name: str) -> list[IPAddress]:
        """From which a member, or an address, comes to this host. A member's overlay address stands
        for it. Raises NetiError for a name that is neither."""
        if (member := self.member(name)) is not None:
            return addresses_of(self._core, member)
        if (address := address_of(name)) is not None:
            return [address]
        raise NetiError(
            f"{printable(name)!r} is no member that this host knows, and no address\n"
            "→ 'neti fleet' lists the members"
        )

    def group(self, name: str) -> list[Member] | None:
        """Those who are in it now, by id; None: there is no such group. Raises NetiError if a
        member has that name too."""
        groups, members = self._core.grouping.every(), self._core.members
        named = {EVERY_MEMBER, *groups.needed, *members.needed_groups}
        if name in named and name in members.fleet.members:
            raise NetiError(
                f"{name} is a group, and the id of a member too\n→ name the member by its address "
                f"('neti lookup {name}'), and those in the group by their ids ('neti group list')"
            )
        if name not in groups.needed:
            return None
        found = (one for one in members.fleet.members.values() if name in groups.of(one))
        return sorted(found, key=lambda one: one.id)

    @cached_property
    def _by_overlay(self) -> dict[IPAddress, Member]:
        return {one.overlay: one for one in self._core.members.fleet.members.values()}


def addresses_of(core: Core, member: Member) -> list[IPAddress]:
    """From which it comes to this host."""
    host, sites, road = core.host, core.settings.sites, core.members.road_of(member)
    found = {
        packed(element.key)
        for element in elements_of(member, host=host, sites=sites, road=road)
        if element.where in ADDRESSES
    }
    return [ip_address(one) for one in sorted(found)]


def is_own(core: Core, name: str) -> bool:
    """Whether this host itself is meant."""
    host, address = core.host, address_of(name)
    if address is None:
        return name in {HERE, host.id}
    return address.is_loopback or address in {
        core.members.overlay,
        host.private,
        host.public,
        *host.more,
    }


def address_of(text: str) -> IPAddress | None:
    try:
        return ip_address(text)
    except ValueError:
        return None

"""Identity from Azure's Instance Metadata Service. An error is never read as "there is none".

Network cards come in no order, and none is marked as the first: the card is the one that has the
MAC address of this machine's default route. A public address may stand in the load balancer's
answer only, where a standard one is attached to the machine; a 404 there is how the service says
that there is no load balancer's address.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from neti.errors import IdentityError
from neti.identity.json_answer import Fields, document
from neti.identity.metadata import MetadataHttp
from neti.identity.source import Identity, NotThisCloud

_INSTANCE: Final = "/metadata/instance?api-version=2021-02-01"
_BALANCER: Final = "/metadata/loadbalancer?api-version=2020-10-01"
_HEADERS: Final = {"Metadata": "true"}
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_DIGITS: Final = 25  # 36**25 > 2**128
# How another cloud's service answers to this path.
_UNKNOWN_THERE: Final = frozenset({400, 401, 403, 404, 405})


@dataclass(frozen=True, slots=True)
class AzureSource:
    """``own_mac``: the MAC address of the default route's interface, as 02:00:00:00:00:01; None:
    there is no such route, or its interface has none."""

    service: MetadataHttp
    own_mac: Callable[[], str | None]

    def read(self) -> Identity:
        answer = self.service.ask("GET", _INSTANCE, _HEADERS)
        if answer.status in _UNKNOWN_THERE:
            raise NotThisCloud(self.service.said(_INSTANCE, answer.status))
        if answer.status != 200:
            raise IdentityError(self.service.said(_INSTANCE, answer.status))
        said = document(self.service.where(_INSTANCE), answer.body)
        if not isinstance(said.held.get("compute"), dict):
            raise NotThisCloud(f"{said.where} says nothing of 'compute', so it is not Azure's")
        compute, card = said.inside("compute"), self._card(said.inside("network"))
        private, public = self._addresses(card)
        subscription = compute.text("subscriptionId").lower()
        group = compute.text("resourceGroupName").lower()
        return Identity(
            id=_short(compute),
            private=private,
            public=public if public is not None else self._balanced(private),
            ipv6=tuple(_ipv6s(card)),
            networks=(subscription, f"{subscription}/{group}", group),
            cloud="azure",
        )

    def _card(self, network: Fields) -> Fields:
        cards = network.every("interface")
        if len(cards) == 1:
            return cards[0]
        own = self.own_mac()
        mac = own.replace(":", "").lower() if own is not None else ""
        for card in cards:
            if mac and card.text("macAddress").lower().replace("-", "") == mac:
                return card
        seen = ", ".join(card.text("macAddress", missing="") or "none" for card in cards) or "none"
        raise IdentityError(
            f"{network.where} lists cards with the MAC addresses {seen}; this machine's default "
            f"route has {own or 'none'}, so it cannot be told which card is this host's. Write "
            "identity: {id: …, private: …}"
        )

    def _addresses(self, card: Fields) -> tuple[IPv4Address, IPv4Address | None]:
        first = card.inside("ipv4").first("ipAddress")
        public = first.text("publicIpAddress", missing="")
        return first.ipv4("privateIpAddress"), first.ipv4("publicIpAddress") if public else None

    def _balanced(self, private: IPv4Address) -> IPv4Address | None:
        """The public address that a load balancer, or a standard address, has for this one."""
        answer = self.service.ask("GET", _BALANCER, _HEADERS)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise IdentityError(self.service.said(_BALANCER, answer.status))
        said = document(self.service.where(_BALANCER), answer.body)
        for pair in said.inside("loadbalancer").every("publicIpAddresses"):
            # IPv6 stands in the same list.
            if pair.text("privateIpAddress", missing="") == str(private):
                return pair.ipv4("frontendIpAddress")
        return None


def _short(compute: Fields) -> str:
    said = compute.text("vmId")
    try:
        return short_id(said)
    except ValueError:
        raise compute.wrong("vmId", said, "a UUID") from None


def short_id(vm_id: str) -> str:
    """The UUID in base 36: with 36 characters it would leave no room for a site's name in an entry,
    and base64url may begin with a character that no id may. ValueError: it is none."""
    number, digits = uuid.UUID(vm_id).int, ""
    for _ in range(_ID_DIGITS):
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
    return digits


def _ipv6s(card: Fields) -> list[IPv6Address]:
    found = []
    for one in card.inside("ipv6", needed=False).every("ipAddress"):
        text = one.text("privateIpAddress", missing="")
        if not text:
            continue
        try:
            found.append(IPv6Address(text))
        except ValueError:
            raise one.wrong("privateIpAddress", text, "an IPv6 address") from None
    return found

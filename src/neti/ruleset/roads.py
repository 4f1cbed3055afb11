"""By which road a member is reached, and which WireGuard peer that takes. Pure.

What a road means to the table is in ``neti.ruleset.reach``.

Must never do: let a member go in the clear where encryption is required and in force, or prefer a
tunnel by which nothing was ever heard.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Final

from neti.model import Encrypt, Host, Member, Road, Site
from neti.model.settings import Settings
from neti.model.wireguard_key import PublicKey
from neti.ruleset.gateway_part import GatewayPart
from neti.ruleset.peers import SESSION_SECONDS, Endpoint, Peer, PeerState
from neti.ruleset.reach import (
    PUBLIC_ROAD_MTU,
    by_gateways,
    cross_address,
    encryption,
    encrypts,
    only_encrypted,
    road_mtu,
)
from neti.ruleset.surroundings import Tunnel

# Seconds between packets to a peer that has not answered yet. It shakes hands by them.
KEEPALIVE: Final = 25
# WireGuard's REKEY_TIMEOUT is 5 seconds.
THREE_ATTEMPTS: Final = 15
# Seconds for which one that is sent something may say nothing. It says something after ten seconds
# (KEEPALIVE_TIMEOUT); after five more the next handshake is begun, and repeated after five.
UNANSWERED: Final = 20
# What may go unanswered: an empty packet after what was received, and one after a handshake.
_TWO_EMPTY: Final = 2 * 32
# One, two or three attempts of the other end to shake hands, and nothing else: what is in a session
# has a multiple of 16 bytes. Whoever only attempts does not hear this host.
_ATTEMPTS: Final = frozenset({148, 2 * 148, 3 * 148})
# IPv6's header, UDP's and WireGuard's: less for IPv4, but a road may change.
_OVERHEAD: Final = 80


def tunnel_for(
    settings: Settings, host: Host, overlay: IPv4Address | None, uplink: int | None
) -> Tunnel | None:
    """This host's end of the encrypted road; None: its site encrypts nothing, or it has no overlay
    address yet. ``uplink``: its MTU."""
    if overlay is None or not encrypts(settings.sites, host.site):
        return None
    return Tunnel(
        own=overlay,
        private=host.private,
        mtu=_mtu(settings.sites, host.site, uplink),
        port=settings.tunnel_port,
    )


def _mtu(sites: Mapping[str, Site], own: str, uplink: int | None) -> int:
    here = sites.get(own)
    others = [site for site in sites.values() if encryption(here, site).encrypts]
    across = (road_mtu(site, here) for site in others)
    return (
        min([PUBLIC_ROAD_MTU, *(mtu for mtu in (uplink, *across) if mtu is not None)]) - _OVERHEAD
    )


def asked_between(member: Member, *, host: Host, sites: Mapping[str, Site]) -> Encrypt:
    """What the two sites ask for, whether or not it is in force."""
    if member.site == host.site:
        return Encrypt.OFF
    return encryption(sites.get(host.site), sites.get(member.site))


def encrypted_only(
    member: Member, *, host: Host, sites: Mapping[str, Site], requires: bool
) -> bool:
    """As ``reach.only_encrypted``, of the sites of the two."""
    own, other = sites.get(host.site), sites.get(member.site)
    return member.site != host.site and only_encrypted(own, other, requires=requires)


def peer_of(
    member: Member,
    key: PublicKey,
    *,
    host: Host,
    sites: Mapping[str, Site],
    port: int,
    tried: bool,
    gateways: GatewayPart | None = None,
) -> Peer:
    """``port``: WireGuard's, the same on all hosts. ``tried``: it has not answered, and is sent
    something until it does; otherwise nothing is sent to it but what somebody sends. ``gateways``:
    where it is, if the way to its site may lead through them."""
    # By number: of an address the constructor makes a text first, and reads that.
    allowed = frozenset({IPv4Network((int(member.overlay), 32))})
    keepalive = KEEPALIVE if tried else 0
    if gateways is not None and by_gateways(sites.get(host.site), sites.get(member.site)):
        # By what it learned otherwise it would follow whichever gateway was heard last.
        return Peer(key, allowed, gateways.endpoint(member), keepalive, fixed=True)
    address = cross_address(member, host=host, sites=sites)
    endpoint = Endpoint(address, port) if address is not None else None
    return Peer(key, allowed, endpoint, keepalive)


def road_of(asked: Encrypt, *, encrypted_only: bool, peer: bool, shaken: bool) -> Road:
    """``encrypted_only``: as ``reach.only_encrypted``. ``peer``: the device has one for it."""
    if encrypted_only:
        return Road.REQUIRED if peer else Road.NONE
    if not peer or not asked.encrypts:
        return Road.PLAIN
    return Road.PREFERRED if shaken else Road.TRYING


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of one peer. ``handshake``: when the last one was, by the device's clock, which
    can be set: only whether it changes counts. ``since``: monotonic seconds of the look at which
    that was seen. ``doubted``: since when something is sent to it that it does not answer, though
    its session is over. ``received``, ``sent_by_then``: at the look at which the former had last
    grown; ``asked``: since when something is sent to it and nothing comes. ``anew``: its peer was
    made anew, so the device knows of no handshake, though there was one."""

    handshake: float | None
    since: float
    sent: int
    doubted: float | None = None
    received: int = 0
    sent_by_then: int = 0
    asked: float | None = None
    anew: bool = False

    @classmethod
    def first(cls, state: PeerState, now: float) -> "Heard":
        return cls(
            state.handshake, now, state.sent, received=state.received, sent_by_then=state.sent
        )

    def then(self, state: PeerState, now: float) -> "Heard":
        """After another look."""
        forgotten = self.anew and state.handshake is None
        if state.handshake != self.handshake and not forgotten:
            return Heard.first(state, now)
        doubted, over = self.doubted, now - self.since >= SESSION_SECONDS
        if doubted is None and over and state.sent > self.sent:
            doubted = now
        known = replace(self, sent=state.sent, doubted=doubted)
        if state.received - self.received in _ATTEMPTS:
            known = replace(known, received=state.received)
        elif state.received != self.received:
            return replace(known, received=state.received, sent_by_then=state.sent, asked=None)
        if self.asked is None and state.sent - self.sent_by_then > _TWO_EMPTY:
            return replace(known, asked=now)
        return known

    def answers(self, now: float) -> bool:
        """It has, and there is no reason to believe that it does not any more. One to which nothing
        is sent stays as it was. ``now``: monotonic seconds of the last look."""
        over = self.doubted is not None and now - self.doubted >= THREE_ATTEMPTS
        says_nothing = self.asked is not None and now - self.asked >= UNANSWERED
        return self.handshake is not None and not over and not says_nothing

    def excused(self) -> "Heard":
        """It answers nowhere now, so that it says nothing tells nothing of the tunnel. Once it is
        back, it has as long as anybody."""
        return replace(self, sent_by_then=self.sent, asked=None, doubted=None)

    def made_anew(self, now: float) -> "Heard":
        """Its peer was taken out and put back, and is sent something. It counts from nothing then,
        and one that has answered has as long as anybody to do it again."""
        asked = now if self.handshake is not None else None
        return replace(self, sent=0, received=0, sent_by_then=0, asked=asked, anew=True)

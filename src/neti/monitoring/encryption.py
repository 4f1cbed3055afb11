"""What the agent tells of the encrypted road to other sites: part of its status and of its figures.
Pure.

The same rules as for ``neti.monitoring.status``: it crosses a process, so within one format no key
changes its meaning or goes away, and a key that is missing has its default.

Must never do: hold a private key, or name more than a few members.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from neti.model import Road
from neti.stage.excepted import Excepted

NAMED: Final = 20  # members named of each kind; more are only counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Crossing:
    """The members of one other site, counted by the road that they are on now (``model.Road``).
    ``asked``: what the stricter of the two sites says, "prefer" or "require"."""

    asked: str = "prefer"
    plain: int = 0
    trying: int = 0
    preferred: int = 0
    required: int = 0
    none: int = 0

    @property
    def members(self) -> int:
        return self.plain + self.trying + self.preferred + self.required + self.none

    @property
    def encrypted(self) -> int:
        """Members to which new connections go through the tunnel."""
        return self.preferred + self.required

    @property
    def clear(self) -> int:
        """Members to which new connections go in the clear."""
        return self.plain + self.trying

    def of(self, road: Road) -> int:
        return int(getattr(self, road.value))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unheard:
    """A member that is reached through the tunnel only, and does not answer there. ``since``: Unix
    seconds of its last handshake; None: there was none."""

    id: str
    overlay: str
    since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """``implementation``: "module" or "wireguard-go"; None: there is no device. ``public_key``: of
    this host, as its record says it.

    ``peers``: those that the device holds; ``shaken``: how many of them had a handshake.
    ``oldest_handshake``, ``last_handshake``: Unix seconds, among each peer's last one.
    ``received``, ``sent``: bytes on the wire, of the peers that the device holds now.

    ``keyless``: members of encrypting sites without a key that this host believes; ``keyless_ids``:
    the first of them. ``keyless_cut_off``, ``keyless_cut_off_ids``: those of them that are not
    reached at all; None: an agent of an earlier version does not tell. ``unheard``: see there, the
    first of them; ``unheard_count``: all of them.

    ``require_configured``: whether a pair of this host's site requires encryption. ``requires``:
    whether that is in effect, so that nothing goes in the clear; ``on_trial``: whether it is on
    trial, so that the kernel refuses what goes in the clear until the trial ends.
    ``sites``: the other sites of pairs that encrypt. ``excepted``: what may go in the clear for all
    that, by the configuration's own word; in the status only.
    """

    implementation: str | None = None
    port: int = 0
    mtu: int | None = None
    public_key: str | None = None
    peers: int = 0
    shaken: int = 0
    oldest_handshake: float | None = None
    last_handshake: float | None = None
    received: int = 0
    sent: int = 0
    keyless: int = 0
    keyless_ids: tuple[str, ...] = ()
    keyless_cut_off: int | None = None
    keyless_cut_off_ids: tuple[str, ...] = ()
    unheard_count: int = 0
    unheard: tuple[Unheard, ...] = ()
    require_configured: bool = False
    requires: bool = False
    on_trial: bool = False
    sites: Mapping[str, Crossing] = field(default_factory=dict)
    excepted: tuple[Excepted, ...] = ()

    @property
    def unshaken(self) -> int:
        """Peers without a handshake so far."""
        return self.peers - self.shaken

    @property
    def encrypted_only(self) -> bool:
        """Whether there are members that are reached by the encrypted road or not at all."""
        return any(one.required or one.none for one in self.sites.values())

    @property
    def cut_off(self) -> int:
        """Members that are not reached at all, because nothing may go there in the clear."""
        return sum(one.none for one in self.sites.values())

    @property
    def clear(self) -> int:
        """Members of sites that require encryption to which new connections go in the clear."""
        return sum(one.clear for one in self.sites.values() if one.asked == "require")

"""Reaches members by overlay address from here, and proves by which way: for ``neti verify``, and
for an agent whose operators ask the whole fleet.

Must never do: believe what a member answers, or what this host's agent says of the way. What proves
it is the address from which a member saw this host.
"""

import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

from neti.agent.member_talk import Answer, NoAnswer
from neti.agent.packet_sizes import LargeLost, PacketSizes
from neti.agent.responder import SECONDS
from neti.model import Road
from neti.model.gateways import PORTS
from neti.model.settings import Settings
from neti.monitoring.status import Status
from neti.ruleset.reach import by_link

MAX_SECONDS: Final = SECONDS
_AT_ONCE: Final = 32
THROUGH: Final = frozenset({Road.PREFERRED.value, Road.REQUIRED.value})
# What WireGuard puts around a packet on IPv4: the two headers, and its own 32 bytes.
_AROUND: Final = 60

# How a member is reached: the values of "reached_by".
INSIDE, PUBLIC, PRIVATE, ENCRYPTED = "inside", "public", "private", "encrypted"


def verify_all(
    settings: Settings,
    itself: Status,
    members: Sequence[Mapping[str, Any]],
    ids: Collection[str] = (),
    *,
    timeout: float,
    at_once: int = _AT_ONCE,
    sizes: PacketSizes | None = None,
) -> list[dict[str, Any]]:
    """A result for each member, or for each of ``ids``. ``itself``, ``members``: as this host's
    agent tells them; ``timeout``: seconds for one member, to which the search for the largest
    packet comes where large ones are lost; ``at_once``: so many members; ``sizes``: what earlier
    calls of the same verification found."""
    chosen = [m for m in members if not ids or m["id"] in ids]
    verifying = _Verifying(settings, itself, sizes or PacketSizes(settings.verify_port, timeout))
    with ThreadPoolExecutor(at_once) as pool:
        results = list(pool.map(verifying.result, chosen))
    missing = [wanted for wanted in ids if all(m["id"] != wanted for m in members)]
    return [*results, *({"id": i, "ok": False, "error": "is not a member here"} for i in missing)]


@dataclass(frozen=True, slots=True)
class _Verifying:
    settings: Settings
    itself: Status
    sizes: PacketSizes

    def result(self, member: Mapping[str, Any]) -> dict[str, Any]:
        road = member.get("road", Road.PLAIN.value)  # an agent before encryption does not say
        result: dict[str, Any] = {
            "id": member["id"],
            "site": member["site"],
            "overlay": member["overlay"],
            "road": road,
            "reached_by": self._reached_by(member, road),
            "gateways": member.get("gateways", []),
            "encrypted": False,
            "ok": False,
            "milliseconds": None,
            "seen_from": None,
            "expected_from": self._expected_source(member, road),
            "packets": None,
            "lost": None,
            "error": None,
        }
        started = time.perf_counter()
        try:
            answer = self.sizes.reach(member["overlay"], (member["site"], result["reached_by"]))
        except LargeLost as loss:
            self._compare(result, loss.answer)
            result["lost"] = {"packet": loss.full, "way": loss.way, "largest": loss.largest}
            result["error"] = result["error"] or self._lost(result, loss)
        except (OSError, NoAnswer) as error:
            result["error"] = self._silent(result, error)
        else:
            result["milliseconds"] = round((time.perf_counter() - started) * 1000, 2)
            result["packets"] = {"there": answer.there, "back": answer.back}
            self._compare(result, answer)
            result["ok"] = result["error"] is None
            if result["ok"] and not result["encrypted"]:
                result["reached_by"] = self._in_the_clear(member)  # whatever the agent says
        return result

    def _compare(self, result: dict[str, Any], answer: Answer) -> None:
        """With who should have answered, and by which way."""
        result["seen_from"] = answer.seen_from
        if answer.id != result["id"]:
            result["error"] = f"another host answered: {answer.id}"
        elif result["expected_from"] not in (None, answer.seen_from):
            result["error"] = (
                f"it saw this host as {answer.seen_from}, expected {result['expected_from']}"
            )
        else:
            # Nobody else can send from this address, so it proves the way, whatever the agent says.
            result["encrypted"] = answer.seen_from == self.itself.overlay
        if result["encrypted"]:
            result["reached_by"] = ENCRYPTED

    def _reached_by(self, member: Mapping[str, Any], road: str) -> str | None:
        """By the configuration; None: not at all."""
        if road == Road.NONE.value:
            return None
        return ENCRYPTED if road in THROUGH else self._in_the_clear(member)

    def _in_the_clear(self, member: Mapping[str, Any]) -> str:
        if member["site"] == self.itself.site:
            return INSIDE
        sites = self.settings.sites
        link = by_link(sites.get(self.itself.site), sites.get(member["site"]))
        return PRIVATE if link else PUBLIC

    def _expected_source(self, member: Mapping[str, Any], road: str) -> str | None:
        """This host's address as the member should see it; None: nothing can be said."""
        if road in THROUGH:
            return self.itself.overlay
        public = self._in_the_clear(member) == PUBLIC
        return self.itself.public if public else self.itself.private

    def _silent(self, member: Mapping[str, Any], error: OSError | ValueError) -> str:
        road = member["road"]
        if road == Road.NONE.value:
            return _cut_off(self.itself)
        said = explained(error, self.settings.verify_port)
        if road in THROUGH and isinstance(error, TimeoutError):
            port = self.settings.tunnel_port
            if member["gateways"]:
                said += (
                    f" through the tunnel, {by_gateway(member['gateways'])}: are UDP ports {PORTS} "
                    f"open to gateways, and {port} to hosts? Do all hosts' files name the same "
                    "gateways?"
                )
            else:
                said += (
                    f" through the tunnel: is UDP port {port} open between the sites, both ways?"
                )
        return said

    def _lost(self, result: Mapping[str, Any], loss: LargeLost) -> str:
        """What is lost, and what to do."""
        which = {"there": "on the way there", "back": "on the way back", "both": "both ways"}
        said = f"small packets arrive, {loss.full}-byte ones are lost {which[loss.way]}"
        if loss.largest is None:
            return f"{said}; the largest that passes was not found"
        said += f"; the largest that passes is {loss.largest} bytes: "
        site, by = result["site"], result["reached_by"]
        if by == INSIDE:
            return f"{said}set the MTU of this site's interfaces to that, or {_ICMP}"
        if by == ENCRYPTED:
            return f"{said}set sites.{site}.mtu to {loss.largest + _AROUND}"
        return f"{said}set sites.{site}.mtu to {loss.largest}, or {_ICMP}"


_ICMP: Final = "let ICMP type 3 code 4 through"


def _cut_off(itself: Status) -> str:
    """Whose fault it is: without a device here, nobody's key helps."""
    if itself.encryption is not None and itself.encryption.implementation is None:
        return "encryption is required, and this host has no WireGuard device: see 'neti status'"
    return "encryption is required, and it has no key that is believed here"


def by_gateway(ids: Sequence[str]) -> str:
    """Of what goes through them in this order."""
    return "by gateway " + ", then ".join(ids)


def explained(error: OSError | ValueError, port: int) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return f"refused: is its agent running, with verify_port {port} as here?"
    words = error.strerror if isinstance(error, OSError) else None
    return words or str(error) or type(error).__name__

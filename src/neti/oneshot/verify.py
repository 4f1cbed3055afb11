"""``neti verify``: reaches members by overlay address from here, and proves by which way.

Must never do: believe what a member answers. It is compared, and whoever answers nonsense, or too
slowly, fails alone.
"""

import json
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, Final

from neti.agent.responder import SECONDS, TRANSFER_BYTES
from neti.model import Reach, Road, entry
from neti.model.settings import Settings
from neti.monitoring.status import Status

MAX_SECONDS: Final = SECONDS
_AT_ONCE: Final = 32
_MAX_ANSWER: Final = 1024
_THROUGH: Final = frozenset({Road.PREFERRED.value, Road.REQUIRED.value})
_STRANGE: Final = "what answers on its verify_port is not a Neti agent"


@dataclass(frozen=True, slots=True)
class Answer:
    """Who answered, and from which address it saw this host."""

    id: str
    seen_from: str


def verify_all(
    settings: Settings,
    itself: Status,
    members: Sequence[Mapping[str, Any]],
    ids: Collection[str] = (),
    *,
    timeout: float,
) -> list[dict[str, Any]]:
    """A result for each member, or for each of ``ids``. ``itself``, ``members``: as this host's
    agent tells them; ``timeout``: seconds for one member."""
    chosen = [m for m in members if not ids or m["id"] in ids]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        results = list(pool.map(lambda member: _verify(settings, itself, member, timeout), chosen))
    missing = [wanted for wanted in ids if all(m["id"] != wanted for m in members)]
    return [*results, *({"id": i, "ok": False, "error": "is not a member here"} for i in missing)]


def _verify(
    settings: Settings, itself: Status, member: Mapping[str, Any], timeout: float
) -> dict[str, Any]:
    road = member.get("road", Road.PLAIN.value)  # an agent before encryption does not say
    result: dict[str, Any] = {
        "id": member["id"],
        "site": member["site"],
        "overlay": member["overlay"],
        "road": road,
        "encrypted": False,
        "ok": False,
        "milliseconds": None,
        "seen_from": None,
        "expected_from": _expected_source(settings, itself, member, road),
        "error": None,
    }
    started = time.perf_counter()
    try:
        answer = _ask(member["overlay"], settings.verify_port, timeout)
    except (OSError, _NoAnswer) as error:
        result["error"] = explained(error, settings.verify_port)
        if road == Road.NONE.value:
            result["error"] = _cut_off(itself)
        elif road in _THROUGH and isinstance(error, TimeoutError):
            result["error"] += (
                f" through the tunnel: is UDP port {settings.tunnel_port} open between the sites, "
                "both ways?"
            )
        return result
    result["milliseconds"] = round((time.perf_counter() - started) * 1000, 2)
    result["seen_from"] = answer.seen_from
    if answer.id != member["id"]:
        result["error"] = f"another host answered: {answer.id}"
    elif result["expected_from"] not in (None, answer.seen_from):
        result["error"] = (
            f"it saw this host as {answer.seen_from}, expected {result['expected_from']}"
        )
    result["ok"] = result["error"] is None
    # Nobody else can send from this address, so it proves the way, whatever the agent says.
    result["encrypted"] = result["ok"] and answer.seen_from == itself.overlay
    return result


def _cut_off(itself: Status) -> str:
    """Whose fault it is: without a device here, nobody's key helps."""
    if itself.encryption is not None and itself.encryption.implementation is None:
        return "encryption is required, and this host has no WireGuard device: see 'neti status'"
    return "encryption is required, and it has no key that is believed here"


def _expected_source(
    settings: Settings, itself: Status, member: Mapping[str, Any], road: str
) -> str | None:
    """This host's address as the member should see it; None: nothing can be said."""
    if road in _THROUGH:
        return itself.overlay
    site = settings.sites.get(member["site"])
    near = member["site"] == itself.site
    if near or (site is not None and site.reached_by is Reach.PRIVATE):
        return itself.private
    return itself.public


class _NoAnswer(ValueError):
    """What came is nothing that a Neti agent says; the message is ours."""


def _ask(overlay: str, port: int, timeout: float) -> Answer:
    """One deadline for all of it: who sends a byte now and then holds up nobody."""
    deadline = time.monotonic() + timeout
    with socket.create_connection((overlay, port), timeout) as connection:
        connection.sendall(bytes(TRANSFER_BYTES))
        received = b""
        while b"\n" not in received:
            received += _part(connection, _MAX_ANSWER, deadline)
            if len(received.partition(b"\n")[0]) > _MAX_ANSWER:
                raise _NoAnswer(_STRANGE)
        line, _, rest = received.partition(b"\n")
        left = TRANSFER_BYTES - len(rest)
        while left > 0:
            left -= len(_part(connection, left, deadline))
    return _answer(line)


def _part(connection: socket.socket, most: int, deadline: float) -> bytes:
    connection.settimeout(max(deadline - time.monotonic(), 0.001))
    part = connection.recv(min(most, TRANSFER_BYTES))
    if not part:
        raise ConnectionError("closed without an answer")
    return part


def _answer(line: bytes) -> Answer:
    """As another host wrote it, which may not be a Neti agent, or a hostile one."""
    try:
        told = json.loads(line)
        host_id, seen_from = told["id"], told["seen_from"]
        if isinstance(host_id, str) and entry.HOST_ID.fullmatch(host_id):
            return Answer(host_id, str(IPv4Address(str(seen_from))))
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    raise _NoAnswer(_STRANGE)


def explained(error: OSError | ValueError, port: int) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ConnectionRefusedError):
        return f"refused: is its agent running, with verify_port {port} as here?"
    words = error.strerror if isinstance(error, OSError) else None
    return words or str(error) or type(error).__name__

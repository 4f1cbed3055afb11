"""``neti retire``: hosts are taken out of the fleet by an operator's word in the registry, which
their agents follow, and which the other agents' guards know.

Must never do: write the word for a host that was not named, or give up a lease that nobody asked
to give up.
"""

import os
import socket
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from ipaddress import IPv4Address
from typing import Final

from neti.errors import NetiError
from neti.model.settings import Settings
from neti.oneshot.fleet_release import tell_everybody
from neti.oneshot.registered import registered_and_departed
from neti.registry import OperatorRegistry
from neti.registry.retired import Retired, added, decode, without

_LOOK: Final = 0.25  # seconds


def retired(registry: OperatorRegistry) -> dict[str, Retired]:
    """As the registry has it: by id. Raises RetiredUnreadable: that is not nobody."""
    return decode(registry.setting("retired"))


def say(
    registry: OperatorRegistry,
    ids: Collection[str],
    *,
    now: float,
    to: str | None = None,
    overlay: IPv4Address | None = None,
) -> None:
    """From ``now`` on (Unix seconds) these hosts are out. Of those of whom it was said before
    nothing changes, so it may be repeated. ``to``: who gets the overlay address of the one host."""
    by = f"uid {os.getuid()} on {socket.gethostname()}"
    word = Retired(at=int(now), by=by, to=to, overlay=overlay)

    def edit(raw: bytes | None) -> bytes | None:
        known = decode(raw)
        new = {i: word for i in ids if i not in known or (to is not None and known[i].to != to)}
        return added(raw, new) if new else raw

    registry.edit_setting("retired", edit)


def back(registry: OperatorRegistry, ids: Collection[str], *, now: float) -> None:
    """These may register again, also those of whom the registry does not know that they are
    retired: their agents may remember it. ``now``: Unix seconds. Raises RetiredUnreadable."""
    registry.edit_setting("retired", lambda raw: without(raw, ids, now=int(now)))


def gone(
    registry: OperatorRegistry,
    ids: Collection[str],
    *,
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[tuple[str, float, bool]]:
    """Each of these as it is not registered any more, with the seconds that it took, and whether it
    said goodbye: peers let go of it at once then, and of one whose session has only ended after a
    while. Ends when all are, or when time is up."""
    begun, left = clock(), set(ids)
    while left:
        looked = clock()
        there, departed = registered_and_departed(registry, left)
        now = clock()
        for host_id in sorted(left - there):
            left.discard(host_id)
            yield host_id, now - begun, host_id in departed
        if not left or now - begun >= seconds:
            return
        sleep(max(_LOOK, 4 * (now - looked)))  # a list of thousands costs the registry something


def let_go(settings: Settings, registry: OperatorRegistry, ids: Collection[str]) -> str | None:
    """Agents of versions that do not know the word let go of these too. Why not all were told;
    None: they were."""
    try:
        tell_everybody(settings, registry, ids)
    except NetiError as error:
        return str(error)
    return None


def moves(words: Mapping[str, Retired], old: str, new: str) -> Retired | None:
    """The word about a move of OLD's address to NEW that was begun before."""
    word = words.get(old)
    return word if word is not None and word.to == new else None

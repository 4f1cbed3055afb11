"""Whose turn it is to be tried, of members that have not answered through the tunnel. Pure.

Trying a peer that does not answer has a price: wireguard-go keeps a packet of 64 KiB for it, and
sends it a handshake every five seconds. Where UDP is closed between two sites of thousands, all
members would be tried for nothing at once. So only some are, and they take turns.

Must never do: leave a member untried for ever, or keep anybody waiting while there is room.
"""

from typing import Final

# 64 MiB in wireguard-go, and 200 handshakes a second.
MOST_TRIED: Final = 1024


class Turns:
    """Not thread-safe. ``seconds``: how long a turn lasts if others wait for theirs."""

    def __init__(self, *, seconds: float, most: int | None = None) -> None:
        self._seconds, self._most = seconds, most or MOST_TRIED
        # By id, since when, and whether this is not its first turn; oldest first.
        self._tried: dict[str, tuple[float, bool]] = {}
        self._waiting: dict[str, bool] = {}  # by id, next one first: whether it was tried before

    def __contains__(self, host_id: str) -> bool:
        return host_id in self._tried or host_id in self._waiting

    def tries(self, host_id: str) -> bool:
        return host_id in self._tried

    def tries_again(self, host_id: str) -> bool:
        """It had a turn before, and did not answer."""
        return self._tried.get(host_id, (0.0, False))[1]

    def waits(self, host_id: str) -> bool:
        return host_id in self._waiting

    def untried(self, host_id: str) -> bool:
        """It waits for its first turn, so nothing is known of it."""
        return self._waiting.get(host_id) is False

    def begin(self, host_id: str, *, now: float) -> bool:
        """Whether this member, which has not answered, is tried now. ``now``: monotonic seconds."""
        if host_id not in self:
            if len(self._tried) < self._most:
                self._tried[host_id] = now, False
            else:
                self._waiting[host_id] = False
        return host_id in self._tried

    def end(self, host_id: str) -> None:
        """It has answered, or has no peer any more."""
        self._tried.pop(host_id, None)
        self._waiting.pop(host_id, None)

    def pass_on(self, *, now: float) -> None:
        """Where others wait, turns that have lasted long enough are over."""
        room = self._most - len(self._tried)
        over = [i for i, (since, _) in self._tried.items() if now - since >= self._seconds]
        over = over[: max(0, len(self._waiting) - room)]
        for host_id in over:
            del self._tried[host_id]
            self._waiting[host_id] = True
        for host_id in list(self._waiting)[: self._most - len(self._tried)]:
            self._tried[host_id] = now, self._waiting.pop(host_id)

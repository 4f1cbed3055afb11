"""Whether the registry is followed, since when, and why not. ``Following`` sets it; all others
ask."""


class InStep:
    """Not thread-safe: the loop's thread owns it. All times are steady seconds."""

    def __init__(self, now: float) -> None:
        self.fresh = False
        self.reason = "not connected yet"  # why it is not fresh, or last was not
        self.fresh_at: float | None = None
        self._stale_since: float | None = now

    def is_fresh(self, now: float) -> float | None:
        """For how long it was not; None: it was."""
        stood = self.stale_seconds(now)
        self.fresh, self.fresh_at, self._stale_since = True, now, None
        return stood

    def is_stale(self, reason: str, now: float) -> None:
        self.fresh, self.reason = False, reason
        if self._stale_since is None:
            self._stale_since = now

    def stale_seconds(self, now: float) -> float | None:
        """None: it is in step."""
        return None if self._stale_since is None else max(0.0, now - self._stale_since)

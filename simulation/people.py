"""Who calls a host without being a member: users of what it serves, and operators by SSH.

What they lived through is the measure of a trial: it must not confirm itself when it refused one
that had been there before. Must never do: ask an agent whether anybody was refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from neti.model import IPAddress
from neti.stage.way_in import OperatorSession

OPERATOR: Final = IPv4Address("198.18.0.7")  # inside the operators' network
ELSEWHERE: Final = IPv4Address("192.0.2.77")  # and an operator who is not
USER: Final = IPv4Address("192.0.2.1")
_RECORDED_WITHIN: Final = 100.0  # seconds: a look each half minute, and a note on disk each minute
_ROUNDING: Final = 1.0  # seconds between two clocks: what came right before a trial is not refused


@dataclass(slots=True)
class Users:
    """``there``: they call now, each time that some time has passed. ``since``: since when the
    record of this host knows of them; ``refused``: the trial that runs kept one out."""

    there: bool = False
    since: float | None = None
    refused: bool = False

    def call(
        self, now: float, calls: Callable[[IPv4Address], bool], *, shadow: bool, trial: float | None
    ) -> None:
        """``shadow``: the host only looks on; ``trial``: for how long it has been on trial."""
        let_in = calls(USER)
        if shadow:
            self.since = now if self.since is None else self.since
            self.refused = False
        elif trial is not None and trial >= _ROUNDING and not let_in and self.since is not None:
            self.refused |= now - trial - self.since >= _RECORDED_WITHIN

    def forget(self) -> None:
        """What was recorded of them may be gone."""
        self.since, self.refused = None, False


def session_from(client: IPAddress, local: IPAddress) -> OperatorSession:
    """As ``neti.host.ssh_session`` finds it for a command that is typed in it."""
    return OperatorSession(
        client=client,
        client_port=50_000,
        local=local,
        local_port=22,
        found="connection",
        sure=True,
        how="this process's own connection",
    )

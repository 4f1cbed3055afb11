"""From where the operator typed a command, and whether that place would still be let in. Pure.

``neti.host.ssh_session`` finds the sessions. ``covers`` goes through the questions of the input
chain, in order, for that connection.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final, Literal

from neti.model import IPAddress
from neti.model.settings import Settings
from neti.stage import stages
from neti.stage.stages import Record, Stage

_FEW: Final = 5  # ranges of ssh_whitelist that a sentence names
_SSHD: Final = 22  # where sshd listens, unless somebody says otherwise, to itself and to ssh_port


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSession:
    """One SSH connection as this host sees it. ``how``: how it was found, for the operator."""

    client: IPAddress
    client_port: int
    local: IPAddress
    local_port: int
    found: Literal["connection", "environment"]
    sure: bool
    how: str

    def __str__(self) -> str:
        return f"{self.client} port {self.client_port} to {self.local} port {self.local_port}"

    def document(self) -> dict[str, Any]:
        """As plain values, to send from a command to the agent."""
        return {
            "client": str(self.client),
            "client_port": self.client_port,
            "local": str(self.local),
            "local_port": self.local_port,
            "found": self.found,
            "sure": self.sure,
            "how": self.how,
        }

    @classmethod
    def from_document(cls, said: dict[str, Any]) -> "OperatorSession":
        """The reverse of ``document``. Raises KeyError or ValueError."""
        return cls(
            client=ip_address(said["client"]),
            client_port=int(said["client_port"]),
            local=ip_address(said["local"]),
            local_port=int(said["local_port"]),
            found="connection" if said["found"] == "connection" else "environment",
            sure=bool(said["sure"]),
            how=str(said["how"]),
        )


@dataclass(frozen=True, slots=True)
class Coverage:
    """Whether an enforced host lets new connections of the session's kind in; why, or why not."""

    covered: bool
    reason: str


def _nothing(_address: IPAddress, _port: int) -> str:
    return ""


KeptFrom = Callable[[IPAddress, int], str]


def covers(
    session: OperatorSession,
    settings: Settings,
    is_peer: Callable[[IPAddress], bool],
    kept_from: KeptFrom = _nothing,
) -> Coverage:
    """In the order of the input chain. ``is_peer``: whether an address is a member's.
    ``kept_from``: why ``member_ports`` keep it out of a port, and what to write; empty: they do
    not."""
    client, port = session.client, session.local_port
    if client.is_loopback or client == session.local:
        return Coverage(
            True,
            f"{client} is this host itself, which is never judged; from where you reached this "
            "host before that cannot be seen from here",
        )
    in_whitelist = next((n for n in settings.ssh_whitelist if client in n), None)
    if in_whitelist is not None and port == settings.ssh_port:
        return Coverage(True, f"ssh_whitelist has {in_whitelist}, which holds {client}")
    out = kept_from(client, port) if is_peer(client) else ""
    if is_peer(client) and not out:
        return Coverage(True, f"{client} is a member's address")
    trusted = next((n for n in settings.trusted if client in n), None)
    if trusted is not None:
        return Coverage(True, f"trusted has {trusted}, which holds {client}")
    for opened in settings.open_ports:
        if opened.proto == "tcp" and opened.first <= port <= opened.last:
            source = next((n for n in opened.sources if client in n), None)
            if source is not None or not opened.sources:
                to = f"to {source}, which holds {client}" if source else "to everyone"
                return Coverage(True, f"open_ports has {port}/tcp open {to}")
    if out:
        return Coverage(False, out)
    if in_whitelist is not None:
        return Coverage(
            False,
            f"{client} is in ssh_whitelist, but that opens port {settings.ssh_port} only and this "
            f"session came in by port {port}: write ssh_port: {port}",
        )
    ranges = ", ".join(str(network) for network in settings.ssh_whitelist[:_FEW])
    more = "" if len(settings.ssh_whitelist) <= _FEW else ", …"
    return Coverage(
        False,
        f"{client} is not in ssh_whitelist ({ranges or 'empty'}{more}), is no member's address, "
        f"is not trusted, and open_ports does not let it in to {port}/tcp: add {client} to "
        "ssh_whitelist",
    )


def refusal(
    said: dict[str, Any] | None,
    settings: Settings,
    is_peer: Callable[[IPAddress], bool],
    kept_from: KeptFrom = _nothing,
) -> str | None:
    """Why arming would shut out the operator who typed the command; None: nobody, or covered.

    ``said``: the session's document, None where the command was typed at no SSH session.
    """
    if said is None:
        return None
    try:
        session = OperatorSession.from_document(said)
    except (KeyError, ValueError, TypeError) as error:
        return f"the command sent a session that makes no sense ({error!r}): update neti"
    coverage = covers(session, settings, is_peer, kept_from)
    if coverage.covered:
        return None
    doubt = (
        ""
        if session.sure
        else f". It is not sure that you came from there ({session.how}): if you did not, type the "
        "command in a session of your own"
    )
    return f"this SSH session ({session}) would not be let in any more: {coverage.reason}{doubt}"


def ports(*settings: Settings) -> frozenset[int]:
    """At which an established connection may be an operator's: ssh_port, and sshd's own default,
    because a wrong ssh_port is what must not be overlooked."""
    return frozenset({_SSHD, *(each.ssh_port for each in settings)})


def shut_out(
    sessions: Iterable[OperatorSession],
    settings: Settings,
    is_peer: Callable[[IPAddress], bool],
    kept_from: KeptFrom = _nothing,
) -> str:
    """For the evidence: an open session that would not be let in again, and why. Empty: none."""
    for session in sessions:
        coverage = covers(session, settings, is_peer, kept_from)
        if not coverage.covered:
            return (
                f"the open SSH session {session} would not be let in again: {coverage.reason}, or "
                "end that session if it is nobody's"
            )
    return ""


def loses(
    sessions: Iterable[OperatorSession],
    before: Settings,
    after: Settings,
    record: Record,
    is_peer: Callable[[IPAddress], bool],
    kept_from: tuple[KeptFrom, KeptFrom] = (_nothing, _nothing),
) -> str | None:
    """Why ``after`` must not take the place of ``before`` unless somebody says so: this host drops
    or is to drop, and an open session that ``before`` lets in would not be let in by ``after``. A
    stranger who has a connection open, as anybody may to a host in shadow, holds up nothing."""
    if not drops(record, after):
        return None
    for session in sessions:
        was = covers(session, before, is_peer, kept_from[0])
        will = covers(session, after, is_peer, kept_from[1])
        if was.covered and not will.covered:
            return (
                f"the open SSH session {session} would not be let in again. Until now, "
                f"{was.reason}. By the new configuration, {will.reason}"
            )
    return None


def drops(record: Record, after: Settings) -> bool:
    """Whether this host keeps strangers out, or is to, once ``after`` is in force."""
    then = stages.configured(record, after.reject_all)
    return after.way_in and (then.wished or then.stage is not Stage.SHADOW)

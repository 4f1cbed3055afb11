"""What the shadow's record says about a trial: what it refused that should have got in."""

from collections.abc import Iterable, Iterator
from typing import Final

from neti.agent.core import Core
from neti.agent.kept_out import KeptOut
from neti.agent.preview import running_view, seen_here
from neti.agent.shadow_log import ShadowLog, accept_losing, accepted
from neti.errors import NetiError
from neti.host.listeners import listeners
from neti.model import IPAddress, Member
from neti.stage import kept_out
from neti.stage.losses import Loss, losses
from neti.stage.preview import Row, unanswered
from neti.stage.shadow import Port, port_name

_NO_ROOM: Final = "ports that are not recorded, because the record of members is full"
# The difference between two clocks: what came just before a trial must not count as refused by it.
_ROUNDING: Final = 0.1


class ShadowEvidence:
    """Looks at the kernel again with each question. Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core, shadow: ShadowLog) -> None:
        self._core = core
        self._shadow = shadow
        self._kept = KeptOut(core, shadow)

    def sample(self) -> None:
        """Called right before a trial begins, so that what came just then does not pass for new."""
        self._shadow.sample()

    def incomplete(self, since: float) -> str:
        """Why the record cannot be relied on since then (steady seconds); empty: it can."""
        return self._shadow.incomplete(since) or ""

    def unanswered(self) -> dict[Port, str]:
        """Ports in use that a trial would shut, each in words. Not those that it is meant to shut,
        and not those that somebody accepted losing."""
        meant = self.meant()
        view = running_view(self._shadow, self._core.members, self._accepted())
        return {
            row.port: _used(row)
            for row in unanswered(self._shadow.record, view)
            if row.port not in meant
        }

    def give_up(self, ports: Iterable[Port]) -> None:
        """An operator said that these may be lost. Raises StateError."""
        accept_losing(self._shadow.folder, ports, self._core.wall())

    def kept_out(self, since: float | None = None) -> tuple[str, ...]:
        """Ports in use, in words, of which ``member_ports`` of the file would keep members out; or
        does, on trial, and has since then (steady seconds). Not those that somebody accepted
        losing."""
        rows, _ = self._kept.waiting(self._accepted())
        if since is not None:
            rows = kept_out.since(rows, since + _ROUNDING)
        words = tuple(row.words() for row in kept_out.unanswered(rows))
        return (*words, _NO_ROOM) if self._shadow.unasked_full else words

    def _accepted(self) -> dict[Port, float]:
        try:
            return accepted(self._shadow.folder)
        except NetiError:
            return {}  # lost_uses says that it cannot be read

    def refused_members(self, since: float) -> tuple[str, ...]:
        """Ids of members with an address that was refused since (steady seconds), but for what the
        policy in force keeps them out of."""
        self._shadow.sample()
        came = {
            (source, port)
            for port, use in self._shadow.record.ports.items()
            for source, held in use.sources.items()
            if held.last >= since + _ROUNDING
        }
        meant = self._kept.meant({source for source, _ in came})
        refused = {source for source, port in came if not meant(source, port)}
        if not refused:
            return ()
        core = self._core
        ours = seen_here(core.settings, core.host.site)
        return tuple(
            host_id
            for host_id, member in sorted(core.members.fleet.members.items())
            if host_id != core.host.id
            and any(address.packed in refused for address in _addresses(member, ours(member)))
        )

    def lost_uses(self, since: float) -> tuple[str, ...]:
        """Ports in words. Not among them: what somebody accepted losing, and what a trial is meant
        to shut."""
        try:
            may_go: set[Port] = set(accepted(self._shadow.folder))
        except NetiError as error:
            return (f"what may be lost cannot be read ({error})",)
        may_go |= self.meant()
        self._shadow.sample()
        if self._shadow.fault is not None:
            return (f"the kernel's record cannot be read ({self._shadow.fault})",)
        found = losses(self._shadow.record, listeners(), may_go, since + _ROUNDING)
        return tuple(_words(loss) for loss in found.lost)

    def meant(self) -> set[Port]:
        """Ports that a trial is meant to shut: SSH to whoever is not in ssh_whitelist, and the
        agent's own: its responder, and where it hears of gateways, as long as it holds that port:
        otherwise it may be another program's."""
        settings, door = self._core.settings, self._core.out.probes
        meant: set[Port] = {("tcp", settings.ssh_port), ("tcp", settings.verify_port)}
        if door is not None and door.opened is not None:
            meant.add(("udp", door.opened))
        return meant


def _addresses(member: Member, private: bool) -> Iterator[IPAddress]:
    if private:
        yield member.private
    if member.public is not None:
        yield member.public
    yield from member.more


def _used(row: Row) -> str:
    """``8080/tcp (12 sources, 10.0.0.7 for one)``."""
    count = f"{row.sources} source{'s' if row.sources != 1 else ''}"
    leads = "a container: " if row.forwarded and not row.listeners else ""
    return f"{port_name(row.port)} ({leads}{count}, {row.top[0].address} for one)"


def _words(loss: Loss) -> str:
    """``8080/tcp (nginx: 12 sources, 10.0.0.7 for one)``."""
    port = port_name((loss.protocol, loss.port))
    who = "a container" if loss.forwarded and loss.listener is None else None
    named = loss.listener.process if loss.listener is not None else who
    count = f"{loss.sources} source{'s' if loss.sources != 1 else ''}"
    example = f", {loss.examples[0]} for one" if loss.examples else ""
    return f"{port} ({f'{named}: ' if named else ''}{count}{example})"

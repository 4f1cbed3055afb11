"""What refuses a start, and what is only a problem. Each case is decided here.

A host that has been a member has rules in its kernel, which stay whether or not an agent runs. An
agent that refuses to start protects nothing there: it only stops taking in who joins and who goes.
So with a last good state, whatever a running agent would only note is a problem and not a refusal.
A host that has never been a member refuses to start: nothing is lost, because somebody is just
setting it up.

Must never do: refuse for good, on a host that has been a member, because of something that could be
a problem instead; or register a host whose identity is a guess.
"""

import dataclasses
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from neti import log
from neti.agent.open_sessions import Sessions, last_good_instead
from neti.config import load
from neti.errors import ConfigError, IdentityError, NetiError
from neti.host.machine import Machine
from neti.host.systemd import notify
from neti.identity.doubt import lost_addresses
from neti.identity.preflight import (
    refuse_on_registry_host,
    refuse_overlay_conflicts,
    registry_addresses,
)
from neti.model import Host, IPAddress
from neti.model.problems import Problems
from neti.model.settings import Settings
from neti.registry.opening import servers
from neti.state.last_good import last_good_is_used
from neti.state.loaded import Loaded

_PAUSES: Final = (2.0, 5.0, 10.0, 30.0)  # between attempts to find out who this host is

Registry = dict[IPAddress, str]


class Beginning:
    """``known``: this host as it was when it last ran here, None if it never did. What is wrong is
    put into ``problems``; ``waits_for`` is told what the start is waiting for."""

    def __init__(
        self,
        settings: Settings,
        known: Host | None,
        problems: Problems,
        waits_for: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._known = known
        self._problems = problems
        self._waits_for = waits_for

    def configuration_refused(self, refused: ConfigError) -> None:
        """The file is not valid, and the last good one was read instead. Raises ``refused`` if that
        copy may not be of this machine."""
        if self._known is None:
            raise refused
        self._note("reload", last_good_is_used(refused))

    def let_in_again(self, good: Path, loaded: Loaded, sessions: Sessions) -> Settings:
        """The settings, or the last good ones where these would shut out an open SSH session."""
        instead = last_good_instead(self._settings, good, loaded, sessions)
        if instead is not None:
            self._settings, why = instead
            self._note("reload", why)
        return self._settings

    def identity(self, discover: Callable[[], Host], sleep: Callable[[float], None]) -> Host:
        """Asks until it is known. A host that was known goes on as it was, and the loop asks again.
        Raises IdentityError."""
        known = self._known
        if known is not None and known.site not in self._settings.sites:
            known = None  # its site does not exist any more
        for pause in (*_PAUSES, None):
            self._waits_for("it asks who this host is")
            try:
                return self._doubly(discover, sleep)
            except IdentityError as error:
                if known is not None:
                    self._note("identity", f"{error}; this host goes on as {known.id}")
                    return known
                if pause is None:
                    raise
                log.error("identity_unknown", what=str(error), retry_seconds=pause)
                self._waits_for(f"it does not know who this host is: {error}")
                notify(f"STATUS=does not know who this host is: {error}")
                sleep(pause)
        raise AssertionError("unreachable")

    def _doubly(self, discover: Callable[[], Host], sleep: Callable[[float], None]) -> Host:
        """That an address is gone is believed only the second time."""
        host = discover()
        if self._known is not None and lost_addresses(self._known, host):
            sleep(_PAUSES[0])
            host = discover()
        return host

    def with_servers(self, good: Path, host: Host) -> Settings:
        """The settings, or the last good ones if these name no server for this host's site. Raises
        ConfigError."""
        settings = self._settings
        if settings.embedded is not None:
            return settings
        try:
            servers(settings, host.site)
        except ConfigError as refused:
            if self._known is None:
                raise
            try:
                last = load(good)
                if last.embedded is None:
                    servers(last, host.site)
            except (NetiError, OSError):
                raise refused from None
            self._settings = dataclasses.replace(
                last, path=settings.path, table_files_path=settings.table_files_path
            )
            self._note("reload", last_good_is_used(refused))
        return self._settings

    def registry(self, host: Host) -> Registry:
        """The registry's own addresses, as far as they can be found out soon."""
        self._waits_for("it looks up the names in zk_hosts")
        return registry_addresses(self._settings, host.site)

    def preflight(self, machine: Machine, host: Host, registry: Registry) -> None:
        """Raises ConfigError if this host has never been a member and may not become one;
        DataplaneError."""
        settings = self._settings
        self._waits_for("it reads this machine's routes")
        seen = machine.network(settings.overlay_subnet)
        # A proxy behind one-to-one NAT is listed by an address that none of its interfaces has.
        own = seen.addresses() | ({host.public} if host.public is not None else set())
        self._judge("registry_host", lambda: refuse_on_registry_host(registry, own))
        self._judge(
            "overlay",
            lambda: refuse_overlay_conflicts(
                settings.overlay_subnet,
                routes=[(r.destination, r.device) for r in seen.overlapping if not r.ours],
                addresses=seen.addresses(),
            ),
        )
        self._waits_for("it loads its rules")

    def _judge(self, code: str, refuse: Callable[[], None]) -> None:
        try:
            refuse()
        except ConfigError as error:
            if self._known is None:
                raise
            self._note(code, str(error))

    def _note(self, code: str, sentence: str) -> None:
        log.error("begins_nevertheless", problem=code, what=sentence)
        self._problems.set(code, sentence)


def reserved(registry: Registry) -> frozenset[IPAddress]:
    """Addresses of the registry, which must never be treated as a removed member's."""
    return frozenset(address for address in registry if isinstance(address, IPv4Address))


def configure_log(settings: Settings, log_format: log.Format, problems: Problems) -> None:
    """A log file that cannot be written is no reason to go without rules: the journal gets the
    lines."""
    log.configure(settings.log_file, log_format)
    if (fault := log.fault()) is not None:
        problems.set("log", fault)
        log.error("log_file_not_written", what=fault)

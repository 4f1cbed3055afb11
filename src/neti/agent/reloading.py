"""Reads the configuration again while the agent runs (SIGHUP, ``neti reload``).

The new file is taken in whole, or not at all. What the kernel then refuses is not in force, and is
named. Must never do: let go of most of the fleet because of a typing error, or answer before the
kernel has.
"""

import contextlib
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from neti import log
from neti.agent.core import Core
from neti.agent.describing import Describing
from neti.agent.faults import Faults
from neti.agent.follow import Following
from neti.agent.in_the_clear import of_sites
from neti.agent.kernel import Kernel
from neti.agent.open_sessions import OpenSessions
from neti.agent.staging import Staging
from neti.control.server import Request
from neti.errors import ConfigError, NetiError
from neti.host.systemd import notify, notify_reloading
from neti.model import Encrypt
from neti.model.settings import Settings
from neti.ruleset.reach import encryption, requiring
from neti.state.location import GOOD_CONFIG
from neti.words import some

NEED_RESTART: Final = (
    "identity",
    "site",
    "embedded",
    "zk_hosts",
    "zk_prefix",
    "zk_iptoid_node",
    "zk_idtoip_node",
    "zk_ip_map_node",
    "zk_update_interval_path",
    "zk_max_change_threshold_path",
    "registry_tls",
    "session_seconds",
    "overlay_subnet",
    "tunnel_port",
    "table_files_path",
    "log_file",
    "verify_port",
    "metrics_listen",
)


# Fields of Settings that have another name in the file, or none.
_KEYS: Final = {"embedded": "registry", "sites_configured": "sites"}
_NO_KEYS: Final = frozenset({"path", "warnings"})
# What a kernel has no part in. All other keys are in force when it has taken what they mean.
_NOT_FOR_KERNEL: Final = frozenset(
    {"addresses", "aws_key", "aws_secret_key", "hold_seconds", "linger_seconds", "trial_seconds"}
)


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of a reload, by the keys of neti.yml. ``waiting``: accepted, now or by an earlier
    reload, and not in force, because of ``refused``."""

    changed: list[str]
    restart: list[str]
    waiting: list[str]
    refused: str | None


def changed(old: Settings, new: Settings) -> list[str]:
    """The keys of neti.yml in which they differ."""
    names = (each.name for each in fields(Settings) if each.name not in _NO_KEYS)
    differ = (name for name in names if getattr(old, name) != getattr(new, name))
    return sorted({_KEYS.get(name, name) for name in differ})


def reloadable(old: Settings, new: Settings) -> tuple[Settings, list[str]]:
    """``new``, except what only a restart can change; and the keys where that differs."""
    kept = {
        name: getattr(old, name)
        for name in NEED_RESTART
        if getattr(new, name) != getattr(old, name)
    }
    return replace(new, **kept), sorted(_KEYS.get(name, name) for name in kept)


def _lines(error: NetiError) -> str:
    """Several mistakes in a file are a line each."""
    text = str(error)
    return f"\n{text}" if "\n" in text.partition("\n→ ")[0] else f" {text}"


def _one(error: NetiError) -> str:
    """On one line, as problems are: the first mistake, and how many more there are."""
    first, *more = [line for line in str(error).splitlines() if not line.startswith("→ ")] or [""]
    return f"{first} (and {len(more)} more: neti config check)" if more else first


class Reloading:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(
        self,
        core: Core,
        *,
        following: Following,
        kernel: Kernel,
        staging: Staging,
        describing: Describing,
        faults: Faults,
    ) -> None:
        self._core = core
        self._following = following
        self._kernel = kernel
        self._staging = staging
        self._describing = describing
        self._faults = faults
        self._kernel_has = core.settings  # those that the kernel took last, as far as is known

    def reload(self) -> None:
        """As SIGHUP asks for: what comes of it stands among the problems."""
        with contextlib.suppress(NetiError):
            self._reload()

    def answer(self, request: Request) -> None:
        said = request.arguments
        anyway, encrypted = bool(said.get("anyway")), self._core.own_key.wanted
        try:
            taken = self._reload(said.get("session"), anyway=anyway)
        except NetiError as error:
            request.fail(
                f"the new configuration is refused, the old one stays in force:{_lines(error)}\n"
                "→ fix the file (neti config check), then neti reload"
            )
            return
        core = self._core
        request.succeed(
            {
                "changed": taken.changed,
                "restart": taken.restart,
                "waiting": taken.waiting,
                "refused": taken.refused,
                "stage": core.stage.word,
                "reject_all": core.settings.reject_all,
                "trial_seconds": core.settings.trial_seconds,
                "encryption_ended": encrypted and not core.own_key.wanted,
                "ports_wait": "member_ports" in taken.changed and core.stage.to_try() is not None,
                "require_waits": self._require_waits() if "sites" in taken.changed else [],
                "would_be_lost": list(self._staging.would_be_lost()),
            }
        )

    def _require_waits(self) -> list[str]:
        """The sites towards which the file requires encryption and nothing has put it in force."""
        core = self._core
        if core.stage.requires or core.stage.tries_to_require:
            return []
        return sorted(requiring(core.settings.sites, core.host.site))

    def _reload(self, session: Any = None, *, anyway: bool = False) -> Taken:
        """Raises NetiError where the file is refused; the old one stays then. ``session``: the one
        in which somebody asks for it. ``anyway``: whichever open SSH session it shuts out."""
        core, before = self._core, self._core.settings
        key = core.own_key.text
        if "kernel" not in core.problems:
            self._kernel_has = before
        notify_reloading()
        self._faults.look_at_log(reopen=True)
        try:
            new = core.out.reload()
            if not anyway:
                OpenSessions(core).refuse_to_shut_out(session, new)
                self._refuse_what_was_not_tried(new)
                self._refuse_to_be_refused(new)
            kept = self._take_in(new)
        except NetiError as error:
            core.problems.set(
                "reload", f"the new configuration is refused, the old one stays: {_one(error)}"
            )
            log.error("reload_refused", what=str(error))
            raise
        else:
            return self._in_force(before, kept, key)
        finally:
            notify("READY=1")

    def _refuse_what_was_not_tried(self, new: Settings) -> None:
        """Where encryption is in force, a site that is to be encrypted too would be cut off at once
        if it is not ready."""
        core = self._core
        if not core.stage.requires:
            return
        before, own = core.settings.sites, core.host.site
        untried = requiring(new.sites, own) - requiring(before, own)
        if untried:
            found = "; ".join(of_sites(core, untried).words())
            raise ConfigError(
                f"encryption is required on this host already, so encrypt: require would count for "
                f"{some(sorted(untried))} at once, without a trial. Of what goes there in the "
                f"clear, this would be refused: {found or 'nothing'}\n→ encrypt: prefer until "
                "that says 'nothing', then 'neti reload --anyway'"
            )

    def _refuse_to_be_refused(self, new: Settings) -> None:
        """Where encryption is in force, members probably require it too, and would refuse a host
        that encrypts nothing any more."""
        core = self._core
        if not core.stage.requires:
            return
        own = core.host.site
        here = new.sites.get(own)
        shut = sorted(
            name
            for name in requiring(core.settings.sites, own)
            if encryption(here, new.sites.get(name)) is Encrypt.OFF
        )
        if shut:
            raise ConfigError(
                f"encryption is required on this host. With encrypt: off, each host of "
                f"{some(shut)} that requires it too refuses this one at once\n→ encrypt: prefer on "
                "all hosts, until 'neti fleet' shows require, require-unable, partly and trial "
                "nowhere; then off. Or 'neti reload --anyway'"
            )

    def _take_in(self, new: Settings) -> list[str]:
        """The keys that need a restart. Raises ConfigError, with all as it was, when most of the
        fleet would not be believed any more."""
        core = self._core
        settings, before = core.settings, core.members
        now, kept = reloadable(settings, new)
        core.take_settings(now)
        try:
            self._following.anew(remember=True)
        except ValueError as error:  # the new keys do not fit those that need a restart
            core.take_back(settings, before)
            raise ConfigError(
                f"{error}, as {some(kept)} of before stays until a restart: restart the agent, "
                "or change one after the other"
            ) from error
        gone = before.fleet.members.keys() - core.members.fleet.members.keys()
        objection = core.guard.objection(gone, (), before.fleet.members, now=core.since())
        if gone and objection is not None:
            core.take_back(settings, before)
            raise ConfigError(
                f"by its sites {len(gone)} members would not be believed any more ({objection}), "
                f"among them {', '.join(sorted(gone)[:3])}; restart the agent if that is meant"
            )
        return kept

    def _in_force(self, before: Settings, kept: list[str], key: str) -> Taken:
        """``key``: this host's public key as it was before."""
        core = self._core
        if core.out.config_read is not None:
            core.out.config_read.accepted()
        core.disk.keep(GOOD_CONFIG, core.out.keep_config)
        core.problems.clear("reload")
        if kept:
            words = ", ".join(kept)
            core.problems.set("reload", f"changed, but in force only after a restart: {words}")
            log.warning("restart_needed", keys=words)
        self._staging.configured()
        refused = self._kernel.resync("reload")
        if refused is None:
            self._staging.due()  # a trial that this begins has begun, or it is known why not
        self._describing.describe()
        core.soon("certificate")
        if core.own_key.text != key:
            core.soon("register")
        core.soon("identity")  # addresses and sites may be others now
        taken = self._taken(before, kept, None if refused is None else str(refused))
        if taken.waiting:
            log.error("not_in_force", keys=", ".join(taken.waiting), what=taken.refused)
        log.info("reloaded", stage=core.stage.now.value)
        return taken

    def _taken(self, before: Settings, kept: list[str], refused: str | None) -> Taken:
        core = self._core
        new, why = changed(before, core.settings), {}
        if refused is not None:
            waiting = set(changed(self._kernel_has, core.settings)) - _NOT_FOR_KERNEL
            why = dict.fromkeys(sorted(waiting), f"the kernel refused it: {refused}")
        else:
            arming = core.problems.sentence("arming")
            limit = self._kernel.tracking.refused
            if arming and core.settings.reject_all:
                why["reject_all"] = arming
            if limit and "conntrack_max" in new:
                why["conntrack_max"] = limit
        return Taken(
            changed=[key for key in new if key not in why],
            restart=kept,
            waiting=list(why),
            refused="; ".join(dict.fromkeys(why.values())) or refused,
        )

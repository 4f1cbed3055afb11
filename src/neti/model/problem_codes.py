"""Every code of a problem, declared once: how grave it is, what it means, what to do. Pure.

Codes are stable: alarms, scripts and dashboards go by them. A new one gets a line here, in the
order of the alphabet; docs/operations.md has the same table, and a test holds the two together.
Must never do: let the gravity of a problem depend on how its sentence reads.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


class Severity(enum.StrEnum):
    """``note``: worth knowing, nothing is wrong. ``warning``: look at it; traffic flows as it
    should. ``critical``: a host is open or cut off against somebody's wish, or somebody has to
    decide."""

    NOTE = "note"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """A greater number is graver."""
        return list(Severity).index(self)


@dataclass(frozen=True, slots=True)
class Kind:
    code: str
    severity: Severity
    meaning: str
    remedy: str


def _note(code: str, meaning: str, remedy: str) -> Kind:
    return Kind(code, Severity.NOTE, meaning, remedy)


def _warning(code: str, meaning: str, remedy: str) -> Kind:
    return Kind(code, Severity.WARNING, meaning, remedy)


def _critical(code: str, meaning: str, remedy: str) -> Kind:
    return Kind(code, Severity.CRITICAL, meaning, remedy)


_KINDS: Final = (
    _critical(
        "arming",
        "`reject_all` is true, but this host is not enforced: strangers get in",
        "The sentence names what is missing. Mend that; the trial then begins by itself",
    ),
    _warning(
        "certificate",
        "This host's registry certificate has expired, or will within 14 days",
        "Renew it, put it in place, `systemctl reload neti`",
    ),
    _critical(
        "clone",
        "Another machine is running as this host: the same id, and perhaps a copy of its state",
        "The sentence names it, where it says who it is. Stop one of the two; give it an id of its "
        "own and an empty state folder",
    ),
    _warning(
        "config_unread",
        "The configuration file was changed and has not been read since",
        "`neti config check`, then `neti reload`",
    ),
    _warning(
        "conntrack",
        "The connection-tracking table is nearly full; when it is full, new connections are "
        "dropped, in shadow too",
        "Raise `conntrack_max`; find the program that opens so many connections",
    ),
    _warning(
        "conntrack_max",
        "The limit of tracked connections could not be set",
        "The sentence says why; until then the kernel's own limit applies",
    ),
    _warning(
        "descriptors",
        "The agent has no file descriptors left for one of its listeners",
        "Find who holds so many connections to this host's agent open; raise `LimitNOFILE`",
    ),
    _warning(
        "disk",
        "The state folder cannot be written: what is decided now may not outlast a restart",
        "Make room, or make the folder writable; the agent writes again by itself",
    ),
    _warning(
        "down",
        "`neti down` was called: nothing of Neti's is in the kernel",
        "`neti up`, when the reason is gone",
    ),
    _critical(
        "down_open",
        "`neti down` was called on a host that is to be enforced: everything gets in",
        "`neti up`, when the reason is gone; or `neti relax`, if it is not to be enforced",
    ),
    _critical(
        "drops",
        "The kernel keeps strangers out although this host is in shadow: whoever is no member is "
        "locked out against somebody's wish",
        "`neti relax`; when that does not help, `nft delete table inet neti`",
    ),
    _critical(
        "fight",
        "Another program keeps undoing what the agent repairs",
        "Find it by the name in the sentence; it must leave `table inet neti` and the overlay's "
        "route alone",
    ),
    _critical(
        "held",
        "Many members vanished together, or from a registry that may not be the right one: their "
        "removal is held back",
        "Are they really gone? An operator says it once: `neti release --fleet`. If not, mend the "
        "registry; the hold ends when they return",
    ),
    _warning(
        "identity",
        "This host's own id or addresses could not be read, or the id has changed",
        "Is the metadata service reachable? When the id has changed: restart the agent",
    ),
    _critical(
        "impostor",
        "Somebody else has registered under this host's id",
        "`neti registry check` on an operator's machine says by whose certificate",
    ),
    _warning(
        "job",
        "A job beside the loop does not end; until it does, nothing else that waits for the "
        "registry or the metadata service is done",
        "The sentence says which. After ten minutes systemd restarts the agent",
    ),
    _critical(
        "kept_out",
        "Another program's packet filter (ufw, firewalld, iptables, nft) drops members' new "
        "connections after Neti let them in: counted packets show it",
        "Add the line that the sentence ends with, or open the ports there; it ends with the first "
        "connection that arrives",
    ),
    _critical(
        "kernel",
        "The kernel refused a change: rules or members may be out of date",
        "The sentence is the kernel's own; the agent tries again by itself",
    ),
    _warning(
        "lease_changed",
        "This host's overlay address is another one, and no operator moved it: the lease "
        "was released, or the registry was restored from a copy",
        "Was it meant? Tell clients the new address, then restart the agent. If not: `neti lease "
        "list`, then `neti lease move`",
    ),
    _warning(
        "live_setting",
        "A fleet-wide setting in the registry is not what was expected, and is ignored",
        "Write a valid value to its node",
    ),
    _warning(
        "log",
        "`log_file` cannot be written: events go to the journal instead",
        "Make room, or make the file writable; then `systemctl reload neti`",
    ),
    _note(
        "lost",
        "Members vanished without a word; they stay reachable for `linger_seconds`. `neti check` "
        "has a limit of its own for them",
        "Look at those hosts. On purpose: `neti leave` before they go",
    ),
    _warning(
        "metrics",
        "Metrics are wanted, but their address cannot be listened on",
        "Free the address or change `metrics_listen`, then restart the agent",
    ),
    _warning(
        "origin",
        "The registry is another one than before, or an older copy: members that it does not list "
        "are held",
        "Is it the right registry? If so, `neti release`",
    ),
    _warning(
        "overlay",
        "Routes, addresses or resolvers inside `overlay_subnet` are not Neti's: members there "
        "cannot be reached from this host",
        "Remove them, or choose another `overlay_subnet` for the fleet",
    ),
    _note(
        "record_crowded",
        "The shadow's record of ports where nobody listens is full, or one source filled its share "
        "of it",
        "Nothing: scanners do that. Ports with a listener have room of their own",
    ),
    _warning(
        "record_full",
        "The shadow's record of ports with a listener is full: who uses them is not known "
        "completely, and no trial is confirmed by evidence",
        "`neti preview` shows who knocks, and where. Open the port, or keep them out before this "
        "host; an hour after the last of it this ends by itself",
    ),
    _warning(
        "registration",
        "This host could not be registered: peers do not know it",
        "The sentence says why; the agent tries again by itself",
    ),
    _warning(
        "registry",
        "The registry is not followed; the last good state stays in force, but joins and leaves do "
        "not arrive",
        "Is the registry reachable from here? `neti registry check`",
    ),
    _critical(
        "registry_host",
        "This host has an address that `zk_hosts` lists: ZooKeeper's servers and proxies must not "
        "run Neti, because they have to be reachable when its rules are wrong",
        "Correct `zk_hosts` and restart the agent; or `neti leave` and `neti down` on this host",
    ),
    _warning(
        "relaxed",
        "`reject_all` is true in the configuration, but `neti relax` was said since: nothing is "
        "kept out",
        "The sentence says who and when. `neti enforce`, or write `reject_all: false`",
    ),
    _warning(
        "reload",
        "The configuration that was read last is refused, or parts of it need a restart",
        "`neti config check`, then `neti reload`; or restart the agent where the sentence says so",
    ),
    _warning(
        "responder",
        "This host does not answer `neti verify`: its port cannot be listened on",
        "Free the port or change `verify_port`, then restart the agent",
    ),
    _warning(
        "route",
        "No interface has this host's private address, so the overlay's route waits for it",
        "Bring the address up; the route follows by itself",
    ),
    _warning(
        "stage_adopted",
        "The record on disk said shadow and the kernel enforced: the host stays enforced",
        "Was an old copy of the state folder put back? `neti relax`, if it is to be in shadow; "
        "otherwise `neti enforce`, which ends this problem",
    ),
    _critical(
        "stage_lost",
        "The record of the stage is damaged, so this host is open although it may have been "
        "enforced",
        "`neti enforce`; or `neti relax`, if it is not to be enforced",
    ),
    _critical(
        "stage_not_saved",
        "What was decided about this host (enforced, relaxed) is not on disk: a reboot undoes it",
        "Make room, or make the state folder writable; the agent writes again by itself",
    ),
    _warning(
        "state",
        "A file in the state folder is damaged or cannot be read; an older copy is used if there "
        "is one",
        "Usually nothing: it is written anew by itself. When it stays, look at the disk",
    ),
    _warning(
        "tables",
        "Other programs' tables cannot be read, so nobody can say whether they keep members out",
        "The sentence says why",
    ),
    _warning(
        "tables_drop",
        "Another program's table keeps members out, whatever Neti lets in",
        "Add the line that the sentence ends with",
    ),
    _warning(
        "temporary_address",
        "This host sends over IPv6 from a temporary address (`use_tempaddr=2`, RFC 8981), which "
        "changes and which no peer knows: enforced peers drop what it sends",
        "`sysctl -w net.ipv6.conf.all.use_tempaddr=0`, and the same for the interface",
    ),
    _warning(
        "thread",
        "A part of the agent beside the loop broke and was begun anew",
        "Report it, with the log; nothing else needs to be done",
    ),
    _critical(
        "trial_expired",
        "The trial of `reject_all` ended unconfirmed: the kernel went back to shadow, and nothing "
        "is kept out",
        "The sentence says what was missing. Mend that, then `neti enforce`; or `neti relax`, if "
        "it was not meant",
    ),
    _warning(
        "unexpected",
        "Something happened that nobody expected; the agent goes on and reads everything anew",
        "Report it, with the log",
    ),
)  # fmt: skip

# Every host has them at the same moment, so no host tells the others of them.
ABOUT_THE_FLEET: Final = frozenset({"held", "live_setting", "lost", "origin", "registry"})
KINDS: Final[Mapping[str, Kind]] = {kind.code: kind for kind in _KINDS}

"""Every problem code, declared once: its severity, what it means, what to do. Pure.

Codes are stable: alerts, scripts and dashboards rely on them. A new one gets a line here, in
alphabetical order. docs/operations.md has the same table, and a test compares the two. Must never
let a severity depend on a sentence.
"""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


class Severity(enum.StrEnum):
    """``note``: worth knowing, nothing is wrong. ``warning``: look at it; traffic flows as it
    should. ``critical``: a host is open or cut off although nobody wants that, or an operator must
    decide."""

    NOTE = "note"
    WARNING = "warning"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """Higher is more severe."""
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
    _warning(
        "address_contested",
        "A member of a site that requires encryption claims an address that a member of this site "
        "has as well, and no range of this site has it: nothing goes there in the clear",
        "Write `public` and `ipv6` ranges that do not overlap for both sites, on all hosts. The "
        "message names the host that claims it: look there why",
    ),
    _warning(
        "address_outside",
        "One of this host's own IPv6 addresses is outside the `ipv6` ranges of its site, so peers "
        "do not let it in",
        "Write its range into that site's `ipv6` in neti.yml, on all hosts",
    ),
    _critical(
        "arming",
        "`reject_all` is true, but this host does not enforce it: strangers get in",
        "The message says what is missing. Fix that; the trial then starts by itself",
    ),
    _warning(
        "certificate",
        "This host's registry certificate has expired, or will within 14 days; or the files of "
        "`registry_tls` cannot be used, so that the connection that is open now is the last one",
        "Renew it, install certificate and key, then `systemctl reload neti`",
    ),
    _critical(
        "clone",
        "Another machine runs as this host, with the same id and perhaps a copy of its state",
        "The message names it, if known. Stop one of the two, and give it its own id and an "
        "empty state folder",
    ),
    _warning(
        "config_unread",
        "The configuration file was changed, but the agent has not read it since",
        "`neti config check`, then `neti reload`",
    ),
    _warning(
        "conntrack",
        "The connection-tracking table is nearly full. When it is full, new connections are "
        "dropped, even in shadow",
        "Raise `conntrack_max`, and find the program that opens so many connections",
    ),
    _warning(
        "conntrack_max",
        "The limit on tracked connections could not be set",
        "The message says why. Until it is fixed, the kernel's own limit applies",
    ),
    _warning(
        "descriptors",
        "The agent has no file descriptors left for one of its listeners",
        "Find out who keeps so many connections to this agent open; raise `LimitNOFILE`",
    ),
    _warning(
        "disk",
        "The state folder cannot be written: what is decided now may not survive a restart",
        "Free disk space, or make the folder writable. The agent then writes by itself",
    ),
    _warning(
        "down",
        "`neti down` was run: Neti has nothing in the kernel",
        "`neti up`, when the reason is gone",
    ),
    _critical(
        "down_open",
        "`neti down` was run on a host that should be enforced: everybody gets in",
        "`neti up`, when you are done; or `neti relax`, if the host should not be enforced",
    ),
    _critical(
        "drops",
        "The kernel drops strangers although this host is in shadow: hosts that are not members "
        "are locked out by mistake",
        "`neti relax`; if that does not help, stop the agent and run `nft delete table inet neti`",
    ),
    _note(
        "encryption_comes",
        "Within the last day other members have got a WireGuard key, and this host's neti.yml does "
        "not encrypt: so it is while `encrypt: prefer` is rolled out. After a day, or where the "
        "agent was started meanwhile, it is `encryption_one_sided`",
        "The same `encrypt` in neti.yml on all hosts",
    ),
    _critical(
        "encryption_device",
        "The device of the encrypted road, its rule or its route is not as it should be, and "
        "cannot be repaired; or there is none on a host on which encryption is required. Members "
        "of sites that require encryption cannot be reached, others are reached in the clear",
        "The message is the kernel's own, or says what is missing. The agent tries again by itself",
    ),
    _warning(
        "encryption_keyless",
        "Members that must be reached by the encrypted road, because it is required or they are "
        "behind gateways, have no WireGuard key that is believed here: they are cut off from this "
        "host",
        "The same `encrypt` in neti.yml on all hosts, and agents that know it; `neti verify ID` "
        "says of one host what is missing. Where its key is another host's: `key_of_another`",
    ),
    _warning(
        "encryption_missing",
        "A site encrypts, but this host has neither the kernel's WireGuard module nor "
        "wireguard-go, so it reaches no member by the encrypted road",
        "`modprobe wireguard`; where the kernel has no module, install wireguard-go, then "
        "`systemctl start neti-wireguard.socket`",
    ),
    _warning(
        "encryption_not_in_effect",
        "neti.yml requires encryption, and that is not in effect on this host: until then it only "
        "prefers it. While encryption is rolled out it is so on each host whose turn has not come",
        "`neti enforce`, once the members that this host talks to have a key and a handshake",
    ),
    _critical(
        "encryption_not_kept",
        "Required encryption is in effect on this host, and still it reaches members in the clear. "
        "This must not happen",
        "[NetiEncryptionNotKept](#netiencryptionnotkept)",
    ),
    _warning(
        "encryption_not_strict",
        "Encryption is required on this host, but `neti registry strict` is off: the certificate "
        "of any one host is enough to give a member another key, and what is encrypted may be "
        "read by whoever did",
        "`neti registry strict on`. If strict is to stay off: `encrypt: prefer` on all hosts",
    ),
    _warning(
        "encryption_one_sided",
        "Other members have a WireGuard key, so their neti.yml encrypts, and this host's does not: "
        "members that require encryption refuse this host",
        "The same `encrypt` in neti.yml on all hosts; on the way back `encrypt: prefer` on all "
        "of them before the first one says `off`",
    ),
    _warning(
        "encryption_silent",
        "Members that must be reached by the encrypted road do not answer there. It takes 20 to "
        "30 s with packets to them (a minute more among thousands of members), or up to four "
        "minutes where what they send still arrives here; who is sent nothing is not missed",
        "`neti verify ID`. Open `tunnel_port` (UDP) between the two sites, on security groups "
        "too; `neti fleet` says whether all hosts have the same one; then look at that host's "
        "`neti status`. Where the port is open and one of the two clocks was ahead and is right "
        "again: `neti key rotate` on the host whose clock it was",
    ),
    _critical(
        "fight",
        "Another program keeps undoing the agent's repairs",
        "The message names the program. Make it leave alone what `drift_repaired` in the log "
        "says was changed. If the program is `neti`, a second agent runs on this host: stop one of "
        "them",
    ),
    _warning(
        "forged",
        "Somebody made entries under the ids of hosts whose records do not name them. They are not "
        "believed",
        "`neti registry check` says by whose certificate. `neti registry remove` takes them away",
    ),
    _critical(
        "forwarding",
        "This host is one of its site's gateways, and its kernel does not forward as it must",
        "The message is the kernel's or the disk's own. The agent tries again by itself",
    ),
    _warning(
        "forwarding_not_noted",
        "The disk does not take the note of which interfaces Neti switched forwarding on for, or "
        "has one that cannot be read. They forward all the same, but `neti down` may leave it on",
        "The message has the disk's own word. The agent tries again by itself. After a `neti down` "
        "meanwhile, look at `sysctl net.ipv4.conf`",
    ),
    _critical(
        "gateway_kept_out",
        "Another program's packet filter (Docker, ufw, firewalld, iptables, nft) drops what this "
        "gateway passes on; packet counters show it. Where the site has another gateway, hosts "
        "move to it",
        "Add the line at the end of the message, for good: by the program that keeps that filter. "
        "It clears with the first packet that gets through",
    ),
    _warning(
        "gateway_probes",
        "The port by which gateways are probed cannot be had: one that is dead is noticed only "
        "when its session ends",
        "End the program that has it (`ss -ulpn`), or give that another one. The agent tries again "
        "by itself",
    ),
    _critical(
        "gateways_gone",
        "No gateway of a site is known to work: its hosts without a public address of their own "
        "are cut off from other sites, unless a lost gateway still passes on. Inside the site "
        "nothing changes",
        "The message says of each gateway what is missing. Start its agent, or name another host "
        "with a public address in `gateways`, on all hosts",
    ),
    _warning(
        "group_unknown",
        "`member_ports` names a group that no operator has defined: nobody is in it",
        "`neti group set NAME ID…`, or correct the name in neti.yml; `neti group list` has those "
        "that there are",
    ),
    _critical(
        "groups_held",
        "What the registry says of groups is not followed: it has none any more, older ones, or "
        "those of another registry; or they cannot be read; or many were taken out of a group at "
        "once and nobody said so. The last good groups stay in force",
        "The message says what is the case. `neti group list` shows what the registry has; what "
        "an operator says there with `--shrink` is followed",
    ),
    _critical(
        "groups_missing",
        "This host enforced `member_ports`, and it is not known who is in which group: "
        "`groups.json` in the state folder is gone or torn, and the registry has not been read "
        "since. Until then every member reaches every port",
        "Bring the registry back, or this host to it: `neti status` says whether it is in step. "
        "Then it clears by itself",
    ),
    _critical(
        "held",
        "Many members vanished at once, or from a registry that may be the wrong one: their "
        "removal is held back",
        "If they are really gone: `neti release --fleet`, once for all hosts. If not, repair the "
        "registry; the hold ends when they return",
    ),
    _warning(
        "identity",
        "This host's own id or addresses could not be read, or its id has changed",
        "Check that the metadata service is reachable. If the id has changed, restart the agent",
    ),
    _critical(
        "impostor",
        "Another client has registered under this host's id",
        "`neti registry check` on an operator's machine shows whose certificate was used",
    ),
    _warning(
        "job",
        "A background job of the agent hangs. Until it ends, no other job that needs the "
        "registry or the metadata service can run",
        "The message says which. After ten minutes systemd restarts the agent",
    ),
    _critical(
        "kept_out",
        "Another program's packet filter (ufw, firewalld, iptables, nft) drops members' new "
        "connections after Neti has let them in; packet counters show it",
        "Add the line at the end of the message, or open the ports there. It clears with the "
        "first connection that arrives",
    ),
    _critical(
        "kernel",
        "The kernel refused a change: rules or members may be out of date",
        "The message is the kernel's own. The agent tries again by itself",
    ),
    _warning(
        "key_of_another",
        "A member's record says a WireGuard key that another host holds: it gets no road by that "
        "key",
        "`neti registry check` names both. One of the two has a copy of the other's state folder, "
        "or somebody forged the record: `neti key rotate` on the one whose key it is",
    ),
    _warning(
        "key_taken",
        "Another host holds this host's WireGuard key: a copy of this host's state folder runs "
        "elsewhere, or somebody published the key first",
        "Nothing: this host makes another key. Find out whose it is: `neti registry check`. It "
        "clears an hour after the host has registered with the other one",
    ),
    _warning(
        "lease_changed",
        "This host's overlay address changed, but no operator moved it: its lease was released, "
        "or the registry was restored from a backup",
        "If intended: tell clients the new address, then restart the agent. If not: `neti lease "
        "list`, then `neti lease move`",
    ),
    _warning(
        "live_setting",
        "A fleet-wide setting in the registry is invalid and ignored",
        "Write a valid value to its node",
    ),
    _warning(
        "log",
        "`log_file` cannot be written: events go to the journal instead",
        "Make room, or make the file writable; then `systemctl reload neti`",
    ),
    _note(
        "lost",
        "Members vanished without leaving. They stay reachable for `linger_seconds`. `neti "
        "check` has its own limit for them",
        "Look at those hosts. To stop hosts on purpose, run `neti leave` on them first",
    ),
    _critical(
        "member_ports_lost",
        "The record of the stage was lost or cannot be used while the kernel kept members out by "
        "`member_ports`. This host stays enforced, and every member reaches every port of it. It "
        "is said, over restarts too, until a trial of them is confirmed, `neti relax`, or a file "
        "by which nobody is kept out",
        "`neti preview`, which names whom they would keep out, then `neti enforce`",
    ),
    _warning(
        "member_ports_wait",
        "What `member_ports` take away from members is not in effect on this host, though it "
        "enforces: it is only recorded. So it is on each host whose turn has not come",
        "`neti preview`, which names whom they would keep out, then `neti enforce`",
    ),
    _warning(
        "metrics",
        "The agent cannot listen on the address for metrics",
        "Free the address or change `metrics_listen`, then restart the agent",
    ),
    _note(
        "not_vouched",
        "Entries that no host's record names are believed, because `neti registry strict` "
        "is off: their agents are of an earlier version, or somebody forged them",
        "Upgrade these agents. `neti registry check` names forged entries. Then `neti registry "
        "strict on`",
    ),
    _warning(
        "origin",
        "The registry is not the one from before, or an older copy of it: members that it does "
        "not list are held, and hosts that were gone are not let in by it",
        "Check that it is the right registry. If so, `neti release`",
    ),
    _warning(
        "overlay",
        "Routes, addresses or resolvers inside `overlay_subnet` are not Neti's: members there "
        "cannot be reached from this host",
        "Remove them, or choose another `overlay_subnet` for the fleet",
    ),
    _note(
        "record_crowded",
        "The shadow record of ports without a listener is full, or one source has used up its "
        "share",
        "Nothing: scanners cause this. Ports with a listener are recorded separately",
    ),
    _warning(
        "record_full",
        "The shadow record of ports with a listener is full: not all their clients are known, "
        "so no trial can be confirmed by evidence",
        "`neti preview` shows who connects, and where. Open the port, or block them before they "
        "reach this host. It clears an hour after the last such packet",
    ),
    _warning(
        "registration",
        "This host could not be registered: peers do not know it",
        "The message says why. The agent tries again by itself",
    ),
    _warning(
        "registry",
        "The agent is not following the registry. The last good state stays in force, but joins "
        "and leaves do not arrive",
        "Check that the registry is reachable from here: `neti registry check`",
    ),
    _critical(
        "registry_host",
        "This host has an address that `zk_hosts` lists: ZooKeeper's servers and proxies must not "
        "run Neti, because they have to be reachable when its rules are wrong",
        "Correct `zk_hosts` and restart the agent; or `neti leave` and `neti down` on this host",
    ),
    _warning(
        "relaxed",
        "`reject_all` is true in the configuration, but `neti relax` was run since: nobody is "
        "kept out",
        "The message says who ran it and when. `neti enforce`, or write `reject_all: false`",
    ),
    _warning(
        "reload",
        "The configuration that was read last is invalid or would shut out an SSH session that is "
        "open here, or parts of it need a restart",
        "`neti config check`, then `neti reload`; or restart the agent if the message says so",
    ),
    _warning(
        "responder",
        "This host does not answer `neti verify`: the agent cannot listen on its port",
        "Free the port or change `verify_port`, then restart the agent",
    ),
    _warning(
        "route",
        "No interface has this host's private address, so the overlay's route cannot be set",
        "Bring the address up; the route is then set by itself",
    ),
    _warning(
        "stage_adopted",
        "The record on disk said shadow, but the kernel was enforcing: the host stays enforced",
        "Perhaps an old copy of the state folder was restored. `neti relax`, if the host should "
        "be in shadow; otherwise `neti enforce`, which clears this",
    ),
    _critical(
        "stage_lost",
        "The record of the stage cannot be used (damaged, or written by another version), so this "
        "host is open although it may have been enforced",
        "`neti enforce`; or `neti relax`, if the host should not be enforced",
    ),
    _critical(
        "stage_not_saved",
        "The last decision about this host (enforced, relaxed) is not on disk: a reboot would "
        "undo it",
        "Free disk space, or make the state folder writable. The agent then writes by itself",
    ),
    _warning(
        "state",
        "A file in the state folder is damaged, written by another version, or cannot be read. An "
        "older copy is used if there is one",
        "Usually nothing: the agent rewrites it. If the problem stays, check the disk",
    ),
    _warning(
        "state_emptied",
        "The state folder, or a file in it by which a reboot decides, was emptied, removed or "
        "replaced while the agent was running. What the agent knows was written there again",
        "Find out what did it. If the message names another agent, stop one of the two. It clears "
        "when the agent is restarted",
    ),
    _warning(
        "strict_gone",
        "An operator said that only what hosts' records name is believed, and the registry does "
        "not say so any more: it was wiped, restored from an older copy, or is another one. This "
        "host stays strict",
        "`neti registry strict on` if the registry is the right one. To end it, say `on` there "
        "first, then `off`",
    ),
    _warning(
        "tables",
        "Other programs' tables cannot be read, so the agent cannot tell whether they keep "
        "members out",
        "The message says why",
    ),
    _warning(
        "tables_drop",
        "Another program's table keeps out members that Neti lets in",
        "Add the line at the end of the message",
    ),
    _warning(
        "temporary_address",
        "This host sends over IPv6 from a temporary address (`use_tempaddr=2`, RFC 8981), which "
        "changes and which no peer knows: enforced peers drop what it sends",
        "`sysctl -w net.ipv6.conf.all.use_tempaddr=0`, and the same for the interface",
    ),
    _warning(
        "thread",
        "A background part of the agent failed and was restarted",
        "Report it, with the file that `neti support` makes. Nothing else is needed",
    ),
    _critical(
        "trial_expired",
        "The trial of `reject_all`, of required encryption, of `member_ports`, or of several ended "
        "unconfirmed: the "
        "kernel went back to what it did before. Of `reject_all` that is shadow: nobody is kept "
        "out",
        "The message says what was missing. Fix that, then `neti enforce`; or `neti relax`, if "
        "the host should not be enforced",
    ),
    _warning(
        "unexpected",
        "An unexpected error. The agent goes on and reads everything again",
        "Report it, with the file that `neti support` makes",
    ),
)  # fmt: skip

# What a look at the whole fleet shows by itself, so no host reports it to the others. So it is with
# required encryption while it is rolled out: whether it is in effect they report by another word.
ABOUT_THE_FLEET: Final = frozenset(
    {
        "encryption_keyless",
        "encryption_not_in_effect",
        "encryption_not_strict",
        "forged",
        "gateways_gone",
        "held",
        "lost",
        "not_vouched",
        "registry",
    }
)
# With one of these, what the registry says is not in this host's kernel, or the other way round:
# what this host is does not stand in the registry.
OUT_OF_STEP: Final = frozenset(
    {
        "clone",
        "down",
        "down_open",
        "fight",
        "identity",
        "job",
        "kernel",
        "lease_changed",
        "registration",
        "route",
        "unexpected",
    }
)
KINDS: Final[Mapping[str, Kind]] = {kind.code: kind for kind in _KINDS}

"""Stories that ended badly when the simulation first told them, each in its shortest form."""

from typing import Final

import pytest
from simulation.acts import Act
from simulation.run import play

_FORGED: Final = Act("junk", -1, ("1.0a000001c6336401c0a80001.0.ec2.ec2-1",))

# So much happens that an older copy is one also for hosts that missed a part of it.
_MUCH: Final = [
    Act("strangers", -1, (30, "ec2")),
    Act("time", -1, (2.5,)),
    Act("strangers_vanish"),
    Act("time", -1, (61.0,)),
]

STORIES: Final[dict[str, tuple[int, list[Act]]]] = {
    "an entry that was asked for while the registry was empty comes back by an older copy": (
        4,
        [
            Act("strangers", -1, (2, "vpc")),
            Act("ports_wholly", -1, (1, 32.0)),
            Act("copy_registry"),
            Act("wipe"),
            Act("time", -1, (31.0,)),
            Act("enforce_wholly", 1, (32.0,)),
            Act("time", -1, (31.0,)),
            Act("newer", 1),
            Act("start", 1),
            Act("time", -1, (2.5,)),
            Act("strict_on"),
            Act("enforce_wholly", 3, (32.0,)),
            Act("restore_registry"),
        ],
    ),
    "a gateway's agent stands still until 'neti down' is done, and then switches forwarding on": (
        3,
        [
            Act("kernel_refuses_rules", 0),
            Act("partition", -1, ("ec2",)),
            Act("name_gateways", -1, (2, 3, 32.0)),
            Act("kernel_works", 0),
            Act("mend", 0),
            Act("pause_at", 0, (8,)),
            Act("down", 0),
            Act("go_on", 0),
        ],
    ),
    "a gateway's table is flushed, and the kernel refuses the new one": (
        3,
        [
            Act("name_gateways", -1, (2, 4, 32.0)),
            Act("kernel_refuses_rules", 0),
            Act("flush_unheard", 0),
            Act("time", -1, (2.5,)),
            Act("require_wholly", -1, (32.0,)),
            Act("time", -1, (31.0,)),
            Act("time", -1, (61.0,)),
        ],
    ),
    "a host registers twice before its peer could read its record, and then the registry is away": (
        4,
        [
            Act("pause_at", 3, (6,)),
            Act("move", 3, (93, True)),
            Act("time", -1, (31.0,)),
            Act("pause_at", 0, (11,)),
            Act("time", -1, (31.0,)),
            Act("go_on", 3),
            Act("strict_on"),
            Act("registry_away"),
            Act("go_on", 0),
            Act("long_time", -1, (130.0,)),
        ],
    ),
    "an agent dies of 'neti down' before it could note it, on a disk that takes no word": (
        3,
        [
            Act("disk_read_only", 0),
            Act("interrupted", 0, ("down", 3)),
            Act("start", 0),
            Act("time", -1, (61.0,)),
        ],
    ),
    "a host's time is over while others look at their tables for the tunnel": (
        3,
        [
            Act("require_wholly", -1, (32.0,)),
            Act("require_wholly", -1, (32.0,)),
            Act("require_wholly", -1, (32.0,)),
            Act("suffix", -1, ("fleet.internal",)),
            Act("reboot", 0),
            Act("time", -1, (11.0,)),
            Act("crowd", 0, (5, 105.0, True)),
        ],
    ),
    "a key is being read, and the connection goes, and the settings come again": (
        3,
        [
            Act("power_cut", 2),
            Act("cut", 1),
            Act("encrypt", -1, ("prefer",)),
            Act("registry_back"),
            Act("retire", 2),
        ],
    ),
    "a key is not wanted any more, and wanted again, while the host hears of nothing": (
        4,
        [
            Act("require_wholly", -1, (32.0,)),
            Act("late", 1),
            Act("encrypt", -1, ("prefer",)),
            Act("encrypt", -1, ("off",)),
            Act("encrypt", -1, ("prefer",)),
        ],
    ),
    "a key is wanted, and not any more, and wanted again, over a power cut": (
        3,
        [
            Act("power_cut", 1),
            Act("encrypt", -1, ("require",)),
            Act("upgrade", 2),
            Act("restart", 2),
            Act("encrypt", -1, ("off",)),
            Act("power_cut", 2),
            Act("encrypt", -1, ("require",)),
        ],
    ),
    "the last public addresses go, and one gateway a site is all there is": (
        6,
        [
            Act("name_gateways", -1, (1, 4, 32.0)),
            Act("kill", 0),
            Act("time", -1, (61.0,)),
            Act("start", 0),
        ],
    ),
    "a gateway is drained, forwarding is switched off, and the other one dies": (
        6,
        [
            Act("name_gateways", -1, (2, 2, 32.0)),
            Act("drain", -1, (0, False)),
            Act("stop_forwarding", 1),
            Act("power_cut", 2),
            Act("block_udp", -1, (True,)),
            Act("time", -1, (31.0,)),
        ],
    ),
    "a gateway whose agent is gone is taken down, and its agent starts": (
        3,
        [
            Act("name_gateways", -1, (2, 2, 32.0)),
            Act("kill", 2),
            Act("down", 2),
            Act("start", 2),
            Act("time", -1, (61.0,)),
            Act("time", -1, (61.0,)),
            Act("time", -1, (61.0,)),
        ],
    ),
    "members are kept out where no group was ever defined, and the power goes": (
        3,
        [
            Act("member_ports", 2, (5,)),
            Act("enforce_from", 2, ("here",)),
            Act("enforce_wholly", 2, (32.0,)),
            Act("power_cut", 2),
        ],
    ),
    "one of two gateways is silent, and comes back": (
        6,
        [
            Act("name_gateways", -1, (2, 2, 32.0)),
            Act("time", -1, (61.0,)),
            Act("time", -1, (61.0,)),
            Act("gateway_silent", -1, (0, 8.0)),
            Act("gateway_silent", -1, (2, 8.0)),
        ],
    ),
    "groups are defined, and the registry is wiped": (
        3,
        [Act("group_db", -1, ((1, 2), False, None)), Act("wipe"), Act("time", -1, (2.5,))],
    ),
    "names are given, and the registry is wiped": (
        3,
        [
            Act("suffix", -1, ("neti.internal",)),
            Act("name_host", -1, ("db", 1)),
            Act("wipe"),
            Act("time", -1, (2.5,)),
        ],
    ),
    "names are given while a host is down, and it boots without the registry": (
        3,
        [
            Act("suffix", -1, ("neti.internal",)),
            Act("name_host", -1, ("db", 1)),
            Act("down", 1),
            Act("name_host", -1, ("mail", 2)),
            Act("up", 1),
            Act("cut", 1),
            Act("reboot", 1),
            Act("start", 1),
            Act("time", -1, (61.0,)),
        ],
    ),
    "groups are changed, and an older copy of the registry comes back": (
        3,
        [
            Act("group_db", -1, ((1, 2), False, None)),
            Act("copy_registry"),
            Act("group_db", -1, ((3,), False, 400)),
            Act("restore_registry"),
        ],
    ),
    "a way in that is back in the file, and not in the rules, because the kernel refuses them": (
        3,
        [
            Act("enforce_wholly", 0, (32.0,)),
            Act("whitelist", 0, (False,)),
            Act("kernel_refuses_rules", 0),
            Act("whitelist", 0, (True,)),
        ],
    ),
    "the same, and then the host is to be enforced": (
        3,
        [
            Act("time", -1, (2.5,)),
            Act("whitelist", 0, (False,)),
            Act("kernel_refuses_rules", 0),
            Act("whitelist", 0, (True,)),
            Act("enforce", 0, (False, False)),
        ],
    ),
    "the same, by the configuration": (
        3,
        [
            Act("time", -1, (2.5,)),
            Act("whitelist", 0, (False,)),
            Act("kernel_refuses_rules", 0),
            Act("configure", 0, (True,)),
            Act("whitelist", 0, (True,)),
            Act("time", -1, (61.0,)),
        ],
    ),
    "a host with a full disk that forgot its last entry, and a registry that was wiped": (
        5,
        [
            Act("reboot", 0),
            Act("crowd", 0, (16, 105.0, True)),
            Act("disk_full", 0),
            Act("start", 0),
            Act("partition", -1, ("ec2",)),
            Act("time", -1, (31.0,)),
            Act("reunion"),
            Act("restart", 3),
            Act("reboot", 0),
            Act("wipe"),
            Act("start", 0),
        ],
    ),
    "a flow to a member that is known only from the registry, begun without the table": (
        6,
        [
            Act("kill", 2),
            Act("flush", 2),
            Act("flow", 2, (37,)),
            Act("start", 2),
            Act("time", -1, (11.0,)),
        ],
    ),
    "an entry under a lost member's id, in the first list after an outage": (
        3,
        [
            Act("registry_away"),
            Act("expire", 0),
            Act("time", -1, (61.0,)),
            _FORGED,
            Act("registry_back"),
            Act("time", -1, (0.1,)),
        ],
    ),
    "the same, where the member has answered it, and its lease is not known after a restart": (
        4,
        [
            Act("restart", 3),
            Act("registry_away"),
            Act("restart", 3),
            _FORGED,
            Act("registry_back"),
            Act("time", -1, (0.1,)),
        ],
    ),
    "an older copy of the registry that brings nobody back but a host that left": (
        3,
        [Act("copy_registry"), Act("leave", 0), Act("restore_registry")],
    ),
    "hosts that left, and come back to a registry that was wiped meanwhile": (
        3,
        [
            Act("time", -1, (2.5,)),
            Act("leave", 0),
            Act("leave", 1),
            Act("wipe"),
            Act("start", 0),
            Act("start", 1),
        ],
    ),
    "a host that left, and came back to an older copy of the registry while a peer was down": (
        3,
        [
            Act("copy_registry"),
            Act("leave", 0),
            *_MUCH,
            Act("kill", 1),
            Act("restore_registry"),
            Act("time", -1, (61.0,)),
            Act("start", 0),
            Act("start", 1),
        ],
    ),
    "the same, with a host that was away for so long that the peer had removed it": (
        3,
        [
            Act("copy_registry"),
            Act("kill", 0),
            Act("long_time", -1, (1000.0,)),
            *_MUCH,
            Act("kill", 1),
            Act("restore_registry"),
            Act("time", -1, (61.0,)),
            Act("start", 0),
            Act("start", 1),
        ],
    ),
    "a site's members that vanish in an outage, and one that leaves half an hour later": (
        5,
        [
            Act("strangers", -1, (30, "ec2")),
            Act("registry_away"),
            Act("long_time", -1, (610.0,)),
        ],
    ),
    "a clock.json of a newer version, and a clock that was set": (
        3,
        [
            Act("kill", 0),
            Act("time", -1, (61.0,)),
            Act("clock", 1, (86400,)),
            Act("newer", 1),
            Act("start", 1),
        ],
    ),
    "'neti down' on a disk that lied about it, and works again": (
        3,
        [Act("disk_lies", 2), Act("down", 2), Act("disk_works", 2), Act("power_cut", 2)],
    ),
    "all tables are flushed unheard, and the machine sleeps before anybody looks": (
        3,
        [
            Act("partition", -1, ("ec2",)),
            Act("enforce_wholly", 0, (32.0,)),
            Act("flush_unheard", 2),
            Act("sleep", 2, (4000.0,)),
            Act("time", -1, (2.5,)),
        ],
    ),
    "a clock that was set back while the host was off, and two restarts": (
        4,
        [
            Act("leave", 3),
            Act("start", 3),
            Act("time", -1, (2.5,)),
            Act("reboot", 0),
            Act("clock", 0, (-86400,)),
            Act("start", 0),
            Act("kill", 3),
            Act("time", -1, (32.0,)),
            Act("kill", 0),
        ],
    ),
    "reject_all is turned off in the file after a newer version ran": (
        3,
        [
            Act("configure", 0, (True,)),
            Act("time", -1, (61.0,)),
            Act("newer", 0),
            Act("configure", 0, (False,)),
            Act("start", 0),
        ],
    ),
    "a goodbye that a kernel takes in only when the host's copy has come in its place": (
        3,
        [
            Act("time", -1, (11.0,)),
            Act("kernel_refuses", 2),
            Act("time", -1, (61.0,)),
            Act("clone", 0),
            Act("strangers", -1, (2, "ec2")),
            Act("late", 0),
            *[Act("time", -1, (11.0,))] * 3,
            *[Act("time", -1, (2.5,))] * 2,
            Act("kernel_works", 2),
            Act("time", -1, (11.0,)),
            Act("leave", 0),
            *[Act("time", -1, (11.0,))] * 2,
        ],
    ),
    "a goodbye right after a look has put right what the kernel refused before": (
        3,
        [
            Act("kernel_refuses_rules", 1),
            Act("time", -1, (61.0,)),
            Act("enforce_wholly", 0, (32.0,)),
            Act("kernel_refuses_rules", 1),
            Act("kernel_works", 1),
            Act("time", -1, (11.0,)),
            Act("leave", 0),
            Act("time", -1, (11.0,)),
        ],
    ),
    "'neti enforce' on a relaxed host is refused by the kernel": (
        3,
        [
            Act("configure", 0, (True,)),
            Act("time", -1, (61.0,)),
            Act("relax", 0),
            Act("kernel_refuses", 0),
            Act("enforce", 0, (False, False)),
            Act("kernel_works", 0),
            Act("long_time", -1, (610.0,)),
        ],
    ),
    "a host that was away when an operator said that records decide, and a forged entry": (
        4,
        [
            Act("cut", 0),
            Act("power_cut", 2),
            Act("strict_on"),
            Act("reboot", 0),
            Act("forge", 2, (7,)),
            Act("time", -1, (31.0,)),
            Act("start", 0),
            Act("registry_back"),
        ],
    ),
    "the same, and a forged goodbye": (
        6,
        [
            Act("time", -1, (0.5,)),
            Act("disk_full", 4),
            Act("cut", 4),
            Act("cut", 0),
            Act("strict_on"),
            Act("registry_back"),
            Act("time", -1, (61.0,)),
            Act("power_cut", 4),
            Act("forge_goodbye", 0),
            Act("start", 4),
            Act("registry_back"),
            Act("time", -1, (31.0,)),
        ],
    ),
    "a wiped registry that knows no lease of a member that is on disk since a moment": (
        3,
        [
            Act("leave", 1),
            Act("time", -1, (61.0,)),
            Act("interrupted", 0, ("leave", 11)),
            Act("start", 1),
            Act("start", 0),
            Act("kill", 0),
            Act("wipe"),
            Act("start", 0),
        ],
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_it_ends_well(name: str) -> None:
    """And in quiet everything agrees."""
    size, acts = STORIES[name]
    assert play(size, acts).fault is None

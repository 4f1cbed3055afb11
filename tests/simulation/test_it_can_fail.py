"""A net that never catches anything may have a hole: old faults, put back, are found.

Each with its shortest story, which ends well in today's code. After how many seeds a fault is
found stands in docs/design/simulation.md; ``python -m tests.simulation.old_faults`` counts anew.
"""

from collections.abc import Callable
from typing import Final

import pytest
from simulation.acts import Act
from simulation.run import play
from tests.simulation import old_faults
from tests.simulation.old_faults import FAULTS, Patches, put_back

_ENFORCED: Final = Act("enforce_wholly", 0, (32.0,))
_REST: Final = Act("time", -1, (2.5,))
_LONG: Final = Act("time", -1, (61.0,))
_SHUT: Final = Act("ports_wholly", -1, (1, 32.0))
_PREFER: Final = Act("encrypt", -1, ("prefer",))
_GATEWAYS: Final = Act("name_gateways", -1, (2, 2, 32.0))
_FORGED: Final = Act("junk", -1, ("1.0a000001c6336401c0a80001.0.ec2.ec2-1",))
# By fault: the code that it is found by, the size of the fleet, what happens. A kill without a
# number is tried before one effect after the other.
STORIES: Final[dict[Callable[[], Patches], tuple[str, int, list[Act]]]] = {
    old_faults.unsaved_is_forgotten: (
        "restore",
        3,
        [_REST, Act("disk_full", 0), _ENFORCED, Act("disk_works", 0), Act("power_cut", 0)],
    ),
    old_faults.a_word_in_the_kernel_is_written_over: (
        "last_word",
        3,
        [
            _ENFORCED,
            Act("disk_read_only", 0),
            Act("pause_at_look", 0, (1,)),
            Act("down", 0),
            Act("go_on", 0),
            _REST,
        ],
    ),
    old_faults.relax_waits_for_the_rules: (
        "answer",
        3,
        [_ENFORCED, Act("kernel_refuses_rules", 0), Act("relax", 0)],
    ),
    old_faults.a_newer_record_is_torn: (
        "told",
        3,
        [
            _ENFORCED,
            _REST,
            Act("newer", 0),
            Act("power_cut", 0),
            Act("start", 0),
            _REST,
            Act("restart", 0),
            _REST,
        ],
    ),
    old_faults.restore_overlooks_relaxed: (
        "restore",
        3,
        [_ENFORCED, Act("kill", 0), Act("relax", 0), Act("power_cut", 0)],
    ),
    old_faults.anything_is_revoked: (
        "own_traffic",
        3,
        [
            Act("clone", 2),
            Act("time", -1, (0.5,)),
            Act("claim", 2, ("public",)),
            Act("time", -1, (11.0,)),
        ],
    ),
    old_faults.a_hold_holds_all: (
        "goodbyes",
        6,
        [
            Act("strangers", -1, (30, "ec2")),
            _REST,
            Act("strangers_vanish"),
            Act("time", -1, (61.0,)),
        ],
    ),
    old_faults.stale_translations_stay: (
        "flows",
        3,
        [_REST, Act("down", 0), Act("flow", 0, (1,)), Act("up", 0), Act("time", -1, (11.0,))],
    ),
    old_faults.time_by_the_wall_clock: (
        "removals",
        3,
        [
            _REST,
            Act("kill", 0),
            Act("time", -1, (61.0,)),
            Act("clock", 1, (86400,)),
            Act("turn", 1),
            Act("turn", 1),
        ],
    ),
    old_faults.unread_claims_move_members: (
        "removals",
        3,
        [
            _REST,
            Act("registry_away"),
            Act("expire", 0),
            Act("time", -1, (61.0,)),
            _FORGED,
            Act("registry_back"),
            Act("time", -1, (0.1,)),
        ],
    ),
    old_faults.outages_count_twice: (
        "goodbyes",
        5,
        [Act("strangers", -1, (30, "ec2")), Act("registry_away"), Act("long_time", -1, (610.0,))],
    ),
    old_faults.anybody_speaks_for_a_host: (
        "vouched",
        4,
        [_REST, Act("strict_on"), Act("forge", 0, (46_656,)), _REST],
    ),
    old_faults.anybody_says_goodbye_for_a_host: (
        "removals",
        4,
        [
            _REST,
            Act("strict_on"),
            Act("forge_goodbye", 0),
            Act("kill", 0),
            Act("time", -1, (61.0,)),
        ],
    ),
    old_faults.confirmed_on_disk_first: (
        "record",
        3,
        [_REST, Act("enforce", 0, (True, False)), _REST, Act("kill_at", 0), Act("confirm", 0)],
    ),
    old_faults.no_way_in_is_no_hindrance: (
        "way_in",
        3,
        [_ENFORCED, Act("whitelist", 0, (False,)), _REST],
    ),
    old_faults.the_session_does_not_matter: (
        "session",
        3,
        [_REST, Act("enforce_from", 0, ("elsewhere",))],
    ),
    old_faults.an_odd_answer_counts: (
        "removals",
        3,
        [_REST, Act("metadata_odd", 0), Act("time", -1, (61.0,))],
    ),
    old_faults.a_scan_takes_all_room: (
        "evidence",
        3,
        [
            _REST,
            Act("scan", 0, (64,)),
            Act("users", 0, (True,)),
            Act("long_time", -1, (130.0,)),
            Act("configure", 0, (True,)),
            Act("time", -1, (61.0,)),
        ],
    ),
    old_faults.an_upgrade_brings_rules_only: (
        "problem kernel",
        3,
        [_REST, Act("upgrade", 0)],
    ),
    old_faults.a_route_stays_lost: (
        "road",
        3,
        [Act("time", -1, (61.0,)), Act("take_route", 0), *[Act("time", -1, (61.0,))] * 3],
    ),
    old_faults.company_is_not_looked_at: (
        "company",
        3,
        [_REST, Act("load_table", 0, (True,)), *[Act("time", -1, (61.0,))] * 3],
    ),
    old_faults.open_sessions_do_not_matter: (
        "open_session",
        3,
        [_REST, Act("log_in", 0, ("elsewhere",)), _ENFORCED],
    ),
    old_faults.a_lost_device_stays_lost: (
        "tunnel",
        3,
        [_PREFER, _REST, Act("delete_device", 0), *[Act("time", -1, (61.0,))] * 3],
    ),
    old_faults.what_is_required_is_preferred: (
        "clear",
        4,
        [_REST, Act("require_wholly", -1, (32.0,)), _REST, Act("restart", 0)],
    ),
    old_faults.anybodys_key_file_is_used: (
        "keys",
        3,
        [
            *(_PREFER, _REST, Act("kill", 1), Act("copy_key", 1, (0,))),
            *(Act("cut", 1), Act("start", 1), _REST),
        ],
    ),
    old_faults.a_reload_shuts_at_once: (
        "reload",
        4,
        [_REST, _SHUT, _REST, Act("member_ports", 0, (3,))],
    ),
    old_faults.who_was_kept_out_is_forgotten: (
        "outside",
        4,
        [_REST, _SHUT, _REST, Act("power_cut", 1)],
    ),
    old_faults.a_wiped_registry_says_who_is_in_a_group: (
        "groups_guard",
        4,
        [_REST, _SHUT, _REST, Act("wipe")],
    ),
    old_faults.a_wiped_registry_takes_names_away: (
        "names_guard",
        3,
        [Act("suffix", -1, ("neti.internal",)), Act("wipe"), _REST],
    ),
    old_faults.a_wiped_registry_lets_retired_hosts_in: (
        "stays_out",
        3,
        [Act("retire", 0), _REST, Act("wipe"), Act("start", 0), *[_LONG] * 3],
    ),
    old_faults.a_hosts_file_is_written_once: (
        "names",
        3,
        [Act("suffix", -1, ("neti.internal",)), _REST],
    ),
    old_faults.forwarding_stays_off: ("gateways", 3, [_GATEWAYS, Act("stop_forwarding", 0)]),
    old_faults.down_leaves_forwarding_on: ("forwarding", 3, [_GATEWAYS, _LONG, Act("down", 0)]),
    old_faults.a_silent_gateway_is_sent_to: (
        "gateway_silent",
        6,
        [_GATEWAYS, _LONG, _LONG, *(Act("gateway_silent", -1, (n, 8.0)) for n in range(4))],
    ),
    old_faults.a_copy_is_answered_at_once: (
        "restless",
        3,
        [_REST, Act("clone", 0), Act("move", 3, (77, True)), Act("time", -1, (61.0,))],
    ),
}


def test_each_has_its_story() -> None:
    """None was forgotten."""
    assert STORIES.keys() == set(FAULTS)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: str(fault.__name__))
def test_what_was_wrong_once_is_found_when_it_is_put_back(fault: Callable[[], Patches]) -> None:
    """And the same story ends well without it."""
    code, size, acts = STORIES[fault]
    found = None
    for effects in range(8, 28) if Act("kill_at", 0) in acts else (0,):
        story = [Act("kill_at", 0, (effects,)) if one.kind == "kill_at" else one for one in acts]
        assert play(size, story).fault is None
        with put_back(fault):
            found = play(size, story).fault
        if found is not None:
            break
    assert found is not None
    assert found.code == code

"""A whole migration with everything real but the cloud, in order and with troubles."""

import re
import signal
import subprocess
from collections.abc import Callable, Sequence

import pytest
from tests.lab.conftest import code_as_shells_tell
from tests.support.front import run_in_front, started_in_front
from tests.support.tunnel_device import require_wireguard
from tests.support.zookeeper import need_zookeeper

from neti_lab import lifecycle
from neti_lab.state import LabState

pytestmark = [pytest.mark.lab, pytest.mark.zookeeper]

Command = Callable[..., list[str]]
_PHASES = 15
_HANGS = 2400.0  # seconds; a busy machine takes several times the five minutes of an idle one


def played(command: Sequence[str]) -> str:
    need_zookeeper()
    done = run_in_front(command, _HANGS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT OK" not in done.stdout
    return done.stdout


def test_a_fleet_moves_and_no_request_fails(lab: LabState, lab_command: Command) -> None:
    """Every phase is counted, the scanner tried all the while, and no order is lost."""
    said = played(lab_command("migrate"))
    table = said[said.index("PHASE ") :].splitlines()[1 : _PHASES + 2]
    counted = [re.split(r"  +", line.strip()) for line in table if "---" not in line]
    assert [row[0] for row in counted] == [str(n) for n in range(1, 17) if n != 3]
    assert all(int(row[3].replace(",", "")) > 50 for row in counted), table
    assert {row[4] for row in counted} == {row[7] for row in counted} == {"0"}
    assert re.search(r" [\d,]{4,} were let through by them, and only Neti", said)
    assert re.search(r"^failed requests +ok +0 of [\d,]{5,}$", said, re.MULTILINE)
    assert re.search(
        r"^times that the scanner got in +ok +0 in [\d,]{5,} tries", said, re.MULTILINE
    )
    assert re.search(r"^acknowledged orders that are lost +ok +0 of [\d,]{3,}$", said, re.MULTILINE)
    assert not lifecycle.anything_left(lab)


@pytest.mark.long
def test_a_fleet_without_public_addresses_moves_and_no_request_fails(
    lab: LabState, lab_command: Command
) -> None:
    """Ensemble and proxies have none either. Between the sites only gateways are called."""
    require_wireguard()
    said = played(lab_command("migrate", "--private-only"))
    assert re.search(r"^failed requests +ok +0 of [\d,]{5,}$", said, re.MULTILINE)
    assert re.search(r"^enforced: gateway +ok +ec2-gw-1, .*vpc-gw-2$", said, re.MULTILINE)
    assert re.search(r"^acknowledged orders that are lost +ok +0 of [\d,]{3,}$", said, re.MULTILINE)
    assert not lifecycle.anything_left(lab)


@pytest.mark.long
def test_a_fleet_moves_with_groups_from_its_first_day_to_its_last(
    lab: LabState, lab_command: Command
) -> None:
    """Each tier reaches what it needs all the while; a member that is in no group gets nowhere."""
    said = played(lab_command("migrate", "--groups"))
    assert re.search(r"^failed requests +ok +0 of [\d,]{5,}$", said, re.MULTILINE)
    assert re.search(r"^member_ports in force: database +ok +ec2-5, vpc-5$", said, re.MULTILINE)
    outside = r"^times that a member outside of the groups got in +ok +0 in [\d,]{4,} tries"
    assert re.search(outside, said, re.MULTILINE)
    assert re.search(r"^acknowledged orders that are lost +ok +0 of [\d,]{3,}$", said, re.MULTILINE)
    assert not lifecycle.anything_left(lab)


@pytest.mark.long
def test_troubles_cost_no_more_than_is_excused(lab: LabState, lab_command: Command) -> None:
    """Agents, leaders and proxies die for nothing; a flushed ruleset is back within 2 s."""
    said = played(lab_command("migrate", "--chaos", "--seed", "7"))
    overcome = re.search(r"^troubles that were overcome +ok +(\d+)$", said, re.MULTILINE)
    assert overcome is not None
    assert int(overcome[1]) > 8
    assert not lifecycle.anything_left(lab)


def test_an_interrupted_migration_leaves_nothing(lab: LabState, lab_command: Command) -> None:
    need_zookeeper()
    with started_in_front(lab_command("migrate"), stdout=subprocess.PIPE, bufsize=1) as story:
        assert story.stdout is not None
        for line in story.stdout:
            if line.startswith("4. "):
                break
        story.send_signal(signal.SIGINT)
        rest = story.stdout.read()
        assert code_as_shells_tell(story) == 130, rest
    assert not lifecycle.anything_left(lab)


def test_a_seed_alone_is_refused(lab_command: Command) -> None:
    done = subprocess.run(
        lab_command("migrate", "--seed", "1"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "--seed works only with --chaos" in done.stderr

"""A real agent beside others that are cloned, junk, or gone all at once."""

import shutil
import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from drills.fleet import Fleet, generated
from tests.support.agent_process import AgentProcess
from tests.support.yard import Yard, codes, overlays, wait

from neti.model import Member, entry

pytestmark = pytest.mark.kernel


@pytest.mark.parametrize("private", ["10.0.0.77", "10.0.0.1"], ids=["elsewhere", "same address"])
def test_a_clone_is_named_and_spares_the_peers(yard: Yard, private: str) -> None:
    """The same id and a copy of the state: one of the two is the host, the other says what is
    wrong, and a peer is not told again and again."""
    one, peer = yard.agent(1), yard.agent(2)
    yard.start(one, peer)
    wait((one.state / "session.json").exists)
    clone = yard.agent(1, "clone", private=private)
    shutil.copytree(one.state, clone.state, ignore=lambda *_: ["agent.sock", "agent.lock"])
    applies, changes = peer.ask("status")["applies"], yard.changes()
    clone.start()
    both = (one, clone)
    wait(lambda: any("clone" in codes(each) for each in both))
    wait(lambda: sum(each.ask("status")["registered"] for each in both) == 1)
    _for_two_seconds(both)
    assert peer.ask("status")["applies"] - applies <= 4
    assert yard.changes() - changes <= 12
    # Whoever has lost the id says so at once, or, where the holder may still be this very host
    # before a restart, after the time of two sessions.
    wait(lambda: ["clone" in codes(each) for each in both].count(True) == 1)
    assert [each.ask("status")["registered"] for each in both].count(True) == 1
    assert codes(peer) == set()


def _for_two_seconds(agents: tuple[AgentProcess, ...]) -> None:
    """In which nobody's being registered changes, twice as they fought a hundred times a second."""
    before = [each.ask("status")["registered"] for each in agents]
    until = time.monotonic() + 2
    while time.monotonic() < until:
        assert [each.ask("status")["registered"] for each in agents] == before
        time.sleep(0.05)


def test_thousands_of_entries_of_one_id_hold_nobody_up(yard: Yard) -> None:
    agent = yard.agent(1)
    yard.start(agent)
    joiner = Fleet(yard.registry())
    victim = joiner.join(generated(0))
    wait(lambda: str(victim.overlay) in overlays(agent))
    used = agent.cpu_seconds()
    for step in range(100):
        junk = [
            entry.encode(replace(victim, private=IPv4Address("10.0.64.0") + step * 20 + number))
            for number in range(20)
        ]
        with yard.store() as store:
            store.executemany("INSERT INTO names VALUES (?, 0, x'')", [(each,) for each in junk])
            store.executemany(
                "INSERT INTO changes (kind, subject) VALUES ('+', ?)", [(each,) for each in junk]
            )
        assert agent.ask("status")["registered"]
    joined = str(joiner.join(generated(1)).overlay)
    wait(lambda: joined in overlays(agent))
    assert str(victim.overlay) in overlays(agent)
    assert agent.cpu_seconds() - used < 6  # of a processor: 1, and 12 if each settles all of them
    assert len(agent.log.read_text().splitlines()) < 1_000


def test_a_site_that_vanishes_does_not_hold_back_anothers_goodbye(yard: Yard) -> None:
    agent = yard.agent(1)
    yard.start(agent)
    real, fake = Fleet(yard.registry()), Fleet(fakes := yard.registry())
    stays, goes = (real.join(generated(number)) for number in (1, 2))
    for number in range(50):
        fake.join(_of_other_site(number))
    wait(lambda: len(overlays(agent)) == 53)
    fakes.close()
    wait(lambda: agent.ask("status")["members"]["lost"] + agent.ask("status")["members"]["held"])
    real.leave(goes.id)
    wait(lambda: str(goes.overlay) not in overlays(agent))
    assert str(stays.overlay) in overlays(agent)
    assert len(overlays(agent)) == 52  # whoever only vanished is let in meanwhile


def _of_other_site(number: int) -> Member:
    return Member(
        id=f"fake-{number}",
        site="vpc",
        private=IPv4Network("10.1.0.0/16")[number + 1],
        public=IPv4Address("54.9.0.1") + number,
        overlay=IPv4Address("192.168.0.1"),  # until it has its lease
    )


# The wall clock of a process whose Python finds this: moved by what the file says.
_SET_CLOCK = """
import time
_true = time.time
def _set():
    with open({path!r}) as file:
        return _true() + float(file.read() or 0)
time.time = _set
"""


def test_a_step_of_the_wall_clock_keeps_and_removes_nobody(yard: Yard, tmp_path: Path) -> None:
    """A lost member lingers as long as it does, whoever sets the clock."""
    linger = 12
    agent = yard.agent(1, linger_seconds=linger)
    step, site = tmp_path / "step", tmp_path / "site"
    step.write_text("0")
    site.mkdir()
    (site / "sitecustomize.py").write_text(_SET_CLOCK.format(path=str(step)))
    yard.start(agent, around=["env", f"PYTHONPATH={site}"])
    others, lost = Fleet(yard.registry()), Fleet(away := yard.registry())
    for number in range(1, 5):
        others.join(generated(number))
    overlay = str(lost.join(generated(9)).overlay)
    wait(lambda: len(overlays(agent)) == 6)
    began = time.monotonic()
    away.close()
    wait(lambda: agent.ask("status")["members"]["lost"] == 1)
    step.write_text("900")
    joined = str(others.join(generated(5)).overlay)
    wait(lambda: joined in overlays(agent))  # a turn of the loop, at the other time
    if time.monotonic() - began < linger:
        assert overlay in overlays(agent)
        assert 0 <= agent.ask("status")["lost"][0]["seconds"] <= linger
    step.write_text(str(-86_400))
    wait(lambda: overlay not in overlays(agent), 3 * linger)
    assert time.monotonic() - began >= linger - 1

"""A host that encrypts registers with its public key, and keeps its private one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.agents import Box, World, world

from neti.dataplane.wireguard.keys import new_key, public_half
from neti.model import Encrypt
from neti.registry.memory import MemoryRegistry
from neti.state.folder import KEY_FILE


@pytest.fixture(name="there")
def _there(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def encrypting(there: World, *sites: str) -> None:
    there.sites = {
        name: replace(site, encrypt=Encrypt.PREFER if name in sites else Encrypt.OFF)
        for name, site in there.sites.items()
    }


def said(box: Box) -> str:
    """The key in the host's record."""
    registry = MemoryRegistry(box.world.server)
    record = registry.records([box.host.id])[box.host.id].record
    registry.close()
    assert record is not None
    return record.key


def test_a_host_whose_site_encrypts_nothing_has_no_key(there: World) -> None:
    box = there.started(1)
    assert said(box) == ""
    assert not (box.settings.table_files_path / KEY_FILE).exists()


def test_a_key_that_cannot_be_used_is_no_problem_where_none_is_needed(there: World) -> None:
    """Where one is, another one is made, which mends the file."""
    box = there.started(1)
    box.stop()
    (box.settings.table_files_path / KEY_FILE).write_text("torn")
    box.start()
    there.settle()
    assert "state" not in box.problems()


@pytest.mark.parametrize("site", ["ec2", "vpc"])
def test_a_host_registers_with_its_key_if_either_site_encrypts(there: World, site: str) -> None:
    encrypting(there, "vpc")
    box = there.started(1, site)
    held = box.running.core.out.folder.private_key()
    assert held is not None
    assert said(box) == str(public_half(held))


def test_a_restart_keeps_the_key_and_the_entry(there: World) -> None:
    encrypting(there, "ec2")
    box = there.started(1)
    before, entry = said(box), box.running.registration.entry
    box.stop()
    box.start()
    there.settle()
    assert said(box) == before
    assert box.running.registration.entry == entry


def test_a_host_that_was_registered_without_a_key_registers_anew_with_one(there: World) -> None:
    box = there.started(1)
    box.stop()
    encrypting(there, "ec2")
    box.settings = replace(box.settings, sites=there.sites)
    box.start()
    there.settle()
    assert said(box) == box.running.core.own_key.text != ""


def test_a_reload_that_turns_encryption_on_and_off_tells_peers(there: World) -> None:
    box = there.started(1)
    without = box.settings
    encrypting(there, "ec2")
    box.new_settings = replace(without, sites=there.sites)
    box.ask("reload")
    assert said(box) == box.running.core.own_key.text != ""
    entry = box.running.registration.entry
    there.pass_time(700)
    assert box.running.registration.entry == entry
    box.new_settings = without
    box.ask("reload")
    assert said(box) == ""


def test_one_registration_at_a_time(there: World) -> None:
    """The second would take the first one's entry for another host's, and leave it behind."""
    box = there.started(1)
    agent, timers = box.running, box.running.core.timers
    agent.registration._underway += 1
    asked = agent.registration._asked
    encrypting(there, "ec2")
    box.new_settings = replace(box.settings, sites=there.sites)
    box.ask("reload")
    assert agent.registration._asked == asked
    assert said(box) == ""
    agent.registration.job_ended()
    assert "register" in timers.due
    there.settle()
    assert said(box) == agent.core.own_key.text != ""
    assert "impostor" not in box.problems()


def test_a_host_whose_key_another_holds_makes_a_new_one(there: World) -> None:
    encrypting(there, "ec2")
    keys = [new_key(), new_key()]
    there.server._keys[str(public_half(keys[0]))] = "somebody"
    box = there.box(1)
    box.new_key = iter(keys).__next__
    box.start()
    there.settle()
    assert "key_taken" in box.problems()
    there.pass_time(1.0)
    assert said(box) == str(public_half(keys[1]))
    assert box.running.core.out.folder.private_key() == keys[1]
    there.pass_time(1800)
    assert "key_taken" in box.problems()
    there.pass_time(1801)
    assert "key_taken" not in box.problems()


def test_a_tree_without_a_place_for_keys_gets_no_entry_after_another(there: World) -> None:
    encrypting(there, "ec2")
    box = there.started(1)
    held = there.server._records[box.host.id]
    there.server._records[box.host.id] = replace(held, record=replace(held.record, key=""))
    entry = box.running.registration.entry
    box.running.registration.register()
    there.settle()
    there.pass_time(700)
    assert box.running.registration.entry == entry

"""Encryption between sites is required on trial first, and the kernel alone can end it."""

import json
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network, ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from tests.support.agents import Box, World, world

from neti.agent.config_read import ConfigRead
from neti.agent.in_the_clear import look
from neti.cli.preview import lines
from neti.cli.status import _status_lines
from neti.model import Encrypt, Site
from neti.model.document import plain
from neti.model.settings import OpenPort, RegistryTLS
from neti.monitoring.preview import Preview, preview_of
from neti.monitoring.status import Removed
from neti.registry.detail import decode
from neti.registry.memory import MemoryRegistry
from neti.ruleset.enforce import PERMANENT
from neti.stage.in_the_clear import TCP, UDP, Tracked
from neti.stage.preview import opened_by
from neti.stage.shadow import Sighting
from neti.stage.stages import Trial, begun, enforcement, unconfirmed
from neti.state.folder import StateFolder
from neti.state.records import record_of

TLS = RegistryTLS(ca=Path("/ca"), cert=Path("/cert"), key=Path("/key"))
ON = b"on 2026-11-27T12:00:00Z"
BOTH = {"ipv4", "ipv6"}
TRIAL: dict[str, Any] = {"boot": "b", "deadline": 60.0, "began": 0.0, "seconds": 60}


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


def asking(fleet: World, encrypt: Encrypt) -> dict[str, Any]:
    """Sites of which vpc asks for that."""
    return {"sites": {**fleet.sites, "vpc": replace(fleet.sites["vpc"], encrypt=encrypt)}}


def started(fleet: World, *, tls: bool = True, strict: bool = True, **changes: Any) -> Box:
    changes = {**asking(fleet, Encrypt.REQUIRE), **changes}
    box = fleet.started(1, **changes, registry_tls=TLS if tls else None)
    if strict:
        MemoryRegistry(fleet.server).change_setting("strict", ON)
        fleet.settle()
    return box


def require(box: Box) -> dict[str, int | None]:
    return dict(box.dataplane.read().require or {})


def requires(box: Box) -> bool:
    return box.running.core.stage.requires


def enforced(fleet: World, **changes: Any) -> Box:
    """Both are confirmed."""
    box = started(fleet, **changes)
    assert box.ask("enforce", wait=True, seconds=60)["result"]["of"] == ["reject_all", "encryption"]
    assert box.ask("confirm")["result"]["requires"]
    assert requires(box)
    return box


def again(fleet: World, box: Box) -> None:
    box.stop()
    box.start()
    fleet.settle()


def reload(box: Box, **changes: Any) -> None:
    box.new_settings = replace(box.running.core.settings, **changes)
    box.ask("reload")


def test_the_configuration_alone_puts_nothing_in_force(fleet: World) -> None:
    box = started(fleet)
    assert require(box) == {}
    assert not requires(box)
    assert box.dataplane.read().require is not None


@pytest.mark.parametrize(("tls", "strict", "word"), [(0, 0, "registry_tls"), (1, 0, "strict")])
def test_keys_that_anybody_may_replace_are_no_keys(
    fleet: World, tls: int, strict: int, word: str
) -> None:
    box = started(fleet, tls=bool(tls), strict=bool(strict))
    said = box.ask("enforce", anyway=True)
    assert word in said["error"]
    assert require(box) == {}
    assert box.status()["stage"] == "shadow"


def test_in_shadow_both_are_on_trial_together(fleet: World) -> None:
    box = started(fleet)
    box.ask("enforce", wait=True, seconds=60)
    assert require(box).keys() == BOTH
    assert not requires(box)
    told = box.told()
    assert told.trial is not None
    assert told.trial.of == ("reject_all", "encryption")
    assert "of reject_all and encryption" in "\n".join(_status_lines(told))
    assert told.encryption is not None
    assert told.encryption.on_trial
    document = decode(box.running.registration.describing.documents()[1])
    assert document.encryption == "trial"
    box.dataplane.expire()
    fleet.pass_time(61)
    assert box.status()["stage"] == "shadow"
    assert require(box) == {}
    assert not requires(box)
    told = box.told()
    assert told.encryption is not None
    assert not told.encryption.on_trial
    assert told.trial is not None
    assert told.trial.of == ("reject_all", "encryption")
    assert "reject_all and required encryption" in box.problems()["trial_expired"]


def test_a_trial_without_it_that_stands_in_the_way_is_said_to_be_without_it(
    fleet: World,
) -> None:
    """Or somebody would confirm that one and take it for both."""
    box = started(fleet, **asking(fleet, Encrypt.PREFER))
    box.ask("enforce", seconds=300)
    reload(box, **asking(fleet, Encrypt.REQUIRE))
    said = box.ask("enforce", seconds=60)["error"]
    assert "not one of encryption" in said
    assert "then neti enforce again" in said
    assert require(box) == {}
    box.ask("relax")
    box.ask("enforce", seconds=300)
    assert "encryption" not in box.ask("enforce", seconds=60)["error"]


def test_an_enforced_host_stays_so_whatever_becomes_of_the_trial(fleet: World) -> None:
    box = started(fleet, sites=fleet.sites)
    box.ask("enforce", wait=True)
    box.ask("confirm")
    reload(box, **asking(fleet, Encrypt.REQUIRE))
    for _ in range(2):
        assert box.ask("enforce", wait=True, seconds=60)["result"]["of"] == ["encryption"]
        state = box.dataplane.read()
        assert state.armed_for_good
        assert state.requires
        assert not state.requires_for_good
        told = box.told()
        assert told.stage == "enforced"
        assert "enforced, on trial of encryption" in "\n".join(_status_lines(told))
        box.dataplane.expire()
        fleet.pass_time(61)
        assert box.dataplane.read().armed_for_good
        assert require(box) == {}
        assert not requires(box)
        assert "trial of required encryption" in box.problems()["trial_expired"]
    box.ask("enforce", wait=True, seconds=60)
    assert box.ask("confirm")["result"]["requires"]
    assert require(box) == {"ipv4": None, "ipv6": None}
    assert requires(box)
    assert "trial_expired" not in box.problems()
    assert "already" in box.ask("enforce")["result"]["said"]


def test_in_force_it_outlasts_restarts_and_down(fleet: World) -> None:
    box = enforced(fleet)
    again(fleet, box)
    assert requires(box)
    box.ask("down")
    assert box.dataplane.read().require is None
    box.ask("up")
    assert requires(box)
    assert require(box) == {"ipv4": None, "ipv6": None}
    fleet.boot = "boot-2"
    box.dataplane.table = None
    again(fleet, box)
    assert requires(box)
    assert require(box) == {"ipv4": None, "ipv6": None}


@pytest.mark.parametrize("killed", ["before the kernel", "in the trial", "after the kernel"])
def test_killed_on_the_way(fleet: World, killed: str) -> None:
    box = started(fleet)
    box.ask("enforce", wait=True, seconds=60)
    if killed == "before the kernel":
        box.dataplane.expire()
    elif killed == "after the kernel":
        core = box.running.core
        core.out.reconciler.confirm_trial(core.members.elements)
    again(fleet, box)
    assert requires(box) is (killed == "after the kernel")
    assert (require(box).keys() == BOTH) is (killed != "before the kernel")
    assert (
        box.status()["stage"]
        == {
            "before the kernel": "shadow",
            "in the trial": "trial",
            "after the kernel": "enforced",
        }[killed]
    )


@pytest.mark.parametrize("alone", [True, False])
def test_a_reboot_ends_a_trial(fleet: World, alone: bool) -> None:
    box = started(fleet, sites=fleet.sites) if alone else started(fleet)
    if alone:
        box.ask("enforce", wait=True)
        box.ask("confirm")
        reload(box, **asking(fleet, Encrypt.REQUIRE))
        box.settings = box.running.core.settings
    box.ask("enforce", wait=True, seconds=60)
    fleet.boot, box.dataplane.table = "boot-2", None
    again(fleet, box)
    assert not requires(box)
    assert require(box) == {}
    assert box.status()["stage"] == ("enforced" if alone else "shadow")


def test_a_site_that_is_gone_from_the_file_ends_it_as_well(fleet: World) -> None:
    box = enforced(fleet)
    sites = {name: site for name, site in fleet.sites.items() if name != "vpc"}
    box.new_settings = replace(box.running.core.settings, sites=sites)
    assert "that requires it too refuses this one at once" in box.ask("reload")["error"]
    assert requires(box)


def test_no_device_is_critical_where_encryption_is_required(fleet: World) -> None:
    box = enforced(fleet)
    box.tunnel.road.module = False
    box.tunnel.road.vanish()
    box.running.kernel.look_at_network()
    fleet.pass_time(1.0)
    assert "encryption_device" in box.problems()
    assert "encryption_missing" not in box.problems()


@pytest.mark.parametrize("encrypt", [Encrypt.PREFER, Encrypt.OFF])
def test_a_configuration_that_does_not_ask_for_it_ends_it(fleet: World, encrypt: Encrypt) -> None:
    """And one that asks again puts nothing in force."""
    box = enforced(fleet)
    box.new_settings = replace(box.running.core.settings, **asking(fleet, encrypt))
    answer = box.ask("reload")
    if encrypt is Encrypt.OFF:
        assert "each host of vpc that requires it too refuses this one at once" in answer["error"]
        assert "require, require-unable, partly and trial nowhere; then off" in answer["error"]
        assert requires(box)
        answer = box.ask("reload", anyway=True)
    assert answer["result"]["encryption_ended"] is (encrypt is Encrypt.OFF)
    assert answer["result"]["require_waits"] == []
    assert not requires(box)
    assert not require(box)
    assert box.dataplane.read().armed_for_good
    reload(box, **asking(fleet, Encrypt.REQUIRE))
    assert not requires(box)
    assert not require(box)


def test_the_same_of_a_trial(fleet: World) -> None:
    """Of both: it goes on without it. Of it alone: it is over, and nothing is wrong."""
    box = started(fleet)
    box.ask("enforce", wait=True, seconds=60)
    reload(box, **asking(fleet, Encrypt.PREFER))
    assert not require(box)
    assert box.status()["stage"] == "trial"
    box.ask("confirm")
    assert not requires(box)
    reload(box, **asking(fleet, Encrypt.REQUIRE))
    box.ask("enforce", wait=True, seconds=60)
    assert require(box).keys() == BOTH
    reload(box, **asking(fleet, Encrypt.PREFER))
    assert not require(box)
    told = box.told()
    assert (told.stage, told.trial) == ("enforced", None)
    assert "trial_expired" not in box.problems()


def test_relax_ends_both(fleet: World) -> None:
    box = enforced(fleet)
    assert box.ask("relax")["result"]["requires"]
    assert box.status()["stage"] == "shadow"
    assert require(box) == {}
    assert not requires(box)
    box.ask("enforce", wait=True)
    assert require(box).keys() == BOTH


def test_what_the_kernel_holds_for_good_counts_where_the_record_is_lost(fleet: World) -> None:
    box = enforced(fleet)
    box.stop()
    for name in ("stage.json", "stage.json.copy"):
        (box.settings.table_files_path / name).unlink()
    box.start()
    fleet.settle()
    assert requires(box)


def test_another_program_that_takes_it_out_is_repaired(fleet: World) -> None:
    box = enforced(fleet)
    assert box.dataplane.table is not None
    box.dataplane.table.require.clear()
    fleet.pass_time(700)
    assert require(box) == {"ipv4": None, "ipv6": None}


def test_one_site_more_is_not_required_without_a_trial(fleet: World) -> None:
    box = enforced(fleet)

    def sites(encrypt: Encrypt) -> dict[str, Site]:
        known = box.running.core.settings.sites
        return {**known, "other": Site(name="other", encrypt=encrypt)}

    def told() -> str:
        return box.running.core.settings.sites["other"].encrypt.value

    reload(box, sites=sites(Encrypt.PREFER))
    assert told() == "prefer"
    reload(box, sites=sites(Encrypt.REQUIRE))
    assert told() == "prefer"
    assert "other" in box.problems()["reload"]
    box.ask("reload", anyway=True)
    assert told() == "require"
    assert requires(box)


def test_of_three_sites_one_is_required_first_and_stays_so_while_the_next_is_refused(
    fleet: World,
) -> None:
    """The file alone says which: its trial leaves the other site as it was. There is none of the
    next one: it is put in force by --anyway, or by a start of the agent."""
    far = replace(fleet.sites["vpc"], name="far", encrypt=Encrypt.PREFER)
    vpc = replace(fleet.sites["vpc"], encrypt=Encrypt.REQUIRE)
    fleet.sites = {**fleet.sites, "vpc": vpc, "far": far}
    box = started(fleet)
    near, next_one = (fleet.started(n, s, registry_tls=TLS) for n, s in ((2, "vpc"), (3, "far")))

    def refused() -> set[str]:
        return set(box.elements("clear4"))

    def road(to: Box) -> str:
        members = box.running.core.members
        return members.road_of(members.fleet.members[to.host.id]).value

    box.ask("enforce", wait=True, seconds=60, anyway=True)
    assert refused() == {str(near.host.public)}
    assert {road(near), road(next_one)} <= {"trying", "preferred"}
    assert box.ask("confirm")["result"]["requires"]
    fleet.pass_time(1.0)
    assert (road(near), refused()) == ("required", {str(near.host.public)})
    assert road(next_one) in ("trying", "preferred")

    both = {**fleet.sites, "far": replace(far, encrypt=Encrypt.REQUIRE)}
    reload(box, sites=both)
    fleet.pass_time(1.0)
    assert "far" in box.problems()["reload"]
    assert require(box) == {"ipv4": None, "ipv6": None}
    assert (road(near), refused()) == ("required", {str(near.host.public)})
    assert road(next_one) in ("trying", "preferred")

    box.settings = replace(box.settings, sites=both)
    again(fleet, box)
    fleet.pass_time(1.0)
    assert require(box) == {"ipv4": None, "ipv6": None}
    assert (road(near), road(next_one)) == ("required", "required")
    assert refused() == {str(near.host.public), str(next_one.host.public)}


def test_what_goes_in_the_clear_to_one_site_more_is_said_before_it_is_required(
    fleet: World,
) -> None:
    """Because there is no trial of it: the operator decides by this."""
    vpc = replace(fleet.sites["vpc"], encrypt=Encrypt.PREFER)
    sites = {**fleet.sites, "vpc": vpc, "other": Site(name="other", encrypt=Encrypt.REQUIRE)}
    box = enforced(fleet, sites=sites)
    required = {**sites, "vpc": replace(vpc, encrypt=Encrypt.REQUIRE)}
    reload(box, sites=required)
    assert "would be refused: nothing" in box.problems()["reload"]
    fleet.started(2, "vpc", registry_tls=TLS)
    real, me = ip_address("203.0.113.2"), box.host.private
    clear = Tracked(protocol=TCP, source=me, to=real, answers=real, port=5432)
    box.connections.tracked = [clear, replace(clear, port=22)]
    reload(box, sites=required)
    said = box.problems()["reload"]
    assert "1 member without a key (vpc-2)" in said
    assert "1 connection by real addresses" in said
    assert box.connections.tracked == [clear, replace(clear, port=22)]


# --- what is on disk ---


def test_another_version_leaves_an_enforced_host_enforced(fleet: World) -> None:
    """One that does not know of this reads the rest; a record of one that did not is read; and what
    the next one writes beside it is passed over."""
    box = enforced(fleet)
    folder = StateFolder(box.settings.table_files_path)
    written = folder.load("this machine").record
    assert written is not None
    assert written.requires
    plainly = plain(written)
    assert record_of({**plainly, "next": {"requires": 2}}) == written
    older = {key: value for key, value in plainly.items() if key != "requires"}
    assert record_of(older) == replace(written, requires=False)
    on_trial = plain(begun(replace(written, requires=False), Trial(**TRIAL, require=True)))
    for key in ("require", "losing"):
        del on_trial["trial"][key]
    read = record_of(on_trial)
    assert read.trial == Trial(**TRIAL)
    # What the version before made of a trial on a host that is confirmed:
    assert enforcement(read, monotonic=0.0).permanent
    assert enforcement(unconfirmed(read, ("restarted",), 0.0), monotonic=0.0) == PERMANENT


# --- what still goes in the clear ---


def keyless(fleet: World) -> Box:
    """With a member of the other site, which has no key."""
    box = started(fleet)
    fleet.started(2, "vpc", registry_tls=TLS)
    return box


def test_nothing_is_begun_while_somebody_would_be_cut_off(fleet: World) -> None:
    """Unless that is accepted. The evidence goes by it too."""
    box = keyless(fleet)
    said = box.ask("enforce", seconds=60)["error"]
    assert "1 member without a key (vpc-2)" in said
    assert "--anyway" in said
    box.ask("enforce", seconds=60, anyway=True)
    fleet.pass_time(50)
    assert requires(box)
    findings = {one.what: one for one in box.told().evidence}
    assert findings["encryption"].holds
    assert "accepted as lost" in findings["encryption"].sentence


def test_without_a_device_members_are_not_said_to_be_silent(fleet: World) -> None:
    core = started(fleet).running.core
    core.problems.set("encryption_missing", "there is none")
    found = look(core)
    assert found is not None
    assert "this host has no WireGuard device that works" in "; ".join(found.words())
    assert "not answered" not in "; ".join(found.words())


def test_a_host_that_encrypts_nothing_is_told_that_others_do(fleet: World) -> None:
    """Of members that require it, it hears nothing: that they refuse it leaves no trace here."""
    box = started(fleet, sites=fleet.sites)
    assert "encryption_one_sided" not in box.problems()
    with_key = {**asking(fleet, Encrypt.PREFER), "registry_tls": TLS}
    fleet.started(2, site="vpc", **with_key)
    fleet.settle()
    assert "1 member has a WireGuard key" in box.problems()["encryption_one_sided"]
    assert "encryption_comes" not in box.problems()
    reload(box, **asking(fleet, Encrypt.PREFER))
    assert "encryption_one_sided" not in box.problems()


def test_a_host_whose_turn_has_not_come_is_told_that_as_a_note(fleet: World) -> None:
    """Keys that come under its eyes are a roll-out of a day. Back is no roll-out."""
    box = started(fleet, sites=fleet.sites)
    fleet.pass_time(60)
    fleet.started(2, site="vpc", **asking(fleet, Encrypt.PREFER), registry_tls=TLS)
    fleet.settle()
    assert "1 member has a WireGuard key" in box.problems()["encryption_comes"]
    assert "encryption_one_sided" not in box.problems()
    fleet.pass_time(86_400)
    assert "encryption_comes" not in box.problems()
    assert "encryption_one_sided" in box.problems()
    reload(box, **asking(fleet, Encrypt.PREFER))
    reload(box, sites=fleet.sites)
    assert "encryption_one_sided" in box.problems()
    again(fleet, box)
    assert "encryption_one_sided" in box.problems()


def test_who_enforces_by_a_file_that_was_not_read_is_told(fleet: World, tmp_path: Path) -> None:
    """Both where a trial begins and where there is nothing left to begin."""
    box = started(fleet)
    path = tmp_path / "edited.yml"
    path.write_text("a: 1\n")
    box.running.core.out.config_read = ConfigRead(path, b"a: 2\n")
    assert "neti reload, then" in box.ask("enforce", wait=True)["result"]["unread"]
    box.ask("confirm")
    assert "has not been read since" in box.ask("enforce")["result"]["unread"]
    box.running.core.out.config_read = ConfigRead(path, b"a: 1\n")
    assert "unread" not in box.ask("enforce")["result"]


def test_required_encryption_without_strict_is_a_problem(fleet: World) -> None:
    """Turned off later, nothing else would tell that keys prove nothing any more."""
    box = enforced(fleet)
    assert "encryption_not_strict" not in box.problems()
    registry = MemoryRegistry(fleet.server)
    registry.change_setting("strict", b"off 2026-11-27T13:00:00Z")
    fleet.settle()
    assert requires(box)
    assert "neti registry strict on" in box.problems()["encryption_not_strict"]
    registry.change_setting("strict", ON)
    fleet.settle()
    assert "encryption_not_strict" not in box.problems()


def told_of_encryption(box: Box) -> str:
    return decode(box.running.registration.describing.documents()[1]).encryption


def test_a_gate_of_the_fleet_does_not_wait_for_encryption_whose_turn_has_not_come(
    fleet: World,
) -> None:
    """A fleet may begin with "require" in its files: it is enforced last of all."""
    box = started(fleet)
    assert "encryption_not_in_effect" in box.problems()
    told = decode(box.running.registration.describing.documents()[1])
    assert "encryption_not_in_effect" not in (told.problems or ())
    assert told.encryption == "prefer"


def test_the_registry_hears_of_required_encryption_only_where_it_is_in_force(fleet: World) -> None:
    """Rules that let the other site in are taken away by this word."""
    box = enforced(fleet)
    others = fleet.sites.keys() - {box.running.core.host.site, "vpc"}
    assert not others, "another site would be reached in the clear"
    assert told_of_encryption(box) == "require"
    told = decode(box.running.registration.describing.documents()[1])
    assert told.tunnel_port == box.running.core.settings.tunnel_port
    box.ask("down")
    assert told_of_encryption(box) == "require-unable"
    box.ask("up")
    assert told_of_encryption(box) == "require"
    reload(box, **asking(fleet, Encrypt.PREFER))
    assert told_of_encryption(box) == "prefer"
    reload(box, **asking(fleet, Encrypt.REQUIRE))
    assert told_of_encryption(box) == "prefer"


@pytest.mark.parametrize("start", ["confirmed", "trial", "prefer"])
def test_the_registry_hears_who_requires_it_without_a_device(fleet: World, start: str) -> None:
    """It refuses others all the same, who must know that before they say 'off'."""
    box = enforced(fleet) if start == "confirmed" else started(fleet)
    if start == "trial":
        box.ask("enforce", wait=True)
        assert told_of_encryption(box) == "trial"
    box.running.core.problems.set("encryption_device", "it is gone")
    assert told_of_encryption(box) == ("unable" if start == "prefer" else "require-unable")


def test_the_registry_hears_that_a_relaxed_host_requires_nothing(fleet: World) -> None:
    box = enforced(fleet)
    box.ask("relax")
    assert told_of_encryption(box) == "prefer"


def test_who_requires_it_with_one_site_of_two_says_partly(fleet: World) -> None:
    third = Site(name="gcp", private=(IPv4Network("10.99.0.0/16"),))
    box = enforced(fleet, sites={**asking(fleet, Encrypt.REQUIRE)["sites"], "gcp": third})
    assert told_of_encryption(box) == "partly"


def test_while_down_no_member_is_counted_as_reached(fleet: World) -> None:
    box = started(fleet)
    box.ask("down")
    fleet.pass_time(1)
    said = [line for line in _status_lines(box.told()) if "encrypt" in line.split(" ")[0]]
    assert said == ["encrypted by nothing: Neti is down on this host"]


def test_addresses_of_present_members_are_not_called_former(fleet: World) -> None:
    """Where encryption is required, members' real addresses are among them."""
    told = replace(started(fleet).told(), removed=Removed(count=1, addresses=("10.0.0.9",)))
    (line,) = [line for line in _status_lines(told) if line.startswith("removed")]
    assert "former" not in line
    assert "10.0.0.9" in line


def test_the_tunnels_own_port_is_never_one_to_open(fleet: World) -> None:
    """A file that had it among open_ports would be refused."""
    settings = started(fleet).running.core.settings
    port = OpenPort(first=51820, last=51820, proto="udp")
    assert port in opened_by(settings)
    assert port not in opened_by(replace(settings, **asking(fleet, Encrypt.OFF)))


def test_what_is_refused_in_the_trial_keeps_it_from_being_confirmed(fleet: World) -> None:
    box = started(fleet)
    box.ask("enforce", seconds=60)
    box.dataplane.counted["clear_new"] = 3
    fleet.pass_time(50)
    told = box.told()
    assert told.trial is not None
    assert any("3 packets of new connections" in why for why in told.trial.why)
    box.dataplane.expire()
    fleet.pass_time(11)
    assert not requires(box)


def test_what_strangers_are_refused_is_no_evidence_where_ports_are_shut_already(
    fleet: World,
) -> None:
    """A trial of encryption alone shuts no port, so nothing that the record of refused packets
    says about ports speaks against it."""
    box = started(fleet, sites=fleet.sites)
    box.ask("enforce", wait=True)
    box.ask("confirm")
    reload(box, **asking(fleet, Encrypt.REQUIRE))
    box.shadow.uses, box.shadow.full = ("9100/tcp (1 source)",), "the record is full"
    box.shadow.used = {("tcp", 9100): "9100/tcp (1 source)"}
    assert box.ask("enforce", seconds=60)["result"]["of"] == ["encryption"]
    fleet.pass_time(50)
    assert requires(box)


def test_the_preview_lists_connections_that_would_be_refused(fleet: World) -> None:
    """By what the operator has to look for: an older one, a real address, IPv6."""
    box = keyless(fleet)
    shown = answered(box)
    assert shown.clear is not None
    assert shown.clear.keyless_ids == ("vpc-2",)
    assert shown.clear.counts == {}
    real, me = ip_address("203.0.113.2"), box.host.private
    overlay = box.running.core.members.fleet.members["vpc-2"].overlay
    base = Tracked(protocol=TCP, source=me, to=real, answers=real, source_port=40000, port=5432)
    box.connections.tracked = [
        base,
        replace(base, to=overlay),
        replace(base, port=22),
        replace(base, protocol=UDP, port=51820),
        replace(base, protocol=1),
        replace(base, to=overlay, answers=overlay),  # through the tunnel
        replace(base, source=real, to=me, answers=me, port=81),
        replace(base, source=real, to=me, answers=me, port=80),
    ]
    reload(box, open_ports=(OpenPort(80, 80, "tcp"),))
    shown = answered(box)
    assert shown.clear is not None
    assert shown.clear.counts == {"real": 2, "overlay": 1}
    text = "\n".join(lines(shown))
    assert f"10.0.0.1 to {overlay} port 5432/tcp: member vpc-2" in text
    assert "1 connection to overlay addresses, which began in the clear" in text
    reload(box, trusted=(ip_network("203.0.113.0/24"),))
    shown = answered(box)
    assert shown.clear is not None
    assert shown.clear.counts == {}
    reload(box, **asking(fleet, Encrypt.PREFER))
    assert answered(box).clear is None


def test_what_the_file_lets_through_in_the_clear_is_said_wherever_nothing_is_said_to_go(
    fleet: World,
) -> None:
    """By both keys; not a network that holds no member, nor what is let in of the own site."""
    box = keyless(fleet)
    fleet.started(3, "ec2", registry_tls=TLS)

    def said() -> tuple[list[str], list[str]]:
        told = [line.strip() for line in (*_status_lines(box.told()), *lines(answered(box)))]
        found = [line for line in told if line.startswith("may go in the clear")]
        half = len(found) // 2
        return found[:half], found[half:]

    assert said() == ([], [])
    member, other = ip_network("203.0.113.2/32"), ip_network("192.0.2.0/24")
    reload(
        box,
        trusted=(other, ip_network("203.0.113.0/24"), ip_network("10.0.0.0/8"), ip_network("::/0")),
        open_ports=(
            OpenPort(443, 443, "tcp"),
            OpenPort(8000, 8080, "udp", (other, member)),
            OpenPort(9, 9, "tcp", (other,)),
        ),
    )
    expected = [
        "may go in the clear by trusted: 203.0.113.0/24 (1 member)",
        "may go in the clear by open_ports: 443/tcp (everybody), 8000-8080/udp (1 member)",
    ]
    assert said() == (expected, expected)
    reload(box, **asking(fleet, Encrypt.PREFER))
    assert said() == ([], [])


def test_leftovers_of_programs_that_have_ended_are_waited_for(fleet: World) -> None:
    """There is nothing to end then, and nobody to restart."""
    box = keyless(fleet)
    real, me = ip_address("203.0.113.2"), box.host.private
    held = Tracked(protocol=TCP, source=me, to=real, answers=real, port=5432)
    box.connections.tracked = [held]
    assert "wait" not in box.ask("enforce", wait=True)["error"]
    box.connections.tracked = [held, replace(held, source_port=4000, passing=True)]
    words = "1 of these connections is not established"
    said = box.ask("enforce", wait=True)["error"]
    assert f"→ {words}" in said
    assert "wait two minutes" in said
    assert words in "\n".join(lines(answered(box)))


def test_what_goes_in_the_clear_ends_when_it_is_confirmed_and_not_before(fleet: World) -> None:
    box = keyless(fleet)
    real, me = ip_address("203.0.113.2"), box.host.private
    clear = Tracked(protocol=TCP, source=me, to=real, answers=real, port=5432)
    ssh = replace(clear, port=22)
    box.connections.tracked = [clear, ssh]
    box.ask("enforce", wait=True, seconds=60, anyway=True)
    assert box.connections.tracked == [clear, ssh]
    box.ask("confirm")
    assert box.connections.tracked == [ssh]


def test_who_came_from_a_public_address_of_the_own_site_is_named_and_only_udp_ends(
    fleet: World,
) -> None:
    """New connections from there are a stranger's. Only TCP is certain to have been answered."""
    box = started(fleet)
    fleet.started(3, "ec2", registry_tls=TLS)
    outside, me = ip_address("198.51.100.3"), box.host.private
    came = Tracked(protocol=TCP, source=outside, to=me, answers=me, source_port=40000, port=5432)
    udp = replace(came, protocol=UDP)
    asked = replace(came, source=me, to=outside, answers=outside)
    opened = replace(udp, port=80)
    box.connections.tracked = [came, udp, asked, opened]
    reload(box, open_ports=(OpenPort(80, 80, "udp"),))
    shown = answered(box)
    assert shown.clear is not None
    assert shown.clear.counts == {"outside": 2}
    assert "member ec2-3" in "\n".join(lines(shown))
    box.ask("enforce", wait=True, seconds=60, anyway=True)
    box.ask("confirm")
    assert box.connections.tracked == [came, asked, opened]


def test_what_a_member_sends_in_the_clear_is_named_as_that_and_not_offered(fleet: World) -> None:
    """It came by Neti's own port for 'neti verify', for one."""
    box = enforced(fleet)
    fleet.started(2, "vpc", registry_tls=TLS, **asking(fleet, Encrypt.REQUIRE))
    box.dataplane.seen = [Sighting(ip_address("203.0.113.2"), "tcp", 7077, 20, 0.0)]
    fleet.pass_time(61)
    (port,) = answered(box, all=True).ports
    assert (port.top[0].member, port.top[0].refused) == ("vpc-2", "clear")
    assert port.open_ports is None


def answered(box: Box, **arguments: Any) -> Preview:
    return preview_of(json.loads(json.dumps(box.ask("preview", **arguments)["result"])))

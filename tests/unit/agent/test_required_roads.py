"""Where encryption is required and in force, nothing leads to a member in the clear, ever."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv6Address
from pathlib import Path

import pytest
from tests.support.agents import Box, World, world
from tests.unit.agent.test_roads import carry, kernel, key, overlay, peers, road, shake

from neti.model import Encrypt, Road
from neti.model.settings import RegistryTLS
from neti.registry.memory import MemoryRegistry
from neti.ruleset.objects import Transaction
from neti.state.folder import StateFolder

TLS = RegistryTLS(ca=Path("/ca"), cert=Path("/cert"), key=Path("/key"))


@pytest.fixture(name="there")
def _there(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        made.sites["vpc"] = replace(made.sites["vpc"], encrypt=Encrypt.REQUIRE)
        MemoryRegistry(made.server).change_setting("strict", b"on 2026-11-27T12:00:00Z")
        yield made


def requiring(there: World) -> Box:
    box = there.started(1, registry_tls=TLS)
    box.ask("enforce", wait=True, seconds=60)
    box.ask("confirm")
    there.pass_time(1.0)
    assert box.running.core.members.requires
    return box


def watched(box: Box, member: Box) -> list[str]:
    """What of the member was in the kernel in the clear after any transaction from now on."""
    seen: list[str] = []
    real: Callable[[Transaction], None] = box.dataplane.apply

    def applied(transaction: Transaction) -> None:
        real(transaction)
        held = box.dataplane.read().elements
        member_address = str(member.host.public)
        seen.extend(w for w in ("peers4",) if member_address in held.get(w, {}))
        core = member.agent.core if member.agent is not None else None
        if core is not None and str(core.members.overlay) in held.get("overlay", {}):
            seen.append("overlay")

    box.dataplane.apply = applied  # type: ignore[method-assign]
    return seen


def test_a_member_with_a_key_is_reached_through_the_tunnel_only(there: World) -> None:
    first = requiring(there)
    second = there.box(2, "vpc", registry_tls=TLS)
    seen = watched(first, second)
    second.start()
    there.pass_time(1.0)
    assert road(first, second) is Road.REQUIRED
    assert kernel(first, second) == {"tunneled", "tunnel_peers"}
    assert seen == []


def test_one_that_is_trying_when_it_comes_into_force_is_required_then(there: World) -> None:
    first = there.started(1, registry_tls=TLS)
    second = there.started(2, "vpc", registry_tls=TLS)
    there.pass_time(1.0)
    assert road(first, second) is Road.TRYING
    first.ask("enforce", wait=True, seconds=60, anyway=True)
    there.pass_time(1.0)
    assert road(first, second) is Road.TRYING
    first.ask("confirm", anyway=True)
    there.pass_time(1.0)
    assert first.running.core.members.requires
    assert kernel(first, second) == {"tunneled", "tunnel_peers"}


def test_a_member_without_a_key_is_not_reached_at_all(there: World) -> None:
    first = requiring(there)
    sites = {name: replace(site, encrypt=Encrypt.OFF) for name, site in there.sites.items()}
    second = there.started(2, "vpc", registry_tls=TLS, sites=sites)
    there.pass_time(1.0)
    assert second.host.id in first.running.core.members.fleet.members
    assert kernel(first, second) == set()
    assert str(second.host.public) not in first.elements("peers4")


def test_an_address_of_the_own_site_that_the_other_site_claims_is_named(there: World) -> None:
    first = requiring(there)
    shared = IPv6Address("2001:db8::5")
    near = there.box(2)
    near.host = replace(near.host, more=(shared,))
    near.start()
    there.pass_time(61)
    assert "address_contested" not in first.problems()
    far = there.box(3, "vpc", registry_tls=TLS)
    far.host = replace(far.host, more=(shared,))
    far.start()
    there.pass_time(1.0)
    there.pass_time(61)
    said = first.problems()["address_contested"]
    assert f"{shared} of {near.host.id}, by {far.host.id}" in said
    assert str(shared) in first.elements("clear6")
    first.tunnel.road.module = False  # the claim shuts, whatever the device does
    first.tunnel.road.vanish()
    first.running.kernel.look_at_network()
    far.ask("leave")
    there.pass_time(1.0)
    there.pass_time(61)
    assert "address_contested" not in first.problems()


def test_a_claim_is_not_named_while_nothing_is_refused(there: World) -> None:
    first = there.started(1, registry_tls=TLS)
    for number, site in ((2, "ec2"), (3, "vpc")):
        box = there.box(number, site, registry_tls=TLS)
        box.host = replace(box.host, more=(IPv6Address("2001:db8::5"),))
        box.start()
    there.pass_time(1.0)
    there.pass_time(61)
    assert "2001:db8::5" in first.elements("clear6")
    assert "address_contested" not in first.problems()


def test_without_a_device_nobody_is_reached_and_nothing_goes_in_the_clear(there: World) -> None:
    first = requiring(there)
    second = there.started(2, "vpc", registry_tls=TLS)
    there.pass_time(1.0)
    shake(there, first, second)
    seen = watched(first, second)
    first.tunnel.road.module = False
    first.tunnel.road.vanish()
    first.running.kernel.look_at_network()
    there.pass_time(1.0)
    assert kernel(first, second) == set()
    first.tunnel.road.start()
    there.pass_time(60)
    assert kernel(first, second) == {"tunneled", "tunnel_peers"}
    assert list(peers(first)) == [key(second)]
    assert seen == []


def test_one_that_does_not_answer_is_named_and_stays_required(there: World) -> None:
    first = requiring(there)
    second = there.started(2, "vpc", registry_tls=TLS)
    there.pass_time(1.0)
    assert "encryption_silent" not in first.problems()
    for _ in range(10):
        there.pass_time(10)
    assert "open UDP port 51820 between the sites" in first.problems()["encryption_silent"]
    assert kernel(first, second) == {"tunneled", "tunnel_peers"}
    shown = first.told().encryption
    assert shown is not None
    assert [one.id for one in shown.unheard] == [second.host.id]
    shake(there, first, second)
    there.pass_time(60)
    assert "encryption_silent" not in first.problems()


def test_one_that_stops_answering_is_named_within_thirty_seconds_of_traffic(there: World) -> None:
    """Its session is not over by then, and it keeps its road. Who is sent nothing is not missed,
    and an empty packet asks for no answer."""
    first = requiring(there)
    second = there.started(2, "vpc", registry_tls=TLS)
    there.pass_time(1.0)
    shake(there, first, second)
    to = key(second)
    carry(first, to, 60, there, sent=96, received=32)
    first.tunnel.wireguard.carry(to, sent=64)
    carry(first, to, 40, there)
    assert "encryption_silent" not in first.problems()
    carry(first, to, 15, there, sent=96)
    assert "encryption_silent" not in first.problems()
    carry(first, to, 15, there, sent=96)
    assert "encryption_silent" in first.problems()
    assert kernel(first, second) == {"tunneled", "tunnel_peers"}
    carry(first, to, 6, there, sent=96, received=32)
    assert "encryption_silent" not in first.problems()


def test_who_is_lost_is_not_called_silent(there: World) -> None:
    """It does not answer anywhere."""
    first = requiring(there)
    second = there.started(2, "vpc", registry_tls=TLS)
    there.pass_time(1.0)
    shake(there, first, second)
    session = StateFolder(second.settings.table_files_path).load("this machine").session
    assert session is not None
    to = key(second)
    second.stop()
    there.server.expire(session)
    carry(first, to, 60, there, sent=96)
    assert second.host.id in first.running.core.members.fleet.lost
    assert "encryption_silent" not in first.problems()


def test_relaxed_it_is_preferred_again(there: World) -> None:
    first = requiring(there)
    second = there.started(2, "vpc", registry_tls=TLS)
    there.pass_time(1.0)
    shake(there, first, second)
    first.ask("relax")
    there.pass_time(1.0)
    assert road(first, second) is Road.PREFERRED
    assert overlay(second) in first.elements("overlay")


def test_a_restart_shows_nothing_in_the_clear(there: World) -> None:
    first = requiring(there)
    second = there.started(2, "vpc", registry_tls=TLS)
    there.pass_time(1.0)
    shake(there, first, second)
    seen = watched(first, second)
    first.stop()
    first.start()
    there.pass_time(1.0)
    assert kernel(first, second) == {"tunneled", "tunnel_peers"}
    assert seen == []

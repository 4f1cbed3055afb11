"""An agent that is killed between two steps of device and table leaves nothing in the clear that
must not be, and its next run puts all of it right."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.agents import Box, World, world
from tests.unit.agent.test_required_roads import TLS, watched
from tests.unit.agent.test_roads import kernel, key, overlay, peers, road, shake

from neti.dataplane.memory import MemoryDataplane
from neti.dataplane.wireguard.memory import MemoryRoad, MemoryWireGuard
from neti.model import Encrypt, Road
from neti.registry.memory import MemoryRegistry

# What changes device, road and table.
STEPS = (
    (MemoryDataplane, "apply"),
    (MemoryWireGuard, "apply"),
    (MemoryWireGuard, "configure"),
    (MemoryRoad, "make_link"),
    (MemoryRoad, "set_link"),
    (MemoryRoad, "set_rule"),
    (MemoryRoad, "set_route"),
    (MemoryRoad, "delete_link"),
)


class Killed(BaseException):
    pass


@pytest.fixture(name="there")
def _there(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        MemoryRegistry(made.server).change_setting("strict", b"on 2026-11-27T12:00:00Z")
        yield made


def killed_at(monkeypatch: pytest.MonkeyPatch, box: Box, step: int, *, after: bool) -> None:
    """At the step of this number, before or after it is done."""
    done: list[str] = []
    parts = (box.dataplane, box.tunnel.wireguard, box.tunnel.road)

    def wrap(real: Callable[..., Any], name: str) -> Callable[..., Any]:
        def wrapped(self: object, *words: Any) -> Any:
            if self not in parts:
                return real(self, *words)
            done.append(name)
            if len(done) == step and not after:
                raise Killed
            result = real(self, *words)
            if len(done) == step:
                raise Killed
            return result

        return wrapped

    for kind, name in STEPS:
        monkeypatch.setattr(kind, name, wrap(getattr(kind, name), name))


def happens(there: World, first: Box, second: Box) -> None:
    """All of a member's life, and the road turned off and on."""
    second.start()
    there.pass_time(1.0)
    shake(there, first, second)
    second.running.core.own_key.another()
    second.running.core.soon("register")
    there.pass_time(1.0)
    shake(there, first, second)
    first.tunnel.road.vanish()
    first.running.kernel.look_at_network()
    there.pass_time(1.0)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(1, 12))
@pytest.mark.parametrize("encrypt", [Encrypt.PREFER, Encrypt.REQUIRE])
def test_whatever_was_done_the_next_run_puts_it_right(
    there: World, monkeypatch: pytest.MonkeyPatch, encrypt: Encrypt, step: int, after: bool
) -> None:
    there.sites["vpc"] = replace(there.sites["vpc"], encrypt=encrypt)
    first = there.started(1, registry_tls=TLS)
    if encrypt is Encrypt.REQUIRE:
        first.ask("enforce", wait=True, seconds=60)
        first.ask("confirm")
        there.pass_time(1.0)
    second = there.box(2, "vpc", registry_tls=TLS)
    with monkeypatch.context() as patched:
        killed_at(patched, first, step, after=after)
        seen = watched(first, second) if encrypt is Encrypt.REQUIRE else []
        with pytest.raises(Killed):
            happens(there, first, second)
        first.stop()
    if first.agent is None:
        first.start()
    if second.agent is None:
        second.start()
    there.pass_time(1.0)
    there.pass_time(1.0)  # what was not proved is asked for
    shake(there, first, second)
    there.pass_time(60.0)
    assert peers(first) == {key(second): (overlay(second),)}
    if encrypt is Encrypt.REQUIRE:
        assert road(first, second) is Road.REQUIRED
        assert kernel(first, second) == {"tunneled", "tunnel_peers"}
        assert seen == []
    else:
        assert road(first, second) is Road.PREFERRED
        assert kernel(first, second) == {"overlay", "tunneled", "tunnel_peers"}

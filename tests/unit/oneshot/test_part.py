"""A part of the fleet, as ``neti top --site`` and ``--where`` show it."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

from tests.unit.oneshot.test_registered import OVERLAY, member, settings

from neti.fleet.needs import hangs, unknown
from neti.fleet.selecting import Choice
from neti.model import entry
from neti.oneshot.part import part_of
from neti.oneshot.watched import Watched
from neti.registry.detail import Document, encode
from neti.registry.memory import MemoryRegistry, MemoryServer


def _nobody(*_: object) -> None:
    raise AssertionError("the registry answers")


def test_a_part_has_its_own_hosts_and_needs_and_counts_who_says_no_labels(tmp_path: Path) -> None:
    server = MemoryServer()
    hosts = (("a", "ec2", "db"), ("b", "ec2", "web"), ("c", "vpc", "db"))
    held = []  # as long as their sessions last, they are registered
    for number, (host_id, site, tier) in enumerate(hosts):
        registry = MemoryRegistry(server)
        held.append(registry)
        overlay = registry.acquire(host_id, OVERLAY)
        one = member(host_id, number + 1, int(overlay) - int(OVERLAY.network_address), site)
        said = encode(Document(stage="down", labels={"tier": tier}))
        registry.register(host_id=host_id, name=entry.encode(one), data=b"", detail=said)
    MemoryRegistry(server).acquire("lost", OVERLAY)
    watched = Watched(settings(tmp_path), lambda _: nullcontext(MemoryRegistry(server)), _nobody)
    whole = watched.look()
    assert watched.seen is not None
    assert {*whole.cells} == {"a", "b", "c", "lost"}

    def part(choice: Choice) -> tuple[set[str], list[tuple[str, int]], int]:
        assert watched.seen is not None
        found, unsaid = part_of(whole, watched.seen, choice)
        return {*found.cells}, [(one.code, one.count) for one in found.needs], unsaid

    assert part(Choice(site="ec2")) == ({"a", "b", "lost"}, [("down", 2), ("missing", 1)], 0)
    assert part(Choice(where=(("tier", "db"),))) == ({"a", "c"}, [("down", 2)], 1)
    assert part(Choice(site="vpc", where=(("tier", "db"),))) == ({"c"}, [("down", 1)], 1)
    assert part_of(whole, watched.seen, Choice(site="vpc"))[0].sites[0] == "vpc"
    nothing, _ = part_of(whole, watched.seen, Choice(where=(("tier", "dp"),)))
    (need,) = nothing.needs  # and not that the fleet is new
    assert need.what == "no host has tier=dp. Hosts have label tier: db, web"
    hung = replace(whole, needs=(unknown("nobody hears"), hangs("the agent hangs"), *whole.needs))
    codes = [one.code for one in part_of(hung, watched.seen, Choice(site="vpc"))[0].needs]
    assert codes == ["unknown", "own_agent", "down", "missing"]


def test_who_is_registered_and_says_no_labels_is_counted_as_left_out(tmp_path: Path) -> None:
    server = MemoryServer()
    registry = MemoryRegistry(server)
    overlay = registry.acquire("a", OVERLAY)
    one = member("a", 1, int(overlay) - int(OVERLAY.network_address), "ec2")
    registry.register(host_id="a", name=entry.encode(one), data=b"", detail=b"{}")
    watched = Watched(settings(tmp_path), lambda _: nullcontext(MemoryRegistry(server)), _nobody)
    whole = watched.look()
    assert watched.seen is not None
    assert part_of(whole, watched.seen, Choice(where=(("tier", "db"),)))[1] == 1
    assert part_of(whole, watched.seen, Choice(site="vpc", where=(("tier", "db"),)))[1] == 0

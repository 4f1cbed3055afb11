"""Another program flushes, deletes, adds and edits, in every way: all of it is repaired in time."""

import time
from ipaddress import ip_address
from typing import Final

from drills import others
from drills.drill import DrillError, Row, Rows, Run
from drills.field import Field
from drills.fleet import Fleet, generated
from drills.host import FieldHost
from drills.plan import OVERLAY, PEER6
from drills.vandal import OPENED, Damage, all_kinds
from drills.waiting import wait_for
from neti.ruleset.objects import ORDERED, TIMED

TITLE = "flush, delete, edit by another program: repaired within 2 s"

_LIMIT: Final = 2.0
_PATIENCE: Final = 6.0
_POLL: Final = 0.01
_QUIET: Final = 0.3  # so that what is left of one repair is not taken for the next one
_OPEN: Final = 86_400  # seconds for which the drill opens a port
_EACH_SHORT: Final = 3  # damages of a kind in the short form

Picture = dict[str, object]


def run(drill: Run) -> Rows:
    with Field(drill, hosts=2) as field:
        host = field.hosts[0]
        host.configure(reject_all=True)
        field.start()
        _people(host, Fleet(field.open_registry()))
        host.wait_until_enforced()
        _opened(host)
        host.agent.wait_until_idle()
        slowest = (0.0, "none")
        for kind, damages in all_kinds(host).items():
            chance = drill.chance(kind)
            some = chance.sample(damages, min(len(damages), _EACH_SHORT))
            late, longest = [], 0.0
            for damage in drill.of(full=damages, short=some):
                drill.say(f"{kind}: {damage.what}")
                seconds, found = _repaired(host, damage)
                if found or seconds > _LIMIT:
                    late.append(f"{damage.what}: {found or f'{seconds:.2f} s'}")
                else:
                    longest = max(longest, seconds)
                    slowest = max(slowest, (seconds, damage.what))
            count = len(drill.of(full=damages, short=some))
            figure = f"{count - len(late)} of {count} kinds, slowest {longest:.2f} s"
            yield Row(kind, "; ".join([figure, *late]), not late)
        yield Row("slowest repair", f"{slowest[0]:.2f} s ({slowest[1]})", slowest[0] <= _LIMIT)


def _people(host: FieldHost, fleet: Fleet) -> None:
    """One peer with an IPv6 address, and sources that were removed just before."""
    for number, address in ((1, PEER6), (2, ip_address("fd00:5::31"))):
        fleet.join(generated(number, more=(address,)))
    wait_for(lambda: len(host.sets()["peers6"]) == 3, "the members do not come to the host")
    fleet.leave(generated(2).id)
    wait_for(
        lambda: bool(host.read().timed["revoked6"]), "who left is not among the removed sources"
    )


def _opened(host: FieldHost) -> None:
    """A port is open for a time, to an address and to a network."""
    sources = ("--from", "203.0.113.9", "--from", "2001:db8:9::/64")
    done = host.neti("open", "5432", *sources, "--for", "1d")
    if done.returncode != 0:
        raise DrillError(f"neti open: {done.stderr}")


def _repaired(host: FieldHost, damage: Damage) -> tuple[float, str]:
    """Seconds from the damage to all being as before, and what is still wrong after patience."""
    host.at_peace()
    before, repairs = _picture(host), _repairs(host)
    damage.inflict(host)
    began = time.monotonic()
    damaged = _picture(host)
    elsewhere = others.look(host.namespace)
    # A repair may be quicker than a look; then the agent's count of repairs shows the damage.
    unharmed = damaged == before and time.monotonic() - began < _QUIET
    if unharmed and _repairs(host) == repairs:
        raise DrillError(f"{damage.what!r} damaged nothing on {host.name}")
    repaired = _with(before, damage.leaves)
    while (now := _picture(host)) != repaired:
        if time.monotonic() - began > _PATIENCE:
            return _PATIENCE, f"not repaired: {_difference(repaired, now)}"
        time.sleep(_POLL)
    seconds = time.monotonic() - began
    time.sleep(_QUIET)
    collateral = others.differences(elsewhere, others.look(host.namespace))
    return seconds, f"the repair changed {collateral[0]}" if collateral else ""


def _repairs(host: FieldHost) -> int:
    return int(host.status()["drift"]["repairs"])


def _picture(host: FieldHost) -> Picture:
    """All that is Neti's in the kernel, but for the record of what was seen and the time left. Of
    what is open for a time, whether anything has more than was said."""
    kernel = host.read()
    picture: Picture = {"structure": kernel.structure}
    picture |= {where: dict(kernel.elements.get(where, {})) for where in ORDERED}
    picture["enforce"] = dict(kernel.enforce)
    picture |= {where: set(kernel.timed.get(where, {})) for where in (*TIMED, *OPENED)}
    most = [max(kernel.timed.get(where, {}).values(), default=0) for where in OPENED]
    picture["longer"] = max(most) > _OPEN
    picture["route"] = host.ip("route", "show", str(OVERLAY)).strip()
    return picture


def _with(picture: Picture, left: tuple[str, str] | None) -> Picture:
    if left is None:
        return picture
    where, key = left
    held = picture[where]
    assert isinstance(held, set)
    return {**picture, where: held | {key}}


def _difference(before: Picture, now: Picture) -> str:
    for part, was in before.items():
        if now[part] != was:
            return f"{part} was {_short(was)}, is {_short(now[part])}"
    return "nothing any more"


def _short(what: object) -> str:
    text = " ".join(str(what).split())
    return text if len(text) <= 60 else f"{text[:57]}…"

"""``neti lab demo --encrypt``: from traffic in the clear to traffic that is all encrypted.

On the internet between the sites a sniffer reads along. First it has to show that it can read what
is said in the clear; then what it finds counts.

Must never do: call something encrypted that the sniffer was not there to hear.
"""

import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from typing import Any, Final

from neti.model import Encrypt
from neti.ruleset.objects import FAMILY_TABLE
from neti_lab import LabError, agents, namespaces, registries, scenes, wireguard
from neti_lab.marks import MARKS
from neti_lab.play import Play, wait_for
from neti_lab.probe import Datagrams, Reply
from neti_lab.report import roads
from neti_lab.sniffer import CLEAR, TUNNEL, Sighting, Sniffer
from neti_lab.stage import Stage
from neti_lab.state import LabState
from neti_lab.topology import INTERNET, TUNNEL_PORT, LabHost, LabPlan
from neti_lab.traffic import ask_from, each

_SPAN_SECONDS: Final = 2.0  # of traffic
_CHANGE_SECONDS: Final = 60.0
_TRIAL: Final = ("--trial", "120", "--wait-for-confirm", "--no-follow", "--anyway")
_TALKERS: Final = 4  # hosts of a site that talk; with more, they would measure the machine
_SHORT_SECONDS: Final = 0.5
_ADDRESS: Final = re.compile(r"\d+\.\d+\.\d+\.\d+")
_TCP: Final = {
    "requests": "failed TCP requests",
    "stream": "failed on long TCP connections",
    "transfers": "failed long answers",
}


def perform(play: Play) -> None:
    with _sniffing(play.plan) as ear:
        _perform(play, ear)


def sniff(state: LabState, seconds: float) -> list[str]:
    """In a lab that is up: what is read while its hosts talk."""
    namespaces.require()
    plan = state.plan()
    with closing(registries.open_registry(plan, state)) as registry:
        overlays = {host_id: str(overlay) for overlay, host_id in registry.leases().items()}
    hosts = [host for host in plan.hosts if host.name in overlays]
    play = Play(plan=plan, state=state, stage=Stage(), opened=None, hosts=hosts, overlays=overlays)
    with _sniffing(plan) as ear:
        _talk(play, lambda: time.sleep(seconds))
        return roads(plan, ear.look())


@contextmanager
def _sniffing(plan: LabPlan) -> Iterator[Sniffer]:
    sites = {site.name: [site.public] for site in plan.sites}
    with Sniffer(plan.namespace(INTERNET), sites, port=TUNNEL_PORT) as ear:
        ear.wait_until_ready()
        yield ear


def _perform(play: Play, ear: Sniffer) -> None:
    stage = play.stage
    with stage.scene("Agents start, nothing is encrypted"):
        _configure(play, Encrypt.OFF)
        scenes.agents_start(play)
    with stage.scene("In the clear: what a sniffer reads"):
        _in_the_clear(play, ear)
    with stage.scene("encrypt: prefer, while traffic goes on"):
        _prefer(play)
    with stage.scene("Everybody encrypts"):
        _everybody(play, ear)
    with stage.scene("encrypt: require, on trial and confirmed, while traffic goes on"):
        _require(play, ear)
    with stage.scene("Nothing falls back to the clear"):
        _no_way_back(play, ear)


# --- the scenes ---


def _in_the_clear(play: Play, ear: Sniffer) -> None:
    """All that is said is read: what the sniffer misses later is not there."""
    ear.look()
    results = _talk(play, lambda: time.sleep(_SPAN_SECONDS))
    seen = _show(play, ear)
    found = seen.between_sites(CLEAR).marked
    play.stage.find(
        "in the clear: the sniffer reads every kind of word",
        found.keys() == MARKS.keys() and not seen.dropped,
        ", ".join(f"{name} {found.get(name, 0)}" for name in MARKS),
    )
    asked = sum(result["datagrams"]["requests"] for result in results)
    play.stage.find(
        "in the clear: datagrams asked, and read by the sniffer",
        found.get("UDP asked", 0) == asked,
        f"{asked}, and {found.get('UDP asked', 0)}",
    )


def _prefer(play: Play) -> None:
    wireguard.start(play.plan, play.hosts, state=play.state)

    def change() -> None:
        _reload(play, Encrypt.PREFER)
        seconds = wait_for(
            lambda: all(_prefers(play, host) for host in play.hosts),
            "not every host sends by WireGuard to every host of the other site",
            seconds=_CHANGE_SECONDS,
        )
        play.stage.say(
            f"'encrypt: prefer' on every host, SIGHUP; all encrypt after {seconds:.1f} s"
        )
        time.sleep(_SPAN_SECONDS)

    _count(play, "prefer comes on", _talk(play, change))
    status = agents.neti(play.plan, play.hosts[0], "status", state=play.state)
    lines = status.stdout.splitlines()
    for line in (line for line in lines if "encrypted" in line or "handshake" in line):
        play.stage.say(line)


def _everybody(play: Play, ear: Sniffer) -> None:
    """Whoever began in the clear has ended; what begins now is encrypted."""
    play.stage.say(
        "a connection stays on the road on which it began: all hosts' programs dial anew"
    )
    ear.look()
    results = _talk(play, lambda: time.sleep(_SPAN_SECONDS))
    seen = _show(play, ear)
    _unread(play, "prefer", seen)
    _count(play, "prefer", results)


def _require(play: Play, ear: Sniffer) -> None:
    def change() -> None:
        _reload(play, Encrypt.REQUIRE)
        began = time.monotonic()
        _say_everywhere(play, "enforce", *_TRIAL)
        time.sleep(_SPAN_SECONDS)
        _say_everywhere(play, "confirm")
        wait_for(
            lambda: all(_requires(play, host) for host in play.hosts),
            "encryption is not required on every host",
            seconds=_CHANGE_SECONDS,
        )
        play.stage.say(f"required on every host, {time.monotonic() - began:.1f} s")
        time.sleep(_SPAN_SECONDS)

    ear.look()
    results = _talk(play, change)
    _count(play, "require comes on", results)
    seen = _show(play, ear)
    _unread(play, "require", seen)


def _say_everywhere(play: Play, *words: str) -> None:
    """``neti WORDS`` on every host; LabError with the last word of one that says no."""
    done = each(play.hosts, lambda host: agents.neti(play.plan, host, *words, state=play.state))
    for host, one in zip(play.hosts, done, strict=True):
        last = (one.stderr + one.stdout).strip().splitlines()[-1:]
        if one.returncode != 0:
            raise LabError(f"'neti {words[0]}' on {host.name}: {''.join(last)}")
    play.stage.say(f"$ neti {' '.join(words)}   (on every host)")


def _no_way_back(play: Play, ear: Sniffer) -> None:
    """By real address, and while WireGuard is away: refused, and never said in the clear."""
    caller, called = play.first_of("ec2"), play.first_of("vpc")
    ear.look()
    address, overlay = str(called.public), play.overlays[called.name]
    reached = _reaches(play, caller, address)
    play.stage.find(
        "require: reached by real address, past the overlay",
        not reached,
        f"{caller.name} to {address}: {'reached' if reached else 'refused'}",
    )
    agents.send(called, signal.SIGKILL, state=play.state)
    program = wireguard.program_of(called, state=play.state)
    if program is not None:
        program.signal(signal.SIGKILL)
    play.stage.say(f"the agent of {called.name} is killed with -9, and its WireGuard with it")
    if program is not None:
        away = [
            _reaches(play, *way)
            for way in ((caller, overlay), (called, play.overlays[caller.name]))
        ]
        play.stage.find(
            "require: reached while WireGuard is away", not any(away), f"{sum(away)} of {len(away)}"
        )
        wireguard.start(play.plan, [called], state=play.state)
    agents.start(play.plan, [called], state=play.state)
    seconds = wait_for(
        lambda: _reaches(play, caller, overlay),
        f"{caller.name} does not reach {called.name} again",
        seconds=_CHANGE_SECONDS,
    )
    play.stage.say(f"both are started again, and {called.name} is reached after {seconds:.1f} s")
    _count(play, "after it", _talk(play, lambda: time.sleep(_SPAN_SECONDS)))
    seen = _show(play, ear)
    _unread(play, "nothing falls back", seen)


# --- what they share ---


def _configure(play: Play, encrypt: Encrypt) -> None:
    for host in play.hosts:
        agents.write_configuration(play.plan, host, state=play.state, encrypt=encrypt)


def _reload(play: Play, encrypt: Encrypt) -> None:
    _configure(play, encrypt)
    for host in play.hosts:
        agents.reload(host, state=play.state)


def _talk(play: Play, meanwhile: Callable[[], None]) -> list[Mapping[str, Any]]:
    """What became of traffic of all kinds, across the sites and both ways, during all of it."""
    with play.probing(_talkers(play), "talk") as probes:
        meanwhile()
        return [probe.result() for probe in probes]


def _talkers(play: Play) -> list[tuple[LabHost, LabHost]]:
    by_site = [[host for host in play.hosts if host.site == site.name] for site in play.plan.sites]
    pairs = list(zip(*by_site, strict=False))[:_TALKERS]
    return [way for one, other in pairs for way in ((one, other), (other, one))]


def _show(play: Play, ear: Sniffer) -> Sighting:
    seen = ear.look()
    for line in roads(play.plan, seen):
        play.stage.say(line)
    return seen


def _unread(play: Play, when: str, seen: Sighting) -> None:
    encrypted = seen.between_sites(TUNNEL).packets
    play.stage.find(
        f"{when}: packets in which the sniffer reads a word",
        seen.marked == 0 and encrypted > 0 and not seen.dropped,
        f"{seen.marked}, and {encrypted:,} encrypted ones passed"
        + (f"; {seen.dropped} were NOT LOOKED AT" if seen.dropped else ""),
    )


def _count(play: Play, when: str, results: Sequence[Mapping[str, Any]]) -> None:
    for kind, what in _TCP.items():
        lost, of, errors = _sums(results, kind)
        play.stage.find(f"{when}: {what}", lost == 0 and of > 0, f"{lost} of {of}")
        for error in errors:
            play.stage.say(error)
    lost, of, _ = _sums(results, "datagrams")
    play.stage.say(f"datagrams without an answer: {lost} of {of}")


def _sums(results: Iterable[Mapping[str, Any]], kind: str) -> tuple[int, int, list[str]]:
    tallies = [result[kind] for result in results]
    errors = [error for tally in tallies for error in tally["errors"]]
    lost = sum(tally["failures"] for tally in tallies)
    return lost, sum(tally["requests"] for tally in tallies), errors


def _prefers(play: Play, host: LabHost) -> bool:
    """Whether its kernel sends what is new to all members of the other site by WireGuard."""
    agents.check_running([host], state=play.state)
    return _others(play, host) <= _in_kernel(play, host, "set", "tunneled")


def _requires(play: Play, host: LabHost) -> bool:
    """And knows no other way to them."""
    others = _others(play, host)
    return _prefers(play, host) and not others & _in_kernel(play, host, "map", "overlay")


def _others(play: Play, host: LabHost) -> set[str]:
    """The overlay addresses of all in the other site."""
    return {play.overlays[other.name] for other in play.hosts if other.site != host.site}


def _in_kernel(play: Play, host: LabHost, kind: str, name: str) -> set[str]:
    """The IPv4 addresses that are in this set of Neti's table."""
    # 1: the table does not have it.
    words = ["nft", "list", kind, *FAMILY_TABLE.split(), name]
    text = agents.checked(words, inside=play.plan.namespace(host.name), well=(0, 1))
    return set(_ADDRESS.findall(text))


def _reaches(play: Play, host: LabHost, address: str) -> bool:
    """By TCP, or by UDP."""
    reply = ask_from(play.plan, host.name, [address], seconds=_SHORT_SECONDS)[address]
    udp = namespaces.call_inside(play.plan.namespace(host.name), partial(_answers, address))
    return isinstance(reply, Reply) or udp


def _answers(address: str) -> bool:
    try:
        with closing(Datagrams(address, seconds=_SHORT_SECONDS)) as datagrams:
            datagrams.ask()
    except OSError:
        return False
    return True

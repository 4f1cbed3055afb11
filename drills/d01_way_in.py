"""The operator's SSH port, probed all the while, through everything that may happen to a host.

Alone, where SSH from the whitelist is kept out of connection tracking, with that table full too;
and beside rules of the host's own (nft, and iptables-legacy) that drop what they do not know.
"""

import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from drills import others, talk
from drills.drill import DrillError, Row, Rows, Run
from drills.field import Field, RegistryKind
from drills.fleet import Fleet, generated
from drills.flood import Flood
from drills.host import FieldHost
from drills.plan import MASQUERADE, OPEN_PORT, OPERATOR, OPERATOR6, STRANGER
from drills.traffic import Steps
from drills.waiting import wait_for

TITLE = "SSH from the whitelist, probed every 100 ms through everything"

_FILLED: Final = 10  # times
_SSH: Final = 22
_EVERY: Final = 0.1
_OWN_NFT: Final = f"""
table inet own {{
    chain input {{
        type filter hook input priority 0; policy drop;
        iif "lo" accept
        ct state established,related accept
        icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert }} accept
        ct state new tcp dport {_SSH} accept
    }}
}}
"""
_OWN_LEGACY: Final = (
    ("-A", "INPUT", "-i", "lo", "-j", "ACCEPT"),
    ("-A", "INPUT", "-m", "conntrack", "--ctstate", "ESTABLISHED,RELATED", "-j", "ACCEPT"),
    ("-A", "INPUT", "-m", "conntrack", "--ctstate", "NEW", "-p", "tcp", "--dport", str(_SSH),
     "-j", "ACCEPT"),
)  # fmt: skip


@dataclass(slots=True)
class Knocks:
    """What became of the attempts to get in, by family, and at which step one failed."""

    steps: Steps
    tried: dict[str, int] = field(default_factory=lambda: {"IPv4": 0, "IPv6": 0})
    failed: dict[str, list[str]] = field(default_factory=lambda: {"IPv4": [], "IPv6": []})
    session_died: dict[str, str] = field(default_factory=dict)


def run(drill: Run) -> Rows:
    pause = drill.of(full=3.0, short=0.3)
    everything = drill.of(full=True, short=False)
    with Field(drill, hosts=2, registry="zookeeper", others=MASQUERADE) as alone:
        yield from _through("alone", alone, pause, everything=True, full_table=True)
    for what, own_rules in {"nft": _own_nft, "iptables-legacy": _own_legacy}.items():
        kind: RegistryKind = "zookeeper" if everything else "embedded"
        with (
            Field(drill, hosts=2, registry=kind, others=MASQUERADE) as beside,
            own_rules(beside.hosts[0]),
        ):
            before = others.look(beside.hosts[0].namespace)
            where = f"beside {what}, policy drop"
            yield from _through(where, beside, pause, everything=everything)
            changed = others.differences(before, others.look(beside.hosts[0].namespace))
            yield Row(f"{where}: those rules", changed[0] if changed else "the same", not changed)


@contextmanager
def _own_nft(host: FieldHost) -> Iterator[None]:
    host.nft(_OWN_NFT)
    yield
    host.nft("delete table inet own")


@contextmanager
def _own_legacy(host: FieldHost) -> Iterator[None]:
    """The host's own rules of the old kind, both families."""
    programs = ("iptables-legacy", "ip6tables-legacy")
    for program in programs:
        if shutil.which(program) is None:
            raise DrillError(f"{program} is missing: apt-get install iptables")
        for rule in _OWN_LEGACY:
            _done(host, program, *rule)
    neighbours = ("-A", "INPUT", "-p", "ipv6-icmp", "-j", "ACCEPT")
    _done(host, "ip6tables-legacy", *neighbours)
    for program in programs:
        _done(host, program, "-P", "INPUT", "DROP")
    yield
    for program in programs:
        _done(host, program, "-P", "INPUT", "ACCEPT")
        _done(host, program, "-F")


def _done(host: FieldHost, *words: str) -> None:
    done = host.command(*words)
    if done.returncode != 0:
        raise DrillError(f"{' '.join(words)} on {host.name}: {done.stderr.strip()}")


def _through(
    where: str, field_: Field, pause: float, *, everything: bool, full_table: bool = False
) -> Rows:
    host = field_.hosts[0]
    host.configure(linger_seconds=1)
    field_.serve(host.namespace, port=_SSH)
    field_.serve(host.namespace, port=OPEN_PORT)
    steps = Steps()
    with _knocking(field_, host, steps) as knocks:
        for what, act in _steps(field_, host, everything=everything, full_table=full_table):
            steps.begin(what)
            act()
            time.sleep(pause)
    for family, tried in knocks.tried.items():
        failed = knocks.failed[family]
        figure = f"{len(failed)} of {tried} attempts failed"
        if failed:
            figure += f", first at: {failed[0]}"
        yield Row(f"{where}: {family}, new connections", figure, not failed and tried > 0)
        died = knocks.session_died.get(family)
        yield Row(
            f"{where}: {family}, one session all the while",
            f"died at: {died}" if died else "alive",
            died is None,
        )


@contextmanager
def _knocking(field_: Field, host: FieldHost, steps: Steps) -> Iterator[Knocks]:
    """By both families at once, until the end."""
    knocks, over = Knocks(steps), threading.Event()
    ways = {
        "IPv4": (host.plan.private, OPERATOR),
        "IPv6": (host.plan.private6, OPERATOR6),
    }

    def knock(family: str) -> None:
        to, source = ways[family]
        with talk.connection(field_.street, to, _SSH, source=source) as session:
            while not over.is_set():
                began = time.monotonic()
                knocks.tried[family] += 1
                if not talk.reaches(field_.street, to, _SSH, source=source):
                    knocks.failed[family].append(steps.at(began))
                if family not in knocks.session_died and not talk.alive(session):
                    knocks.session_died[family] = steps.at(began)
                over.wait(max(0.0, began + _EVERY - time.monotonic()))

    threads = [threading.Thread(target=knock, args=(family,)) for family in ways]
    for thread in threads:
        thread.start()
    try:
        yield knocks
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _steps(
    field_: Field, host: FieldHost, *, everything: bool, full_table: bool
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Everything that the operator must be able to rely on being let in through."""
    yield "before Neti", lambda: None
    yield "start", field_.start
    yield "enforce", lambda: _enforce(host)
    yield "kill -9 and start", lambda: _kill_and_start(host)
    yield "table deleted by another", lambda: _vandal(host)
    if everything:
        yield from _weather(field_, host)
    yield "relax", lambda: _word(host, "relax")
    yield "enforce again", lambda: _enforce(host)
    yield "zero members", lambda: _alone(field_)
    if full_table:
        yield "connection tracking full", lambda: _flooded(field_, host)
    yield "down", lambda: _word(host, "down")
    yield "up", lambda: _word(host, "up")


def _weather(field_: Field, host: FieldHost) -> Iterator[tuple[str, Callable[[], None]]]:
    yield "hostile entries", lambda: _hostile(field_)
    yield "stop and start", lambda: _stop_and_start(host)
    yield "bad configuration", lambda: _bad_configuration(host)
    yield "reload", lambda: host.reload(open_ports=[OPEN_PORT, 9])
    yield "ZooKeeper gone", field_.servers[0].kill
    yield "started without ZooKeeper", lambda: _restart_without_registry(host)
    yield "ZooKeeper back", field_.servers[0].start


def _hostile(field_: Field) -> None:
    """Claims on the operator's address, on the host's own, on everybody's."""
    registry = field_.open_registry()
    for number, name in enumerate(
        (
            "1.0a00004dffffffffc0a80001.0.ec2.evil-1",
            "1.0a00000bffffffffc0a80002.zz.ec2.evil-2",
            "1.7f00000100000000c0a80003.0.ec2.evil-3",
            "junk",
        )
    ):
        registry.register(host_id=f"evil-{number}", name=name, data=b"", detail=b"{}")


def _enforce(host: FieldHost) -> None:
    done = host.neti("enforce", "--trial", "5", "--anyway")
    if done.returncode != 0:
        raise DrillError(f"not enforced on {host.name}: {done.stdout}{done.stderr}")


def _word(host: FieldHost, word: str) -> None:
    done = host.neti(word)
    if done.returncode != 0:
        raise DrillError(f"neti {word} on {host.name}: {done.stderr.strip()}")


def _stop_and_start(host: FieldHost) -> None:
    host.agent.end()
    host.agent.start()
    host.wait_until_registered()


def _kill_and_start(host: FieldHost) -> None:
    host.agent.kill()
    host.agent.start()
    host.wait_until_registered()


def _bad_configuration(host: FieldHost) -> None:
    """Refused by a reload; a start goes by the last valid one. Both name it, and the rules stay."""
    good = host.config.read_text()
    host.config.write_text(good + "ssh_whitelst: []\n")
    host.agent.signal(signal.SIGHUP)
    wait_for(lambda: _refuses_its_file(host), "a bad configuration is not named by a reload")
    host.agent.kill()
    host.agent.start()
    host.wait_until_registered()
    if not _refuses_its_file(host):
        raise DrillError("a bad configuration is not named by a start")
    host.config.write_text(good)
    host.agent.signal(signal.SIGHUP)
    wait_for(lambda: not _refuses_its_file(host), "a configuration that is valid again is not read")


def _refuses_its_file(host: FieldHost) -> bool:
    return any(one["code"] == "reload" for one in host.status()["problems"])


def _vandal(host: FieldHost) -> None:
    host.nft("delete table inet neti")
    wait_for(lambda: host.read().structure is not None, "the table is not put back")


def _restart_without_registry(host: FieldHost) -> None:
    host.agent.kill()
    host.agent.start()
    wait_for(lambda: not host.status()["registry"]["fresh"], "the agent does not answer")


def _alone(field_: Field) -> None:
    """Everybody else leaves; the host is alone in its fleet."""
    fleet = Fleet(field_.open_registry())
    fleet.join(generated(1))
    fleet.leave(generated(1).id)
    field_.hosts[1].agent.leave()
    host = field_.hosts[0]
    wait_for(lambda: len(host.member_ids()) <= 1, "the others are still members")


def _flooded(field_: Field, host: FieldHost) -> None:
    """As full as this machine lets a namespace be; proved by a stranger who gets no answer from an
    open port, where he got one before."""
    if not talk.reaches(field_.street, host.plan.private, OPEN_PORT, source=STRANGER):
        raise DrillError(f"the open port of {host.name} is not reached")
    flood = host.inside(Flood)
    try:
        time.sleep(2)
        for _ in range(_FILLED):
            flood.fill()  # others' connections end all the time, and make room
            if not talk.reaches(field_.street, host.plan.private, OPEN_PORT, source=STRANGER):
                return
        raise DrillError(f"{flood.entries:,} connections do not fill the table of {host.name}")
    finally:
        flood.close()

"""One member lies, with a valid certificate and all its rights: nobody else feels it.

The registry has TLS, rights and admission, and agents are strict.
"""

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Final

from drills import attacker, felt, plan
from drills.attacker import Attacker, Session, Tried
from drills.certified import Operator
from drills.drill import DrillError, Rows, Run
from drills.felt import Figures
from drills.field import Field
from drills.fleet import LAYOUT
from drills.host import FieldHost
from drills.hostile import READS, Ground, goes_and_returns, of_itself
from drills.traffic import Steps, rows
from drills.waiting import wait_for
from neti.model import Member, entry
from neti.registry.record import HostRecord, encode

TITLE = "a hostile member with one valid certificate: nobody else feels it"

_ABSENT: Final = "absent"  # has a lease, and runs nowhere
_SESSION: Final = 3


@dataclass(frozen=True, slots=True)
class Act:
    """``forged``: agents are to name it; ``refused``: ZooKeeper is to let none of it be."""

    what: str
    do: Callable[[Session], Tried]
    forged: bool = False
    refused: bool = False
    reads: int = READS


def run(drill: Run) -> Rows:
    many = drill.of(full=4, short=2)
    with Field(
        drill, hosts=drill.of(full=6, short=4), registry="closed", further=(attacker.ID, _ABSENT)
    ) as field:
        h1, h2 = field.hosts[:2]
        field.serve(h1.namespace, h2.namespace)
        operator = Operator(field)
        absent = _lay_out(field, operator)
        for host in field.hosts:
            host.configure(session_seconds=_SESSION)
        field.start()
        operator.turns_strict_on(field.hosts)
        steps = Steps()
        with field.probing(h1.namespace, h2.overlay) as probe:
            drill.say("without the attacker")
            steps.begin("without the attacker")
            seconds = drill.of(full=20.0, short=1.0)
            alone = _alone(field, drill.of(full=60.0, short=3.0))
            ground = Ground(field, Attacker(field), absent, seconds, alone)
            for act in _acts(ground, many * 1000):
                drill.say(act.what)
                steps.begin(act.what)
                yield from _play(ground, act)
            steps.begin("its own entry")
            yield from of_itself(ground)
            steps.begin("a host that goes and returns")
            yield from goes_and_returns(ground, field.hosts[2])
            result = probe.result()
        yield from rows("all the while", result, steps)


def _lay_out(field: Field, operator: Operator) -> Member:
    """Rights, admission of all, and a lease for the host that is absent."""
    operator.says("registry", "init")
    ids = [*(host.name for host in field.hosts), attacker.ID, _ABSENT]
    operator.says("registry", "admit", *ids, "--subject", "CN={id},OU=hosts", "--yes")
    operator.says("registry", "admission", "on")
    with Attacker(field, f"host-{_ABSENT}").registry() as registry:
        overlay = registry.acquire(_ABSENT, plan.OVERLAY)
    return Member(
        id=_ABSENT, site="ec2", private=IPv4Address("10.0.0.99"), public=None, overlay=overlay
    )


def _alone(field: Field, seconds: float) -> Figures:
    before = felt.look(field, field.hosts)
    time.sleep(seconds)
    return felt.look(field, field.hosts).since(before)


# --- what leaves everything as it is ---


def _acts(ground: Ground, many: int) -> Sequence[Act]:
    """Entries are looked up when an act is played: a host may have another by then."""
    h1, h2, h3 = ground.field.hosts[:3]
    one, two, three = map(attacker.of, (h1, h2, h3))
    elsewhere = replace(one, overlay=two.overlay)
    everybody = [attacker.of(host) for host in ground.field.hosts]
    absent = ground.absent
    return (
        Act(
            "entries of a live host, of any generation",
            lambda s: s.make(
                [
                    *attacker.forged(one),
                    *attacker.forged(elsewhere)[:2],
                    *attacker.forged(one, private=plan.STREET_ADDRESS)[:2],
                ]
            ),
            forged=True,
        ),
        Act(
            "entries of an absent host",
            lambda s: s.make([entry.encode(absent), *attacker.forged(absent)]),
            forged=True,
        ),
        Act(
            "goodbyes of all hosts",
            lambda s: s.make([word for each in everybody for word in attacker.goodbyes(each)]),
        ),
        Act(
            "words that leases were moved to it",
            lambda s: s.make([entry.encode_moved(each.overlay, attacker.ID) for each in everybody]),
        ),
        Act(
            "records, documents, reports, leases of others, settings: written, deleted, taken; "
            "reports read",
            lambda s: _forbidden(s, one, entry.encode(one)),
            refused=True,
        ),
        Act(
            "its own record names an entry of a live host, and both are written in one step",
            lambda s: s.register_as_its_own(attacker.forged(one)[0]),
        ),
        Act(
            f"{many:,} entries under one id",
            lambda s: s.make(attacker.under_one_id(one, many)),
            forged=True,
        ),
        Act(
            f"{many:,} entries under one overlay address",
            lambda s: s.make(attacker.under_one_address(three.overlay, many)),
            forged=True,
        ),
        Act(
            f"its own record written {many:,} times",
            lambda s: s.write(
                LAYOUT.host(attacker.ID), encode(HostRecord(word="nothing")), times=many
            ),
        ),
        Act("a name of 900 kB", lambda s: s.make(["x" * 900_000]), refused=True),
    )


def _forbidden(session: Session, one: Member, name: str) -> Tried:
    """Whatever there is that others made."""
    record = encode(HostRecord(word=name))
    said = Tried.none()
    for path in (
        LAYOUT.host(one.id),
        LAYOUT.agent(one.id),
        LAYOUT.report(one.id),
        LAYOUT.name(name),
        LAYOUT.by_id(one.id),
        LAYOUT.by_overlay(one.overlay),
        LAYOUT.host(_ABSENT),
        LAYOUT.hosts,
        LAYOUT.ip_map,
        LAYOUT.fleet,
        LAYOUT.strict,
    ):
        said += session.write(path, record) + session.delete(path) + session.take(path)
    for path in (LAYOUT.interval, LAYOUT.maxchange, LAYOUT.release, LAYOUT.groups):
        said += session.make_nodes([path], persistent=True)
    said += session.make_nodes([f"{LAYOUT.host(one.id)}/x", LAYOUT.host("nobody")])
    return said + session.read(LAYOUT.report(one.id))


def _play(ground: Ground, act: Act) -> Rows:
    field, hosts = ground.field, ground.field.hosts
    before, entries = felt.sets_of(hosts), _entries(hosts)
    figures = felt.look(field, hosts)
    with ground.attacker.session() as session:
        tried = act.do(session)
        wrong = _named(hosts) if act.forged else []
        wrong += felt.watched(hosts, before, ground.seconds)
    # Its session is over, and with it all of its names.
    for host in hosts:
        wait_for(
            lambda host=host: not {"forged", "impostor"} & _codes(host),  # type: ignore[misc]  # a default in a lambda
            f"{host.name} goes on naming: {act.what}",
        )
    wrong += felt.watched(hosts, before, 0.0)
    if entries != _entries(hosts):
        wrong.append("somebody registered anew")
    if act.refused and not tried.refused:
        wrong.append("some of it was let be")
    wrong += [f"{name} is not well" for name in felt.unwell(hosts)]
    between = felt.look(field, hosts).since(figures)
    yield felt.row(act.what, tried, between, ground.alone, wrong=wrong, most_reads=act.reads)


def _named(hosts: Sequence[FieldHost]) -> list[str]:
    """Hosts that do not name it; all of them are given the time to."""
    silent = list(hosts)

    def all_named() -> bool:
        silent[:] = [host for host in silent if "forged" not in _codes(host)]
        return not silent

    with contextlib.suppress(DrillError):
        wait_for(all_named, "it is not named")
    return [f"{host.name} does not name it" for host in silent]


def _entries(hosts: Sequence[FieldHost]) -> list[str]:
    return [host.status()["entry"] for host in hosts]


def _codes(host: FieldHost) -> set[str]:
    return {problem["code"] for problem in host.status()["problems"]}

"""What a hostile member says of itself, and of a host that is gone: stories, of several steps."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from drills import attacker, felt, plan
from drills.attacker import Attacker
from drills.drill import Row, Rows
from drills.felt import Figures
from drills.field import Field
from drills.fleet import LAYOUT
from drills.host import FieldHost
from drills.waiting import wait_for
from neti.model import Member, entry

# Which questions all agents together may ask about names that nobody vouches for.
READS: Final = 200
_REGISTER_LIMIT: Final = 30.0  # seconds, its own names taken by another


@dataclass(slots=True)
class Ground:
    """What the parts of the drill share. ``absent``: a host that has a lease, and runs nowhere;
    ``seconds``: how long each thing is looked at; ``alone``: figures without the attacker."""

    field: Field
    attacker: Attacker
    absent: Member
    seconds: float
    alone: Figures


# --- what it may say of itself ---


def own_member(overlay: IPv4Address, private: IPv4Address, generation: int) -> Member:
    return Member(
        id=attacker.ID,
        site="ec2",
        private=private,
        public=None,
        overlay=overlay,
        generation=generation,
    )


def of_itself(ground: Ground) -> Rows:
    with ground.attacker.registry() as registry:
        overlay = registry.acquire(attacker.ID, plan.OVERLAY)

        def say(member: Member) -> str:
            name = entry.encode(member)
            registry.register(
                host_id=attacker.ID, name=name, data=b"", detail=b"{}", overlay=overlay
            )
            return name

        yield _claims_servers(ground, say(own_member(overlay, plan.STREET_ADDRESS, 1)))
        before = felt.sets_of(ground.field.hosts)
        member = own_member(overlay, attacker.of(ground.field.hosts[1]).private, 7)
        name, word = say(member), entry.encode_departure(member)
        wrong = _claims_a_member(ground, before)
        # It goes by a session of its own, which begins where it is called.
        ground.field.inside(
            ground.field.street,
            lambda: registry.leave(host_id=attacker.ID, name=name, departure=word),
        )
    for host in ground.field.hosts:
        wait_for(
            lambda host=host: attacker.ID not in host.member_ids(),  # type: ignore[misc]  # a default in a lambda
            f"{host.name} does not let {attacker.ID} go",
        )
    wrong += felt.watched(ground.field.hosts, before, ground.seconds)
    yield Row(
        "its own entry, with a member's address; then it leaves",
        "; ".join(wrong) or "the member kept all that it had, before and after",
        not wrong,
    )


def _claims_servers(ground: Ground, name: str) -> Row:
    """ZooKeeper's address, which here is the gateway too: nobody lets it in as a host's."""
    hosts = ground.field.hosts
    before, figures = felt.sets_of(hosts), felt.look(ground.field, hosts)
    for host in hosts:
        wait_for(
            lambda host=host: name in host.status()["skipped"]["entries"],  # type: ignore[misc]  # a default in a lambda
            f"{host.name} does not skip an entry with the address of ZooKeeper",
        )
    wrong = [f"{host.name} lets it in" for host in hosts if attacker.ID in host.member_ids()]
    wrong += felt.watched(hosts, before, ground.seconds)
    wrong += [f"{one} is not well" for one in felt.unwell(hosts)]
    between = felt.look(ground.field, hosts).since(figures)
    return felt.row(
        "its own entry, with the address of gateway and ZooKeeper",
        "named and skipped",
        between,
        ground.alone,
        wrong=wrong,
        most_reads=READS,
    )


def _claims_a_member(ground: Ground, before: dict[str, felt.Sets]) -> list[str]:
    """A member's address beside its own overlay address: that member keeps all of its own."""
    hosts = ground.field.hosts
    for host in hosts:
        wait_for(
            lambda host=host: attacker.ID in host.member_ids(),  # type: ignore[misc]  # a default in a lambda
            f"{host.name} does not take in {attacker.ID}",
        )
    return [
        f"{where} of {host.name} lost something"
        for host in hosts
        for where, held in before[host.name].items()
        if not held.items() <= host.sets()[where].items()
    ]


# --- a host that goes, while others speak for it ---


def goes_and_returns(ground: Ground, host: FieldHost) -> Rows:
    """Its goodbye was forged before; then its entry stands again, its next names and its document
    are taken. It is lost to all, and is back when its agent is."""
    others = [one for one in ground.field.hosts if one is not host]
    before, member, id_ = felt.sets_of(others), attacker.of(host), host.id
    name = entry.encode(member)
    with ground.attacker.session() as session:
        figures = felt.look(ground.field, others)
        said = session.make(attacker.goodbyes(member))
        host.agent.kill()
        for one in others:
            wait_for(
                lambda one=one: _lost(one, id_) is True,  # type: ignore[misc]  # a default in a lambda
                f"{one.name} does not see that {host.name} is lost",
                seconds=60,
            )
        wrong = felt.watched(others, before, ground.seconds)
        wrong += [f"gone for {one.name}" for one in others if _lost(one, id_) is None]
        between = felt.look(ground.field, others).since(figures)
        yield felt.row(
            "a forged goodbye, and its host killed: lost, and not gone",
            said,
            between,
            ground.alone,
            wrong=wrong,
            most_reads=READS,
        )
        figures = felt.look(ground.field, others)
        said = session.make([name, *attacker.forged(member)])
        said += session.make(attacker.next_ones(member, 50)[1:], persistent=True)
        said += session.make_nodes([LAYOUT.agent(id_)], persistent=True)
        wrong = felt.watched(others, before, ground.seconds)
        wrong += [f"alive for {one.name}" for one in others if _lost(one, id_) is not True]
        between = felt.look(ground.field, others).since(figures)
        yield felt.row(
            "its old entry again, its next names, its document: still lost",
            said,
            between,
            ground.alone,
            wrong=wrong,
            most_reads=READS,
        )
        yield from _returns(ground, host, others, before)
    _clear_away(ground, attacker.next_ones(member, 50)[1:], id_)


def _returns(
    ground: Ground, host: FieldHost, others: Sequence[FieldHost], before: dict[str, felt.Sets]
) -> Rows:
    began, id_ = time.monotonic(), host.id
    host.agent.start()
    host.wait_until_registered()
    registered = time.monotonic() - began
    for one in others:
        wait_for(
            lambda one=one: _lost(one, id_) is False,  # type: ignore[misc]  # a default in a lambda
            f"{one.name} does not see that {host.name} is back",
        )
    # Its entry is a new one, whose further addresses are read after it.
    wait_for(lambda: not felt.moved(others, before), "others do not hold again what they held")
    wrong = felt.watched(others, before, ground.seconds)
    wrong += [f"{name} is not well" for name in felt.unwell(ground.field.hosts)]
    tried = host.agent.log.read_text(errors="replace").count("name_taken ")
    figure = f"registered {registered:.1f} s after its start, past {tried} names that were taken"
    if wrong:
        figure += f"; {'; '.join(wrong)}"
    yield Row(
        "and its agent starts, amid all that", figure, not wrong and registered < _REGISTER_LIMIT
    )


def _lost(host: FieldHost, host_id: str) -> bool | None:
    """As this host sees that one; None: it is no member."""
    return next((bool(m["lost"]) for m in host.members() if m["id"] == host_id), None)


def _clear_away(ground: Ground, names: Sequence[str], host_id: str) -> None:
    """What no session's end takes away, an operator does."""
    with Attacker(ground.field, "operator-chief").session() as session:
        for path in (*map(LAYOUT.name, names), LAYOUT.agent(host_id)):
            session.delete(path)

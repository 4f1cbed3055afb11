"""A member with a valid certificate reaches nothing outside its groups, whatever it tries.

Two ports of h1 are for group db: h2 is in it, h3 is a member and is not. The registry has TLS,
rights and admission, and agents are strict. What goes through gateways, and what groups make of
each source and port, is for tests/kernel (test_groups_gateway.py, test_cells.py).
"""

import contextlib
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final

from kazoo.exceptions import KazooException

from drills import attacker, talk
from drills.attacker import Attacker, Session, Tried
from drills.certified import Operator
from drills.drill import DrillError, Row, Rows, Run
from drills.field import Field
from drills.fleet import LAYOUT
from drills.host import FieldHost
from drills.plan import CONTAINER_PORT, OPEN_PORT, OVERLAY, PORT, PUBLISHED
from drills.waiting import wait_for
from neti.model import IPAddress, entry
from neti.model.groups import GroupLine, Groups
from neti.registry.groups import encode as document
from neti.registry.record import HostRecord, encode

TITLE = "a member reaches nothing outside its groups, whatever it says or holds"

_PATTERN: Final = "db-*"
_PATIENCE: Final = 20.0  # seconds for what must come about, however busy the machine is
_RESET: Final = struct.pack("ii", 1, 0)
_ALIKE: Final = "db-9"  # nobody admitted it


@dataclass(frozen=True, slots=True)
class Way:
    """From one of the caller's addresses to one of h1's."""

    name: str
    to: IPAddress
    port: int
    source: str = ""
    udp: bool = False
    container: bool = False  # from the caller's container


def run(drill: Run) -> Rows:
    with Field(drill, hosts=3, registry="closed") as field, contextlib.ExitStack() as stack:
        h1, h2, h3 = field.hosts
        field.serve(h1.namespace)
        field.serve(h1.namespace, port=OPEN_PORT)
        field.serve(h1.container, port=CONTAINER_PORT)
        stack.enter_context(_by_public(h1, (h2, h3)))
        operator = Operator(field)
        _lay_out(field, operator)
        yield from _before_and_in_force(h1, h2, h3)
        yield from _tried(field, operator)
        yield _gets_in("and who is in the group, after all of it", h1, h2, closed=True)


def _lay_out(field: Field, operator: Operator) -> None:
    h1 = field.hosts[0]
    operator.says("registry", "init")
    ids = [host.name for host in field.hosts]
    operator.says("registry", "admit", *ids, "--subject", "CN={id},OU=hosts", "--yes")
    operator.says("registry", "admission", "on")
    operator.says("group", "set", "db", "h2", _PATTERN)
    operator.says("group", "set", "web", "h3")
    h1.configure(reject_all=True)
    field.start()
    operator.turns_strict_on(field.hosts)


def _before_and_in_force(h1: FieldHost, h2: FieldHost, h3: FieldHost) -> Rows:
    """That each way leads there proves that what is kept out later is kept out by groups."""
    h1.wait_until_enforced()
    closed = (f"{PORT}/tcp", f"{PORT}/udp", f"{PUBLISHED}/tcp")
    h1.reload(member_ports={key: ["db"] for key in closed})
    wait_for(lambda: h1.status()["member_ports"] == "waiting", "member_ports do not wait")
    yield _gets_in("before they are in force: who is in no group of it", h1, h3, closed=True)
    for words in (("enforce", "--no-follow", "--anyway"), ("confirm",)):
        done = h1.neti(*words)
        if done.returncode != 0:
            raise DrillError(f"neti {' '.join(words)} on {h1.name}: {done.stderr.strip()}")
    wait_for(lambda: h1.status()["member_ports"] == "in force", "member_ports are not in force")
    yield _gets_in("in force: who is in the group", h1, h2, closed=True)
    yield _gets_in("in force: who is not", h1, h3, closed=False)


# --- ways ---


@contextlib.contextmanager
def _by_public(h1: FieldHost, callers: tuple[FieldHost, ...]) -> Iterator[None]:
    """They have their public addresses themselves, and h1 a way back to those."""
    changes = [
        *((one, ("address", "{}", f"{one.plan.public}/32", "dev", "eth0")) for one in callers),
        *(
            (h1, ("route", "{}", str(one.plan.public), "via", str(one.plan.private)))
            for one in callers
        ),
    ]
    with contextlib.ExitStack() as stack:
        for host, words in changes:
            host.ip(*(word.format("add") for word in words))
            stack.callback(host.ip, *(word.format("delete") for word in words))
        yield


def _ways(h1: FieldHost, caller: FieldHost) -> list[Way]:
    private, private6, overlay = h1.plan.private, h1.plan.private6, h1.overlay
    public = str(caller.plan.public)
    return [
        Way("private", private, PORT),
        Way("private, UDP", private, PORT, udp=True),
        Way("overlay", overlay, PORT),
        Way("overlay, UDP", overlay, PORT, udp=True),
        Way("IPv6", private6, PORT),
        Way("public", private, PORT, source=public),
        Way("published", private, PUBLISHED),
        Way("published, overlay", overlay, PUBLISHED),
        Way("published, IPv6", private6, PUBLISHED),
        Way("published, public", private, PUBLISHED, source=public),
        Way("from its container", private, PORT, container=True),
    ]


def _found(h1: FieldHost, caller: FieldHost, patience: float) -> dict[str, bool]:
    def try_it(way: Way) -> bool:
        namespace = caller.container if way.container else caller.namespace
        if way.udp:
            return talk.udp_reaches(namespace, way.to, way.port)
        return talk.reaches(namespace, way.to, way.port, source=way.source, patience=patience)

    ways = _ways(h1, caller)
    with ThreadPoolExecutor(len(ways)) as pool:
        return {way.name: got for way, got in zip(ways, pool.map(try_it, ways), strict=True)}


def _gets_in(what: str, h1: FieldHost, caller: FieldHost, *, closed: bool, said: str = "") -> Row:
    """``closed``: whether it is to get in to the ports that are for db; everybody gets in to the
    one that is in open_ports."""
    found = _found(h1, caller, _PATIENCE if closed else talk.WAIT)
    opened = talk.reaches(caller.namespace, h1.plan.private, OPEN_PORT)
    wrong = [name for name, got in found.items() if got is not closed]
    figure = f"{said}; " if said else ""
    figure += f"{sum(found.values())} of {len(found)} ways lead in"
    figure += f": wrong are {', '.join(wrong)}" if wrong else ""
    figure += "" if opened else "; its open port is shut"
    return Row(what, figure, not wrong and opened)


# --- what it tries ---


def _tried(field: Field, operator: Operator) -> Rows:
    h1, _, h3 = field.hosts
    mallory = Attacker(field, f"host-{h3.name}")
    with mallory.session() as session:
        said = _writes_groups(session)
        row = _gets_in("it writes groups itself", h1, h3, closed=False, said=f"{said}")
        yield replace(row, ok=row.ok and said.refused)
    with mallory.session() as session:
        said = session.make(_as_others(field))
        yield _gets_in(
            "entries of who is in the group, with its own address",
            h1,
            h3,
            closed=False,
            said=f"{said}",
        )
    yield _as_a_pattern(mallory, h1, h3)
    with mallory.session() as session:
        said = _second_entry(session, field)
        yield _gets_in(
            "its record names a second entry, with the other's address",
            h1,
            h3,
            closed=False,
            said=f"{said}",
        )
    wait_for(
        lambda: attacker.of(h3).private == h3.plan.private and h3.status()["registered"],
        f"{h3.name} does not register again",
    )
    yield from _put_out(h1, h3, operator)


def _writes_groups(session: Session) -> Tried:
    mine = document(Groups({"db": (GroupLine("h3"),)}, edition=1 << 40, shrunk=1 << 40))
    return (
        session.write(LAYOUT.groups, mine)
        + session.take(LAYOUT.groups)
        + session.delete(LAYOUT.groups)
        + session.make_nodes([f"{LAYOUT.groups}/db"])
    )


def _as_others(field: Field) -> list[str]:
    _, h2, h3 = field.hosts
    other, mine = attacker.of(h2), attacker.of(h3)
    alike = replace(mine, id=_ALIKE)
    return [
        *attacker.forged(other, private=mine.private),
        *attacker.forged(alike, private=mine.private),
    ]


def _as_a_pattern(mallory: Attacker, h1: FieldHost, h3: FieldHost) -> Row:
    """An id that fits the pattern, with a lease of its own, which every member may take."""
    said = Counter[str]()
    with mallory.registry() as registry:
        overlay = registry.acquire(_ALIKE, OVERLAY)
        alike = replace(attacker.of(h3), id=_ALIKE, overlay=overlay)
        try:
            registry.register(
                host_id=_ALIKE, name=entry.encode(alike), data=b"", detail=b"{}", overlay=overlay
            )
        except Exception as error:  # whatever it is, it is told
            said[type(error).__name__] += 1
        else:
            said["done"] += 1
        with mallory.session() as session:
            tried = Tried(said) + session.make([entry.encode(alike)])
            what = f"it is called {_ALIKE}, which {_PATTERN} fits, and nobody admitted that"
            row = _gets_in(what, h1, h3, closed=False, said=f"{tried}")
    return replace(row, ok=row.ok and not said["done"])


def _second_entry(session: Session, field: Field) -> Tried:
    """In one step, as by a host that registers: strict agents believe it."""
    _, h2, h3 = field.hosts
    mine = attacker.of(h3)
    second = entry.encode(
        replace(mine, private=attacker.of(h2).private, generation=mine.generation + 1)
    )
    step = session.client.transaction()
    step.set_data(LAYOUT.host(h3.name), encode(HostRecord(word=second)))
    step.create(LAYOUT.name(second), b"", ephemeral=True)
    wrong = [type(one).__name__ for one in step.commit() if isinstance(one, KazooException)]
    return Tried(Counter(wrong or ["done"]))


def _put_out(h1: FieldHost, h3: FieldHost, operator: Operator) -> Rows:
    """It was in the group for a while. What it began then goes on, as it is promised to others."""
    operator.says("group", "add", "db", h3.name)
    yield _let_in(h1, h3)
    with talk.connection(h3.namespace, h1.plan.private, PORT) as held:
        operator.says("group", "remove", "db", h3.name)
        wait_for(
            lambda: not talk.reaches(h3.namespace, h1.plan.private, PORT),
            f"{h3.name} goes on getting in by group db",
        )
        row = _gets_in("put out of the group: anew", h1, h3, closed=False)
        goes_on = talk.alive(held)
        yield row
        word = "goes on" if goes_on else "is dead"
        yield Row("put out of the group: the connection that it has", word, goes_on)
        port = held.getsockname()[1]
        held.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)  # conntrack remembers it
    got = _from_port(h3, h1, port)
    yield Row(
        "put out of the group: from the port of that connection, once that is reset",
        "gets in" if got else "kept out",
        not got,
    )


def _let_in(h1: FieldHost, h3: FieldHost) -> Row:
    with contextlib.suppress(DrillError):
        wait_for(
            lambda: talk.reaches(h3.namespace, h1.plan.private, PORT),
            f"{h3.name} does not get in by group db",
        )
    return _gets_in("operators add it to the group", h1, h3, closed=True)


def _from_port(h3: FieldHost, h1: FieldHost, port: int) -> bool:
    def dial() -> bool:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((str(h3.plan.private), port))
            sock.settimeout(talk.WAIT)
            try:
                sock.connect((str(h1.plan.private), PORT))
            except OSError:
                return False
            return True

    return h3.inside(dial)

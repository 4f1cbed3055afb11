"""``neti registry check``: what is open, half, wrong, too old or too small.

Judging is pure; looking is done by ``zookeeper_probe`` and by one pass over the tree.

Must never do: change anything, but for nameless nodes that end with their session (for the clock,
and for what a watch tells).
"""

import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Any, Final, Literal
from uuid import uuid4

from kazoo.exceptions import NoNodeError
from kazoo.protocol.serialization import Create, Exists, GetACL

from neti.errors import EntryError
from neti.model import Departure, Member, entry
from neti.model.settings import RegistryTLS
from neti.registry.untrusted import host_id_text
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.layout import Layout
from neti.registry.zookeeper.leases import overlay_of
from neti.registry.zookeeper.probe import Place, serves, takes, tells_names, version_of, word
from neti.text import printable

Severity = Literal["fault", "warning", "note"]
STOCK_PLAIN_PORT: Final = 2181
_STOCK_BUFFER: Final = 0xFFFFF  # jute.maxbuffer
_STOCK_CONNECTIONS: Final = 60
_LONGEST_REQUEST: Final = 65536  # what docs/security.md has servers take
_CLOCK_SECONDS: Final = 5.0
_CERTIFICATE_DAYS: Final = 14
_NAMED: Final = 5
_CONNECTIONS: Final = re.compile(r"^maxClientCnxns=(\d+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Finding:
    """``code``: stable, by which an operator accepts a warning."""

    severity: Severity
    where: str
    sentence: str
    code: str = ""


@dataclass(frozen=True, slots=True)
class Tree:
    """One look at all of it. ACLs and data by path; absent nodes are not in it."""

    layout: Layout
    by_overlay: dict[IPv4Address, str]
    by_id: dict[str, IPv4Address | None]
    names: tuple[str, ...]
    agents: frozenset[str]
    acls: dict[str, list[Any]]
    without_session: tuple[str, ...]  # registrations that no session's end takes away
    clock_ahead: float | None  # seconds; the server's, of ours


# --- servers ---


def look_at_server(
    place: Place,
    files: RegistryTLS | None,
    *,
    plain_port: int,
    members: int,
    now: float,
    layout: Layout | None = None,
) -> list[Finding]:
    """``layout``: where a node may be made for the time of a look."""
    where = str(place)
    answer = word(place, "srvr", files)
    if answer.fault is not None:
        return [Finding("fault", where, f"does not answer: {answer.fault}", "silent")]

    def told() -> bool | None:
        return tells_names(place, files, layout.agents) if layout is not None else None

    found = [
        *_version(where, answer.text, told),
        *_connections(place, files, members),
        *_requests(place, files),
    ]
    if files is None:
        return found
    days = None if answer.expires is None else (answer.expires - now) / 86400
    if days is not None and days < _CERTIFICATE_DAYS:
        found.append(
            Finding(
                "warning",
                where,
                f"its certificate expires in {days:.1f} days: renew it",
                "certificate",
            )
        )
    if serves(place, files):
        found.append(
            Finding(
                "fault",
                where,
                "lets clients in without a certificate: set ssl.clientAuth=need, "
                "enforce.auth.enabled=true and enforce.auth.schemes=x509",
                "open-tls",
            )
        )
    plain = Place(place.host, plain_port)
    open_to_all = serves(plain, None) if plain_port != place.port else None
    if open_to_all:
        found.append(
            Finding(
                "fault",
                str(plain),
                "a plain port is open and lets everyone in: take clientPort out of zoo.cfg, "
                "or set enforce.auth.enabled=true",
                "open-plain",
            )
        )
    elif open_to_all is False:
        found.append(
            Finding("note", str(plain), "a port answers here and lets no plain client do anything")
        )
    return found


def _version(where: str, srvr: str, told: Callable[[], bool | None]) -> Iterable[Finding]:
    """``told``: whether the server was seen to have the known hole, asked for old versions only."""
    version = version_of(srvr)
    if version is None:
        yield Finding(
            "note", where, "does not tell its version: allow it (4lw.commands.whitelist=srvr,conf)"
        )
        return
    text = ".".join(map(str, version))
    if version < (3, 6, 0):
        yield Finding("fault", where, f"is ZooKeeper {text}: Neti needs 3.6 or later", "version")
    elif version < (3, 8, 4) or (3, 9, 0) <= version < (3, 9, 2):
        seen = told()
        if seen is False:
            yield Finding(
                "note",
                where,
                f"is ZooKeeper {text}, which came with CVE-2024-23944: tried here, and mended",
            )
            return
        yield Finding(
            "warning",
            where,
            f"is ZooKeeper {text}, with CVE-2024-23944 (a recursive watch tells the names of nodes "
            "that its owner may not read): "
            + ("tried here, and open. " if seen else "it could not be tried here. ")
            + "It is fixed in 3.8.4 and 3.9.2, and in Debian 12 from 3.8.0-11+deb12u2 on",
            "CVE-2024-23944",
        )


def _requests(place: Place, files: RegistryTLS | None) -> Iterable[Finding]:
    """Every watcher gets a node's whole path, so a long one is sent as often as there are hosts."""
    if takes(place, files, 2 * _LONGEST_REQUEST):
        yield Finding(
            "warning",
            str(place),
            f"reads requests of more than {2 * _LONGEST_REQUEST:,} bytes: a few long names that "
            "one member makes can use up its memory, or keep the ensemble from ever starting "
            f"again. Run it with -Djute.maxbuffer={_LONGEST_REQUEST} and the options beside it in "
            "docs/security.md (JAVA_OPTS in Debian's /etc/default/zookeeper)",
            "request-length",
        )


def _connections(place: Place, files: RegistryTLS | None, members: int) -> Iterable[Finding]:
    match = _CONNECTIONS.search(word(place, "conf", files).text)
    if match is None:
        yield Finding(
            "note",
            str(place),
            "does not tell maxClientCnxns (stock: 60 for each address, too few behind a proxy): "
            "allow it (4lw.commands.whitelist=srvr,conf)",
        )
        return
    most = int(match[1])
    if 0 < most < max(members, _STOCK_CONNECTIONS + 1):
        yield Finding(
            "warning",
            str(place),
            f"maxClientCnxns is {most} for each address, and the fleet has {members} members: too "
            "few where they come through a proxy; set 0 (no limit) or the size of the fleet",
            "client-connections",
        )


# --- the tree ---


def look_at_tree(attempt: Attempt, layout: Layout, wall: Callable[[], float]) -> Tree:
    overlays = attempt.names(layout.ip_to_id)
    ids, names = attempt.names(layout.id_to_ip), attempt.names(layout.ip_map)
    agents = attempt.names(layout.agents)
    by_overlay = attempt.read([f"{layout.ip_to_id}/{name}" for name in overlays])
    by_id = attempt.read([layout.by_id(host_id) for host_id in ids])
    paths = [
        *layout.parents(),
        layout.fleet,
        *layout.settings(),
        *(f"{layout.ip_to_id}/{name}" for name in overlays),
        *(layout.by_id(host_id) for host_id in ids),
        *(layout.name(name) for name in names),
        *(layout.agent(host_id) for host_id in agents),
    ]
    acls, without_session = _acls(attempt, paths)
    registrations = (layout.ip_map + "/", layout.agents + "/")
    return Tree(
        layout=layout,
        by_overlay={
            overlay: host_id_text(data)
            for name, data in zip(overlays, by_overlay, strict=True)
            if data is not None and (overlay := overlay_of(name.encode())) is not None
        },
        by_id={
            host_id: overlay_of(data)
            for host_id, data in zip(ids, by_id, strict=True)
            if data is not None
        },
        names=tuple(names),
        agents=frozenset(agents),
        acls=acls,
        without_session=tuple(p for p in without_session if p.startswith(registrations)),
        clock_ahead=_clock(attempt, layout, wall),
    )


def _acls(attempt: Attempt, paths: list[str]) -> tuple[dict[str, list[Any]], list[str]]:
    """Rights by path; and which nodes outlast any session."""
    answers = attempt.each([GetACL(path) for path in paths])
    found = {}
    lasting = []
    for path, answer in zip(paths, answers, strict=True):
        if isinstance(answer, NoNodeError):
            continue
        if isinstance(answer, Exception):
            raise answer
        found[path] = answer[0]
        if not answer[1].ephemeralOwner:
            lasting.append(path)
    return found, lasting


def _clock(attempt: Attempt, layout: Layout, wall: Callable[[], float]) -> float | None:
    """The server stamps what is made; this one vanishes with the session."""
    path = f"{layout.agents}/.clock-{uuid4().hex}"
    before = wall()
    (made,) = attempt.each([Create(path, b"", list(rights.READ_ONLY), 1)])
    if isinstance(made, Exception):
        return None
    stat, between = attempt.one(Exists(path, None)), (before + wall()) / 2
    return None if stat is None else float(stat.ctime / 1000 - between)


def judge_tree(tree: Tree, *, secure: bool) -> list[Finding]:
    layout = tree.layout
    absent = [path for path in layout.parents() if path not in tree.acls]
    if absent:
        return [Finding("fault", absent[0], "is missing: 'neti registry init' lays out the tree")]
    return [
        *_open(tree, secure=secure),
        *_halves(tree),
        *_owners(tree),
        *_lasting(tree),
        *_strangers(tree),
        *_goodbyes(tree),
        *_size(tree),
        *_time(tree),
    ]


def _open(tree: Tree, *, secure: bool) -> Iterable[Finding]:
    # What stands above our own root is not ours to judge.
    own = tree.layout.root + "/"
    harmful = [
        p for p, acl in tree.acls.items() if (p + "/").startswith(own) and rights.harmful(acl)
    ]
    if not harmful:
        return
    mend = (
        "'neti registry init' closes them"
        if secure
        else "without registry_tls there is nobody to give rights to: see docs/security.md"
    )
    yield Finding(
        "fault" if secure else "warning",
        tree.layout.root or "/",
        f"{len(harmful)} nodes can be written or emptied by anyone who gets in "
        f"({_some(harmful)}): {mend}",
        "open-nodes",
    )


def _halves(tree: Tree) -> Iterable[Finding]:
    for overlay, host_id in tree.by_overlay.items():
        if tree.by_id.get(host_id) != overlay:
            yield Finding(
                "fault",
                tree.layout.by_overlay(overlay),
                f"says {host_id}, whose own half says {tree.by_id.get(host_id) or 'nothing'}: half "
                "a lease; an operator has to remove it (ZooKeeper's own client, delete)",
            )
    for host_id, held in tree.by_id.items():
        other = tree.by_overlay.get(held) if held is not None else None
        if other != host_id:
            yield Finding(
                "fault",
                tree.layout.by_id(host_id),
                f"says {held or 'no address'}, whose own half says {other or 'nothing'}: half a "
                f"lease; give it up with 'neti lease release {host_id}'",
            )
    stale = sorted(host_id for host_id in tree.by_id if host_id not in tree.agents)
    if stale:
        yield Finding(
            "note",
            tree.layout.id_to_ip,
            f"{len(stale)} leases of hosts that are not registered now ({_some(stale)}): "
            "'neti lease release ID' those that will not come back",
        )


def _owners(tree: Tree) -> Iterable[Finding]:
    """All nodes of one host belong to one subject."""
    layout = tree.layout
    nodes: dict[str, list[str]] = {}
    for host_id, overlay in tree.by_id.items():
        nodes[host_id] = [layout.by_id(host_id), layout.agent(host_id)]
        if overlay is not None and tree.by_overlay.get(overlay) == host_id:
            nodes[host_id].append(layout.by_overlay(overlay))
    for name in tree.names:
        member = _member(name)
        if member is not None:
            nodes.setdefault(member.id, [layout.agent(member.id)]).append(layout.name(name))
    for host_id, paths in nodes.items():
        subjects = {s: path for path in paths for s in rights.owners(tree.acls.get(path, []))}
        if len(subjects) > 1:
            said = "; ".join(f"{path} belongs to {who}" for who, path in sorted(subjects.items()))
            yield Finding(
                "fault",
                host_id,
                f"its nodes belong to different certificates: {said}: one is not this host's, "
                "or it has another certificate now; release its lease and let it register",
            )


def _lasting(tree: Tree) -> Iterable[Finding]:
    """An agent's own nodes end with its session: these would stand for good."""
    layout = tree.layout
    for path in tree.without_session:
        name = path.rpartition("/")[2]
        keeps_out = path.startswith(f"{layout.agents}/")
        if keeps_out or _parsed(name) is not None:
            yield Finding(
                "fault",
                path,
                "belongs to no session, so it never ends by itself, and no agent makes one like "
                "it: "
                + (f"it keeps the host {name} from registering. " if keeps_out else "")
                + "An operator has to delete it (ZooKeeper's own client, delete)",
                "no-session",
            )


def _strangers(tree: Tree) -> Iterable[Finding]:
    junk = [name for name in tree.names if _parsed(name) is None]
    if junk:
        yield Finding(
            "warning",
            tree.layout.ip_map,
            f"{len(junk)} names that are no entries ({_some(junk)}): agents skip them",
            "junk-names",
        )


def _goodbyes(tree: Tree) -> Iterable[Finding]:
    """Who comes back is of a later generation than its goodbye."""
    parsed = {name: _parsed(name) for name in tree.names}
    members = [member for member in parsed.values() if isinstance(member, Member)]
    generations: dict[str, int] = {}
    for member in members:
        generations[member.id] = max(member.generation, generations.get(member.id, -1))
    for name, said in parsed.items():
        if not isinstance(said, Departure) or said.id not in generations:
            continue
        if said.generation >= generations[said.id]:
            yield Finding(
                "warning",
                tree.layout.name(name),
                f"is a goodbye of {said.id}, which is registered: with it a crash of that host "
                "counts as leaving, and its peers drop it at once; if it stays, another wrote "
                "it: see docs/security.md",
                "goodbye",
            )


def _size(tree: Tree) -> Iterable[Finding]:
    size = sum(4 + len(name.encode()) for name in tree.names)
    if size > 0.8 * _STOCK_BUFFER:
        yield Finding(
            "warning",
            tree.layout.ip_map,
            f"listing its {len(tree.names)} names takes {size} bytes, and a stock client takes "
            f"{_STOCK_BUFFER} (jute.maxbuffer): remove what is no entry, or raise jute.maxbuffer",
            "listing",
        )


def _time(tree: Tree) -> Iterable[Finding]:
    if tree.clock_ahead is not None and abs(tree.clock_ahead) > _CLOCK_SECONDS:
        way = "ahead of" if tree.clock_ahead > 0 else "behind"
        yield Finding(
            "warning",
            "clock",
            f"the server's clock is {abs(tree.clock_ahead):.0f} s {way} this host's: one is wrong, "
            "and certificates are judged by it",
            "clock",
        )


# --- all of it ---

CODES: Final = (
    *("CVE-2024-23944", "certificate", "client-connections", "clock", "goodbye", "junk-names"),
    *("listing", "no-tls", "open-nodes", "request-length"),
)


def accepted(found: Iterable[Finding], codes: Collection[str]) -> list[Finding]:
    """Warnings that an operator knows of and lives with become notes; faults do not."""
    return [
        replace(one, severity="note", sentence=f"{one.sentence} (accepted)")
        if one.severity == "warning" and one.code in codes
        else one
        for one in found
    ]


def joined(found: Iterable[Finding]) -> list[Finding]:
    """What is the same at several servers is one finding, worst first."""
    order = ("fault", "warning", "note")
    places: dict[tuple[Severity, str, str], list[str]] = {}
    for one in found:
        places.setdefault((one.severity, one.sentence, one.code), []).append(one.where)
    together = [
        Finding(severity, ", ".join(where), sentence, code)
        for (severity, sentence, code), where in places.items()
    ]
    return sorted(together, key=lambda one: order.index(one.severity))


def _member(name: str) -> Member | None:
    parsed = _parsed(name)
    return parsed if isinstance(parsed, Member) else None


def _parsed(name: str) -> object | None:
    try:
        return entry.parse(name)
    except EntryError:
        return None


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(map(printable, names[:_NAMED]))
    return shown + (", …" if len(names) > _NAMED else "")

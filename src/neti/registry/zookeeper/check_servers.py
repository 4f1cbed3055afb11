"""What ``neti registry check`` says about a server, from what it answers to anybody.

Must never do: change anything, but for a nameless node that ends with its session.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

from neti.model.settings import RegistryTLS
from neti.registry.zookeeper.finding import Finding
from neti.registry.zookeeper.layout import Layout
from neti.registry.zookeeper.probe import Place, serves, takes, tells_names, version_of, word

_STOCK_CONNECTIONS: Final = 60
_LONGEST_REQUEST: Final = 65536  # what docs/security.md has servers take
_CERTIFICATE_DAYS: Final = 14
_CONNECTIONS: Final = re.compile(r"^maxClientCnxns=(\d+)", re.MULTILINE)


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

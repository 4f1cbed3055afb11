"""The fleet as operators and their programs read it: rows, an inventory, hosts lines. Pure.

Only members that are believed come here. Still, what a host says about itself may be any text: a
name that could be taken for another host, a group, an option or a template is replaced (see
``neti.fleet.naming``).

Must never do: give one host's name to another, or a name to an address that nobody has.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from types import MappingProxyType
from typing import Any, Final

from neti.fleet.naming import (
    CLIENT_NAMES,
    RESERVED_GROUPS,
    Called,
    Words,
    label,
    names_of,
)
from neti.model import Member
from neti.model.addresses import dotted
from neti.model.labels import in_words
from neti.registry.detail import CallsSeen, Document, Left, Order
from neti.registry.hurts import Hurt, Hurts
from neti.text import csv_cell, hosts_line, inventory_value, plain_name
from neti.text import label as metric_label

Row = dict[str, Any]

_UNKNOWN: Final = "?"
_AWAY: Final = frozenset({"lost", "held", "missing"})


def rows(
    members: Mapping[str, Member],
    told: Mapping[str, Document],
    taken: Collection[str] = (),
    *,
    words: Words | None = None,
) -> list[Row]:
    """One for each member, sorted by site and name."""
    words = words if words is not None else Words(taken=taken, leases={}, pinned={})
    names = names_of(members, {i: document.name for i, document in told.items()}, words)
    made = [_row(member, names[i], told.get(i, Document())) for i, member in members.items()]
    return sorted(made, key=lambda row: (row["site"], row["name"], row["id"]))


def _row(member: Member, called: Called, told: Document) -> Row:
    return {
        "name": called.name,
        "id": member.id,
        "site": member.site,
        "private": dotted(member.private),
        "public": dotted(member.public) if member.public else None,
        "overlay": dotted(member.overlay),
        "version": told.version or _UNKNOWN,
        "stage": told.stage or _UNKNOWN,
        "encryption": told.encryption or _UNKNOWN,
        "tunnel_port": told.tunnel_port,
        "gateways": told.gateways or None,
        "member_ports": told.member_ports or _UNKNOWN,
        # How many of its ports are open to somebody for a time; None: it does not say.
        "openings": told.openings,
        "state": "registered",
        # The word that it wants and does not get, because others want it too.
        "contested": called.contested,
        # Codes of what is wrong on it; None: it does not say.
        "problems": list(told.problems) if told.problems is not None else None,
        **said_of_itself(told),
    }


def said_of_itself(told: Document) -> Row:
    """What of a document stands in a row as it is; times are Unix seconds, None: not said.
    ``relaxed``: in shadow, though its neti.yml asks for more, or for a time."""
    return {
        "labels": dict(told.labels),
        "installed": told.installed or None,
        "down": _flat(told.down),
        "relaxed": _flat(told.relaxed),
        "config_read": told.config_read,
        "config_unread": told.config_unread,
        "hurts": _hurts(told.hurts),
        # Whom it calls by real addresses, the latest first; None: it does not say.
        "left": [_flat(one) for one in told.left] if told.left is not None else None,
        # When a member last called it, since when that is watched, and how many are connected.
        "calls": _flat(told.calls),
        "written": told.written,
    }


def _hurts(told: Hurts | None) -> Row | None:
    return None if told is None else {**(_flat(told) or {}), "at": list(map(_flat, told.at))}


def _flat(part: Order | Hurts | Hurt | Left | CallsSeen | None) -> Row | None:
    """As ``asdict``, in a fifth of the time: these hold nothing that would have to be copied."""
    return None if part is None else {name: getattr(part, name) for name in part.__slots__}


def shown_stage(row: Row) -> str:
    """What people read: who is relaxed is in shadow against its file; who is away has no stage."""
    if row.get("relaxed") is not None and row["stage"] == "shadow":
        return "relaxed"
    return str(row["stage"] or row["state"])


def text_of(row: Row, column: str) -> Any:
    """A cell of a listing for people, or of CSV."""
    match column:
        case "stage":
            return shown_stage(row)
        case "labels":
            return in_words(row.get("labels") or {})
        case "problems":
            return " ".join(row.get("problems") or ())
    return row.get(column)


def csv_row(row: Row, columns: Sequence[str]) -> list[str]:
    return [csv_cell(text_of(row, column)) for column in columns]


def still_reachable(away: Sequence[Row]) -> list[Row]:
    """Those of the absent hosts that peers keep, or may keep, because they did not say goodbye.
    Their names are not known any more, except from what was written before: so they go by their
    ids."""
    return [row for row in away if row["state"] in ("lost", "held", "missing") and row["overlay"]]


def surely_lost(away: Sequence[Row]) -> list[Row]:
    """Of those who are away: members that an agent has lost or holds. They are still let in, and
    whoever watches or manages hosts has to know of them."""
    return [
        row
        for row in away
        if row["state"] in ("lost", "held") and row["overlay"] and row["site"] is not None
    ]


def hosts_lines(
    listed: Sequence[Row],
    domain: str | None = None,
    *,
    held: Mapping[str, str] = MappingProxyType({}),
    order: Mapping[str, int] = MappingProxyType({}),
    allowed: Collection[str] = (),
) -> tuple[list[str], list[str]]:
    """Lines for /etc/hosts, and the ids of hosts without a name that may stand there.

    A name with a dot could be any host in the world, and would win over DNS. It counts only inside
    ``domain``, with one label before that, because more labels may mean another zone. Names that
    programs look up by themselves count only if they are ``allowed``.

    ``held``: the address of each name in the file as it is; ``order``: by address, how many leases
    are older than its own. A name in the file stays with a host that is away. If several hosts want
    it, it stays with the one that has it, provided that its lease is the oldest.
    """
    fits = _Fits(domain, frozenset(label(word, domain).lower() for word in allowed))
    live = [row for row in listed if row["state"] not in _AWAY]
    away = [row for row in listed if row["state"] in _AWAY]
    given, stay = _kept(live, away, held, order, fits)
    for rows_ in (live, away):
        used = {fits.key(name) for name in given.values()} | stay
        chosen = {row["overlay"]: _word(row, used, fits) for row in rows_}
        twice = Counter(fits.key(name) for name in chosen.values())
        for row in rows_:
            address, name = row["overlay"], chosen[row["overlay"]]
            # Of one that only holds a lease, nobody knows whether there ever was a host.
            if address not in given and twice[fits.key(name)] == 1 and row["state"] != "missing":
                given[address] = name
    lines, left_out = [], []
    for row in listed:
        line = hosts_line(IPv4Address(row["overlay"]), given.get(row["overlay"], ""))
        if line is not None:
            lines.append(line)
        elif row["state"] != "missing":
            left_out.append(row["id"])
    return lines, left_out


@dataclass(frozen=True, slots=True)
class _Fits:
    domain: str | None
    allowed: frozenset[str]

    def __call__(self, name: str) -> bool:
        word = self.key(name)
        return "." not in word and (word not in CLIENT_NAMES or word in self.allowed)

    def key(self, name: str) -> str:
        return label(name, self.domain).lower()


def _word(row: Row, used: Collection[str], fits: _Fits) -> str:
    names = [row["name"], *([row["id"]] if row.get("contested") != row["id"] else [])]
    return next((name for name in names if fits(name) and fits.key(name) not in used), "")


def _kept(
    live: Sequence[Row],
    away: Sequence[Row],
    held: Mapping[str, str],
    order: Mapping[str, int],
    fits: _Fits,
) -> tuple[dict[str, str], set[str]]:
    """By address, the names in the file that stay where they are; and names that nobody gets.

    A member may be away because somebody ended its session in order to get its name. So only a host
    with a younger lease takes over the name of one that is missing, as a replacement has.
    """
    called = {fits.key(row["name"]): row for row in live}
    known = {row["overlay"]: row for row in (*live, *away)}
    wanted = _first_to_want(live, order, fits)
    kept: dict[str, str] = {}
    stay: set[str] = set()
    for name, address in held.items():
        row, key = known.get(address), fits.key(name)
        if address in kept or key in stay or not fits(name):
            continue
        newcomer = called.get(key)
        older = newcomer is not None and _older(newcomer["overlay"], address, order)
        if newcomer is not None and key in fits.allowed:
            continue  # the operator's word
        if row is None:
            if older:
                stay.add(key)
            continue
        if row["state"] in _AWAY:
            stays = row["state"] != "missing" or newcomer is None or older
        else:
            oldest, addresses = wanted.get(key, (-1, set()))
            stays = newcomer is None and address in addresses
            stays = stays and order.get(address, len(order)) == oldest
        if stays:
            kept[address] = name
            stay.add(key)
    return kept, stay


def _first_to_want(
    live: Sequence[Row], order: Mapping[str, int], fits: _Fits
) -> dict[str, tuple[int, set[str]]]:
    """By word: the age of the oldest lease of those who want it, and their addresses."""
    wanted: dict[str, tuple[int, set[str]]] = {}
    for row in live:
        if row.get("contested") is not None:
            key = fits.key(row["contested"])
            oldest, addresses = wanted.setdefault(key, (len(order), set()))
            addresses.add(row["overlay"])
            age = order.get(row["overlay"], len(order))
            wanted[key] = min(oldest, age), addresses
    return wanted


def _older(one: str, other: str, order: Mapping[str, int]) -> bool:
    """Whether both are leased, and that one earlier."""
    return one in order and other in order and order[one] < order[other]


def inventory(listed: Sequence[Row]) -> tuple[dict[str, Any], list[str]]:
    """Ansible's, by site, and the ids of those that are left out: what they are called is the name
    of a group, so a play for that group would reach them too, or them alone; or it is the name of
    a host before them, such as one that is there while they are lost."""
    called = _label_names(listed)
    sites = sorted({row["site"] for row in listed})
    groups = _groups(sites)
    reserved = {*RESERVED_GROUPS, *sites, *groups.values()}
    fit: list[Row] = []
    left_out: list[Row] = []
    for row in listed:
        good = plain_name(row["name"]) is not None and row["name"].lower() not in reserved
        reserved.add(row["name"].lower())
        (fit if good else left_out).append(row)
    document = {
        "_meta": {
            "hostvars": {
                row["name"]: {
                    "ansible_host": row["overlay"],
                    **{
                        f"neti_{key}": inventory_value(row[key])
                        for key in ("id", "private", "public", "site", "state")
                    },
                    **{
                        f"neti_label_{called[key]}": inventory_value(value)
                        for key, value in row.get("labels", {}).items()
                    },
                }
                for row in fit
            }
        },
        "all": {"children": sorted(groups.values())},
        **{
            groups[site]: {"hosts": [row["name"] for row in fit if row["site"] == site]}
            for site in sites
        },
    }
    return document, [row["id"] for row in left_out]


def _groups(sites: Sequence[str]) -> dict[str, str]:
    """The group of each site: its name, but for those that Ansible has itself."""
    groups: dict[str, str] = {}
    for site in sites:
        group = f"site_{site}" if site in (*RESERVED_GROUPS, "_meta") else site
        while group != site and group in sites:
            group += "_"
        groups[site] = group
    return groups


def _label_names(listed: Sequence[Row]) -> dict[str, str]:
    """By key of a label what it is called where no name may have a ``-``: with ``_`` instead. Where
    another label of these hosts has that name already, one more ``_`` stands at the end."""
    keys = {key for row in listed for key in row.get("labels", {})}
    names, taken = dict[str, str](), set[str]()
    for key in sorted(keys, key=lambda key: ("-" in key, key)):  # whoever has it by itself keeps it
        name = key.replace("-", "_")
        while name in taken:
            name += "_"
        names[key] = name
        taken.add(name)
    return names


def targets(listed: Sequence[Row], port: int | None = None) -> list[dict[str, Any]]:
    """For Prometheus's file_sd. Without a port it takes the scheme's own. Of labels see
    ``_label_names``."""
    called = _label_names(listed)
    end = "" if port is None else f":{port}"
    return [
        {
            "targets": [f"{row['overlay']}{end}"],
            "labels": {
                "host": metric_label(row["name"]),
                "id": metric_label(row["id"]),
                "site": metric_label(row["site"]),
                # Gone after relabelling: a host that is lost stays the same series.
                "__meta_neti_state": metric_label(row["state"]),
                **{
                    f"label_{called[key]}": metric_label(value)
                    for key, value in row.get("labels", {}).items()
                },
            },
        }
        for row in listed
    ]


def by_site(listed: Sequence[Row]) -> dict[str, int]:
    return dict(Counter(row["site"] for row in listed))

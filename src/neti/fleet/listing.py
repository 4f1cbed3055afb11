"""The fleet as operators and their programs read it: rows, an inventory, hosts lines. Pure.

Members come judged: who is not believed is in no listing. What a host says of itself is anybody's
text all the same: a name that could be taken for another host, for a group, for an option or for a
template is replaced by the host's id, which its lease vouches for.

Must never: give one host's name to another, or a name to an address that nobody has.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from ipaddress import IPv4Address
from typing import Any, Final

from neti.model import Member
from neti.registry.detail import Document
from neti.text import csv_cell, hosts_line, inventory_value, label, plain_name

Row = dict[str, Any]

# Ansible's own groups; a host of such a name would be in every play, or take the group's place.
RESERVED_GROUPS: Final = frozenset({"all", "ungrouped"})
_UNKNOWN: Final = "?"


def names_of(
    members: Collection[str], told: Mapping[str, Document], taken: Iterable[str] = ()
) -> dict[str, str]:
    """Each member's name by its id: its own word where that is nobody else's, else its id.

    ``taken``: what else no host may be called, such as sites and the ids of leases.
    """
    wished = {i: plain_name(told[i].name) for i in members if i in told}
    claims = Counter(name.lower() for name in wished.values() if name is not None)
    ids = Counter(host_id.lower() for host_id in {*members, *taken, *RESERVED_GROUPS})
    chosen = {}
    for host_id in members:
        name = wished.get(host_id)
        others = ids[name.lower()] - (name == host_id) if name is not None else 0
        free = name is not None and claims[name.lower()] == 1 and not others
        chosen[host_id] = name if name is not None and free else host_id
    return chosen


def rows(
    members: Mapping[str, Member], told: Mapping[str, Document], taken: Iterable[str] = ()
) -> list[Row]:
    """One for each member, sorted by site and name."""
    names = names_of(members, told, taken)
    made = [_row(member, names[i], told.get(i, Document())) for i, member in members.items()]
    return sorted(made, key=lambda row: (row["site"], row["name"], row["id"]))


def _row(member: Member, name: str, told: Document) -> Row:
    return {
        "name": name,
        "id": member.id,
        "site": member.site,
        "private": str(member.private),
        "public": str(member.public) if member.public else None,
        "overlay": str(member.overlay),
        "version": told.version or _UNKNOWN,
        "stage": told.stage or _UNKNOWN,
        "state": "registered",
        # Codes of what is wrong on it; None: it does not say.
        "problems": list(told.problems) if told.problems is not None else None,
    }


def csv_row(row: Row, columns: Sequence[str]) -> list[str]:
    return [csv_cell(row[column]) for column in columns]


def still_reachable(away: Sequence[Row]) -> list[Row]:
    """Of those who are away: hosts that peers keep, or may keep, because they did not say goodbye.
    Nothing tells their names but what was written before, so they are called by their ids."""
    return [row for row in away if row["state"] in ("lost", "held", "missing") and row["overlay"]]


def hosts_lines(listed: Sequence[Row], domain: str | None = None) -> tuple[list[str], list[str]]:
    """Lines for /etc/hosts, and the ids of those that have no name that may stand there.

    A name with a dot could be any host of the world, and would win over DNS: it counts only inside
    ``domain``.
    """
    lines, left_out = [], []
    chosen = [next((n for n in (r["name"], r["id"]) if _local(n, domain)), "") for r in listed]
    twice = Counter(name.lower() for name in chosen)  # resolvers do not tell DB-1 from db-1
    for row, name in zip(listed, chosen, strict=True):
        names = [name] if twice[name.lower()] == 1 else []
        line = hosts_line(IPv4Address(row["overlay"]), *names)
        if line is None:
            left_out.append(row["id"])
        else:
            lines.append(line)
    return lines, left_out


def _local(name: str, domain: str | None) -> bool:
    return "." not in name or (
        domain is not None and name.lower().endswith(f".{domain.strip('.').lower()}")
    )


def inventory(listed: Sequence[Row]) -> tuple[dict[str, Any], list[str]]:
    """Ansible's, by site, and the ids of those that are left out: what they are called is the name
    of a group, so a play for that group would reach them too, or them alone."""
    sites = sorted({row["site"] for row in listed})
    groups = _groups(sites)
    reserved = {*RESERVED_GROUPS, *sites, *groups.values()}
    fit: list[Row] = []
    left_out: list[Row] = []
    for row in listed:
        good = plain_name(row["name"]) is not None and row["name"].lower() not in reserved
        (fit if good else left_out).append(row)
    document = {
        "_meta": {
            "hostvars": {
                row["name"]: {
                    "ansible_host": row["overlay"],
                    **{
                        f"neti_{key}": inventory_value(row[key])
                        for key in ("id", "private", "public", "site")
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


def targets(listed: Sequence[Row], port: int | None = None) -> list[dict[str, Any]]:
    """For Prometheus's file_sd. Without a port it takes the scheme's own."""
    end = "" if port is None else f":{port}"
    return [
        {
            "targets": [f"{row['overlay']}{end}"],
            "labels": {
                "host": label(row["name"]),
                "id": label(row["id"]),
                "site": label(row["site"]),
            },
        }
        for row in listed
    ]


def by_site(listed: Sequence[Row]) -> dict[str, int]:
    return dict(Counter(row["site"] for row in listed))

"""Which host is called what in listings, if several want one word. Pure.

A host's word is its name, or else its id. Anybody with a certificate may lease any free id and say
any name, so neither proves anything; but nobody can make a lease older than it is:

- what the operator says (``pinned``) counts before everything else; - an id belongs to its host,
against names of hosts whose lease is younger; - a name belongs to a host with an instance id
(nobody knows a host by that), against ids whose lease
  is younger. Against any other older word, neither host is called so;
- a name that two members say belongs to neither;
- an id whose lease is younger takes nothing from a name as long as nobody is registered by it.

A host that loses its id, too, is called by its overlay address.

Must never do: give one host's name to another, or keep quiet about who wanted it.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address
from typing import Any, Final

from neti.model import Member
from neti.text import plain_name, printable
from neti.words import some

# Ansible's own groups; a host of such a name would be in every play, or take the group's place.
RESERVED_GROUPS: Final = frozenset({"all", "ungrouped"})
# Only its own host has a claim to it, and nobody knows a host by it.
_INSTANCE_ID: Final = re.compile(r"i-[0-9a-f]+")
_AT_THE_LATEST: Final = 1 << 40

# Names that programs look up by themselves, without anybody having configured them. A hosts file
# wins over DNS, so whoever is called so gets what is meant for that service.
CLIENT_NAMES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("wpad", "proxy"), "browsers and updaters take it for their proxy"),
    **dict.fromkeys(("puppet", "puppetca", "salt", "chef"), "agents take orders from it as root"),
    **dict.fromkeys(("ldap", "kerberos", "kdc", "nis", "krb5"), "logins are checked there"),
    **dict.fromkeys(("dns", "ns", "ns1", "ns2", "ntp", "time"), "names and time come from there"),
    **dict.fromkeys(("mail", "mailhost", "smtp", "relay"), "mail is handed over there"),
    **dict.fromkeys(("loghost", "syslog"), "logs are sent there"),
    **dict.fromkeys(("gateway", "router", "isatap"), "traffic is sent through it"),
    **dict.fromkeys(("autoconfig", "autodiscover"), "mail programs take passwords there"),
    **dict.fromkeys(
        ("metadata", "instance-data"), "cloud-init and SDKs take credentials from there"
    ),
    **dict.fromkeys(("registry", "mirror", "repo", "apt", "yum"), "software comes from there"),
}


@dataclass(frozen=True, slots=True)
class Called:
    """``contested``: the word that it wants and is not called by, because others want it too.
    ``own_id``: whether its id is a word for it and nobody else."""

    name: str
    contested: str | None = None
    own_id: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What is known of words, besides what members say. ``taken``: what no host may be called, such
    as the name of a site. ``leases``: who holds which address, oldest first. ``pinned``: by word,
    the host that it belongs to. ``domain``: a name inside it is the same word with and without
    it."""

    taken: Collection[str] = ()
    leases: Mapping[IPv4Address, str]
    pinned: Mapping[str, str]
    domain: str | None = None

    def order(self) -> dict[str, int]:
        """How many leases are older than that of an address."""
        return {str(overlay): number for number, overlay in enumerate(self.leases)}

    def key(self, name: str) -> str:
        """Resolvers do not tell DB-1 from db-1."""
        return label(name, self.domain).lower()


def label(name: str, domain: str | None) -> str:
    """Without the domain, if it is inside it."""
    end = f".{domain.strip('.').lower()}" if domain else "."
    return name[: -len(end)] if len(name) > len(end) and name.lower().endswith(end) else name


class _Claims:
    def __init__(
        self, members: Mapping[str, Member], wished: Mapping[str, str], words: Words
    ) -> None:
        # Of thousands each word is looked up several times; and addresses are slow keys.
        self.key = key = cache(words.key)
        leases = enumerate(words.leases.items())
        order = {(int(overlay), host_id): number for number, (overlay, host_id) in leases}
        self._age = {
            member.id: order.get((int(member.overlay), member.id), _AT_THE_LATEST)
            for member in members.values()
        }
        self.members = members
        self.taken = {key(word) for word in (*words.taken, *RESERVED_GROUPS)}
        self.pinned = {key(word): host_id for word, host_id in words.pinned.items()}
        self.by_name: dict[str, list[str]] = defaultdict(list)
        for host_id, name in wished.items():
            if key(name) != key(host_id):  # a host's own id is no further claim
                self.by_name[key(name)].append(host_id)
        # Ids, registered or not, and since when each is leased.
        self.by_id: dict[str, dict[str, int]] = defaultdict(dict)
        for (_, host_id), number in order.items():
            self.by_id[key(host_id)].setdefault(host_id, number)
        for host_id, age in self._age.items():
            self.by_id[key(host_id)][host_id] = age

    def id_is_its_own(self, host_id: str) -> bool:
        key, age = self.key(host_id), self._age[host_id]
        if key in self.pinned:
            return self.pinned[key] == host_id
        if any(other != host_id and since <= age for other, since in self.by_id[key].items()):
            return False  # ids that differ in case only
        if _INSTANCE_ID.fullmatch(host_id):
            return True
        return not any(
            other != host_id and self._age[other] < age for other in self.by_name.get(key, ())
        )

    def name_is_its_own(self, host_id: str, name: str) -> bool:
        key, age = self.key(name), self._age[host_id]
        if key in self.pinned:
            return self.pinned[key] == host_id
        if key in self.taken or len(self.by_name[key]) > 1:
            return False
        others = {i: since for i, since in self.by_id.get(key, {}).items() if i != host_id}
        if _INSTANCE_ID.fullmatch(key) and key != host_id:
            return False
        if any(since <= age for since in others.values()):
            return False
        live = others.keys() & self.members.keys()
        return not live or _INSTANCE_ID.fullmatch(host_id) is not None


def names_of(
    members: Mapping[str, Member], wished: Mapping[str, str | None], words: Words
) -> dict[str, Called]:
    """By id. ``wished``: what each says that it is called, where that is a plain name."""
    said = {i: name for i in members if (name := wished.get(i)) and plain_name(name)}
    claims = _Claims(members, said, words)
    given = {host_id: word for word, host_id in words.pinned.items()}
    called = {}
    for host_id, member in members.items():
        own_id = claims.id_is_its_own(host_id)
        last = host_id if own_id else str(member.overlay)
        lost = None if own_id else host_id
        name = said.get(host_id)
        if host_id in given:
            called[host_id] = Called(given[host_id], lost)
        elif name is None or claims.key(name) == claims.key(host_id):
            called[host_id] = Called(last, lost)
        elif claims.name_is_its_own(host_id, name):
            called[host_id] = Called(name, lost)
        else:
            called[host_id] = Called(last, lost or name)
    return called


def contests(rows: Sequence[Mapping[str, Any]], words: Words) -> Iterable[str]:
    """A sentence for each word that several want."""
    wanted: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["contested"] is not None:
            wanted[words.key(row["contested"])].append(row)
    holders = {words.key(row["name"]): row for row in rows}
    for key, losers in sorted(wanted.items()):
        word, ids = printable(losers[0]["contested"]), some([row["id"] for row in losers])
        holder = holders.get(key)
        if holder is not None:
            yield (
                f"{word} is the name of {holder['id']} ({holder['overlay']}); "
                f"{ids} cannot be called so too"
            )
        elif key in {words.key(each) for each in words.pinned}:
            yield f"{word} is the name of a host that is not listed; {ids} cannot be called so"
        elif len(losers) > 1:
            yield f"{word} is claimed by {len(losers)} hosts, so none of them is called so: {ids}"
        else:
            yield (
                f"{word} is another host's id, a site or a server of ZooKeeper's; "
                f"{ids} cannot be called so"
            )


def withheld(rows: Sequence[Mapping[str, Any]], words: Words) -> Iterable[str]:
    """A sentence for each name that is kept out of hosts files, because programs look it up."""
    pinned = {words.key(word) for word in words.pinned}
    for row in rows:
        key = words.key(row["name"])
        if key in CLIENT_NAMES and key not in pinned:
            yield (
                f"{row['id']} is not called {row['name']} in a hosts file: {CLIENT_NAMES[key]}\n"
                f"→ --name {key}={row['id']} if it is meant to be"
            )

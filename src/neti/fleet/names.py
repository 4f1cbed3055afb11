"""The fleet's names as a resolver serves them: lines of a hosts file. Pure.

A member is called by its id inside the operators' suffix, and by the names that operators gave it.
What a host says that it is called counts for nothing here: a hosts file wins over DNS.

Must never do: write a name that a member chose, outside the suffix; or one name for two hosts.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from ipaddress import IPv4Address
from typing import Final

from neti.model.addresses import dotted
from neti.model.editions import is_later
from neti.model.names import Names, is_host_name
from neti.model.settings import Settings
from neti.registry.names import NamesUnreadable, decode

HEADER: Final = "# The names of Neti's fleet, kept by this host's agent. Do not edit."
# What the file holds where no overlay address leads anywhere.
NOBODY: Final = (
    HEADER,
    "# Neti is down here, or this host has left the fleet: nobody is reached by these.",
)


def host_lines(
    hosts: Mapping[str, IPv4Address], names: Names, taken: Collection[str] = ()
) -> list[str]:
    """One for each host that has a name, by address; the name inside the suffix comes first.
    ``hosts``: by id the overlay address; ``taken``: what no host may be called, such as a server of
    ZooKeeper's."""
    given = given_names(names, taken)
    used = {*(word.lower() for word in taken), *given}
    words = {host_id: [word] for host_id, word in _of_ids(hosts, names.suffix, used)}
    for name, host_id in given.items():
        if host_id in hosts:
            words.setdefault(host_id, []).append(name)
    ordered = sorted(words, key=lambda host_id: hosts[host_id])
    return [f"{dotted(hosts[host_id])}\t{' '.join(words[host_id])}" for host_id in ordered]


def given_names(names: Names, taken: Collection[str] = ()) -> dict[str, str]:
    """By name the host, of those that operators gave: one without a dot stands inside the suffix
    as well. It is that host's also while the host is away."""
    given: dict[str, str] = {}
    refused = {word.lower() for word in taken}
    for name, host_id in sorted(names.ids.items()):
        inside = [f"{name}.{names.suffix}"] if names.suffix and "." not in name else []
        for word in (name, *inside):
            if word not in refused:
                given.setdefault(word, host_id)
    return given


def server_names(settings: Settings) -> frozenset[str]:
    """What agents call ZooKeeper's servers by: a hosts file would lead them elsewhere."""
    places = (place for listed in settings.zk_hosts.values() for place in listed)
    return frozenset(place.rpartition(":")[0] for place in places)


def _of_ids(
    hosts: Mapping[str, IPv4Address], suffix: str, used: Collection[str]
) -> Iterator[tuple[str, str]]:
    """Ids that differ in case only are one name for resolvers: it is that of the one that is
    spelled in lower case, or else of none."""
    if not suffix:
        return
    folded = Counter(low for host_id in hosts if (low := host_id.lower()) != host_id)
    for host_id in hosts:
        low = host_id.lower()
        if low != host_id and (low in hosts or folded[low] > 1):
            continue
        word = f"{low}.{suffix}"
        if word not in used and is_host_name(word):
            yield host_id, word


def followed(before: Names, raw: bytes | None, now: float) -> tuple[Names, str | None]:
    """What is followed once the registry has said ``raw``; and why that is what was followed
    before, in a sentence with the next step. ``now``: Unix seconds.

    Operators' commands only ever raise the edition. So one that is lower, or gone, is that of a
    registry that was wiped or restored, and takes no name away. But one that no command makes gives
    way to any that a command does make.
    """
    try:
        said = decode(raw)
    except NamesUnreadable as error:
        return before, str(error)
    if said == before or is_later(said.edition, before.edition, now):
        return said, None
    return before, (
        f"the registry's names (edition {said.edition}) are not later than edition "
        f"{before.edition}, which stays in force: was it wiped, or restored from a copy?\n"
        "→ 'neti registry import FILE' brings them back, if it was wiped. Otherwise give any name "
        "again with 'neti name': it makes a later edition"
    )

"""``neti hosts`` and ``neti lookup``: the fleet's names and addresses, for resolvers and people.

Must never do: write a hosts file from what is not the registry's own word, or leave half of one.
"""

import sys
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any, Final

import click

from neti.agent.verify import THROUGH
from neti.cli.common import (
    ONLY_AS_THE_AGENT_KNEW,
    config_option,
    fleet_seen,
    json_option,
    settings_in_force,
)
from neti.cli.ending import if_interrupted
from neti.cli.fleet_shown import note_left_out
from neti.cli.naming import name_option, note_contests, note_withheld, pinned_names
from neti.cli.output import explain, hand_over, print_json, say
from neti.control.protocol import RUN
from neti.errors import ConfigError, NetiError
from neti.fleet import listing
from neti.fleet.listing import Row
from neti.fleet.names import host_lines, server_names
from neti.model import Road
from neti.model.names import Names
from neti.model.settings import Settings
from neti.oneshot.hosts_file import held, rewrite
from neti.oneshot.seen import Seen, from_here
from neti.state import hosts_file
from neti.state.location import state_folder
from neti.text import command, printable
from neti.words import counted, some

_HOSTS: Final = "/etc/hosts"
_NO_SUFFIX: Final = (
    "these are names that hosts give themselves, and a hosts file wins over DNS\n"
    "→ 'neti name --suffix DOMAIN' calls them by their ids inside DOMAIN, and by no other name "
    "but operators'"
)
_CUT_OFF: Final = "cut off, it must be encrypted and"
_HERE: Final = ("road", "reached_at", "gateways", "key")
_ADDRESSES: Final = ("overlay", "private", "public")
_CALLED: Final = ("name", "id", "contested", *_ADDRESSES)
_SHOWN: Final = ("name", "id", "site", "overlay", "private", "public", "state")


@click.command()
@config_option
@click.option(
    "--write",
    is_flag=False,
    flag_value=_HOSTS,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="[FILE]",
    help=f"Write the lines into FILE ({_HOSTS}), between markers.",
)
@click.option(
    "--remove",
    is_flag=False,
    flag_value=_HOSTS,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="[FILE]",
    help=f"Take them out of FILE ({_HOSTS}) again.",
)
@click.option("--domain", help="Also use names inside this domain, such as db-1.example.com.")
@name_option
@if_interrupted("the file is either unchanged or complete")
def hosts(
    config: Path,
    write: Path | None,
    remove: Path | None,
    domain: str | None,
    names: tuple[str, ...],
) -> None:
    """Print names and overlay addresses for /etc/hosts, or write them.

    With the fleet's suffix ('neti name --suffix') members are called by their ids inside it, and
    otherwise as operators say. Without one, they are called by the names that they give themselves.
    Exit code 3: the registry does not answer, and the addresses are those that this host's agent
    knew last, without names.

    --write puts the lines between two markers and leaves all others alone. It replaces the file in
    one step and keeps its mode and owner. You can run it as often as you like, for example by cron.
    A host that is lost or held, and so still reachable, keeps the line that it has there, and so
    does one of several that want one name.

    Names that programs look up by themselves, such as wpad or puppet, are written only for the
    host that 'neti name' or --name gives them to.

    \b
    Examples:
      neti hosts
      neti hosts --write
      neti hosts --write --name puppet=i-0aaa
      neti hosts --remove
    """
    pinned = pinned_names(names)
    if write is not None and remove is not None:
        raise click.UsageError("--write and --remove cannot be used together")
    if remove is not None:
        _report(remove, rewrite(remove, []), "no lines from Neti")
        return
    settings = settings_in_force(config)
    seen = fleet_seen(settings)
    if write is not None and seen.unanswered is not None:
        raise NetiError(
            f"{write} is not changed: the registry does not answer, and this host's agent does not "
            "know the members' names"
        )
    if seen.names is None and seen.unanswered is None:
        raise NetiError(
            "the registry's names cannot be read, so nobody knows whose name is whose\n"
            "→ neti name --list"
        )
    given = seen.names or Names()
    if given.suffix:
        lines = _by_suffix(seen, given, pinned, settings, domain)
    else:
        held_there = held(write) if write is not None else {}
        lines = _by_own_names(seen, given, pinned, settings, domain, held_there)
    if write is None:
        hand_over("".join(f"{line}\n" for line in lines))
    elif not seen.members:
        raise NetiError(
            f"{write} is not changed: the registry has no member\n"
            f"→ {command('neti hosts --remove', write)} takes the lines out"
        )
    else:
        _report(write, rewrite(write, lines), f"{counted(len(lines), 'line')} from Neti")
    if seen.unanswered is not None:
        sys.exit(ONLY_AS_THE_AGENT_KNEW)
    if not given.suffix and write is None:
        explain(_NO_SUFFIX)


def _by_suffix(
    seen: Seen, given: Names, pinned: Mapping[str, str], settings: Settings, domain: str | None
) -> list[str]:
    """As every agent keeps them, and who holds a lease and is not there."""
    if domain is not None:
        raise click.UsageError(f"--domain: the fleet's suffix is {given.suffix} ('neti name')")
    named = Names(given.suffix, {**given.ids, **{word.lower(): i for word, i in pinned.items()}})
    hosts = {row["id"]: IPv4Address(row["overlay"]) for row in listing.still_reachable(seen.away)}
    hosts.update({host_id: member.overlay for host_id, member in seen.members.items()})
    return host_lines(hosts, named, server_names(settings))


def _by_own_names(
    seen: Seen,
    given: Names,
    own: Mapping[str, str],
    settings: Settings,
    domain: str | None,
    held: Mapping[str, str],
) -> list[str]:
    pinned = {**given.ids, **own}
    words = seen.words(pinned, domain)
    rows, away = seen.rows(words), listing.still_reachable(seen.away)
    lines, left_out = listing.hosts_lines(
        [*rows, *away], domain, held=held, order=words.order(), allowed=pinned
    )
    note_contests(rows, words)
    note_withheld(rows, words)
    note_left_out(left_out, "a hosts file")
    written = {word.lower() for line in lines for word in line.split()[1:]}
    # One host may have several names by operators' word, and one inside a domain.
    hosts = {row["id"]: IPv4Address(row["overlay"]) for row in (*rows, *away)}
    more = Names("", {word: i for word, i in given.ids.items() if word not in written})
    return [*lines, *host_lines(hosts, more, server_names(settings))]


def _report(path: Path, changed: bool, holds: str) -> None:
    say(f"{path}: {'written' if changed else 'nothing to change'}; it has {holds}")


@click.command()
@config_option
@json_option
@click.argument("what", metavar="NAME|ID|ADDRESS")
def lookup(config: Path, as_json: bool, what: str) -> None:
    """Find a host by name, id or address.

    Shows its other names and addresses. The address may be an overlay, private or public one. Two
    sites can have the same private address: then both hosts are listed. An address is looked for
    among addresses alone, never among names and ids, which hosts choose themselves. Exit code 1 if
    no host has it.

    Where an agent runs, it also shows how this host reaches it: encrypted or in the clear, by which
    address or gateways, and the WireGuard key that is believed here. 'neti status' on that host
    shows its own: they must be the same.

    \b
    Examples:
      neti lookup db-1
      neti lookup 192.168.3.7
    """
    wanted = what.strip().lower()
    try:
        settings = settings_in_force(config)
    except ConfigError as error:
        if not isinstance(error.__context__, PermissionError):
            raise
        _look_up_in_file(state_folder(config), wanted, as_json=as_json)
        return
    seen = fleet_seen(settings)
    pinned = seen.names.ids if seen.names is not None else {}
    words = seen.words(pinned)
    rows = [*seen.rows(words), *seen.away]
    given = _given(rows, seen.names or Names(), server_names(settings))
    # An address is never an id or a name: hosts choose those themselves.
    keys = _ADDRESSES if _is_address(wanted) else _CALLED
    found = [row for row in rows if wanted in _called(row, keys)]
    if not _is_address(wanted) and wanted in {word for one in given.values() for word in one}:
        found = [row for row in rows if wanted in given.get(row["id"], ())]  # operators' word
    note_contests([row for row in found if row.get("contested")], words)
    here = from_here(settings, {row["id"] for row in found}) if found else {}
    if as_json:
        print_json(
            [
                {
                    **row,
                    "names": given.get(row["id"], []),
                    "here": _as_reached(here.get(row["id"])),
                }
                for row in found
            ]
        )
    for row in () if as_json else found:
        say("  ".join(f"{key} {printable(row[key])}" for key in _SHOWN if row.get(key)))
        if row["id"] in given:
            say(f"  names: {' '.join(given[row['id']])}")
        if (reached := here.get(row["id"])) is not None:
            say(f"  from here: {_way(reached)}")
    if not found:
        raise NetiError(f"no host has the name, id or address {what!r}\n→ neti fleet")


def _given(rows: Sequence[Row], names: Names, taken: Collection[str]) -> dict[str, list[str]]:
    """By id the names that its agents' hosts files have for it."""
    hosts = {row["id"]: IPv4Address(row["overlay"]) for row in rows if row["overlay"]}
    by_address = {line.split()[0]: line.split()[1:] for line in host_lines(hosts, names, taken)}
    return {i: by_address[str(at)] for i, at in hosts.items() if str(at) in by_address}


def _look_up_in_file(folder: Path, wanted: str, *, as_json: bool) -> None:
    """For who may not read the configuration: this host's agent keeps its names for everybody."""
    path = hosts_file.place(folder, RUN)
    try:
        held = hosts_file.read(path)
    except NetiError as error:
        raise NetiError(
            f"{error}, and only root reads the configuration\n→ run this as root"
        ) from error
    found = [(at, words) for at, words in held if wanted in (at, *words)]
    if as_json:
        print_json([{"overlay": at, "names": words} for at, words in found])
    for at, words in () if as_json else found:
        say(f"overlay {at}  names {' '.join(words)}")
    if not found:
        raise NetiError(
            f"no host has the name or overlay address {wanted!r} in {path}\n"
            "→ as root, this command finds every host, also by id, private and public address"
        )


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _as_reached(told: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if told is None else {key: told.get(key) for key in _HERE}


def _way(told: Mapping[str, Any]) -> str:
    """As this host's agent has it, which may be of a version that does not tell all of it."""
    at, gateways, key = told.get("reached_at"), told.get("gateways"), told.get("key")
    road = told.get("road", Road.PLAIN.value)
    if road == Road.NONE.value:
        if not key:
            return f"{_CUT_OFF} has no key that is believed here"
        # Without a device here its key does not help.
        return f"{_CUT_OFF} this host has no WireGuard peer for it: see 'neti status'; key {key}"
    said = "encrypted" if road in THROUGH else "in the clear"
    if gateways:
        said += f", by {some(gateways)}"
    elif at is not None:
        said += f", by {'private' if at == told.get('private') else 'public'} address {at}"
    else:
        said += ", by no address: this host itself, or out of reach"
    return said + (f", key {key}" if key else "")


def _called(row: Row, keys: tuple[str, ...]) -> set[str]:
    return {str(row[key]).lower() for key in keys if row.get(key)}

"""``neti name``: what hosts are called by operators' word, in every host's resolver."""

import time
from pathlib import Path
from typing import Final

import click

from neti.cli.common import config_option, json_option, registry_of, settings_in_force
from neti.cli.ending import if_interrupted
from neti.cli.output import explain, print_json, say
from neti.config import load
from neti.host import caller
from neti.oneshot import naming
from neti.oneshot.naming import Named
from neti.words import counted

_UNKNOWN: Final = "whether it was changed is not known\n→ neti name --list"


@click.command()
@click.argument("given", metavar="[NAME ID]", nargs=-1)
@config_option
@json_option
@click.option("--list", "listed", is_flag=True, help="List suffix and names.")
@click.option("--remove", metavar="NAME", help="Take this name away.")
@click.option("--suffix", metavar="DOMAIN", help="Call every member ID.DOMAIN.")
@click.option("--no-suffix", is_flag=True, help="Call no member by its id any more.")
@if_interrupted(_UNKNOWN)
def name(
    given: tuple[str, ...],
    config: Path,
    as_json: bool,
    listed: bool,
    remove: str | None,
    suffix: str | None,
    no_suffix: bool,
) -> None:
    """Give a host a name, or the fleet the suffix of all its names.

    A name stands for the lease of an id: after 'neti lease move' it leads to the host that has the
    address then, and it ends with the lease. Names and suffix stand in the registry, where only
    operators may write, and every agent keeps them in its hosts file, which a resolver serves.

    With a suffix each member is called ID.DOMAIN, and no host by a name of its own choice. Take a
    domain that has nothing else in it: a hosts file wins over DNS.

    \b
    Examples:
      neti name --suffix neti.internal
      neti name db db-1
      neti name --list
      neti name --remove db
    """
    wanted = sum([bool(given), listed, remove is not None, suffix is not None, no_suffix])
    if wanted != 1 or len(given) not in (0, 2) or suffix == "":
        raise click.UsageError(
            "expected NAME and ID, or one of --list, --remove, --suffix and --no-suffix"
        )
    now, settings = time.time(), settings_in_force(config) if listed else load(config)
    with registry_of(settings) as registry:
        if listed:
            done = naming.look(registry)
        elif given:
            done = naming.give(settings, registry, *given, now=now)
        elif remove is not None:
            done = naming.take(registry, remove, now=now)
        else:
            done = naming.set_suffix(settings, registry, suffix or "", now=now)
    if done.changed:
        caller.note("name", edition=done.names.edition)
    if as_json:
        print_json(_document(done))
    elif listed:
        _say_all(done)
    else:
        _say_changed(done, given, remove)


def _document(done: Named) -> dict[str, object]:
    return {
        "suffix": done.names.suffix or None,
        "names": dict(sorted(done.names.ids.items())),
        "edition": done.names.edition,
        "changed": done.changed,
    }


def _say_all(seen: Named) -> None:
    names = seen.names
    say(f"suffix {names.suffix}" if names.suffix else "no suffix: no member is called by its id")
    width = max(map(len, names.ids), default=0)
    for word, host_id in sorted(names.ids.items()):
        overlay = seen.leases.get(host_id)
        where = f"{overlay!s:<15}" if overlay is not None else "no lease: nobody"
        say(f"{word:<{width}}  {where}  {host_id}")
    say(counted(len(names.ids), "name"))


def _say_changed(done: Named, given: tuple[str, ...], remove: str | None) -> None:
    names, before = done.names, done.before
    if not done.changed:
        say("nothing to change")
    if given:
        word, host_id = given[0].strip().rstrip(".").lower(), given[1]
        was = before.ids.get(word)
        former = f", and was {was} before" if was not in (None, host_id) else ""
        say(f"{word} is {host_id} ({done.leases[host_id]}){former}")
    elif remove is not None:
        say(f"nobody is called {remove} by an operator any more")
    elif names.suffix:
        say(f"every member is called by its id inside {names.suffix}")
    else:
        say("no member is called by its id")
        if before.suffix:
            explain("names of members outside the registry, as in /etc/hosts, stay until rewritten")

"""``neti gateway``: takes a site's gateway out of use, and into use again."""

from pathlib import Path

import click

from neti.cli.common import config_option, json_option, registry_of
from neti.cli.ending import if_interrupted
from neti.cli.menu import Group
from neti.cli.output import print_json, say
from neti.config import load
from neti.host import caller
from neti.oneshot import draining
from neti.oneshot.draining import Drained
from neti.words import some

_UNKNOWN = "whether it was changed is not known\n→ the same command again"


@click.group(cls=Group)
def gateway() -> None:
    """Take a gateway of a site out of use, and into use again."""


@gateway.command()
@click.argument("host_id", metavar="ID")
@config_option
@json_option
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@if_interrupted(_UNKNOWN)
def drain(host_id: str, config: Path, as_json: bool, dry_run: bool) -> None:
    """Have nobody send to this gateway any more, before it is stopped.

    Every host and every gateway that follows the registry goes by another gateway of its site
    within seconds, and no packet is lost: it passes on what still comes. So it stays until
    'undrain', also over restarts. It is refused for the last one of a site.

    \b
    Example, from an operator's machine:
      neti gateway drain gw-1
    """
    _say(*_changed(host_id, config, on=True, dry_run=dry_run), as_json=as_json)


@gateway.command()
@click.argument("host_id", metavar="ID")
@config_option
@json_option
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@if_interrupted(_UNKNOWN)
def undrain(host_id: str, config: Path, as_json: bool, dry_run: bool) -> None:
    """Use a drained gateway again.

    \b
    Example:
      neti gateway undrain gw-1
    """
    _say(*_changed(host_id, config, on=False, dry_run=dry_run), as_json=as_json)


def _changed(
    host_id: str, config: Path, *, on: bool, dry_run: bool
) -> tuple[str, Drained, bool, bool]:
    settings = load(config)
    with registry_of(settings) as registry:
        done = draining.drain(settings, registry, host_id, on=on, dry_run=dry_run)
    if done.changed and not dry_run:
        caller.note("gateway drain" if on else "gateway undrain", id=host_id)
    return host_id, done, on, dry_run


def _say(host_id: str, done: Drained, on: bool, dry_run: bool, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "id": host_id,
                "site": done.site or None,
                "drained": on,
                "changed": done.changed and not dry_run,
                "dry_run": dry_run,
                "others": list(done.others),
                "all_drained": list(done.every),
            }
        )
        return
    if not done.changed:
        say(f"nothing to change: {host_id} is {'drained' if on else 'not drained'}")
    elif dry_run:
        say(f"{host_id} would be {'drained' if on else 'used again'}; nothing was changed")
    else:
        say(f"{host_id} is {'drained' if on else 'used again'}")
    if on:
        say(f"hosts of site {done.site} go by {some(list(done.others))}")
        say(f"→ 'neti metrics' on {host_id}: stop it when neti_gateway_packets_total stands still")
        say(f"→ 'neti gateway undrain {host_id}' uses it again")
    elif done.changed and not dry_run:
        say(f"→ 'neti gateway drain {host_id}' takes it out of use again")

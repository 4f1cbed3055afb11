"""``neti verify``: reach members by overlay address from here."""

import sys
from pathlib import Path
from typing import Any

import click

from neti.cli.asking import ask
from neti.cli.common import config_option, json_option, settings_in_force
from neti.cli.output import print_json, say
from neti.errors import NetiError
from neti.monitoring.status import status_of
from neti.oneshot.verify import MAX_SECONDS, verify_all


@click.command()
@config_option
@json_option
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, MAX_SECONDS),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="How long each member may take.",
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
def verify(config: Path, as_json: bool, timeout: float, ids: tuple[str, ...]) -> None:
    """Reach every member by its overlay address, and prove the way.

    Sends 64 KiB both ways, to all members or to those named. Each member's agent says who it is and
    from which address it saw this host. It fails if another host answers, or if the traffic came by
    another address than it should. Exit code 1 if any member fails. Through the tunnel to another
    site a member sees this host's overlay address, and then the line says "encrypted".

    \b
    Example:
      neti verify
    """
    settings = settings_in_force(config)
    itself = status_of(ask(settings.table_files_path, "status"))
    if itself.down:
        raise NetiError(
            "Neti is down on this host, so overlay addresses lead nowhere from here\n→ neti up"
        )
    members = ask(settings.table_files_path, "members")
    results = verify_all(settings, itself, members, ids, timeout=timeout)
    if as_json:
        print_json({"host": itself.id, "results": results})
    else:
        _print(results)
    if not all(result["ok"] for result in results):
        sys.exit(1)


def _print(results: list[dict[str, Any]]) -> None:
    for result in results:
        if result["ok"]:
            text = f"ok    {result['milliseconds']:8.1f} ms  seen from {result['seen_from']}"
            text += ", encrypted" if result["encrypted"] else ""
        else:
            text = f"FAIL  {result['error']}"
        say(f"{result['id']:<24} {result.get('overlay', ''):<15}  {text}")
    good = sum(result["ok"] for result in results)
    encrypted = sum(result.get("encrypted", False) for result in results)
    crossed = any(result.get("road", "plain") != "plain" for result in results)
    say(
        f"{good} of {len(results)} members reached"
        + (f", {encrypted} of them encrypted" if crossed or encrypted else "")
    )

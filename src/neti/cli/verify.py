"""``neti verify``: reach members by overlay address from here."""

import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click

from neti.agent.verify import (
    ENCRYPTED,
    INSIDE,
    MAX_SECONDS,
    PRIVATE,
    PUBLIC,
    by_gateway,
    verify_all,
)
from neti.cli import verify_ports
from neti.cli.asking import ask
from neti.cli.common import config_option, json_option, settings_in_force
from neti.cli.output import print_json, say
from neti.control import client
from neti.errors import NetiError
from neti.model.settings import Settings
from neti.monitoring.status import Status, status_of
from neti.oneshot.verify_ports import Asked, parse_ports
from neti.stage.shadow import Port


def _ports(_context: click.Context, _option: click.Parameter, text: str | None) -> list[Port]:
    try:
        return parse_ports(text) if text is not None else []
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@config_option
@json_option
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, MAX_SECONDS),
    default=3.0,
    show_default=True,
    metavar="SECONDS",
    help="How long each member may take. Where large packets are lost, the search for the largest "
    "that passes comes to that; with --ports, the 1.5 s in which it connects to this host.",
)
@click.option(
    "--ports",
    metavar="PORT[/PROTO],...",
    callback=_ports,
    help="Say who reaches these ports of this host, by which rule and in fact. TCP if it is not "
    "said; 8 at most.",
)
@click.argument("ids", nargs=-1, metavar="[ID]...")
def verify(
    config: Path, as_json: bool, timeout: float, ports: list[Port], ids: tuple[str, ...]
) -> None:
    """Reach every member by its overlay address, and prove the way.

    Sends 64 KiB both ways in the largest packets that the road is to carry, to all members or to
    those named. Each member's agent says who it is and from which address it saw this host. It
    fails if another host answers, or if the traffic came by another address than it should. Exit
    code 1 if any member fails.

    Each line names the road: inside the site, by public address, by private link (the site says
    "reached_by: private"), or encrypted, which a member proves by having seen this host's overlay
    address; and the gateways on the way, as this host believes. Where small packets arrive and
    large ones are lost, it names the way on which they are, the largest that passes, and what to
    set.

    With --ports, each line has both ends of one member and port. First, whether the member reaches
    the port of this host: what came of a connection that its agent made, and what this host's rules
    say, as 'neti explain' does. Then what came of a connection from here to the same port of the
    member. "refused" means that nothing listens, or that a rule rejects; "silent", that something
    drops. Where rules and fact disagree, that comes first, with the next step. UDP ports are not
    tried. Exit code 1 if any disagree; 3 if it is not known of some.

    \b
    Examples:
      neti verify
      neti verify --ports 5432
      neti verify --ports 5432,9100/tcp,53/udp app-1 app-2
    """
    settings = settings_in_force(config)
    itself = status_of(ask(settings.table_files_path, "status"))
    if itself.down:
        raise NetiError(
            "Neti is down on this host, so overlay addresses lead nowhere from here\n→ neti up"
        )
    members = ask(settings.table_files_path, "members")
    if ports:
        asked = Asked(settings, itself, members, ids, tuple(ports), timeout)
        sys.exit(verify_ports.run(asked, as_json))
    results = verify_all(settings, itself, members, ids, timeout=timeout)
    if not ids:
        _tell(settings, itself, members, results)
    if as_json:
        print_json({"host": itself.id, "results": results})
    else:
        _print(results)
    if not all(result["ok"] for result in results):
        sys.exit(1)


def _tell(
    settings: Settings,
    itself: Status,
    members: list[dict[str, Any]],
    results: list[dict[str, Any]],
) -> None:
    """This host's row, for 'neti fleet verify'; an agent of an earlier version takes none."""
    left_out = {itself.id, *(one["id"] for one in members if one.get("lost"))}
    tried = [result for result in results if result["id"] not in left_out]
    failed = [result for result in tried if not result["ok"]]
    failed.sort(key=lambda result: result["site"] != itself.site)
    missed = [result["id"] for result in failed]
    with suppress(NetiError):
        client.call(settings.table_files_path, "verified", tried=len(tried), missed=missed)


_BY: Final = {
    INSIDE: "inside the site",
    PUBLIC: "by public address",
    PRIVATE: "by private link",
    ENCRYPTED: "encrypted",
}


def _by(result: dict[str, Any]) -> str:
    said = _BY[result["reached_by"]]
    return f"{said} {by_gateway(result['gateways'])}" if result["gateways"] else said


def _print(results: list[dict[str, Any]]) -> None:
    for result in results:
        if result["ok"]:
            text = f"ok    {result['milliseconds']:8.1f} ms  seen from {result['seen_from']}"
            text += f", {_by(result)}, packets of {_sizes(**result['packets'])}"
        else:
            text = f"FAIL  {result['error']}"
        say(f"{result['id']:<24} {result.get('overlay', ''):<15}  {text}")
    good = [result for result in results if result["ok"]]
    roads = Counter(result["reached_by"] for result in good)
    by = ", ".join(f"{roads[road]} {words}" for road, words in _BY.items() if roads[road])
    say(f"{len(good)} of {len(results)} members reached" + (f": {by}" if by else ""))


def _sizes(there: int, back: int) -> str:
    return f"{there} bytes" if there == back else f"{there} and {back} bytes"

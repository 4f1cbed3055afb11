"""``neti explain``: whether a host gets in here, and by what."""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from neti.cli.asking import ask
from neti.cli.common import agent_folder, config_option, json_option
from neti.cli.output import print_json, say
from neti.model.document import plain
from neti.monitoring.explained import Pair, pair_of

_NOT_KNOWN = 3


@click.command()
@config_option
@json_option
@click.option("--udp", is_flag=True, help="A UDP port, and not a TCP one.")
@click.argument("source", metavar="SOURCE")
@click.argument("dest", metavar="DEST")
@click.argument("port", type=click.IntRange(1, 65535), metavar="PORT")
def explain(config: Path, as_json: bool, udp: bool, source: str, dest: str, port: int) -> None:
    """Say whether a host gets in here, by what, and in which stage.

    SOURCE is a member's id, or any address. DEST is this host: its id, or 'here'. The answer is for
    new connections to a port of this host itself, by the rules, groups and members as its agent
    knows them. Of another DEST only that host knows: what is known of the pair here is told.

    Exit code 0: it gets in. 1: it does not, from one of its addresses at least. 3: it is not known
    here.

    \b
    Examples:
      neti explain i-0abc here 5432
      neti explain 10.0.0.7 here 53 --udp
    """
    folder = agent_folder(config)
    found = pair_of(ask(folder, "explain", source=source, dest=dest, port=port, udp=udp))
    if as_json:
        print_json(plain(found))
    else:
        say(*lines(found))
    if not found.here:
        sys.exit(_NOT_KNOWN)
    if not all(one.admitted for one in found.answers):
        sys.exit(1)


def lines(found: Pair) -> Iterator[str]:
    name = f"{found.port}/{found.protocol}"
    for one in found.answers:
        of = "" if one.address is None or one.address == found.source else f" ({one.address})"
        verb = "reaches" if one.admitted else "does NOT reach"
        yield f"{found.source}{of} {verb} {name} of this host: {one.by}"
        if one.ahead:
            yield f"  then: {one.ahead}"
    if found.here:
        yield f"stage: {found.stage}"
    yield from found.notes

"""``neti registry export`` and ``import``: who is who, kept outside of the registry."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from neti.cli.common import config_option, json_option, waiting_for, zookeeper_opened
from neti.cli.ending import if_interrupted
from neti.cli.output import explain, hand_over, print_json, say
from neti.config import load
from neti.errors import NetiError
from neti.host import caller
from neti.words import counted, some

if TYPE_CHECKING:
    from neti.oneshot.transfer import Brought
    from neti.registry.export import Export

_SHOWN: Final = 20
_CLOSE_ROOT: Final = "neti registry init --close-root"


@click.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, allow_dash=True))
@config_option
def export(file: Path, config: Path) -> None:
    """Write to FILE who owns which id, overlay address and public key.

    Also whether new hosts need admission, the live settings, strict, and who the operators are, as
    JSON. It holds no secret and no registrations. But whoever can change it decides who is who
    after an import, so FILE gets mode 0600. '-' writes to standard output. Make one every night:
    after the registry was wiped, it brings back every pin and every lease.

    \b
    Example:
      neti registry export /var/backups/neti-registry.json
    """
    from neti.oneshot import transfer
    from neti.registry import export as document

    settings = load(config)
    with zookeeper_opened(settings) as registry, waiting_for(registry):
        made, left_out = transfer.look(registry, time.time)
    if str(file) == "-":
        hand_over(document.encode(made))
    else:
        transfer.write(file, made)
        say(f"{_holds(made)}: written to {file}")
    if left_out:
        explain(f"left out: {some(left_out)}\n→ neti registry check")


@click.command("import")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@config_option
@json_option
@click.option("--dry-run", is_flag=True, help="Show what would change; change nothing.")
@if_interrupted("part of it may be imported\n→ the same command again")
def import_(file: Path, config: Path, as_json: bool, dry_run: bool) -> None:
    """Make what a file has and the registry has not.

    FILE was written by 'neti registry export'. What is there stays as it is. What differs from the
    file is named, and then the exit code is 1. After the registry was wiped this takes the place of
    'neti registry init': it lays out the tree closed, and lets members in only when every id and
    every address has its owner again. You can run it again at any time, also after it was killed.
    It changes nothing beside the tree: if its root was closed, the last line says how to close it.

    \b
    Example, with an operator's certificate in the configuration:
      neti registry import neti-registry.json -c operator.yml --dry-run
    """
    from neti.oneshot import transfer

    wanted = transfer.read(file)
    settings = load(config)
    with zookeeper_opened(settings) as registry:
        with waiting_for(registry):
            brought = transfer.bring(settings, registry, wanted, dry_run=dry_run)
        planned = brought.planned
        if not dry_run and not planned.nothing:
            caller.note(
                "registry import",
                file=file,
                laid_out=planned.lays_out,
                leases=len(planned.leases),
                hosts=len(planned.hosts),
                keys=len(planned.keys),
                settings=len(planned.settings),
            )
    if as_json:
        print_json(_document(brought, dry_run=dry_run))
        if brought.differs:
            sys.exit(1)
        return
    for line in _said(wanted, brought, dry_run=dry_run):
        say(line)
    if brought.differs:
        shown = [f"  {each}" for each in brought.differs[:_SHOWN]]
        if len(brought.differs) > _SHOWN:
            shown.append(f"  and {len(brought.differs) - _SHOWN} more: --json lists them all")
        count = len(brought.differs)
        is_left = "1 thing is not as in the file and stays as it is:"
        are_left = f"{count} things are not as in the file and stay as they are:"
        raise NetiError("\n".join([is_left if count == 1 else are_left, *shown]))


def _said(wanted: "Export", brought: "Brought", *, dry_run: bool) -> list[str]:
    planned, lines = brought.planned, []
    would = "would be " if dry_run else ""
    if planned.lays_out:
        admission = "on" if wanted.admission else "off"
        operators = ", ".join(brought.operators) or "none"
        laid_out = "the tree would be laid out" if dry_run else "the tree was laid out"
        lines.append(f"{laid_out}, admission {admission}")
        lines.append(f"operators: {operators}")
    parts = [
        counted(len(planned.hosts), "host record"),
        counted(len(planned.leases), "lease"),
        counted(len(planned.keys), "public key"),
        counted(len(planned.settings), "setting"),
    ]
    lines.append(
        "nothing is missing"
        if planned.nothing
        else f"{', '.join(parts)} {would}made, of {_holds(wanted)} in the file"
    )
    if planned.root_open:
        lines.append(
            f"the root was closed when the file was written, and is open: '{_CLOSE_ROOT}' closes it"
        )
    return lines


def _holds(held: "Export") -> str:
    parts = [
        counted(len(held.hosts), "host record"),
        counted(len(held.leases), "lease"),
        counted(len(held.keys), "public key"),
    ]
    settings = ", ".join(sorted(held.settings)) or "no settings"
    return f"{', '.join(parts)}, {settings}"


def _document(brought: "Brought", *, dry_run: bool) -> dict[str, Any]:
    planned = brought.planned
    return {
        "dry_run": dry_run,
        "laid_out": planned.lays_out,
        "leases": [{"overlay": str(one.overlay), "id": one.id} for one in planned.leases],
        "hosts": [one.id for one in planned.hosts],
        "keys": {one.key: one.id for one in planned.keys},
        "settings": dict(planned.settings),
        "differs": list(brought.differs),
        "then": _CLOSE_ROOT if planned.root_open else "",
    }

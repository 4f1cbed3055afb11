"""``neti lease``: which host holds which overlay address."""

from pathlib import Path

import click

from neti.cli.common import config_option, json_option, registry_of
from neti.cli.lease_gc import gc
from neti.cli.output import print_json, say
from neti.config import load
from neti.errors import NetiError
from neti.host import caller
from neti.words import counted


@click.group()
def lease() -> None:
    """Durable claims on overlay addresses: list, release, move them; release those of the dead."""


lease.add_command(gc)


@lease.command("list")
@config_option
@json_option
def list_leases(config: Path, as_json: bool) -> None:
    """Every lease, by overlay address."""
    with registry_of(load(config)) as registry:
        held = sorted(registry.leases().items())
    if as_json:
        print_json([{"overlay": str(overlay), "id": host_id} for overlay, host_id in held])
        return
    for overlay, host_id in held:
        say(f"{overlay!s:<15}  {host_id}")
    say(counted(len(held), "lease"))


@lease.command()
@click.argument("host_id", metavar="ID")
@config_option
@json_option
def release(host_id: str, config: Path, as_json: bool) -> None:
    """Give up the lease of a host that will not come back. Refused while it is registered."""
    with registry_of(load(config)) as registry:
        overlay = registry.release(host_id)
    if overlay is None:
        raise NetiError(f"{host_id} holds no lease: 'neti lease list' shows who does")
    caller.note("lease release", id=host_id, overlay=overlay)
    if as_json:
        print_json({"id": host_id, "overlay": str(overlay)})
    else:
        say(f"released {overlay}, which {host_id} held")


@lease.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@config_option
@json_option
@click.option("--force", is_flag=True, help="Although OLD is registered; it gets another address.")
def move(old: str, new: str, config: Path, as_json: bool, force: bool) -> None:
    """Give the overlay address of a retired host to its replacement, in one step.

    Clients need no change: peers send what goes to the address to NEW as soon as NEW's agent has
    registered under it, which it does by itself. The address that NEW had before is free then.
    Refused while OLD is registered.

    \b
    Example:
      neti lease move db-old db-new
    """
    with registry_of(load(config)) as registry:
        overlay, former = registry.move(old, new, force=force)
    caller.note("lease move", overlay=overlay, old=old, new=new, freed=former, force=force)
    if as_json:
        freed = str(former) if former is not None else None
        print_json({"overlay": str(overlay), "from": old, "to": new, "freed": freed})
        return
    say(f"{overlay} belongs to {new} now, no longer to {old}")
    if former is not None:
        say(f"{former}, which {new} held before, is free")

"""``neti registry dev-ca``: a CA and certificates, for a lab or a first trial."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from neti.cli.common import json_option
from neti.cli.output import print_json, say
from neti.errors import NetiError
from neti.model.addresses import is_address

if TYPE_CHECKING:
    from neti.registry.zookeeper.certificates import Wanted


@click.command("dev-ca")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@json_option
@click.option(
    "--server",
    "server_names",
    multiple=True,
    metavar="NAME=ADDRESS,…",
    help="A server and every name and address by which clients call it, proxies' too. Repeatable.",
)
@click.option("--host", "hosts", multiple=True, metavar="ID", help="A host id. Repeatable.")
@click.option(
    "--operator", "operators", multiple=True, metavar="NAME", help="An operator. Repeatable."
)
@click.option(
    "--super",
    "super_user",
    metavar="NAME",
    help="ZooKeeper's super user, whom no rights hold back. Keep its key offline.",
)
@click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=365,
    show_default=True,
    help="How long the certificates are valid.",
)
def dev_ca(
    folder: Path,
    as_json: bool,
    server_names: tuple[str, ...],
    hosts: tuple[str, ...],
    operators: tuple[str, ...],
    super_user: str | None,
    days: int,
) -> None:
    """Make a CA and certificates, for a lab or a first trial.

    A CA that is already in FOLDER is used again. Keys have mode 0600, and nothing is ever
    overwritten. The CA's own key lies beside it, so for a real fleet use your own CA.

    \b
    Example:
      neti registry dev-ca ./ca --server zk1=10.21.0.4 --host web-1 --operator ann
    """
    from neti.registry.zookeeper import certificates

    wanted = [_server(text) for text in server_names]
    wanted += [_wanted(name, "hosts") for name in hosts]
    wanted += [_wanted(name, "operators") for name in operators]
    wanted += [_wanted(super_user, "supers")] if super_user is not None else []
    made = certificates.make(folder, wanted, days=days, now=time.time())
    if as_json:
        print_json([str(path) for path in made])
        return
    for path in made:
        say(path)
    if super_user is not None:
        named = certificates.subject(folder / f"super-{super_user}.pem")
        say(
            f"for zoo.cfg of each server: X509AuthenticationProvider.superUser={named}",
            f"warning: whoever has {folder}/super-{super_user}.key can do anything: keep it "
            "offline",
            err=True,
        )
    say(f"warning: whoever has {folder}/ca.key can make members and operators: guard it", err=True)


def _server(text: str) -> "Wanted":
    from neti.config.values import is_host

    name, _, names = text.partition("=")
    addresses = tuple(part.strip() for part in names.split(",") if part.strip())
    if not addresses:
        raise NetiError(
            f"--server {text}: expected NAME=ADDRESS,…, such as zk1=10.21.0.4, because clients "
            "check the address or name by which they call a server"
        )
    for one in addresses:
        if not (is_host(one) or is_address(one)):
            raise NetiError(
                f"--server {text}: {one!r} is neither an address nor a host name: expected what "
                "clients call the server by, such as 10.21.0.4 or zk1.example.com"
            )
    return _wanted(name, "servers", addresses)


def _wanted(name: str, unit: str, names: tuple[str, ...] = ()) -> "Wanted":
    from neti.model.entry import HOST_ID
    from neti.registry.zookeeper.certificates import Wanted

    if not HOST_ID.fullmatch(name):
        raise NetiError(
            f"{name!r} cannot be the name in a certificate: expected 1 to 40 letters, digits, "
            "'.', '_' or '-', beginning with a letter or digit"
        )
    return Wanted(name, unit, names)

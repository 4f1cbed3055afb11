"""``neti key``: WireGuard keys of hosts."""

from pathlib import Path
from typing import Final

import click

from neti.cli.asking import ask
from neti.cli.common import agent_folder, config_option, json_option, registry_of
from neti.cli.ending import if_interrupted
from neti.cli.menu import Group
from neti.cli.output import print_json, say
from neti.config import load
from neti.errors import NetiError
from neti.host import caller
from neti.model.wireguard_key import PublicKey
from neti.oneshot.registered import registered_of
from neti.registry.zookeeper.layout import removal
from neti.text import printable
from neti.words import some

_PATIENCE: Final = 25.0  # seconds: the registry has to be told


@click.group(cls=Group)
def key() -> None:
    """Give this host a new WireGuard key, or revoke another host's."""


@key.command()
@config_option
@json_option
@if_interrupted("the key may or may not be a new one\n→ neti status")
def rotate(config: Path, as_json: bool) -> None:
    """Give this host a new key, and end the present one.

    For a key that may be known to somebody else, or by routine. The agent makes a new key and
    registers with it. Peers that follow the registry drop the former key as soon as they read that,
    so whoever has it can neither send nor receive anything any more. TCP connections go on; UDP
    is away for two seconds at most. A peer that is cut off from the registry believes the former
    key until it is back.

    \b
    Example:
      neti key rotate
    """
    folder = agent_folder(config)
    told = ask(folder, "rotate", within=_PATIENCE)
    if as_json:
        print_json(told)
        return
    say(
        f"this host's public key is {told['public_key']} now",
        f"peers drop the former one, {told['former']}, as soon as they read that",
    )


@key.command()
@click.argument("host_id", metavar="ID")
@config_option
@json_option
@if_interrupted("the key may or may not be revoked\n→ the same command again")
@click.option("--key", "public_key", metavar="KEY", help="Another key than its record says now.")
def revoke(host_id: str, config: Path, as_json: bool, public_key: str | None) -> None:
    """End the WireGuard key of a host, from an operator's machine.

    For a private key that somebody else may know. Nobody can register with it any more, nor the
    host itself. Its peers drop this key after three seconds at the latest, whatever the host does
    or its record says then. The agent of a host that is registered makes another one at once, and
    TCP connections go on. A host that is off makes another one when it is back. The host keeps its
    overlay address. There is no way back to the former key.

    \b
    Example:
      neti key revoke web-3
    """
    settings = load(config)
    with registry_of(settings) as registry:
        is_there = bool(registered_of(registry, [host_id]))
        found = registry.revoke_key(host_id, _checked(public_key))
    if found is None:
        why = (
            f"{host_id} has no key in its record, or it was revoked before"
            if public_key is None
            else f"{public_key} was revoked before"
        )
        raise NetiError(f"{why}: nothing was changed\n→ neti fleet")
    revoked = found.key
    caller.note("key revoke", id=host_id, public_key=revoked)
    if as_json:
        print_json(
            {
                "id": host_id,
                "public_key": revoked,
                "registered": is_there,
                "present": None if found.said is None else found.said == revoked,
                "left": list(found.left),
            }
        )
        return
    if found.said == revoked:
        _say_what_comes(host_id, revoked, is_there)
    else:
        say(f"nobody can register with {revoked} any more")
        if found.said:
            say(f"it is not the present key of {host_id}, which keeps its own")
        elif found.said is None:
            say(
                f"the record of {host_id} cannot be read, so it is not known whether this was its "
                "present key: peers drop it all the same, and its agent makes another one then"
            )
    if found.left:
        say(
            f"{some(list(map(printable, found.left)))}: a member made it so that operators cannot "
            "change it. The key is revoked all the same; ZooKeeper's super user can delete it",
            removal(*found.left),
        )


def _say_what_comes(host_id: str, revoked: str, is_there: bool) -> None:
    say(
        f"nobody can register with {revoked}, the public key of {host_id}, any more; that is for "
        "good"
    )
    if is_there:
        say(
            f"peers drop it within three seconds, whatever {host_id} does; the agent there makes "
            "another one at once"
        )
        say(f"→ 'neti status' on {host_id} shows the new one")
    else:
        say(
            f"{host_id} is not registered: peers drop this key within seconds, and the host makes "
            "another one when it is back"
        )


def _checked(key: str | None) -> str | None:
    """Raises NetiError."""
    if key is None:
        return None
    try:
        return str(PublicKey.parse(key))
    except ValueError as error:
        raise NetiError(f"--key {printable(key)}: {error}: nothing was changed") from error

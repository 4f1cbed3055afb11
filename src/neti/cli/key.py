"""``neti key``: this host's WireGuard key."""

from pathlib import Path
from typing import Final

import click

from neti.cli.asking import ask
from neti.cli.common import config_option, json_option, settings_in_force
from neti.cli.ending import if_interrupted
from neti.cli.output import print_json, say

_PATIENCE: Final = 25.0  # seconds: the registry has to be told


@click.group()
def key() -> None:
    """Renew this host's WireGuard key."""


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
    folder = settings_in_force(config).table_files_path
    told = ask(folder, "rotate", within=_PATIENCE)
    if as_json:
        print_json(told)
        return
    say(
        f"this host's public key is {told['public_key']} now",
        f"peers drop the former one, {told['former']}, as soon as they read that",
    )

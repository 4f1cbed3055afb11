"""``neti aws tag``: run as the agent's short-lived child, so that the agent loads no SDK."""

import contextlib
import os
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Final

import click

from neti import __version__
from neti.cli.common import config_option
from neti.cli.output import say
from neti.config import load
from neti.errors import NetiError

_NICE: Final = 10


@click.command()
@config_option
@click.option("--instance", metavar="ID", required=True, help="This instance's id.")
@click.option("--overlay", metavar="ADDRESS", required=True, help="Its overlay address.")
@click.option(
    "--tag-version", default=__version__, metavar="VERSION", help="Default: this program's version."
)
@click.option("--dry-run", is_flag=True, help="Show the tags, change nothing.")
@click.option("--low-priority", is_flag=True, hidden=True)
def tag(
    config: Path,
    instance: str,
    overlay: str,
    tag_version: str,
    dry_run: bool,
    low_priority: bool,
) -> None:
    """Set the tags overlay_ip and neti_version on this instance.

    As its agent does. The agent runs this once it is registered, so it does not ask for
    confirmation. Run it by hand to see what is missing.

    \b
    Examples:
      neti aws tag --instance i-0abc1234 --overlay "$(neti overlay-ip)" --dry-run
      neti aws tag --instance i-0abc1234 --overlay "$(neti overlay-ip)"
    """
    if low_priority:
        with contextlib.suppress(OSError):  # a unit may forbid it, and it is optional
            os.nice(_NICE)
    try:
        address = IPv4Address(overlay)
    except AddressValueError as error:
        raise NetiError(f"--overlay {overlay!r} is not an IPv4 address") from error
    settings = load(config)
    told = f"{instance}: overlay_ip {address}, neti_version {tag_version}"
    if dry_run:
        say(told)
        say("dry run: 2 tags would be set, nothing was changed")
        return
    from neti.aws import tags

    tags.write(settings, instance, address, tag_version)
    say(told)

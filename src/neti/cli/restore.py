"""``neti restore``: the last good state into the kernel, at boot."""

from pathlib import Path

import click

from neti.cli.common import config_option, json_option
from neti.cli.output import print_json, say
from neti.model.settings import DEFAULT_STATE
from neti.words import counted


@click.command()
@config_option
@json_option
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    default=DEFAULT_STATE,
    show_default=True,
    help="Where the last valid configuration is kept, in case the present one is not.",
)
def restore(config: Path, as_json: bool, state: Path) -> None:
    """Load the rules, members and stage that were last in force.

    For boot. Needs neither the network nor the registry nor the agent. Where a site encrypts, the
    WireGuard device is made too, with the peers that were known. A trial is not started again.
    Loads nothing after 'neti down', with /etc/neti/disabled, or with neti=off on the kernel's
    command line. Refused while an agent runs, because the agent itself keeps the kernel in step.
    """
    from neti.oneshot.restore import restore_last

    done = restore_last(config, state)
    for note in done.notes:
        say(f"neti: {note}", err=True)
    if as_json:
        print_json(
            {
                "loaded": done.reason is None,
                "reason": done.reason,
                "members": done.members,
                "stage": done.stage,
                "wireguard_peers": done.peers,
                "notes": list(done.notes),
            }
        )
    elif done.reason is not None:
        say(f"nothing loaded: {done.reason}")
    else:
        peers = f", {counted(done.peers, 'WireGuard peer')}" if done.peers else ""
        say(f"restored: {counted(done.members, 'member')}, {done.stage}{peers}")

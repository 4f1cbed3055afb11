"""``neti lease``: which host holds which overlay address."""

import sys
import time
from collections.abc import Sequence
from ipaddress import IPv4Address
from pathlib import Path

import click

from neti.cli.asking import ask, waiting
from neti.cli.common import (
    ONLY_AS_THE_AGENT_KNEW,
    REGISTRY_SECONDS,
    THE_REGISTRY,
    config_option,
    json_option,
    registry_of,
    settings_in_force,
)
from neti.cli.ending import if_interrupted
from neti.cli.lease_gc import gc
from neti.cli.lease_move import move
from neti.cli.menu import Group
from neti.cli.output import consent, explain, print_json, say
from neti.cli.watching import watchable
from neti.config import load
from neti.errors import NetiError, RegistryUnavailable
from neti.host import caller
from neti.model.settings import Settings
from neti.oneshot.fleet_release import tell_everybody
from neti.oneshot.grouping import heirs
from neti.oneshot.registered import leases, registered_of
from neti.registry import OperatorRegistry
from neti.registry.leases import DamagedLease
from neti.words import counted, some


@click.group(cls=Group)
def lease() -> None:
    """List, release or move the leases of overlay addresses."""


lease.add_command(gc)
lease.add_command(move)


@lease.command("list")
@config_option
@json_option
@watchable(5)
def list_leases(config: Path, as_json: bool) -> None:
    """List every lease, by overlay address.

    If the registry does not answer, this host's agent is asked for the addresses of the members:
    exit code 3.
    """
    settings = settings_in_force(config)
    with waiting(REGISTRY_SECONDS, "this host's agent is asked instead", who=THE_REGISTRY):
        found, unanswered = leases(settings, registry_of, ask)
    held = sorted(found.items())
    if unanswered is not None:
        explain(
            f"{unanswered}\n"
            "so this is what this host's agent knew last, without leases of hosts that are gone"
        )
    if as_json:
        print_json([{"overlay": str(overlay), "id": host_id} for overlay, host_id in held])
    else:
        say(*(f"{overlay!s:<15}  {host_id}" for overlay, host_id in held))
        say(counted(len(held), "lease"))
    if unanswered is not None:
        sys.exit(ONLY_AS_THE_AGENT_KNEW)


@lease.command()
@click.argument("host_ids", metavar="ID...", nargs=-1, required=True)
@config_option
@json_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--anyway", is_flag=True, help="Even if a group may name the id, which is anybody's then."
)
@if_interrupted("the lease may or may not be released\n→ neti lease list")
def release(
    host_ids: tuple[str, ...], config: Path, as_json: bool, yes: bool, anyway: bool
) -> None:
    """Give up the leases of hosts that will not come back.

    Refused for a host that is registered. A host that is not registered may still be running, cut
    off from the registry, so this asks first; without a terminal it needs --yes. Agents that still
    keep the host as lost or held remove it. There is no way back: another host may get the address.
    Names that operators gave it end too.

    Where admission is off, an id without a lease belongs to whoever registers under it first. So it
    is refused while a group has a line for the id, or the groups cannot be read.
    """
    settings = load(config)
    asked = len(host_ids)
    freed: dict[str, IPv4Address | DamagedLease] = {}
    with registry_of(settings) as registry:
        named = heirs(settings, registry, host_ids, time.time())
        objections = {one: named.refusal(one) for one in host_ids if not anyway}
        refused = [
            f"{said}\n→ neti lease release {i} --anyway" for i, said in objections.items() if said
        ]
        host_ids = tuple(i for i in dict.fromkeys(host_ids) if objections.get(i) is None)
        _ask_about_cut_off(registry, host_ids, yes=yes)
        for host_id in host_ids:
            # One that cannot be released must not keep the others.
            try:
                found = registry.release(host_id)
            except RegistryUnavailable:
                raise
            except NetiError as error:
                refused.append(str(error))
                continue
            if found is None:
                refused.append(f"{host_id} holds no lease\n→ 'neti lease list' shows who does")
                continue
            freed[host_id] = found
            overlay = found if isinstance(found, IPv4Address) else None
            caller.note("lease release", id=host_id, overlay=overlay or "damaged")
        gone = [i for i, found in freed.items() if isinstance(found, IPv4Address)]
        if gone:
            _tell_those_who_are_away(settings, registry, gone)
    if as_json:
        released = [
            {
                "id": i,
                "overlay": str(found) if isinstance(found, IPv4Address) else None,
                "still_in": named.still_in(i),
            }
            for i, found in freed.items()
        ]
        if asked > 1 or not refused:
            print_json(released if asked > 1 else released[0])
    else:
        for host_id, found in freed.items():
            say(_released(host_id, found), *named.left(host_id))
    if refused:
        raise NetiError("\n".join(refused))


def _ask_about_cut_off(registry: OperatorRegistry, host_ids: Sequence[str], *, yes: bool) -> None:
    leased = {host_id: overlay for overlay, host_id in registry.leases().items()}
    asked = [i for i in dict.fromkeys(host_ids) if i in leased]
    asked = sorted(set(asked) - registered_of(registry, asked), key=asked.index)
    if len(asked) == 1:
        (host_id,) = asked
        consent(
            f"{host_id} is not registered. If it still runs, cut off from the registry, its "
            f"clients lose {leased[host_id]}, and another host can get that address. Release it?",
            yes=yes,
        )
    elif asked:
        consent(
            f"{len(asked)} hosts are not registered: {some(asked)}. If one of them still runs, cut "
            "off from the registry, its clients lose its overlay address, and another host can get "
            "that. Release them?",
            yes=yes,
        )


def _released(host_id: str, freed: IPv4Address | DamagedLease) -> str:
    if isinstance(freed, DamagedLease):
        return (
            f"deleted the damaged lease of {host_id}: it named {freed.says!r}, which is not its "
            "own, so this frees no address. The host gets a lease when its agent starts."
        )
    return (
        f"released {freed}, which {host_id} held: any host can get it now. "
        f"Agents that still kept {host_id} remove it. If it comes back, it gets another "
        "address, unless this one is still free."
    )


def _tell_those_who_are_away(
    settings: Settings, registry: OperatorRegistry, host_ids: Sequence[str]
) -> None:
    """They do not hear of the lease any more, but of this when they are back."""
    try:
        tell_everybody(settings, registry, host_ids)
    except NetiError as error:
        them = some(list(host_ids))
        explain(f"agents that are offline now may go on keeping {them}: {error}")

"""This host's part in gateways where no agent watches it: for ``neti restore`` and ``neti plan``.

Must never do: switch anything on before the table is there that says what is passed on.
"""

from collections.abc import Collection
from pathlib import Path

from neti.dataplane.forwarding import Forwarding
from neti.errors import DataplaneError
from neti.ruleset.desired import Membership
from neti.ruleset.surroundings import GatewayEnd, Surroundings


def gateway_end(members: Membership, around: Surroundings) -> GatewayEnd | None:
    """As the members say. Raises DataplaneError where nft cannot name an uplink."""
    try:
        return members.gateways.end(around.uplinks)
    except ValueError as error:
        raise DataplaneError(f"this host cannot be a gateway: {error}") from error


def passed_between(gateway: GatewayEnd | None) -> tuple[str, ...]:
    """Interfaces that must forward."""
    return gateway.uplinks or () if gateway is not None else ()


def switched_on(
    folder: Path, gateway: GatewayEnd | None, present: Collection[str]
) -> tuple[str, ...]:
    """After the table. What was an uplink once may belong to somebody else by now, so only those
    that are ``present``; the agent looks at the others. Returns what went wrong."""
    try:
        Forwarding(folder).follow([one for one in passed_between(gateway) if one in present])
    except DataplaneError as error:
        return (str(error),)
    return ()


def to_be_switched_on(folder: Path, gateway: GatewayEnd | None) -> tuple[str, ...]:
    """What of forwarding is not as it should be, each in a few words. Changes nothing."""
    try:
        missing = Forwarding(folder).missing(passed_between(gateway))
    except DataplaneError as error:
        return (f"forwarding could not be looked at: {error}",)
    return tuple(f"switch on IPv4 forwarding of {name}" for name in missing)

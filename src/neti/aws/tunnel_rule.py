"""The one rule that security groups need between sites that encrypt, UDP to ``tunnel_port``, and
what gateways need beside it. Pure.

Must never do: take this rule for enough while anybody may still send in the clear.
"""

from collections.abc import Mapping

from neti.aws.ip_ranges import Shape
from neti.errors import NetiError
from neti.model import Encrypt, Site
from neti.model.gateways import PORTS
from neti.ruleset.reach import by_gateways, encryption


def encrypting(own_site: str | None, sites: Mapping[str, Site]) -> dict[str, Encrypt]:
    """The other sites with which this one encrypts, and what is asked of both."""
    if own_site is None:
        return {}
    asked = {
        name: encryption(sites.get(own_site), site)
        for name, site in sites.items()
        if name != own_site
    }
    return {name: what for name, what in asked.items() if what.encrypts}


def sites_for(own_site: str | None, sites: Mapping[str, Site]) -> frozenset[str]:
    """The sites that ``--encrypted`` lets into a group of ``own_site``. Raises NetiError where it
    would let in nobody."""
    if own_site is None:
        raise NetiError(
            "it is not known in which site the group is, so not who encrypts with it: give --site"
        )
    found = encrypting(own_site, sites)
    if not found:
        raise NetiError(
            f"site {own_site} encrypts with no other site: expected 'encrypt: prefer' or 'encrypt: "
            "require' in sites of neti.yml"
        )
    return frozenset(found)


def gateways_for(own_site: str | None, sites: Mapping[str, Site]) -> frozenset[str]:
    """The sites that ``--gateways`` lets into the group of gateways of ``own_site``. Raises
    NetiError where it would let in nobody."""
    own = sites.get(own_site or "")
    if own is None:
        raise NetiError(
            "it is not known in which site the group is, so not whose gateways: give --site"
        )
    found = frozenset(n for n, site in sites.items() if n != own_site and by_gateways(own, site))
    if not own.gateways or not found:
        raise NetiError(
            f"site {own_site} has no gateways that another site needs: expected 'gateways' and "
            "'reached_by: gateway' in sites of neti.yml"
        )
    return found


def for_gateways(own_site: str | None, sites: Mapping[str, Site], port: int) -> str | None:
    """What no rule of ours lets in; None: nothing."""
    own = sites.get(own_site or "")
    if own is None:
        return None
    others = sorted(n for n, site in sites.items() if n != own_site and by_gateways(own, site))
    if not others:
        return None
    return (
        f"{own_site} and {', '.join(others)} may need gateways between them, and these rules do "
        f"not let in what those need: UDP {PORTS} at gateways, from other sites' gateways and "
        "public hosts (--gateways, for the group of gateways) and from their own site, and UDP "
        f"{port} from gateways to their own site"
    )


def inside(own_site: str | None, port: int) -> str:
    """What ``--gateways`` leaves to the operator."""
    return (
        f"inside {own_site} rules of your own must let in UDP {PORTS} at gateways from the site's "
        f"hosts, and UDP {port} at the site's hosts from gateways"
    )


def advice(own_site: str | None, sites: Mapping[str, Site], shape: Shape, port: int) -> str | None:
    """What an operator should know who lets in more than the one rule, or less; None: nothing."""
    found = encrypting(own_site, sites)
    if not found:
        return None
    names = ", ".join(sorted(found))
    if not shape.lets_in(port):
        return (
            f"{own_site} encrypts with {names}, and these rules do not let in UDP {port}: hosts go "
            "on in the clear, or cannot reach each other\n→ the same command with --encrypted"
        )
    if Encrypt.REQUIRE not in found.values():
        return None
    enough = f"UDP {port} is enough"
    if for_gateways(own_site, sites, port) is not None:
        enough = f"UDP {port}, with {PORTS} at gateways, is enough"
    required = ", ".join(sorted(name for name, what in found.items() if what is Encrypt.REQUIRE))
    return (
        f"{own_site} requires encryption with {required}: once 'neti fleet --require encrypted' "
        f"says that all hosts do, {enough} (--encrypted), and this can go (--revert)"
    )

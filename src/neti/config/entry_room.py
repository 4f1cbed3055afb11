"""Whether the name of a site leaves room for ids in the registry's entries. Pure.

An entry holds 28 bytes of both together (``neti.model.entry``), and clouds name machines at length.
"""

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from neti.errors import EntryError
from neti.model import Member, Site
from neti.model.entry import encode
from neti.model.settings import CloudWord, LocalIdentity, Settings, StaticIdentity


class _Kind(NamedTuple):
    example: str
    words: str


_EC2: Final = _Kind("i-0123456789abcdef0", "an EC2 instance id")  # of every one since 2016
_MACHINE_ID: Final = "0123456789abcdef"
_GOOGLE: Final = _Kind(
    "12345678901234567890", "the number of a Google instance (an Azure machine's id is longer yet)"
)
_CLOUDS: Final = {
    "ec2": _EC2,
    "gcp": _GOOGLE,
    "azure": _Kind("0123456789abcdefghijklmno", "the id of an Azure machine"),
}


def own_id(settings: Settings) -> str | None:
    """This host's id, or one of the same length; None: the file does not tell."""
    match settings.identity:
        case StaticIdentity(id=given):
            return given
        case LocalIdentity(id=str(given), id_is_given=True):
            return given
        case LocalIdentity(id="machine-id"):
            return _MACHINE_ID
        case _:
            return None


def too_long(settings: Settings) -> Iterator[str]:
    """For each site in which this host may find itself, and has no room there."""
    identity = settings.identity
    if isinstance(identity, str):
        for site in _possible(settings):
            kind = _kind(identity, site)
            if not _fits(site.name, kind.example):
                yield _no_room(site.name, kind)
    elif settings.site is None and (host_id := own_id(settings)) is not None:
        for name in settings.sites:
            if not _fits(name, host_id):
                yield (
                    f"site name {name!r} and host id {host_id!r} are too long together for one "
                    "entry of the registry: in that site this host could not be registered"
                )


def _possible(settings: Settings) -> list[Site]:
    """Sites in which this host may find itself: where any lists its cloud's networks, only such."""
    sites = list(settings.sites.values())
    if settings.site is not None:
        return [site for site in sites if site.name == settings.site]
    match settings.identity:
        case "ec2":
            listed = [site for site in sites if site.vpc_ids]
            others = [site for site in sites if not site.networks]
        case "gcp" | "azure":
            listed = [site for site in sites if site.networks]
            others = [site for site in sites if not site.vpc_ids]
        case _:
            listed = [site for site in sites if site.vpc_ids or site.networks]
            others = sites
    return listed or others


def _kind(word: CloudWord, site: Site) -> _Kind:
    """``auto`` may be any cloud: a site with networks and no VPC is Google's or Azure's."""
    if word == "auto":
        return _GOOGLE if site.networks and not site.vpc_ids else _EC2
    return _CLOUDS[word]


def _no_room(site: str, kind: _Kind) -> str:
    most = next(n for n in range(len(site), -1, -1) if n == 0 or _fits("a" * n, kind.example))
    return (
        f"site name {site!r} is too long for one entry of the registry together with {kind.words} "
        f"such as {kind.example}: no instance in this site can be registered. Shorten the name to "
        f"{most} characters"
    )


def _fits(site: str, host_id: str) -> bool:
    nowhere = IPv4Address(0)
    try:
        encode(Member(id=host_id, site=site, private=nowhere, public=None, overlay=nowhere))
    except EntryError:
        return False
    return True

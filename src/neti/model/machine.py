"""A machine as an inventory lists it: a cloud's own list, a file, a program's state. A value."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

OVERLAY_TAG: Final = "overlay_ip"  # on instances of EC2, by their agents


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """``ids``: those under which its agent may be registered, the likeliest first; at least one.
    ``account``: as the operator or the file names it; ``owner``: its number, if that is known.
    ``cloud``: ec2, gcp or azure, or empty. ``networks``: as ``Identity.networks``. ``privates``,
    ``publics``: every address of every interface, the primary one first. ``complete``: they are all
    there, and so is ``vpc_id``; otherwise the list states some of it, and may not tell a public
    address from a private one."""

    ids: tuple[str, ...]
    name: str = ""
    account: str = ""
    owner: str = ""
    region: str = ""
    cloud: str = ""
    vpc_id: str | None = None
    networks: tuple[str, ...] = ()
    privates: tuple[IPv4Address, ...] = ()
    publics: tuple[IPv4Address, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    complete: bool = True

    @property
    def id(self) -> str:
        return self.ids[0]

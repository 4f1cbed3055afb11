"""The last good answer about this machine's identity, on disk, for when its source is silent.

Must never answer for another machine: an answer is bound to the fingerprint of the machine that got
it, so that an image of a running host does not boot with that host's identity.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final

from neti import durable, files
from neti.clock import Clock
from neti.identity.source import Identity
from neti.model.entry import HOST_ID
from neti.words import why

FILE_NAME: Final = "identity.json"
_FORMAT: Final = 1
_MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    identity: Identity
    age_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityCache:
    """``machine``: the fingerprint of this machine; '' (unknown) neither writes nor reads."""

    folder: Path
    machine: str
    clock: Clock
    boot: str
    notice: Callable[[str], None]

    @property
    def path(self) -> Path:
        return self.folder / FILE_NAME

    def remember(self, identity: Identity) -> None:
        """Writes the answer, whole or not at all. A full disk is only reported: the answer is good
        without it."""
        if not self.machine:
            return
        content = {
            "format": _FORMAT,
            "machine": self.machine,
            "at": self.clock.wall(),
            "boot": [self.boot, self.clock.boottime()],
            "identity": _to_json(identity),
        }
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            durable.replace(self.path, json.dumps(content).encode(), 0o600)
        except OSError as error:
            self.notice(f"this host's identity could not be saved in {self.path}: {why(error)}")

    def recall(self) -> Remembered | None:
        """This machine's earlier answer. Anything else is reported and ignored."""
        try:
            content = files.read(self.path, _MAX_BYTES)
        except FileNotFoundError:
            return None
        except OSError as error:
            self.notice(f"{self.path} is ignored because it cannot be read: {why(error)}")
            return None
        return self.read(content)

    def read(self, content: bytes) -> Remembered | None:
        """The answer in the file's content. Raises nothing, whatever the content is."""
        try:
            document = json.loads(content)
            machine, at = str(document["machine"]), float(document["at"])
            boot, began = document.get("boot", ("", 0.0))
            # Of a later format what is known is used: a downgraded host has to know who it is
            # before there is a network.
            if int(document["format"]) < _FORMAT or not math.isfinite(at + float(began)):
                raise ValueError("no format of this program's")
            identity = _from_json(document["identity"])
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
            kind = type(error).__name__
            self.notice(
                f"{self.path} is ignored because it is damaged, or of another version ({kind})"
            )
            return None
        if not self.machine or machine != self.machine:
            self.notice(
                f"{self.path} is ignored because it is another machine's ({identity.id}). Is "
                "this disk a copy?"
            )
            return None
        age = self.clock.wall() - at
        if boot == self.boot:  # nobody can set this one
            age = self.clock.boottime() - float(began)
        return Remembered(identity=identity, age_seconds=max(0.0, age))


def _to_json(identity: Identity) -> dict[str, Any]:
    return {
        "id": identity.id,
        "private": str(identity.private),
        "public": None if identity.public is None else str(identity.public),
        "ipv6": [str(address) for address in identity.ipv6],
        "vpc_id": identity.vpc_id,
        "networks": list(identity.networks),
        "cloud": identity.cloud,
    }


def _from_json(document: Any) -> Identity:
    host_id, vpc_id, public = document["id"], document["vpc_id"], document["public"]
    if not isinstance(host_id, str) or not HOST_ID.fullmatch(host_id):
        raise ValueError("not a host id")
    if vpc_id is not None and not isinstance(vpc_id, str):
        raise ValueError("not a VPC id")
    # The version before wrote neither, and knew EC2 only.
    networks, cloud = document.get("networks", []), document.get("cloud", "")
    if not all(isinstance(one, str) for one in (*networks, cloud)):
        raise ValueError("not the names of networks, or of a cloud")
    return Identity(
        id=host_id,
        private=IPv4Address(str(document["private"])),
        public=None if public is None else IPv4Address(str(public)),
        ipv6=tuple(IPv6Address(str(address)) for address in document["ipv6"]),
        vpc_id=vpc_id,
        networks=tuple(networks),
        cloud=cloud,
    )

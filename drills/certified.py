"""A registry with TLS and rights: a certificate for everybody, and what an operator says there."""

import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import yaml

from drills import plan
from drills.drill import DrillError
from drills.waiting import wait_for
from neti.registry.zookeeper.certificates import Wanted, make
from neti_lab import namespaces

if TYPE_CHECKING:
    from drills.field import Field
    from drills.host import FieldHost

SERVER: Final = "zk1"
_OPERATOR: Final = "operator-chief"


def make_for(folder: Path, ids: Sequence[str]) -> None:
    wanted = [
        Wanted(SERVER, "servers", (str(plan.STREET_ADDRESS),)),
        Wanted("chief", "operators"),
        *(Wanted(one, "hosts") for one in ids),
    ]
    make(folder, wanted, days=2, now=time.time())


def keys(folder: Path, stem: str) -> dict[str, str]:
    """``registry_tls`` of a configuration."""
    return {
        "ca": str(folder / "ca.pem"),
        "cert": str(folder / f"{stem}.pem"),
        "key": str(folder / f"{stem}.key"),
    }


class Operator:
    """Types commands on a machine in the street, with an operator's certificate."""

    def __init__(self, field: "Field") -> None:
        self._street = field.street
        self._config = field.folder / "operator.yml"
        document: dict[str, Any] = {**field.hosts[0].document, **field.registry_keys(_OPERATOR)}
        self._config.write_text(yaml.safe_dump(document, sort_keys=False))

    def says(self, *words: str, around: Sequence[str] = ()) -> str:
        """``neti WORDS``. DrillError when it fails. ``around``: a command that runs it."""
        command = [*around, sys.executable, "-m", "neti", *words, "-c", str(self._config)]
        done = subprocess.run(
            namespaces.command_inside(self._street, command),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode != 0:
            raise DrillError(f"neti {' '.join(words)}: {done.stderr.strip()}")
        return done.stdout

    def turns_strict_on(self, hosts: Iterable["FieldHost"]) -> None:
        """And each of these follows."""
        self.says("registry", "strict", "on")
        for host in hosts:
            wait_for(partial(_is_strict, host), f"{host.name} does not become strict")


def _is_strict(host: "FieldHost") -> bool:
    return bool(host.status()["records"] == "strict")

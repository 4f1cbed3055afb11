"""``python -m neti_lab.shop ROLE CONFIG.json`` and ``… control SOCKET COMMAND``."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from neti import log
from neti_lab import LabError
from neti_lab.shop import configuration, control
from neti_lab.shop.app import App
from neti_lab.shop.cache import Cache
from neti_lab.shop.clients import Clients
from neti_lab.shop.database import Database
from neti_lab.shop.program import run
from neti_lab.shop.scanner import Scanner
from neti_lab.shop.users import Users
from neti_lab.shop.web import Web

_ROLES: Final[dict[str, Callable[[Path], None]]] = {
    "web": lambda path: run(path, configuration.WebConfiguration.parse, Web),
    "app": lambda path: run(path, configuration.AppConfiguration.parse, App),
    "cache": lambda path: run(path, configuration.CacheConfiguration.parse, Cache),
    "database": lambda path: run(path, configuration.DatabaseConfiguration.parse, Database),
    "users": lambda path: run(path, configuration.UsersConfiguration.parse, Users),
    "clients": lambda path: run(path, configuration.ClientsConfiguration.parse, Clients),
    "scanner": lambda path: run(path, configuration.ScannerConfiguration.parse, Scanner),
}


def main(arguments: Sequence[str]) -> int:
    log.configure(None)
    try:
        match arguments:
            case ["control", path, command]:
                answer = control.ask(Path(path), command)
                print(json.dumps(answer))
                return 1 if "error" in answer else 0
            case [role, path] if role in _ROLES:
                _ROLES[role](Path(path))
                return 0
    except LabError as error:
        print(f"neti_lab.shop: {error}", file=sys.stderr)
        return 1
    print(
        f"usage: python -m neti_lab.shop {'|'.join(_ROLES)} CONFIG.json\n"
        f"       python -m neti_lab.shop control SOCKET {'|'.join(control.COMMANDS)}",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""``python -m neti.lab.shop ROLE CONFIG.json`` and ``… control SOCKET COMMAND``."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from neti import log
from neti.lab import LabError
from neti.lab.shop import configuration, control
from neti.lab.shop.app import App
from neti.lab.shop.cache import Cache
from neti.lab.shop.clients import Clients
from neti.lab.shop.database import Database
from neti.lab.shop.program import run
from neti.lab.shop.scanner import Scanner
from neti.lab.shop.users import Users
from neti.lab.shop.web import Web

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
        print(f"neti.lab.shop: {error}", file=sys.stderr)
        return 1
    print(
        f"usage: python -m neti.lab.shop {'|'.join(_ROLES)} CONFIG.json\n"
        f"       python -m neti.lab.shop control SOCKET {'|'.join(control.COMMANDS)}",
        file=sys.stderr,
    )
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

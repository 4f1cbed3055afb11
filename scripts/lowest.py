"""The lowest version of each run-time dependency that pyproject.toml allows, a line each, for pip's
``--constraint``: ``make test-lowest`` shows whether these bounds are true."""

import re
import tomllib
from pathlib import Path
from typing import Final

_PROJECT: Final = Path(__file__).parents[1] / "pyproject.toml"
_BOUND: Final = re.compile(r"([A-Za-z0-9-]+)(?:\[[^]]*\])?>=([0-9.]+)")
_RUN: Final = ("aws", "dashboard")


def main() -> None:
    project = tomllib.loads(_PROJECT.read_text(encoding="utf-8"))["project"]
    more = (one for extra in _RUN for one in project["optional-dependencies"][extra])
    for dependency in (*project["dependencies"], *more):
        bound = _BOUND.match(dependency)
        if bound is None:
            raise SystemExit(
                f"{_PROJECT.name}: {dependency!r} has no lower bound, as NAME>=VERSION"
            )
        print(f"{bound[1]}=={bound[2]}")


if __name__ == "__main__":
    main()

"""Writes into a wheel and a source archive by which commit they were built; not into a release
(NETI_RELEASE=1). Fetches the files of other projects that the dashboard's page uses."""

import os
import runpy
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PLACE = {"wheel": "neti", "sdist": "src/neti"}


class Commit(BuildHookInterface):  # type: ignore[type-arg]  # generic in some versions only
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        build = runpy.run_path(str(Path(self.root, "src/neti/build.py")))
        place = PLACE.get(self.target_name)
        if place is not None and version != "editable":  # 'make setup' has done it for that one
            runpy.run_path(str(Path(self.root, "scripts/browser_files.py")))["main"]()
        if version == "editable" or place is None or os.environ.get(build["FOR_A_RELEASE"]):
            return
        commit = build["commit_of"](Path(self.root))
        if commit:
            self._stamp = tempfile.NamedTemporaryFile("w", suffix=".commit")  # noqa: SIM115 until the end
            self._stamp.write(commit + "\n")
            self._stamp.flush()
            build_data["force_include"][self._stamp.name] = f"{place}/{build['STAMP']}"

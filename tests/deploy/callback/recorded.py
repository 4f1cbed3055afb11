"""Writes what each task did on each host to a file, a JSON object a line, for the tests."""

import json
import os
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: recorded
type: aggregate
short_description: What each task did, as JSON lines
description:
  - For the tests. The file is named by NETI_TEST_RECORD.
  - Modules are packed once for all runs, in the folder that NETI_TEST_MODULES names.
"""


# Ansible has no types, so its class is Any, and strict mypy refuses to subclass that.
class CallbackModule(CallbackBase):  # type: ignore[misc]  # Ansible has no types
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "recorded"

    def __init__(self) -> None:
        super().__init__()
        # Packing a module costs more than running it, and each run begins with an empty folder.
        packed = Path(constants.DEFAULT_LOCAL_TMP) / "ansiballz_cache"
        if not packed.exists():
            packed.symlink_to(os.environ["NETI_TEST_MODULES"])

    def _note(self, result: Any, status: str) -> None:
        line = {
            "task": result.task.get_name().rpartition(" : ")[2],
            "host": result.host.get_name(),
            "status": "changed" if status == "ok" and result.result.get("changed") else status,
            "result": {
                key: value
                for key, value in result.result.items()
                if key in {"msg", "ansible_facts", "commands", "stage", "warnings", "stderr"}
            },
        }
        with open(os.environ["NETI_TEST_RECORD"], "a") as record:
            record.write(json.dumps(line, default=str) + "\n")

    def v2_runner_on_ok(self, result: Any) -> None:
        self._note(result, "ok")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._note(result, "failed")

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._note(result, "skipped")

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._note(result, "unreachable")

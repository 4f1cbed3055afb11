"""ansible-playbook for real, with this repository's collection, and what each of its tasks did."""

import functools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from tests.support.front import run_in_front
from tests.support.run_end import at_the_end

ROOT = Path(__file__).parents[2]
COLLECTIONS = ROOT / "deploy/ansible"
COMPILED_ONCE = ROOT / "tests/support/compiled_once"
_SECONDS = 170


@functools.cache
def kept() -> Path:
    """What Ansible makes of a module anew in each run and for each task, kept for all of them."""
    folder = Path(tempfile.mkdtemp(prefix="neti-ansible-"))
    at_the_end(partial(shutil.rmtree, folder, ignore_errors=True))
    for part in ("modules", "compiled"):
        (folder / part).mkdir()
    return folder


@dataclass(frozen=True)
class Done:
    """One task on one host."""

    task: str
    host: str
    status: str
    result: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    code: int
    output: str
    tasks: Sequence[Done]

    @property
    def changed(self) -> set[tuple[str, str]]:
        """(host, task) of all that changed something, or in check mode would have."""
        return {(done.host, done.task) for done in self.tasks if done.status == "changed"}

    @property
    def failed(self) -> list[Done]:
        return [done for done in self.tasks if done.status in {"failed", "unreachable"}]

    def of(self, task: str) -> dict[str, Done]:
        """The task's outcome on each host."""
        return {done.host: done for done in self.tasks if done.task == task}

    def facts(self, name: str) -> dict[str, Any]:
        """The fact's value by host, as tasks set it."""
        return {
            done.host: done.result["ansible_facts"][name]
            for done in self.tasks
            if name in (done.result.get("ansible_facts") or {})
        }


class Controller:
    """A folder with ansible.cfg and an inventory, from which playbooks are run."""

    def __init__(self, folder: Path, *, collections: Path = COLLECTIONS) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "ansible.cfg").write_text(
            "[defaults]\n"
            f"collections_path = {collections}\n"
            "inventory = inventory.yml\n"
            f"callback_plugins = {ROOT}/tests/deploy/callback\n"
            "callbacks_enabled = recorded\n"
            "forks = 4\n"
            "local_tmp = local-tmp\n"
            "remote_tmp = " + str(folder / "remote-tmp") + "\n"
            "internal_poll_interval = 0.02\n"  # not a thousand times a second
            "fact_caching = jsonfile\n"
            f"fact_caching_connection = {folder}/facts\n"
            "[connection]\npipelining = true\n"
        )

    def inventory(self, groups: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> None:
        """Group → host → the host's variables."""
        children = {group: {"hosts": dict(hosts)} for group, hosts in groups.items()}
        document = {"all": {"children": children}}
        (self.folder / "inventory.yml").write_text(yaml.safe_dump(document))

    def play(self, playbook: str | list[dict[str, Any]], *words: str, check: bool = False) -> Run:
        """Run a playbook by name (one of the collection's), or one that is given as a document."""
        if not isinstance(playbook, str):
            (self.folder / "play.yml").write_text(yaml.safe_dump(playbook))
            playbook = "play.yml"
        record = self.folder / "record"
        record.write_text("")
        options = [*words, *(["--check", "--diff"] if check else [])]
        done = run_in_front(
            [str(Path(sys.executable).parent / "ansible-playbook"), playbook, *options],
            _SECONDS,
            cwd=self.folder,
            env={
                **self._environment(),
                "NETI_TEST_RECORD": str(record),
                "NETI_TEST_MODULES": str(kept() / "modules"),
                "NETI_TEST_COMPILED": str(kept() / "compiled"),
                "PYTHONPATH": str(COMPILED_ONCE),
            },
        )
        tasks = [Done(**json.loads(line)) for line in record.read_text().splitlines()]
        return Run(done.returncode, done.stdout + done.stderr, tasks)

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "NETI_"))}
        return {
            **kept,
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_HOME": str(self.folder / "home"),
            "LC_ALL": "C.UTF-8",
        }

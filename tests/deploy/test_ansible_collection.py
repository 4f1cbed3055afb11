"""The collection itself: it builds, it agrees with the program, its pure parts decide well."""

import importlib.util
import json
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from tests.support.playbooks import COLLECTIONS, Controller

from neti.agent.reloading import NEED_RESTART

COLLECTION = COLLECTIONS / "ansible_collections/neti/fleet"
ROLES = sorted(path.name for path in (COLLECTION / "roles").iterdir())
# The settings' names, where they are not the keys of neti.yml.
KEYS = {"embedded": "registry"}


def plugin(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, COLLECTION / "plugins" / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_builds_with_all_its_parts(tmp_path: Path) -> None:
    """As ansible-galaxy publishes it: an archive with every role and plugin."""
    galaxy = str(Path(sys.executable).parent / "ansible-galaxy")
    words = [galaxy, "collection", "build", str(COLLECTION), "--output-path", str(tmp_path)]
    built = subprocess.run(words, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    with tarfile.open(next(tmp_path.glob("neti-fleet-*.tar.gz"))) as archive:
        names = set(archive.getnames())
    own = {str(p.relative_to(COLLECTION)) for p in COLLECTION.rglob("*.yml")} - {"galaxy.yml"}
    assert own <= names
    assert {f"roles/{role}/meta/argument_specs.yml" for role in ROLES} <= names


@pytest.mark.parametrize("name", ["site", "enforce", "relax"])
def test_the_playbooks_are_valid(tmp_path: Path, name: str) -> None:
    """Every module, role and handler that they name exists."""
    controller = Controller(tmp_path)
    controller.inventory({"neti_agents": {"localhost": {}}})
    run = controller.play(f"neti.fleet.{name}", "--syntax-check")
    assert run.code == 0, run.output


WAYS = [
    ({"neti_install_from": "pip", "neti_venv": "FOLDER"}, "FOLDER/bin/neti"),
    ({"neti_install_from": "pip"}, "/opt/neti-venv/bin/neti"),
    ({"neti_install_from": "deb", "neti_venv": "FOLDER"}, "/usr/bin/neti"),
    ({}, "/usr/bin/neti"),
    ({"neti_install_from": "pip", "neti_command": "FOLDER/own"}, "FOLDER/own"),
]


@pytest.mark.parametrize(("name", "task"), [("enforce", "Enforce"), ("relax", "Relax")])
@pytest.mark.parametrize(("variables", "command"), WAYS)
def test_a_stage_is_set_by_the_program_that_the_role_installed(
    tmp_path: Path, name: str, task: str, variables: dict[str, str], command: str
) -> None:
    """The role's defaults hold inside the role only: the playbooks must come to the same path."""
    defaults = yaml.safe_load((COLLECTION / "roles/install/defaults/main.yml").read_text())
    playbook = yaml.safe_load((COLLECTION / f"playbooks/{name}.yml").read_text())
    (module,) = [
        each["neti.fleet.neti_stage"]
        for each in playbook[0]["tasks"]
        if each["name"].startswith(task)
    ]
    given = {key: value.replace("FOLDER", str(tmp_path)) for key, value in variables.items()}
    ways = [(module["command"], given)]
    if "neti_command" not in given:
        ways.append((defaults.pop("neti_command"), {**defaults, **given}))
    for text, known in ways:
        template = Environment(undefined=StrictUndefined, autoescape=False).from_string(text)
        assert template.render(known) == command.replace("FOLDER", str(tmp_path))


@pytest.mark.parametrize("name", ["enforce", "relax"])
def test_a_fleet_by_pip_is_enforced_and_relaxed(tmp_path: Path, name: str) -> None:
    """By the program in its virtual environment; here one that only notes how it is called."""
    venv, before = tmp_path / "venv", {"enforce": "shadow", "relax": "enforced"}[name]
    program = venv / "bin/neti"
    program.parent.mkdir(parents=True)
    answer = json.dumps({"stage": before})
    program.write_text(f"#!/bin/sh\necho \"$@\" >>{tmp_path}/called\necho '{answer}'\n")
    program.chmod(0o755)
    host = {
        "ansible_connection": "local",
        "ansible_become": False,
        "ansible_python_interpreter": sys.executable,
        "neti_install_from": "pip",
        "neti_venv": str(venv),
    }
    controller = Controller(tmp_path / "controller")
    controller.inventory({"neti_agents": {"localhost": host}})
    run = controller.play(f"neti.fleet.{name}")
    assert run.code == 0, run.output
    called = (tmp_path / "called").read_text().splitlines()
    assert [line.split()[0] for line in called] == ["status", name]


def test_pip_installs_nothing_that_was_not_named() -> None:
    """On a public index the name may be anybody's, and what is installed runs as root."""
    role = COLLECTION / "roles/install"
    assert yaml.safe_load((role / "defaults/main.yml").read_text())["neti_pip_spec"] == ""
    first, *_ = yaml.safe_load((role / "tasks/pip.yml").read_text())
    assert first["ansible.builtin.assert"]["that"] == "neti_pip_spec | length > 0"


RELAXED = {"reject_all": False, "by": "command", "relaxed_until": None}


@pytest.mark.parametrize(
    ("status", "calls"),
    [
        ({"stage": "shadow", "wished": RELAXED}, ["status"]),
        # Between two trials: the agent would begin the next one by itself.
        ({"stage": "shadow", "wished": {**RELAXED, "reject_all": True}}, ["status", "relax"]),
        ({"stage": "shadow", "wished": {**RELAXED, "relaxed_until": 9.0}}, ["status", "relax"]),
        # No agent answers.
        ({"agent": "not running", "on_disk": {"stage": "enforced"}}, ["status", "relax"]),
        ({}, ["status", "relax"]),
    ],
)
def test_the_way_back_leads_back(
    tmp_path: Path, status: dict[str, object], calls: list[str]
) -> None:
    """Whatever the agent says, or whether there is one: nobody is kept out afterwards."""
    program = tmp_path / "neti"
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/called\n'
        f"case $1 in status) echo '{json.dumps(status)}'; exit 1;; esac\n"
        'echo \'{"stage": "shadow"}\'\n'
    )
    program.chmod(0o755)
    module = COLLECTION / "plugins/modules/neti_stage.py"
    words = {"stage": "shadow", "command": str(program), "config": "/etc/neti/neti.yml"}
    ran = subprocess.run(
        [sys.executable, module],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": words}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert json.loads(ran.stdout) == {
        **json.loads(ran.stdout),
        "changed": "relax" in calls,
        "stage": "shadow",
    }
    called = (tmp_path / "called").read_text().splitlines()
    assert [line.split()[0] for line in called] == calls


@pytest.mark.parametrize(
    ("encryption", "ports", "calls"),
    [
        (None, None, ["status"]),
        ({"require_configured": False, "requires": False}, "none", ["status"]),
        ({"require_configured": True, "requires": True}, "in force", ["status"]),
        ({"require_configured": True, "requires": False}, None, ["status", "enforce"]),
        (None, "waiting", ["status", "enforce"]),
    ],
)
def test_an_enforced_host_still_has_to_try_what_its_file_says(
    tmp_path: Path, encryption: object, ports: str | None, calls: list[str]
) -> None:
    """Encryption and member_ports: that is a trial of its own."""
    program = tmp_path / "neti"
    status = {"stage": "enforced", "encryption": encryption, "member_ports": ports}
    program.write_text(f"#!/bin/sh\necho \"$@\" >>{tmp_path}/called\necho '{json.dumps(status)}'\n")
    program.chmod(0o755)
    words = {"stage": "enforced", "command": str(program), "config": "/etc/neti/neti.yml"}
    ran = subprocess.run(
        [sys.executable, COLLECTION / "plugins/modules/neti_stage.py"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": words}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert json.loads(ran.stdout)["changed"] is ("enforce" in calls)
    called = (tmp_path / "called").read_text().splitlines()
    assert [line.split()[0] for line in called] == calls


def test_no_example_listens_on_an_overlay_address() -> None:
    """No interface has one: bind would fail."""
    wrong = re.compile(r"\blisten(?:s on|:).*(?:it$|overlay)", re.IGNORECASE | re.MULTILINE)
    for path in COLLECTIONS.parent.rglob("*"):
        if path.suffix in {".py", ".rb", ".md", ".yml"} and path.is_file():
            assert not wrong.search(path.read_text()), path


def test_keys_for_a_restart_are_those_of_the_agent() -> None:
    """A key that only one side knows would be reloaded, and not taken in."""
    listed = yaml.safe_load((COLLECTION / "roles/agent/vars/main.yml").read_text())
    wanted = {KEYS.get(name, name) for name in NEED_RESTART}
    assert set(listed["neti_agent_keys_for_restart"]) == wanted


@pytest.mark.parametrize("role", ROLES)
def test_every_default_is_described(role: str) -> None:
    """What can be set can be looked up."""
    folder = COLLECTION / "roles" / role
    specs = yaml.safe_load((folder / "meta/argument_specs.yml").read_text())
    options = specs["argument_specs"]["main"]["options"]
    assert set(yaml.safe_load((folder / "defaults/main.yml").read_text())) <= set(options)
    assert all(option["description"] for option in options.values())


@pytest.mark.parametrize(
    ("before", "changed"),
    [
        ("", []),
        ("site: a\nopen_ports: [80]\n", []),
        ("site: b\nopen_ports: []\n", ["site"]),
        ("site: a\nidentity: ec2\n", ["identity"]),
        ("site: [", ["site", "identity"]),
        ("just words", ["site", "identity"]),
    ],
)
def test_what_needs_a_restart(before: str, changed: list[str]) -> None:
    """No file: nothing runs by it. An unreadable one: nobody knows what runs."""
    restart_keys = plugin("filter/restart_keys.py").restart_keys
    wanted = {"site": "a", "open_ports": [443]}
    assert restart_keys(wanted, ["site", "identity"], before=before) == changed


@pytest.mark.parametrize(
    ("state", "running", "more", "run"),
    [
        ("started", False, {}, ["on"]),
        ("started", True, {}, []),
        ("stopped", True, {}, ["off"]),
        ("stopped", False, {}, []),
        ("reloaded", True, {"reload": "hup"}, ["hup"]),
        ("reloaded", True, {}, ["off", "on"]),
        ("reloaded", False, {"reload": "hup"}, ["on"]),
        ("restarted", True, {"restart": "again"}, ["again"]),
        ("restarted", True, {}, ["off", "on"]),
    ],
)
def test_the_commands_that_lead_to_a_state(
    state: str, running: bool, more: dict[str, str], run: list[str]
) -> None:
    """Each state by the least that leads there."""
    commands = plugin("modules/command_service.py").commands
    given = {"start": "on", "stop": "off", "reload": None, "restart": None, "state": state, **more}
    assert commands(given, running=running) == run


UNITS = [
    ("agent", "neti.service", "/opt/neti/bin/neti agent -c /etc/neti/neti.yml"),
    ("agent", "neti-restore.service", "/opt/neti/bin/neti restore -c /etc/neti/neti.yml"),
    ("agent", "neti-leave.service", "/bin/true"),
    ("agent", "neti-wireguard.service", "/usr/bin/wireguard-go neti0"),
    ("zk_proxy", "neti-zk-proxy.service", "/opt/neti/bin/neti zk-proxy $ARGUMENTS"),
]


@pytest.mark.parametrize(("role", "name", "line"), UNITS, ids=[unit[1] for unit in UNITS])
def test_units_run_what_was_installed(role: str, name: str, line: str) -> None:
    """Where no package brings units, these do."""
    unit = rendered(role, name, neti_command="/opt/neti/bin/neti")
    assert unit["Service"]["ExecStart"] == line


@pytest.mark.parametrize(
    "packaged",
    sorted(COLLECTIONS.parent.glob("neti*.s[eo][rc]*")),
    ids=lambda path: path.name,
)
def test_units_are_those_of_the_package(packaged: Path) -> None:
    """But for the program's and the configuration's paths."""
    theirs = _unit(packaged.read_text())
    role = "zk_proxy" if "proxy" in packaged.name else "agent"
    ours = rendered(role, packaged.name, neti_command="/usr/bin/neti")
    for section in ours.values():
        for key, value in section.items():
            section[key] = value.replace(" -c /etc/neti/neti.yml", "")
    assert ours == theirs


@pytest.mark.parametrize("module", ["neti_stage", "neti_overlay"])
def test_an_error_in_json_is_told_by_its_sentence(module: str) -> None:
    """As before from a program of a version that says it on stderr as it is."""
    said = {"code": "no_registry", "message": "zk-1 is away", "hint": "look\nwait"}
    reason = plugin(f"modules/{module}.py").reason
    assert reason("neti: a note\n" + json.dumps({"error": said})) == "zk-1 is away; look\nwait"
    for plain in ("neti: it is away\n      → wait", "", "7", "{}"):
        assert reason(f"{plain}\n") == plain


def rendered(role: str, name: str, **variables: str) -> dict[str, dict[str, str]]:
    """The role's unit, by its own defaults but for the variables."""
    folder = COLLECTION / "roles" / role
    defaults = yaml.safe_load((folder / "defaults/main.yml").read_text())
    environment = Environment(
        loader=FileSystemLoader(folder / "templates"),
        autoescape=False,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    return _unit(environment.get_template(f"{name}.j2").render({**defaults, **variables}))


def _unit(text: str) -> dict[str, dict[str, str]]:
    """Section → key → value; a key's repetitions are joined."""
    unit: dict[str, dict[str, str]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            section = unit.setdefault(line, {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section[key] = f"{section[key]}; {value}" if key in section else value
    return {name.strip("[]"): section for name, section in unit.items()}

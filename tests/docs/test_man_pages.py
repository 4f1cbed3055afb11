"""Man pages and completions come from the command line itself, and miss nothing of it."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import click
import pytest

from neti.cli import cli
from neti.config import json_schema

SCRIPT = Path(__file__).parents[2] / "scripts/man_pages.py"


def _script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("man_pages", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGES = dict(_script().pages())


def _command(name: str) -> click.Command:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    return command


# The lab has a package of its own.
COMMANDS = [
    name
    for name in cli.list_commands(click.Context(cli))
    if name != "lab" and not _command(name).hidden
]


def test_a_page_for_each_command_and_one_for_all() -> None:
    """And the one for all names each."""
    assert set(PAGES) == {"neti.1", "neti.yml.5", *(f"neti-{name}.1" for name in COMMANDS)}
    overview = PAGES["neti.1"].replace("\\-", "-")
    assert set(re.findall(r"\.BR neti-([a-z-]+) \(1\)", overview)) == set(COMMANDS)
    assert "conntrack-max" not in overview


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_has_all_options_and_subcommands(name: str) -> None:
    """As they are typed."""
    page = PAGES[f"neti-{name}.1"].replace("\\-", "-")
    command = _command(name)
    commands = {name: command}
    if isinstance(command, click.Group):
        for inner in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), inner)
            assert found is not None
            if found.hidden:
                assert f"neti {name} {inner}" not in page
            else:
                commands[f"{name} {inner}"] = found
    for words, each in commands.items():
        assert f"neti {words}" in page
        for parameter in each.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert all(option in page for option in parameter.opts)


def test_the_page_of_the_configuration_has_every_key_and_what_it_means() -> None:
    page = PAGES["neti.yml.5"].replace("\\-", "-")
    schema = json_schema()
    forms = [schema, *schema["$defs"].values()]
    for form in forms:
        for key, said in form["properties"].items():
            assert f"\n.B {key}\n" in page
            assert f"\n{said['description']}\n" in page
    assert "\n.B trial_seconds\nDefault: 120.\n" in page
    assert "One of off, prefer, require." in page


def test_an_editor_is_led_to_the_schema() -> None:
    """By the same line in the example and in the page, to where the package has it."""
    line = (SCRIPT.parents[1] / "deploy/neti.yml.example").read_text().splitlines()[0]
    assert line == "# yaml-language-server: $schema=/usr/share/neti/neti.schema.json"
    assert line in PAGES["neti.yml.5"].replace("\\-", "-")
    laid_out = (SCRIPT.parents[1] / "bundling/host_files.py").read_text()
    assert line.rpartition("=/")[2] in laid_out


@pytest.mark.parametrize("name", sorted(set(PAGES) - {"neti.yml.5"}))
def test_help_is_asked_for_as_the_program_knows_it(name: str) -> None:
    """By its short name too, in each page that tells of options."""
    page = PAGES[name].replace("\\-", "-")
    assert "\n.B -h, --help\n" in page
    assert "\n.B --help\n" not in page


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_formatter_has_no_complaint(name: str, tmp_path: Path) -> None:
    """groff with all warnings on, where there is one; the rules of man(7) that it rests on else."""
    lines = PAGES[name].splitlines()
    assert lines[0].startswith(".TH ")
    requests = {line.split()[0] for line in lines if line.startswith(".")}
    assert requests <= {".TH", ".SH", ".SS", ".PP", ".TP", ".B", ".BR", ".I", ".nf", ".fi"}
    assert not [line for line in lines if line.startswith("'") or "\b" in line]
    if shutil.which("groff") is not None:
        page = tmp_path / name
        page.write_text(PAGES[name])
        formatted = subprocess.run(
            ["groff", "-man", "-Tascii", "-ww", str(page)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert formatted.stderr == ""
        assert re.search(r"S.*Y.*N.*O.*P.*S.*I.*S", formatted.stdout)


def _complete(shell: str, step: str, **variables: str) -> str:
    environment = {**os.environ, "_NETI_COMPLETE": f"{shell}_{step}", **variables}
    command = [sys.executable, "-c", "from neti.cli import main; main()"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_script(shell: str) -> None:
    """Which asks the command line itself at each key."""
    script = _complete(shell, "source")
    assert f"_NETI_COMPLETE={shell}_complete" in script
    if shutil.which(shell) is not None:
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_commands_and_options_are_completed() -> None:
    """By what they begin with."""
    assert _complete("bash", "complete", COMP_WORDS="neti sta", COMP_CWORD="1") == "plain,status\n"
    options = _complete("bash", "complete", COMP_WORDS="neti enforce --w", COMP_CWORD="2")
    assert options == "plain,--wait-for-confirm\n"

"""The documentation names what the program has: every key, every command; its example loads."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from neti.cli import cli
from neti.config import json_schema, load
from neti.errors import ConfigError

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "deploy/neti.yml.example"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Of the 2014 cookbook, without meaning: the example does not show them.
WITHOUT_MEANING = {"bin", "overlay_ip_cache_file_path"}


def _keys(schema: Any) -> Iterator[str]:
    """Every key of the schema, those of nested mappings too."""
    if isinstance(schema, dict):
        properties = schema.get("properties", {})
        yield from properties
        for inner in [*properties.values(), *(v for k, v in schema.items() if k != "properties")]:
            yield from _keys(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _keys(inner)


def _commands(group: click.Group, words: tuple[str, ...] = ("neti",)) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield " ".join((*words, name))
        if isinstance(command, click.Group):
            yield from _commands(command, (*words, name))


KEYS = sorted(set(_keys(json_schema())))
COMMANDS = list(_commands(cli))
# With "neti" before them these are descriptions of rules in AWS's security groups.
MARKS = {"zk-groups", "ip-ranges", "path"}


def test_the_example_loads_without_a_warning() -> None:
    """Whoever copies it begins with a file that is right."""
    assert load(EXAMPLE).warnings == ()


def test_the_configuration_of_the_readme_loads_without_a_warning(tmp_path: Path) -> None:
    """It is the first one that a newcomer writes."""
    (text,) = re.findall(r"^```yaml\n(.*?)^```", PAGES[0].read_text(), re.DOTALL | re.MULTILINE)
    config = tmp_path / "neti.yml"
    config.write_text(text)
    assert load(config).warnings == ()


def test_the_example_shows_every_key_and_no_other() -> None:
    """Written out or commented out, each key stands at the beginning of a line."""
    shown = set(re.findall(r"^(?:# )?([a-z_0-9]+):", EXAMPLE.read_text(), re.MULTILINE))
    assert shown == set(json_schema()["properties"]) - WITHOUT_MEANING


@pytest.mark.parametrize("key", KEYS)
def test_the_reference_names_every_key(key: str) -> None:
    """In backticks, so that a search for the key finds its explanation."""
    assert f"`{key}`" in (ROOT / "docs/configuration.md").read_text()


def test_the_errors_shown_are_the_real_ones(tmp_path: Path) -> None:
    """The bad file of the reference is refused with the very lines that stand below it."""
    text = (ROOT / "docs/configuration.md").read_text()
    match = re.search(
        r"^This file\n\n```yaml\n(.*?)```\n.*?```\n(.*?)```", text, re.DOTALL | re.MULTILINE
    )
    assert match is not None
    bad = tmp_path / "bad.yml"
    bad.write_text(match[1])
    with pytest.raises(ConfigError) as refused:
        load(bad)
    assert str(refused.value).replace(str(bad), "bad.yml") == match[2].rstrip()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_pages_name_every_command(command: str) -> None:
    """As it is typed, somewhere in the README or in docs/."""
    spelled = re.compile(rf"\b{re.escape(command)}\b")
    assert any(spelled.search(page.read_text()) for page in PAGES)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_the_text_are_commands(page: Path) -> None:
    """What a sentence tells somebody to type is there to be typed."""
    for typed in re.findall(r"`neti ([a-z][a-z -]*)", page.read_text()):
        words = typed.split()
        if words[0] in MARKS:
            continue
        assert f"neti {words[0]}" in COMMANDS, typed
        inner = any(command.startswith(f"neti {words[0]} ") for command in COMMANDS)
        if inner and words[1:] and not words[1].startswith("-"):
            assert f"neti {words[0]} {words[1]}" in COMMANDS, typed


def _typed(page: Path) -> Iterator[str]:
    """Commands of Neti's in the page's shell examples, continued lines joined."""
    for block in re.findall(r"^```sh\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
        # A quoted value would end the command, as the quotes around a whole command do.
        shell = re.sub(r"(--[a-z-]+) '[^'\n]*'", r"\1 VALUE", block)
        for line in shell.replace("\\\n", " ").splitlines():
            yield from re.findall(r"(?:^|[\"'`(&;] *)(neti [a-z][^#|>;&)$\"'`]*)", line)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_examples_use_options_that_there_are(page: Path) -> None:
    """What is typed at night must not be refused."""
    for typed in _typed(page):
        command: click.Command = cli
        context, words = click.Context(cli), typed.split()[1:]
        # A group that does something itself, such as fleet, has options too.
        while words and isinstance(command, click.Group) and not words[0].startswith("-"):
            found = command.get_command(context, words.pop(0))
            assert found is not None, typed
            command = found
        options = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        if command.name == "exec":
            continue  # the rest is another command's
        used = {word.partition("=")[0] for word in words if word.startswith("-") and word != "-"}
        assert used <= options | {"--help"}, typed


@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_begins_with_whom_it_is_for(page: Path) -> None:
    """So that nobody reads on for nothing."""
    assert page.read_text().splitlines()[2].startswith("For ")


def test_the_index_has_every_page() -> None:
    """Designs apart: their folder is linked."""
    linked = set(re.findall(r"\]\(([\w-]+\.md)", (ROOT / "docs/README.md").read_text()))
    assert linked == {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}


def _anchors(page: Path) -> set[str]:
    """What GitHub makes of the headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Links within the repository, relative to the page, and to a heading that there is."""
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
        there = page.parent / target if target else page
        assert there.exists(), target
        assert not anchor or anchor in _anchors(there), f"{target}#{anchor}"

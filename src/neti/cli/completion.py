"""``neti completion``, and what a shell is told at Tab: ids, sites, groups, overlay addresses.

By this host's agent and its files, so at once, and without the configuration's schema. A user who
may not ask them, and a machine without an agent, get commands and options.

Must never do: wait, print an error, or ask a registry.
"""

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import click
from click.shell_completion import CompletionItem, get_completion_class

from neti.cli.output import hand_over
from neti.control import client
from neti.errors import NetiError
from neti.oneshot import group_names
from neti.state.location import state_folder

_ASKED_BY: Final = "_NETI_COMPLETE"  # click's name for it
_SECONDS: Final = 0.5  # that somebody who has pressed Tab waits for an agent
_PLAIN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]*")  # nothing that a shell would run


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete 'neti'.

    Commands and options; as root, where an agent runs, also ids, sites, groups and overlay
    addresses. The Debian package installs it for all three shells.

    \b
    Examples:
      source <(neti completion bash)
      neti completion zsh > /usr/local/share/zsh/site-functions/_neti
      neti completion fish > ~/.config/fish/completions/neti.fish
    """
    root = click.get_current_context().find_root()
    kind = get_completion_class(shell)
    assert kind is not None
    hand_over(kind(root.command, {}, "neti", _ASKED_BY).source() + "\n")


def attach(command: click.Command) -> None:
    """To every parameter of the command, and of those below, that is called by what it takes."""
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            attach(inner)
    for one in command.params:
        name = one.metavar or ""
        if one.name == "site" and command.name not in {"report", "ip-ranges"}:
            name = "SITE"
        if (known := _KNOWN.get(name.strip("[].…"))) is not None:
            # click calls it by this name, as its argument shell_complete= would set it.
            made = _completer(known)
            one.shell_complete = made  # type: ignore[assignment, method-assign]  # a method there


def _completer(
    known: Callable[[Path], Iterable[str]],
) -> Callable[[click.Context, str], list[CompletionItem]]:
    def complete(context: click.Context, incomplete: str) -> list[CompletionItem]:
        found: set[str] = set()
        with suppress(NetiError, OSError, ValueError, KeyError, TypeError):
            config = context.params.get("config") or "/etc/neti/neti.yml"
            found = set(known(state_folder(Path(config))))
        plain = sorted(word for word in found if _PLAIN.fullmatch(word))
        return [CompletionItem(word) for word in plain if word.startswith(incomplete)]

    return complete


def _members(folder: Path) -> list[dict[str, Any]]:
    return list(client.call(folder, "members", within=_SECONDS))


def _ids(folder: Path) -> Iterable[str]:
    return (str(one["id"]) for one in _members(folder))


def _ids_and_addresses(folder: Path) -> Iterable[str]:
    return (str(one[key]) for one in _members(folder) for key in ("id", "overlay"))


def _sites(folder: Path) -> Iterable[str]:
    return (str(one["site"]) for one in _members(folder))


_KNOWN: Final[dict[str, Callable[[Path], Iterable[str]]]] = {
    "ID": _ids,
    "OLD": _ids,
    "NEW": _ids,
    "DEST": _ids,
    "SOURCE": _ids_and_addresses,
    "ID|PATTERN": _ids,
    "ID|PATTERN|SUBJECT": _ids,
    "NAME|ID|ADDRESS": _ids_and_addresses,
    "GROUP": group_names.on_disk,
    "SITE": _sites,
}

"""Man pages out of the command line's own help: neti.1, and one for each command or group.

    python scripts/man_pages.py FOLDER

What is written here and not in the help is only what a page must have: names, dates, references.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from neti import __version__
from neti.cli import cli

_OTHER_PACKAGES: Final = {"lab"}  # installed beside Neti where these pages are made
_FILES: Final = """\
.SH FILES
.TP
.I /etc/neti/neti.yml
The configuration; NETI_CONFIG names another.
.TP
.I /etc/neti/disabled
Present: nothing of Neti is loaded on this machine. So does neti=off on the kernel's command line.
.TP
.I /var/lib/neti
State: members, stage, session.
.SH EXIT STATUS
0: done. 1: it could not be done, or what was asked for is not so. 2: the configuration or the
command line is wrong.
"""


def pages() -> Iterator[tuple[str, str]]:
    """(file name, content)"""
    root = _context(cli, "neti", None)
    names = [name for name in cli.list_commands(root) if name not in _OTHER_PACKAGES]
    found = {name: cli.get_command(root, name) for name in names}
    commands = {name: each for name, each in found.items() if each is not None and not each.hidden}
    listed = [
        f".TP\n.BR neti\\-{_roff(name)} (1)\n{_roff(command.get_short_help_str(200))}"
        for name, command in commands.items()
    ]
    yield (
        "neti.1",
        "\n".join(
            [*_head("neti", cli), *_body(cli, root), ".SH COMMANDS", *listed, _FILES.rstrip(), ""]
        ),
    )
    for name, command in commands.items():
        context = _context(command, name, root)
        yield f"neti-{name}.1", "\n".join([*_page(name, command, context), ""])


def _page(name: str, command: click.Command, context: click.Context) -> Iterator[str]:
    yield from _head(f"neti-{name}", command)
    yield from _body(command, context)
    if isinstance(command, click.Group):
        yield ".SH COMMANDS"
        for inner in command.list_commands(context):
            child = command.get_command(context, inner)
            assert child is not None
            if child.hidden:  # the program's own use
                continue
            below = _context(child, inner, context)
            yield f".SS {_roff(_usage(child, below))}"
            yield from _text(child.help or "")
            yield from _options(child, below)
    yield ".SH SEE ALSO\n.BR neti (1)"


def _context(command: click.Command, name: str, parent: click.Context | None) -> click.Context:
    """As the program itself makes it: its settings tell the names of the option for help."""
    return click.Context(command, parent=parent, info_name=name, **command.context_settings)


def _head(name: str, command: click.Command) -> Iterator[str]:
    yield f'.TH "{name.upper()}" "1" "" "neti {__version__}" "Neti"'
    summary = command.get_short_help_str(200).rstrip(".")
    yield f".SH NAME\n{_roff(name)} \\- {_roff(summary)}"


def _body(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f".SH SYNOPSIS\n.B {_roff(_usage(command, context))}"
    yield ".SH DESCRIPTION"
    yield from _text(command.help or "")
    options = list(_options(command, context))
    if options:
        yield ".SH OPTIONS"
        yield from options


def _usage(command: click.Command, context: click.Context) -> str:
    return f"{context.command_path} {' '.join(command.collect_usage_pieces(context))}"


def _text(help_text: str) -> Iterator[str]:
    """Paragraphs; those that click is told to leave alone (\\b) stay as they are."""
    for number, paragraph in enumerate(re.split(r"\n\s*\n", help_text.strip())):
        lines = [line.strip("\n") for line in paragraph.splitlines()]
        if lines[0].strip() == "\b":
            kept = [_roff(line.strip()) for line in lines[1:]]
            yield "\n".join([".PP", ".nf", *kept, ".fi"])
        else:
            text = " ".join(line.strip() for line in lines)
            yield (".PP\n" if number else "") + _roff(text)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and record[1]:
            yield f".TP\n.B {_roff(record[0])}\n{_roff(record[1])}"


def _roff(text: str) -> str:
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    # Input is Latin-1 to the formatter, and an ASCII terminal has no such dots.
    escaped = "".join(
        c if c.isascii() else f"\\[u{ord(c):04X}]" for c in escaped.replace("…", "...")
    )
    # A line that begins with a dot or a quote would be a request.
    return "\n".join(f"\\&{li}" if li[:1] in {".", "'"} else li for li in escaped.split("\n"))


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in pages():
        (folder / name).write_text(content)


if __name__ == "__main__":
    main()

"""Man pages out of the program itself: neti.1, one for each command or group, and neti.yml.5.

    python scripts/man_pages.py FOLDER

Those of section 1 are the command line's own help; that of section 5 is the configuration's schema.
FOLDER gets man1 and man5. What is written here and not in the help is only what a page must have:
names, dates, references.
"""

import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import click

from neti import __version__
from neti.cli import cli
from neti.config import json_schema

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
    yield "neti.yml.5", "\n".join([*_configuration(json_schema()), ""])


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


_BLOCKS: Final = {
    "SiteForm": "KEYS OF EACH SITE IN sites",
    "StaticIdentityForm": "KEYS OF identity",
    "TLSForm": "KEYS OF registry_tls",
}
_EDITOR: Final = "# yaml-language-server: $schema=/usr/share/neti/neti.schema.json"


def _configuration(schema: Mapping[str, Any]) -> Iterator[str]:
    yield f'.TH "NETI.YML" "5" "" "neti {__version__}" "Neti"'
    yield f".SH NAME\nneti.yml \\- {_roff('the configuration of Neti, key by key')}"
    yield ".SH SYNOPSIS\n.I /etc/neti/neti.yml"
    yield ".SH DESCRIPTION"
    yield from _text(
        "One file in YAML. A key that is left out has its default; one that is not known is an "
        "error. 'neti config check' reads the file, names every mistake with its line, and touches "
        "nothing. After a change 'neti reload' has the agent read it.\n\nWith this as its first "
        "line, an editor completes and explains the keys:"
    )
    yield f".PP\n.nf\n{_roff(_EDITOR)}\n.fi"
    yield ".SH KEYS"
    yield from _keys(schema)
    for name, title in _BLOCKS.items():
        yield f".SH {_roff(title)}"
        yield from _keys(schema["$defs"][name])
    yield ".SH SEE ALSO\n.BR neti (1),\n.BR neti\\-config (1)"


def _keys(form: Mapping[str, Any]) -> Iterator[str]:
    for key, said in form["properties"].items():
        default = said.get("default")
        begins = [f".TP\n.B {_roff(key)}"]
        if key in form.get("required", ()):
            begins.append("Must be given.")
        elif default not in (None, [], {}):
            begins.append(f"Default: {_roff(_scalar(default))}.")
        if words := _values(said):
            begins.append(_roff(words))
        yield "\n".join([*begins, _roff(said["description"])])


def _values(said: Mapping[str, Any]) -> str:
    """What may stand there, where it is one of some words or a number with limits."""
    if "enum" in said:
        return f"One of {', '.join(map(_scalar, said['enum']))}."
    if "minimum" in said and "maximum" in said:
        return f"{_scalar(said['minimum'])} to {_scalar(said['maximum'])}."
    return ""


def _scalar(value: object) -> str:
    """As it is written in YAML."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, str) else json.dumps(value)


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
        section = folder / f"man{name[-1]}"
        section.mkdir(exist_ok=True)
        (section / name).write_text(content)


if __name__ == "__main__":
    main()

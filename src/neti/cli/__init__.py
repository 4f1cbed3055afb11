"""The ``neti`` command: groups commands, loads each only when it is used, explains errors.

Must never do work of its own: a command asks the agent, a registry or the kernel and prints.
"""

import importlib
import importlib.util
import itertools
import os
import sys
from typing import Any, Final

import click

from neti import __version__
from neti.cli import streams
from neti.cli.ending import ended_by, ended_with, name_who_hangs
from neti.cli.looks import no_color_option
from neti.cli.menu import Formatter, Group
from neti.cli.output import wants_json
from neti.control.aside import ASIDES
from neti.errors import NetiError

# section of --help -> command -> (module, attribute)
_SECTIONS: Final[dict[str, dict[str, tuple[str, str]]]] = {
    "Look": {
        "status": ("neti.cli.status", "status"),
        "fleet": ("neti.cli.fleet", "fleet"),
        "top": ("neti.cli.top", "top"),
        "lookup": ("neti.cli.hosts", "lookup"),
        "verify": ("neti.cli.verify", "verify"),
        "preview": ("neti.cli.preview", "preview"),
        "explain": ("neti.cli.explain", "explain"),
        "leftovers": ("neti.cli.leftovers", "leftovers"),
        "plan": ("neti.cli.plan", "plan"),
        "check": ("neti.cli.check", "check"),
        "ready": ("neti.cli.ready", "ready"),
        "drained": ("neti.cli.ready", "drained"),
        "metrics": ("neti.cli.metrics", "metrics"),
        "dashboard": ("neti.cli.dashboard", "dashboard"),
        "support": ("neti.cli.support", "support"),
        "overlay-ip": ("neti.cli.host", "overlay_ip"),
    },
    "Rules of this host": {
        "enforce": ("neti.cli.stage", "enforce"),
        "confirm": ("neti.cli.stage", "confirm"),
        "relax": ("neti.cli.way_out", "relax"),
        "open": ("neti.cli.open", "open_"),
        "release": ("neti.cli.stage", "release"),
        "down": ("neti.cli.way_out", "down"),
        "up": ("neti.cli.host", "up"),
    },
    "This host": {
        "agent": ("neti.cli.agent", "agent"),
        "reload": ("neti.cli.reload", "reload"),
        "leave": ("neti.cli.host", "leave"),
        "hosts": ("neti.cli.hosts", "hosts"),
        "restore": ("neti.cli.restore", "restore"),
        "conntrack-max": ("neti.cli.conntrack_max", "conntrack_max"),
    },
    "The fleet": {
        "group": ("neti.cli.group", "group"),
        "name": ("neti.cli.name", "name"),
        "lease": ("neti.cli.lease", "lease"),
        "retire": ("neti.cli.retire", "retire"),
        "gateway": ("neti.cli.gateway", "gateway"),
        "key": ("neti.cli.key", "key"),
        "report": ("neti.cli.report", "report"),
    },
    "Set-up": {
        "config": ("neti.cli.config", "config_group"),
        "registry": ("neti.cli.registry", "registry_group"),
        "zk-proxy": ("neti.cli.zk_proxy", "zk_proxy"),
        "aws": ("neti.cli.aws", "aws_group"),
        "completion": ("neti.cli.completion", "completion"),
    },
    "To try it": {
        "lab": ("neti_lab.cli", "lab_group"),
    },
}
_COMMANDS: Final = {name: place for named in _SECTIONS.values() for name, place in named.items()}


_LAB: Final = "lab"  # of the distribution neti-lab, which no firewall host needs


def _has_lab() -> bool:
    return importlib.util.find_spec(_COMMANDS[_LAB][0].partition(".")[0]) is not None


@click.command(_LAB, context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def _no_lab(arguments: tuple[str, ...]) -> None:
    """Says how to get it."""
    raise NetiError(
        "the lab is a separate package, which is not installed here\n"
        "→ in a clone of the project: make setup, or 'pip install ./lab'"
    )


_WORDS: Final = "neti.words"  # in click's meta: the command line


def _asked_for_json(ctx: click.Context, error: BaseException) -> bool:
    """Where the line could not be read, so that no option was: by its words, of a command that has
    the option."""
    if not isinstance(error, click.UsageError) or error.ctx is None:
        return False
    words = itertools.takewhile(lambda word: word != "--", ctx.meta.get(_WORDS, ()))
    return "--json" in words and any("--json" in one.opts for one in error.ctx.command.params)


class _Lazy(Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in _COMMANDS if name != _LAB or _has_lab()]

    def sections(self, ctx: click.Context) -> dict[str, list[str]]:
        there = self.list_commands(ctx)
        found = {title: [n for n in named if n in there] for title, named in _SECTIONS.items()}
        return {title: names for title, names in found.items() if names}

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        place = _COMMANDS.get(cmd_name)
        if place is None:
            return None
        if cmd_name == _LAB and not _has_lab():
            return _no_lab
        command: click.Command = getattr(importlib.import_module(place[0]), place[1])
        if "_NETI_COMPLETE" in os.environ:  # a shell asks, at a press of Tab
            from neti.cli import completion

            completion.attach(command)
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_WORDS] = tuple(args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        ASIDES.forget()
        try:
            try:
                return super().invoke(ctx)
            finally:
                name_who_hangs()
        except click.exceptions.Exit:
            raise
        except (Exception, KeyboardInterrupt) as error:
            as_json = wants_json(ctx) or _asked_for_json(ctx, error)
            if isinstance(error, click.ClickException) and not as_json:
                raise  # click itself shows it, with the command's usage
            debug = bool(ctx.params.get("debug"))
            ctx.exit(ended_by(error, debug=debug, command=ctx.invoked_subcommand, as_json=as_json))

    def main(self, *args: Any, **extra: Any) -> Any:
        """What ends before a command is known."""
        try:
            return super().main(*args, **extra)
        except Exception as error:  # nobody should read a traceback at three in the morning
            sys.exit(ended_by(error, debug=False, command=None))


click.Context.formatter_class = Formatter  # of every command below


@click.group(
    cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@no_color_option(hidden=False)
@click.option("--debug", is_flag=True, help="Show the traceback of an error (or NETI_DEBUG=1).")
@click.version_option(__version__, message="neti %(version)s")
def cli(debug: bool) -> None:
    """Make hosts in separate networks work as one fleet, even if their private addresses overlap.

    Each host runs an agent, which registers it, gives it a stable overlay address, and keeps its
    kernel in step with the fleet. To see it all on this machine, in network namespaces of its own,
    run 'neti lab demo' (the lab is a separate package, in folder lab/).
    """


def main() -> None:
    streams.heed()
    try:
        cli(prog_name="neti")
    except SystemExit as ended:
        sys.exit(ended_with(ended.code))

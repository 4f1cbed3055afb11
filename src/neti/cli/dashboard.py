"""``neti dashboard``: the whole fleet in a browser."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from neti import __version__
from neti.cli import streams
from neti.cli.asking import ask
from neti.cli.common import (
    ONLY_AS_THE_AGENT_KNEW,
    config_option,
    refuse_unknown_site,
    registry_of,
    settings_in_force,
)
from neti.cli.fleet_asked import key_asked
from neti.cli.output import explain, hand_over, say
from neti.errors import NetiError
from neti.model.settings import Settings
from neti.words import counted, why

if TYPE_CHECKING:
    from neti.dashboard.serve import Socket, Where
    from neti.oneshot.watched import Watched

_LISTEN = "127.0.0.1:8642"
# Where another user has this port, ssh would warn and go on.
_SAFELY = "-o ExitOnForwardFailure=yes"


@click.command()
@config_option
@click.option(
    "--listen",
    default=_LISTEN,
    show_default=True,
    metavar="ADDRESS:PORT",
    help="Beyond loopback by TLS only.",
)
@click.option(
    "--cert",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Beyond loopback: with this certificate. [default: that of registry_tls]",
)
@click.option(
    "--key",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="The key of --cert.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="What else a browser may call this server, where it listens beyond loopback. Repeatable.",
)
@click.option(
    "--by",
    metavar="LABEL",
    callback=key_asked,
    help="The label that tells tiers apart. [default: the one that most hosts have]",
)
@click.option(
    "--to",
    "to",
    metavar="SITE",
    help="The site that the fleet moves to: how many have moved is counted by it.",
)
@click.option(
    "--export",
    type=click.Path(path_type=Path, dir_okay=False, writable=True, allow_dash=True),
    metavar="FILE",
    help="Write the page with all that it shows now into one file, and end; - is stdout.",
)
def dashboard(
    config: Path,
    listen: str,
    names: tuple[str, ...],
    cert: Path | None,
    key: Path | None,
    by: str | None,
    to: str | None,
    export: Path | None,
) -> None:
    """Show the whole fleet in a browser: what is wrong, what to do.

    It reads the registry and changes nothing. The link that it prints has a token in it: whoever
    has the link sees the fleet, until Ctrl-C. Each start has a token of its own. As root it goes on
    as user neti, as whoever called sudo, or as nobody. For operators.

    \b
    Examples:
      neti dashboard
      neti dashboard --by tier --to vpc
      neti dashboard --export fleet.html
      ssh -t -L 127.0.0.1:8642:127.0.0.1:8642 db-1 sudo neti dashboard
    """
    if importlib.util.find_spec("starlette") is None or importlib.util.find_spec("uvicorn") is None:
        raise NetiError(
            "the dashboard's libraries are missing\n→ pip install 'neti[dashboard]', or 'neti top' "
            "in this terminal"
        )
    if (cert is None) != (key is None):
        raise click.UsageError("--cert and --key: expected both, or neither")
    settings = settings_in_force(config)
    refuse_unknown_site(to, settings.sites)
    watched = _watched(settings, by or "", to or "")
    if export is not None:
        _export(settings, watched, export)
        return
    from neti.dashboard import serve

    listening = serve.activated()
    try:
        where = serve.where_of(listening, names) if listening else serve.where(listen, names)
    except ValueError as error:
        raise click.UsageError(f"--listen: {error}") from error
    _serve(settings, watched, where, listening, (cert, key))


def _watched(settings: Settings, by: str, to: str) -> "Watched":
    from neti.oneshot.watched import Watched

    return Watched(settings, registry_of, ask, key=by, to=to)


def _export(settings: Settings, watched: "Watched", path: Path) -> None:
    from neti.dashboard import export

    shown, text = export.made(settings, watched, __version__)
    if str(path) == "-":
        hand_over(text)
    else:
        try:
            export.write(path, text)
        except OSError as error:
            raise NetiError(
                f"{path}: cannot be written: {why(error)}\n"
                "→ neti dashboard --export - > FILE, on a disk that has room, or through ssh to "
                "another machine"
            ) from error
        say(f"written: {path}, {counted(len(shown.cells), 'host')}, for its owner alone")
    if shown.unanswered is not None:
        explain(
            f"{shown.unanswered}\nso it shows only who was a member when this host's agent knew it "
            "last, and not how hosts are"
        )
        sys.exit(ONLY_AS_THE_AGENT_KNEW)


def _serve(
    settings: Settings,
    watched: "Watched",
    where: "Where",
    listening: "Socket | None",
    files: tuple[Path | None, Path | None],
) -> None:
    from neti.dashboard import serve, tls
    from neti.dashboard.door import new_token
    from neti.dashboard.user import other_user

    certificate = None if where.local else tls.chosen(settings, *files)
    served = serve.Served(
        settings,
        watched,
        where,
        token=new_token(),
        version=__version__,
        listening=listening,
        certificate=certificate,
    )
    user = other_user(_needed(settings))
    if user is not None:
        explain(f"goes on as user {user.pw_name}")
    served.run(lambda: _say(served.link, where.local), user=user)


def _say(link: str, local: bool) -> None:
    say(*_lines(link, local))
    if streams.lost():
        sys.exit()  # without the link nobody can open the page; main says why it was lost


def _needed(settings: Settings) -> Iterator[Path]:
    """What a new connection to the registry reads."""
    yield settings.path
    if settings.embedded is not None:
        yield settings.embedded
    if settings.registry_tls is not None:
        yield from (settings.registry_tls.ca, settings.registry_tls.cert, settings.registry_tls.key)


def _lines(link: str, local: bool) -> Iterator[str]:
    yield "The fleet, for whoever has this link, until Ctrl-C:"
    yield ""
    yield f"  {link}"
    yield ""
    if local:
        name, _, port = link.partition("//")[2].partition("/#")[0].rpartition(":")
        at = f"127.0.0.1:{port}"
        yield f"From another machine, then the same link: ssh -t {_SAFELY} -L {at}:{at} THIS-HOST"
        yield f"A browser that does not find {name} takes 127.0.0.1 in its place."

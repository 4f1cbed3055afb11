"""What commands share: the configuration's option, a registry that is closed again."""

import gc
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from neti.cli.asking import ask, waiting
from neti.cli.looks import no_color_option
from neti.cli.output import explain, json_option
from neti.config import DEFAULT_PATH
from neti.errors import NetiError
from neti.model.settings import Settings
from neti.state.location import in_force
from neti.words import some

if TYPE_CHECKING:
    from neti.oneshot.seen import Seen
    from neti.registry import Registry
    from neti.registry.zookeeper.registry import ZooKeeperRegistry

_VERSION: Final = re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})*")

_METADATA_SECONDS: Final = 1.0
REGISTRY_SECONDS: Final = 10.0  # as long as a command waits for the registry
OPERATORS_SECONDS: Final = 120.0  # for all of its tree
ONLY_AS_THE_AGENT_KNEW: Final = 3  # exit code of a list that is not the registry's
THE_REGISTRY: Final = "the registry"

__all__ = ["json_option"]  # beside its own: commands take both options from here

F = TypeVar("F", bound=Callable[..., Any])

_config: Callable[[F], F] = click.option(
    "-c",
    "--config",
    "config",
    type=click.Path(path_type=Path, readable=False),  # its reader says what is missing
    default=DEFAULT_PATH,
    envvar="NETI_CONFIG",
    show_envvar=True,
    show_default=True,
    help="The configuration file.",
)


def config_option(command: F) -> F:
    return _config(no_color_option(hidden=True)(command))


def unknown_member(to: str | None) -> NetiError:
    return NetiError(
        f"no member has the id or the address {to}\n→ 'neti fleet' lists them with their addresses"
    )


def refuse_unknown_site(site: str | None, known: Iterable[str]) -> None:
    """A misspelt site has nobody, which looks as if all were well there."""
    names = list(dict.fromkeys(known))
    if site is not None and site not in names:
        raise click.UsageError(f"--site {site!r}: expected one of the sites: {', '.join(names)}")


def refuse_no_version(option: str, version: str | None) -> None:
    """Everything, or nothing, would be older than what is no version."""
    if version is not None and _VERSION.fullmatch(version) is None:
        raise click.UsageError(f"{option} {version!r}: expected numbers with dots, such as 0.2")


def settings_in_force(config: Path) -> Settings:
    """For commands that look, or that get somebody back in: the agent goes on by its last good
    configuration when the file is edited wrong, and so do they, with a word on stderr."""
    return settings_in_force_or_refused(config)[0]


def settings_in_force_or_refused(config: Path) -> tuple[Settings, bool]:
    """And whether the file itself was refused."""
    from neti.state.last_good import last_good_is_used, load_or_last_good

    settings, refused = load_or_last_good(config)
    if refused is not None:
        explain(f"{last_good_is_used(refused)}\n→ neti config check")
    return settings, refused is not None


def agent_folder(config: Path) -> Path:
    """Where the agent's state and its socket are. Where the agent has this very file in force,
    nobody needs a schema to know: that costs more than its answer."""
    same = in_force(config)
    return settings_in_force(config).table_files_path if same is None else same


@contextmanager
def registry_of(settings: Settings) -> "Iterator[Registry]":
    """The registry for one command, by this host's own site where that is known."""
    from neti.registry.opening import open_registry

    registry = open_registry(settings, site_of(settings), make=False)
    try:
        yield registry
    finally:
        _name_unreadable(registry.unreadable())
        registry.close()


@contextmanager
def nothing_collected() -> Iterator[None]:
    """What a command reads of a whole fleet lives until it ends: to look for cycles in it, again
    and again as it grows, takes a third of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def fleet_seen(settings: Settings) -> "Seen":
    """The fleet by the registry, or else by this host's agent, with a word on stderr."""
    from neti.fleet.attendance import lasting
    from neti.oneshot import seen

    with waiting(REGISTRY_SECONDS, "this host's agent is asked instead", who=THE_REGISTRY):
        found = seen.seen(settings, registry_of, ask)
    if found.unanswered is not None:
        age = found.stale_seconds
        when = f" {lasting(age)} ago" if age is not None else ""
        explain(
            f"{found.unanswered}\n"
            f"so this is what this host's agent knew last{when}, without names, versions and stages"
        )
    return found


def fleet_told(settings: Settings, what: str, here: str) -> "Seen":
    """As ``fleet_seen``, for ``what`` hosts say of themselves. Raises NetiError where nobody was
    heard: that nobody says anything would pass for an answer. ``here``: the command that shows one
    host's own part."""
    found = fleet_seen(settings)
    if found.unanswered is not None:
        raise NetiError(
            f"{what} stands in the registry, which does not answer\n"
            f"→ '{here}' on each host shows its own part"
        )
    return found


def _name_unreadable(paths: Collection[str]) -> None:
    """Whoever makes such a node must not make a command fail; but what it leaves out, it says."""
    if paths:
        what = "node of the registry lets" if len(paths) == 1 else "nodes of the registry let"
        explain(
            f"{len(paths)} {what} nobody read it, so no agent made it: left out here "
            f"({some(sorted(paths))})\n→ neti registry check"
        )


def site_of(settings: Settings) -> str | None:
    """This host's site; None where it is not known and does not matter."""
    identity = settings.identity
    if settings.site is not None or not isinstance(identity, str):
        return settings.site
    if settings.embedded is not None:
        return None
    from neti.identity import discover
    from neti.identity.clouds import source_of

    try:
        # Where there is a metadata service it answers in milliseconds.
        source = source_of(identity, timeout=_METADATA_SECONDS, patience=_METADATA_SECONDS)
        return discover(settings, source=source).site
    except NetiError as error:
        # An operator's machine belongs to no site: every listed server is tried.
        explain(
            f"this machine's site is not known ({error}), so any server in zk_hosts may be asked\n"
            "→ write 'site: NAME' into the configuration"
        )
        return None


@contextmanager
def zookeeper_opened(settings: Settings) -> "Iterator[ZooKeeperRegistry]":
    """For operators' commands: rights, records and servers are only ZooKeeper's. Closed again."""
    from neti.registry.opening import open_zookeeper

    registry = open_zookeeper(settings, site_of(settings), timeout=OPERATORS_SECONDS)
    try:
        yield registry
    finally:
        registry.close()


@contextmanager
def waiting_for(registry: "ZooKeeperRegistry") -> Iterator[None]:
    """Says after a while what an operator's command waits for, and how long it will."""
    with waiting(
        OPERATORS_SECONDS, "this command gives up", who=THE_REGISTRY, why=registry.in_the_way
    ):
        yield

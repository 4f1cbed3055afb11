"""``neti check``: asks the agent, looks into the kernel itself, prints one line, exits 0 to 3."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

import click

from neti.cli.asking import ask
from neti.cli.common import F, config_option
from neti.cli.output import say
from neti.control.client import AgentForbidden, AgentSilent, AgentUnreachable
from neti.errors import ConfigError, NetiError
from neti.host.machine import switched_off
from neti.model.settings import Settings
from neti.monitoring.check import KernelLook, Level, Limits, Situation, Stage, Verdict, judge
from neti.state.last_good import load_or_last_good

# A difference between agent and kernel is repaired within two seconds, and then it is no alarm.
_LOOKS: Final = 5
_BETWEEN_LOOKS: Final = 0.6


class _Plugin(click.Command):
    """A wrong option is UNKNOWN: click's own 2 would be CRITICAL."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.show()
            ctx.exit(int(Level.UNKNOWN))


def _seconds(name: str, default: float, words: str) -> Callable[[F], F]:
    kind = click.FloatRange(min=0)
    return click.option(
        name, type=kind, default=default, show_default=True, metavar="SECONDS", help=words
    )


def _count(name: str, default: int, words: str) -> Callable[[F], F]:
    kind = click.IntRange(min=0)
    return click.option(
        name, type=kind, default=default, show_default=True, metavar="N", help=words
    )


@click.command(cls=_Plugin)
@config_option
@_seconds("--stale-warning", 60, "Warn when the registry has not been followed for so long.")
@_seconds("--stale-critical", 3600, "Critical when the registry has not been followed for so long.")
@_count("--lost-warning", 0, "Warn when more members are lost.")
@_count("--skipped-warning", 10, "Warn when more registry entries are not believed.")
@click.option(
    "--expect",
    type=click.Choice(["enforced", "shadow", "down"]),
    help="Critical when this host is in another stage.",
)
@click.pass_context
def check(
    ctx: click.Context,
    config: Path,
    stale_warning: float,
    stale_critical: float,
    lost_warning: int,
    skipped_warning: int,
    expect: Stage | None,
) -> None:
    """A monitoring plugin, for Nagios, Sensu and their kind: one line, exit code 0 to 3.

    It looks into the kernel itself, so it must run as root. 0 is OK, 1 WARNING, 2 CRITICAL, and 3
    UNKNOWN: it could not look. The worst finding decides, and all are named, the worst first.
    Every condition and what to do about it: docs/monitoring.md.

    \b
    Examples:
      sudo neti check --stale-critical 1800
      sudo neti check --expect enforced
    """
    limits = Limits(
        stale_warning=stale_warning,
        stale_critical=stale_critical,
        lost_warning=lost_warning,
        skipped_warning=skipped_warning,
    )
    try:
        verdict = _verdict(config, limits, expect)
    except Exception as error:  # a plugin that ends in a traceback would be taken for a warning
        fault = f"neti check failed: {type(error).__name__}: {error}"
        verdict = judge(Situation(blind=(fault,)), limits)
    say(verdict.line)
    ctx.exit(int(verdict.level))


def _verdict(config: Path, limits: Limits, expect: Stage | None) -> Verdict:
    for looks_left in reversed(range(_LOOKS)):
        verdict = judge(replace(_look(config), expected=expect), limits)
        if not verdict.passing or not looks_left:
            return verdict
        time.sleep(_BETWEEN_LOOKS)
    raise AssertionError("unreachable")


def _look(config: Path) -> Situation:
    blind: list[str] = []
    try:
        settings, refused = load_or_last_good(config)
    except ConfigError as error:  # and where to look, nothing says
        fault = _config_fault(config, error, blind)
        return Situation(config_fault=fault, blind=tuple(blind))
    fault = _config_fault(config, refused, blind) if refused is not None else None
    status, agent, says = _ask(settings, blind)
    return Situation(
        config_fault=fault,
        status=status,
        agent=agent,
        agent_says=says,
        switched_off=_switched_off(settings),
        kernel=_kernel(settings, blind),
        blind=tuple(dict.fromkeys(blind)),
        conntrack=_conntrack_percent(),
        wished=_wished(settings) if status is None else None,
    )


def _wished(settings: Settings) -> bool | None:
    """Whether this host is to be enforced, by disk and configuration. None: that cannot be read."""
    from neti.clock import SystemClock
    from neti.identity.machine import boot_id, fingerprint
    from neti.ruleset.objects import NO_TABLE
    from neti.stage.taking_up import take_up
    from neti.state.folder import StateFolder
    from neti.state.stage import stage_found

    clock = SystemClock()
    try:
        folder = StateFolder(settings.table_files_path, make=False)
        taken = take_up(
            stage_found(folder, folder.load(fingerprint()), NO_TABLE),
            reject_all=settings.reject_all,
            boot=boot_id(),
            monotonic=clock.monotonic(),
            now=clock.wall(),
        )
        return taken.record.wished
    except (NetiError, OSError):
        return None


def _config_fault(config: Path, refused: ConfigError, blind: list[str]) -> str | None:
    """None: it could not be read, which ``blind`` says then."""
    if isinstance(refused.__context__, PermissionError):
        blind.append(f"{config} may not be read: run this as root")
        return None
    return str(refused).replace("\n", "; ")


def _ask(
    settings: Settings, blind: list[str]
) -> tuple[dict[str, Any] | None, Literal["answers", "absent", "silent"], str]:
    try:
        status = ask(settings.table_files_path, "status", then="'neti check' calls it hung")
    except AgentForbidden as error:
        blind.append(_sentence(error))
    except AgentSilent as error:
        return None, "silent", _sentence(error)
    except AgentUnreachable as error:
        return None, "absent", _sentence(error)
    except NetiError as error:
        blind.append(f"the agent refused to tell its status: {_sentence(error)}")
    else:
        return status, "answers", ""
    return None, "answers", ""


def _sentence(error: NetiError) -> str:
    """Without the next steps: a plugin has one line."""
    return str(error).partition("\n")[0]


def _switched_off(settings: Settings) -> str | None:
    try:
        down = (settings.table_files_path / "down").exists()
    except OSError:
        down = False  # the socket in the same folder has said it already
    return switched_off() or ("neti down was called; neti up ends it" if down else None)


def _kernel(settings: Settings, blind: list[str]) -> KernelLook | None:
    from neti.monitoring.kernel_look import look

    try:
        return look(settings.table_files_path)
    except NetiError as error:
        blind.append(f"the kernel cannot be looked at: {error}")
        return None


def _conntrack_percent() -> float | None:
    from neti.dataplane.conntrack_limit import read_fill

    fill = read_fill()
    return fill.percent if fill is not None else None

"""``neti status``: what the agent says of this host, or disk and kernel where none answers."""

import os
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import click

from neti import __version__
from neti.cli import encryption
from neti.cli.asking import ask
from neti.cli.common import config_option, json_option, settings_in_force_or_refused
from neti.cli.looks import Tone
from neti.cli.output import Tinted, explain, print_json, say
from neti.cli.watching import watchable
from neti.control.client import AgentForbidden, AgentSilent, AgentUnreachable
from neti.control.protocol import RUN, SOCKET_NAME
from neti.errors import ConfigError, NetiError
from neti.model.capabilities import CAPABILITIES
from neti.model.problems import Problem, Severity
from neti.monitoring.status import Status, status_of
from neti.stage.stages import GROUPS_MISSING
from neti.state.location import in_force, state_folder
from neti.words import counted, listed, some

_SAID: Final = {
    Severity.NOTE: "note      ",
    Severity.WARNING: "problem   ",
    Severity.CRITICAL: "CRITICAL  ",
}
_TONES: Final[dict[str, Tone]] = {
    "CRITICAL": "bad",
    "problem": "doubtful",
    "warning": "doubtful",
    "lost": "doubtful",
    "held": "doubtful",
}
_PORTS: Final = {
    "waiting": "member_ports wait: every member reaches what it did before ('neti preview' shows "
    "whom they would keep out, 'neti enforce' tries it)",
    "trial": "member_ports are on trial: members are kept out of what they take away",
    "in force": "member_ports are in force: members reach what their groups do",
}
_HAS_LEFT: Final = (
    "this host has left the fleet ('neti leave'), so no agent runs here\n"
    "→ 'systemctl start neti' brings it back, with the same overlay address"
)


@click.command()
@config_option
@json_option
@watchable(2)
def status(config: Path, as_json: bool) -> None:
    """Show this host: addresses, registry, members, stage, problems.

    If no agent answers, it shows what disk and kernel know instead.

    Exit code 0: all is well. 1: something is wrong, or no agent answers. 2: the configuration is
    not valid, so the agent could not start again with it.
    """
    same, refused = in_force(config), False
    if same is None:
        folder, refused = _folder(config)
    else:
        folder = same
    try:
        answer = ask(folder, "status", then="'neti status' says what disk and kernel know")
    except AgentForbidden:
        _say_what_everybody_may_know(folder, as_json)
        raise
    except AgentUnreachable as away:
        if same is not None:
            _folder(config)  # it says what an agent that starts now would refuse
        _say_what_is_known(folder, away, as_json)
        sys.exit(1)
    seen = status_of(answer)
    if same is not None and seen.version != __version__:
        _, refused = _folder(config)
    if as_json:
        print_json(answer)
    else:
        say(*(Tinted(line, _tone(line)) for line in _status_lines(seen)))
        if seen.version != __version__:
            say(
                f"note      this command is neti {__version__}; "
                "'systemctl restart neti' starts the agent's installed version"
            )
    if refused:
        sys.exit(2)
    if not is_well(seen):
        sys.exit(1)


def _tone(line: str) -> Tone | None:
    label, said = line[:10].rstrip(), line[10:]
    if label == "stage":
        return "good" if said == "enforced" else "bad" if said.startswith("DOWN") else None
    return _TONES.get(label)


def _folder(config: Path) -> tuple[Path, bool]:
    """Where the agent is, and whether the configuration was refused. An agent that runs by a file
    which was valid when it started can still be asked, whatever is wrong since."""
    try:
        settings, refused = settings_in_force_or_refused(config)
    except ConfigError as error:
        folder = state_folder(config)
        if not os.path.lexists(folder / SOCKET_NAME):
            raise
        explain(error)
        return folder, True
    return settings.table_files_path, refused


def _say_what_everybody_may_know(folder: Path, as_json: bool) -> None:
    """On this machine, before it is said that the rest is root's. For people."""
    if as_json:
        return
    from neti.oneshot.known import overlay_on_disk
    from neti.state import hosts_file

    if (overlay := overlay_on_disk(folder)) is not None:
        say(f"overlay   {overlay}")
    path = hosts_file.place(folder, RUN)
    with suppress(NetiError):
        say(f"names     {counted(len(hosts_file.read(path)), 'host')} in {path}")


def _say_what_is_known(folder: Path, away: AgentUnreachable, as_json: bool) -> None:
    from neti.cli.alone import document, lines
    from neti.oneshot.known import known

    try:
        found = known(folder)
    except NetiError as unknown:
        explain(away)
        raise unknown from None
    explain(_HAS_LEFT if found is not None and found.left and not _hangs(away) else away)
    if as_json:
        print_json({"agent": away.is_called, **document(found)})
    elif found is not None:
        say(*lines(found))


def _hangs(away: AgentUnreachable) -> bool:
    return isinstance(away, AgentSilent)


def is_well(seen: Status) -> bool:
    """What the exit code says. What stands beside the problems is for an agent without codes."""
    graver = any(one.severity is not Severity.NOTE for one in seen.problems)
    expired = seen.trial is not None and seen.trial.state == "expired"
    return not (graver or seen.down or not seen.registered or seen.holds or expired)


def _status_lines(seen: Status) -> list[str]:
    registry, members = seen.registry, seen.members
    fresh = "in step" if registry.fresh else f"NOT in step: {registry.reason}"
    sites = ", ".join(f"{count} in {site}" for site, count in sorted(members.sites.items()))
    lines = [
        f"host      {seen.id} in site {seen.site}, neti {seen.version}",
        f"private   {seen.private}",
        f"public    {_public(seen)}",
        f"overlay   {seen.overlay or 'none yet'}",
        f"registry  {registry.kind}, {fresh}; {_registered(seen)}",
        (
            f"members   {members.total} ({sites or 'none'}), {members.lost} lost, "
            f"{members.held} held, {members.unreachable} without an address for this site"
        ),
        f"stage     {_stage(seen)}",
    ]
    lines += _absent(seen)
    if seen.records == "strict":
        lines.append("records   strict: only what a host's own record names is believed")
    if seen.encryption is not None:
        lines += encryption.lines(seen.encryption, down=seen.down)
    if seen.member_ports in _PORTS:
        missing = any(one.code == "groups_missing" for one in seen.problems)
        lines.append(f"ports     {GROUPS_MISSING if missing else _PORTS[seen.member_ports]}")
    opened = [f"open      {one}" for one in seen.openings]
    lines += listed(opened, len(opened), " " * 10)
    if seen.skipped.count:
        entries = counted(seen.skipped.count, "registry entry is", "registry entries are")
        lines.append(f"skipped   {entries} not believed:")
        lines += [f"            {name}: {why}" for name, why in seen.skipped.entries.items()]
    lines += [
        f"shared    {shared.address} in {shared.site}: claimed by {', '.join(shared.ids)}"
        for shared in seen.shared_private
    ]
    if seen.containers:
        lines.append(f"own       {some(seen.containers)}: containers of this host, let in")
    lines += [
        f"kernel    does not support {one.what} ({one.since}): {one.without}"
        for one in (CAPABILITIES[code] for code in seen.lacks if code in CAPABILITIES)
    ]
    if seen.removed.count:
        addresses = counted(seen.removed.count, "address", "addresses")
        lines.append(
            f"removed   {addresses} from which members came and no longer may. What they had open "
            f"is judged anew: {some(seen.removed.addresses)}"
        )
    lines += _problems(seen.problems)
    lines += [f"note      {sentence}" for sentence in seen.notes]
    lines += [f"warning   {sentence}" for sentence in seen.warnings]
    return lines


def _public(seen: Status) -> str:
    if seen.gateway is not None:
        own = f"{seen.public}, which leads to others too" if seen.public else "none"
        return f"{own}: reached by gateway {seen.gateway}"
    return seen.public or "none"


def _stage(seen: Status) -> str:
    if seen.down:
        return "DOWN: nothing of Neti is in the kernel"
    trial = seen.trial
    if trial is None:
        return seen.stage
    why = "; ".join(trial.why)
    of = f" of {' and '.join(trial.of)}" if trial.of != ("reject_all",) else ""
    stage = "trial" if seen.stage == "trial" else f"{seen.stage}, on trial"
    if trial.state == "running":
        word = "'neti confirm'" if trial.confirms == "operator" else "evidence"
        missing = f"; missing: {why}" if why else ""
        return f"{stage}{of}, {trial.seconds_left:.0f} s left, waits for {word}{missing}"
    again = trial.retry_at
    when = f", tried again in {max(0.0, again - time.time()):.0f} s" if again is not None else ""
    return f"{seen.stage}: the last trial{of} ended UNCONFIRMED ({why}){when}"


def _registered(seen: Status) -> str:
    """While the registry is away, its session may have ended, and nobody here can know."""
    if not seen.registered:
        return "NOT registered"
    return "registered" if seen.registry.fresh else "registered when it last was"


def _absent(seen: Status) -> list[str]:
    """Lost and held members, the first twenty of each; holds with their reasons."""
    now, indent = time.time(), " " * 12
    gone = (
        f"lost      {lost.id} ({lost.overlay}) {now - lost.since:.0f} s ago" for lost in seen.lost
    )
    lines = listed(gone, seen.members.lost, " " * 10)
    reasons = dict.fromkeys(hold.reason for hold in seen.holds)
    unnamed = seen.members.held - len(seen.holds)  # the agent names so many and no more
    for reason in reasons:
        held = [hold for hold in seen.holds if hold.reason == reason]
        total = len(held) + (unnamed if len(reasons) == 1 else 0)
        are = "member is" if total == 1 else "members are"
        lines.append(f"held      {total} {are} kept: {reason}")
        ids = (f"{indent}{hold.id} ({hold.overlay}) {now - hold.since:.0f} s ago" for hold in held)
        lines += listed(ids, total, indent)
    if unnamed > 0 and len(reasons) > 1:
        lines.append(f"{indent}and {unnamed} more are held")
    if reasons:
        lines.append("            'neti release ID' or 'neti release --all' lets them go")
    return lines


def _problems(problems: Iterable[Problem]) -> list[str]:
    """What is the same of several things is one line, which names them."""
    subjects: dict[tuple[Severity, str], list[str]] = {}
    for one in problems:
        if one.code != "lost":  # they are listed above
            subjects.setdefault((one.severity, one.sentence), []).append(one.subject)
    return [
        f"{_SAID[severity]}{sentence}" + (f" ({', '.join(these)})" if len(these) > 1 else "")
        for (severity, sentence), these in subjects.items()
    ]

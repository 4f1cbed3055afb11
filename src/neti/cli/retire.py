"""``neti retire``: hosts out of the fleet, by an operator's word."""

import sys
import time
from pathlib import Path

import click

from neti.cli.common import config_option, fleet_seen, json_option, registry_of
from neti.cli.ending import if_interrupted
from neti.cli.output import consent, explain, print_json, say
from neti.cli.ready import drained_lines, drained_of, is_drained, span_option
from neti.config import load
from neti.errors import NetiError, RegistryUnavailable
from neti.fleet.attendance import moment
from neti.host import caller
from neti.model.settings import Settings
from neti.oneshot import retiring
from neti.oneshot.grouping import having_line, heirs, named_in
from neti.oneshot.registered import registered_of
from neti.oneshot.seen import Seen
from neti.registry import OperatorRegistry
from neti.registry.retired import Retired
from neti.text import command
from neti.words import counted, some

_SILENT = "WITHOUT a goodbye"
_CUT_OFF = "the hosts may or may not be out\n→ the same command again goes on"


@click.command()
@click.argument("hosts", metavar="[ID]...", nargs=-1)
@config_option
@json_option
@click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing.")
@click.option(
    "--anyway", is_flag=True, help="Even if somebody may still call them, or they are silent."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@span_option(
    "--quiet",
    default="1h",
    text="For how long nobody must have called, as 'neti drained' has it.",
)
@span_option("--wait", "patience", default="60s", text="For the hosts to leave.")
@click.option(
    "--release-leases", is_flag=True, help="Give up their overlay addresses too: no way back."
)
@click.option("--back", is_flag=True, help="Let these hosts register again.")
@click.option("--list", "listed", is_flag=True, help="List the hosts that are retired.")
@if_interrupted(_CUT_OFF)
def retire(
    hosts: tuple[str, ...],
    config: Path,
    as_json: bool,
    dry_run: bool,
    anyway: bool,
    yes: bool,
    quiet: float,
    patience: float,
    release_leases: bool,
    back: bool,
    listed: bool,
) -> None:
    """Take hosts out of the fleet, from any machine.

    An operator's word in the registry: each host's agent says goodbye and stops, and does not
    register when it starts again. However many they are, no guard holds them. Hosts that are not
    drained ('neti drained', which sees members alone) are left alone, unless --anyway. So are those
    that are lost or missing: an agent may be dead, and the clients connected. Peers let a dead
    agent's host in until linger_seconds are over; one whose agent hangs is named as STILL
    registered. The word does not keep out a host that does not obey it: for a stolen one, keep its
    certificate out. Leases stay until you give them up, so --back and a start of the agent bring a
    host back with the address that it had. It may be repeated.

    \b
    Examples, from an operator's machine:
      neti retire web-1 web-2 --dry-run
      neti retire web-1 web-2
      neti retire --back web-1
    """
    if listed == bool(hosts) or (back and (release_leases or anyway)):
        raise click.UsageError("expected ID..., or ID... --back, or --list")
    settings = load(config)
    if listed:
        _list(settings, as_json)
    elif back:
        _back(settings, hosts, as_json, dry_run=dry_run, yes=yes)
    else:
        asked = _Asked(dry_run, anyway, yes, quiet, patience, release_leases)
        sys.exit(_retire(settings, fleet_seen(settings), hosts, asked, as_json))


class _Asked:
    def __init__(
        self,
        dry_run: bool,
        anyway: bool,
        yes: bool,
        quiet: float,
        patience: float,
        release_leases: bool,
    ) -> None:
        self.dry_run, self.anyway, self.yes = dry_run, anyway, yes
        self.quiet, self.patience, self.release_leases = quiet, patience, release_leases


def _list(settings: Settings, as_json: bool) -> None:
    with registry_of(settings) as registry:
        words = retiring.retired(registry)
        moves = any(word.to is not None for word in words.values())
        holders = registry.leases() if moves else {}
    holds = {i: holders.get(w.overlay) if w.overlay is not None else None for i, w in words.items()}
    if as_json:
        rows = [
            {
                "id": i,
                "at": w.at,
                "by": w.by,
                "to": w.to,
                "overlay": str(w.overlay or "") or None,
                "holder": holds[i],
            }
            for i, w in sorted(words.items())
        ]
        print_json(rows)
        return
    for host_id, word in sorted(words.items()):
        moved = _moved(host_id, word, holds[host_id])
        say(f"{host_id}  retired at {moment(word.at)} ({word.by}){moved}")
    say(f"{counted(len(words), 'host is', 'hosts are')} retired")


def _moved(host_id: str, word: Retired, holder: str | None) -> str:
    """The word comes first, and the lease may never have followed."""
    if word.to is None:
        return ""
    if holder == word.to:
        return f", its address {word.overlay} went to {word.to}"
    if holder == host_id:
        again = command("neti lease move", host_id, word.to)
        return (
            f", its address {word.overlay} has NOT gone to {word.to} yet\n"
            f"→ {again} --take-out goes on"
        )
    whose = f"is that of {holder}" if holder is not None else "is nobody's"
    return f", its address {word.overlay}, meant for {word.to}, {whose} now"


def _back(
    settings: Settings, hosts: tuple[str, ...], as_json: bool, *, dry_run: bool, yes: bool
) -> None:
    with registry_of(settings) as registry:
        known = retiring.retired(registry)
        if not yes and (unknown := sorted(set(hosts) - known.keys())):
            raise NetiError(
                f"not retired: {some(unknown)}: nothing was changed\n→ neti retire --list\n"
                "→ --yes as well, if the registry was wiped or restored from an older copy: "
                "agents remember that their hosts are retired"
            )
        done = frozenset(hosts)
        if not dry_run:
            retiring.back(registry, hosts, now=time.time())
    if not dry_run:
        caller.note("retire --back", ids=some(done))
    if as_json:
        print_json({"back": sorted(done), "dry_run": dry_run})
        return
    say(*(f"{i}: {'would be' if dry_run else 'is'} let in again" for i in sorted(done)))
    say("→ systemctl start neti, on each of them")


def _retire(
    settings: Settings, seen: Seen, hosts: tuple[str, ...], asked: _Asked, as_json: bool
) -> int:
    """Its exit code."""
    if seen.unanswered is not None:
        raise seen.unanswered
    with registry_of(settings) as registry:
        known = retiring.retired(registry)
        ids = [i if i in known else seen.id_of(i) for i in dict.fromkeys(hosts)]
        _refuse_gateways(settings, seen, ids)
        found = drained_of(settings, seen, [i for i in ids if i not in known], asked.quiet)
        refused = [i for i, each in found.items() if not (asked.anyway or is_drained(each))]
        for host_id in refused:
            say(*drained_lines(host_id, found[host_id]), err=True)
        going = [i for i in ids if i not in refused]
        if asked.dry_run:
            there = registered_of(registry, going)
            rows = {i: _would(retired=i in known, registered=i in there) for i in going}
        else:
            rows = _take_out(settings, registry, going, asked) if going else {}
        grouped = named_in(registry, rows, time.time())
    if as_json:
        told = [
            {"id": i, "state": said, "still_in": None if grouped is None else grouped.get(i, ())}
            for i, said in rows.items()
        ]
        print_json({"hosts": told, "not_drained": refused, "dry_run": asked.dry_run})
    else:
        say(*(f"{i}: {said}" for i, said in rows.items()))
        if rows and not asked.release_leases and not asked.dry_run:
            say("→ neti lease release ID, or neti lease gc, once a machine is gone for good")
        if rows and grouped is None:
            say("whether a group has a line for them is not known", "→ neti group list")
        for host_id, groups in (grouped or {}).items():
            say(having_line(groups, host_id))
            say(*(f"→ {command('neti group remove', one, host_id)}" for one in groups))
    if refused:
        explain(f"left alone: {some(refused)}\n→ --anyway, if they are to go all the same")
    stays = any(said.startswith(("STILL", _SILENT)) for said in rows.values())
    return 1 if refused or stays else 0


def _would(*, retired: bool, registered: bool) -> str:
    if retired and registered:
        return "is retired already, and registered all the same: 'neti leave' there"
    return "is out already" if retired else "would leave" if registered else "would be retired"


def _take_out(
    settings: Settings, registry: OperatorRegistry, ids: list[str], asked: _Asked
) -> dict[str, str]:
    there = registered_of(registry, ids)
    consent(
        f"Take {counted(len(ids), 'host')} out of the fleet: {some(ids)}"
        f"{_leases_too([i for i in ids if i not in there]) if asked.release_leases else ''}?",
        yes=asked.yes,
    )
    retiring.say(registry, ids, now=time.time())
    caller.note("retire", ids=some(ids), hosts=len(ids))
    rows = {i: "was not registered; it is retired" for i in ids if i not in there}
    try:
        for host_id, after, goodbye in retiring.gone(registry, there, seconds=asked.patience):
            rows[host_id] = f"out, after {after:.1f} s" if goodbye else _without_goodbye(after)
        out = [i for i, said in rows.items() if not said.startswith(_SILENT)]
        if out and (why := retiring.let_go(settings, registry, out)) is not None:
            explain(f"agents of earlier versions may go on keeping some of them: {why}")
        if asked.release_leases:
            rows |= _without_leases(settings, registry, out, rows)
    except RegistryUnavailable as away:
        raise RegistryUnavailable(
            f"{away}\nthe word is in the registry: {some(ids)} will leave, or have left\n"
            "→ when it answers again: the same command, which goes on from there"
        ) from away
    for host_id in ids:
        if host_id not in rows:
            rows[host_id] = (
                f"STILL registered after {asked.patience:.0f} s: its agent is of a version before, "
                "or hangs\n→ 'neti leave' there, or stop its agent; then this command again"
            )
    return rows


def _without_goodbye(after: float) -> str:
    """Its lease is kept: peers still send there what is for its address."""
    return (
        f"{_SILENT}: its session ended after {after:.1f} s, so its agent hangs or has died, and "
        "peers keep it until linger_seconds are over\n"
        "→ systemctl status neti, there: its agent leaves as soon as it reads the word; then this "
        "command again"
    )


def _leases_too(silent: list[str]) -> str:
    said = ", and give up the leases"
    if silent:
        said += (
            f"? Their addresses may be others' then: if {some(silent)} still runs, cut off from "
            "the registry, its clients lose it. Do it"
        )
    return said


def _without_leases(
    settings: Settings, registry: OperatorRegistry, ids: list[str], rows: dict[str, str]
) -> dict[str, str]:
    named, said = heirs(settings, registry, ids, time.time()), dict[str, str]()
    for host_id in ids:
        objection = named.refusal(host_id)
        try:
            if objection is not None:
                raise objection
            freed = registry.release(host_id)
        except NetiError as error:
            said[host_id] = f"{rows[host_id]}; its lease is kept: {error}"
            continue
        what = "it held no lease" if freed is None else f"{freed} is free"
        said[host_id] = f"{rows[host_id]}; {what}"
        caller.note("lease release", id=host_id, overlay=freed or "none")
    return said


def _refuse_gateways(settings: Settings, seen: Seen, ids: list[str]) -> None:
    named = {one for site in settings.sites.values() for one in site.gateways}
    if used := sorted(named.intersection(ids) - seen.drained & seen.members.keys()):
        raise NetiError(
            f"gateways of their sites, through which others go: {some(used)}: nothing was changed\n"
            + "\n".join(f"→ neti gateway drain {one}" for one in used)
        )

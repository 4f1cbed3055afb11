"""``neti lease move``: a retired host's overlay address to its replacement."""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click

from neti.cli.common import config_option, fleet_seen, json_option, registry_of
from neti.cli.ending import if_interrupted
from neti.cli.output import consent, explain, print_json, say
from neti.cli.ready import refuse_reds
from neti.config import load
from neti.errors import NetiError
from neti.fleet.finding import LIGHTS, Finding, worst
from neti.host import caller
from neti.model.settings import Settings
from neti.oneshot.grouping import Heirs, heirs_of_moved, left_behind
from neti.oneshot.moving import ANSWERS_WITHIN, Move, Step, findings
from neti.oneshot.registered import heard_of
from neti.registry import OperatorRegistry


@click.command()
@click.argument("old", metavar="OLD")
@click.argument("new", metavar="NEW")
@config_option
@json_option
@click.option("--force", is_flag=True, help="Even if OLD is registered: OLD gets another address.")
@click.option(
    "--check",
    "--dry-run",
    "only_check",
    is_flag=True,
    help="Say what is wrong; change nothing.",
)
@click.option(
    "--take-out", is_flag=True, help="Retire OLD in the same go, whether its agent answers or not."
)
@click.option("--anyway", is_flag=True, help="With --take-out: even if --check says NO.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@if_interrupted("the lease may or may not have moved\n→ neti lease list")
def move(
    old: str,
    new: str,
    config: Path,
    as_json: bool,
    force: bool,
    only_check: bool,
    take_out: bool,
    anyway: bool,
    yes: bool,
) -> None:
    """Give a retired host's overlay address to its replacement.

    In one step. Clients need no change: peers send traffic for the address to NEW as soon as NEW's
    agent has registered with it, which it does by itself. NEW's previous address becomes free.
    Refused while OLD is registered. If nobody has heard of NEW, it may be misspelt, so this asks
    first; without a terminal it needs --yes. The lease belongs to the certificate that NEW's record
    belongs to; admit NEW first where it was never here. Groups go by ids: those of OLD that NEW is
    not in are named. Where admission is off, and OLD has no record that stays, it asks first if a
    group may have a line for OLD, because whoever registers under it next is in there.

    With --take-out OLD is retired first ('neti retire'), so it may be registered, or dead. One line
    a step, with its time; clients reach NEW within a second. Cut off anywhere, the same command
    goes on. Back: 'neti retire --back OLD', start its agent, then this command from NEW to OLD.

    \b
    Examples:
      neti lease move db-old db-new --check
      neti lease move db-old db-new --take-out
    """
    if sum((force, only_check, take_out)) > 1 or (anyway and not take_out):
        raise click.UsageError("expected one of --force, --check and --take-out")
    settings = load(config)
    if only_check:
        _check(settings, old, new, as_json)
    if take_out:
        _take_out(settings, old, new, as_json, anyway=anyway, yes=yes)
        return
    with registry_of(settings) as registry:
        if new not in heard_of(settings, registry, [new]):
            consent(
                f"{new} is not registered, holds no lease and was not admitted. Give it the "
                f"address of {old} all the same?",
                yes=yes,
            )
        named = heirs_of_moved(settings, registry, old, time.time())
        if (risk := named.risk(old)) is not None:
            consent(
                f"{old} would be nobody's without its lease: {risk}. Move it all the same?", yes=yes
            )
        overlay, former = registry.move(old, new, force=force)
        caller.note("lease move", overlay=overlay, old=old, new=new, freed=former, force=force)
        behind = _left_behind(registry, old, new)
    if as_json:
        freed = str(former) if former is not None else None
        print_json(
            {
                "overlay": str(overlay),
                "from": old,
                "to": new,
                "freed": freed,
                "not_in": behind,
                "still_in": named.still_in(old),
            }
        )
        return
    say(f"{overlay} now belongs to {new}, no longer to {old}")
    if former is not None:
        say(f"{former}, which {new} had before, is free")
    _say_groups(old, new, behind, named)


def _left_behind(registry: OperatorRegistry, old: str, new: str) -> tuple[str, ...]:
    """The lease is moved already, whatever comes of this."""
    try:
        return left_behind(registry, old, new, time.time())
    except NetiError as error:
        explain(f"whether {new} is in the groups of {old} is not known: {error}")
        return ()


# --- looked at first, and OLD taken out ---


def _check(settings: Settings, old: str, new: str, as_json: bool) -> None:
    """Exits with 0 to 2, as 'neti ready' does."""
    found = _findings(settings, old, new)
    light = worst(found)
    if as_json:
        print_json({"light": light, "findings": [asdict(one) for one in found]})
    else:
        for shown in reversed(LIGHTS):
            for one in (each for each in found if each.light == shown):
                say(f"  {shown:<6}  {one.what}", *(f"          {line}" for line in one.then))
        say(
            {"green": "nothing stands against it", "yellow": "look at these first"}.get(light, "NO")
        )
    sys.exit(LIGHTS.index(light))


def _findings(settings: Settings, old: str, new: str) -> tuple[Finding, ...]:
    seen = fleet_seen(settings)
    if seen.unanswered is not None:
        raise seen.unanswered
    with registry_of(settings) as registry:
        return findings(settings, seen, registry, old, new, time.time())


def _take_out(
    settings: Settings, old: str, new: str, as_json: bool, *, anyway: bool, yes: bool
) -> None:
    refuse_reds(_findings(settings, old, new), anyway=anyway)
    with registry_of(settings) as registry:
        named = heirs_of_moved(settings, registry, old, time.time())
        risk = f" {old} would be nobody's: {named.risk(old)}." if named.risk(old) else ""
        consent(f"{old} leaves the fleet, and {new} gets its address.{risk} Do it?", yes=yes)
        move = Move(registry=registry, old=old, new=new, session_seconds=settings.session_seconds)
        done = list[Step]()
        for step in move.steps():
            done.append(step)
            _note(step, move)
            if not as_json:
                say(*_in_words(step, move))
        behind = _left_behind(registry, old, new)
    overlay = str(move.overlay)
    failed = [step.name for step in done if not step.done]
    if as_json:
        freed = str(move.freed) if move.freed is not None else None
        told = {"overlay": overlay, "from": old, "to": new, "freed": freed, "not_in": behind}
        steps = [{**asdict(step), "after": round(step.after, 3)} for step in done]
        print_json({**told, "still_in": named.still_in(old), "steps": steps, "silent": move.silent})
    else:
        if move.silent:
            say(
                f"{old} was not registered. If its machine runs without an agent, programs there "
                f"reach {old} itself by {overlay}, and not {new}",
                f"→ systemctl start neti, on {old}: it stays out, and follows; or neti down",
            )
        _say_groups(old, new, behind, named)
    sys.exit(1 if failed else 0)


def _note(step: Step, move: Move) -> None:
    """As soon as it is done: a command that is cut off while it waits has done it all the same."""
    if step.name == "noted" and not step.before:
        caller.note("retire", ids=move.old, hosts=1)
    elif step.name == "moved":
        words = {"overlay": move.overlay, "old": move.old, "new": move.new, "freed": move.freed}
        caller.note("lease move", **words, force=True)


def _in_words(step: Step, move: Move) -> Iterator[str]:
    old, new, at = move.old, move.new, f"+{step.after:6.2f} s"
    again = ", as an earlier run did" if step.before else ""
    match step.name, step.done:
        case "noted", _:
            yield f"{at}  {old} is told to leave{again}"
        case "moved", _:
            yield f"{at}  {move.overlay} belongs to {new} now{again}"
        case "answers", True:
            yield f"{at}  {new} has registered with it: peers send to {new}"
        case "answers", False:
            yield f"{at}  {new} has NOT registered with it within {ANSWERS_WITHIN:.0f} s"
            yield "           so nobody answers at the address"
            yield f"           → neti status, on {new}: its agent registers as soon as it can"
            yield f"           → back: neti retire --back {old}; systemctl start neti there; then"
            yield f"             neti lease move {new} {old} --take-out"
        case "out", True:
            yield f"{at}  {old} is out of the fleet"
        case _:
            yield f"{at}  {old} is STILL registered, by another address: its agent is of a version"
            yield "           before, or hangs. It has the former address no more"
            yield f"           → neti leave, on {old}"
    if step.name == "moved" and move.freed is not None:
        yield f"           {move.freed}, which {new} had before, is free"


def _say_groups(old: str, new: str, behind: Sequence[str], named: Heirs) -> None:
    for name in behind:
        say(
            f"group {name} has a line for {old} and none for {new}: what is open to that "
            f"group alone is not open to {new}",
            f"→ neti group add {name} {new}",
        )
    if named.by_certificate:
        say(*named.left(old))

"""``neti ready`` and ``neti drained``: may a host move, be enforced, be retired; does anybody call
it."""

import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from neti.cli.asking import ask
from neti.cli.common import (
    F,
    config_option,
    fleet_seen,
    json_option,
    settings_in_force,
)
from neti.cli.fleet_fresh import say_anew
from neti.cli.output import is_terminal, print_json, progress, say
from neti.errors import NetiError
from neti.fleet import readiness
from neti.fleet.finding import LIGHTS, QUESTIONS, Finding, Known, Question, worst
from neti.model.settings import Settings
from neti.oneshot import readiness as looking
from neti.oneshot.seen import Seen

_ASKS: Final = {
    "move": "may it move?",
    "enforce": "may it be enforced?",
    "retire": "may it be retired?",
}
_SAYS: Final = {"green": "yes", "yellow": "perhaps", "red": "no"}
_SPAN: Final = re.compile(r"([0-9]{1,6})([smhd])", re.ASCII)
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_EVERY: Final = 15.0  # seconds, with --wait


def span_asked(ctx: click.Context, param: click.Parameter, text: str) -> float:
    """Seconds."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise click.BadParameter(
            f"{text!r}: expected seconds, minutes, hours or days, such as 90s, 30m, 2h or 1d",
            ctx,
            param,
        )
    return float(int(found[1]) * _UNITS[found[2]])


def span_option(*names: str, default: str, text: str) -> Callable[[F], F]:
    """Of a command: a span of time, as ``90s`` or ``1h``, which it gets in seconds."""
    return click.option(
        *names, default=default, show_default=True, metavar="SPAN", callback=span_asked, help=text
    )


@click.command()
@click.argument("host", metavar="ID")
@config_option
@json_option
@click.option(
    "--to",
    "asked",
    multiple=True,
    type=click.Choice(QUESTIONS),
    help="Only this question. Repeatable.",
)
@click.option("--fresh", is_flag=True, help="First ask every host to say anew how it is, and wait.")
def ready(host: str, config: Path, as_json: bool, asked: tuple[Question, ...], fresh: bool) -> None:
    """Say whether a host may move, be enforced, be retired.

    From what all hosts say in the registry; on that host itself also from its agent and its
    sockets. One line for each finding: who, how many, when, and what to do. What was not watched
    for a day is yellow, never green. Exit code 0: all green; 1: something is yellow; 2: something
    is red. For operators: with a host's certificate, what others say cannot be read.

    \b
    Examples:
      neti ready db-1
      neti ready db-1 --to move
    """
    settings, questions = settings_in_force(config), asked or QUESTIONS
    seen = _seen(settings, fresh=fresh)
    host_id = seen.id_of(host)
    known = looking.known(settings, seen, time.time())
    own = looking.own_id(settings, ask) == host_id
    more: list[Finding] = []
    if own:
        found = looking.here(settings, ask)
        known, more = looking.with_here(host_id, known, found), list(looking.findings_here(found))
    said = readiness.unknown() if seen.unanswered is not None else readiness.judged(host_id, known)
    every = [*said, *more]
    findings = [one for one in every if set(one.of) & set(questions)]
    lights = {question: worst(findings, question) for question in questions}
    unseen = "" if own else looking.unknown_elsewhere(host_id, questions)
    if as_json:
        told = [asdict(one) for one in findings]
        print_json({"id": host_id, "lights": lights, "findings": told, "unseen": unseen})
    else:
        answers = (f"{_ASKS[one]} {_SAYS[lights[one]]}" for one in questions)
        say(f"{host_id}: {' · '.join(answers)}")
        say(*_lines(findings, questions))
        if unseen:
            say("", f"neti: {unseen}")
    sys.exit(LIGHTS.index(worst(findings)))


def _lines(findings: Sequence[Finding], questions: Sequence[Question]) -> Iterator[str]:
    """The worst first."""
    for light in reversed(LIGHTS):
        for one in findings:
            if one.light == light:
                of = ", ".join(question for question in one.of if question in questions)
                yield f"  {light:<6}  {of}: {one.what}"
                yield from (f"          {line}" for line in one.then)


def _seen(settings: Settings, *, fresh: bool) -> Seen:
    if fresh:
        say_anew(settings)
    return fleet_seen(settings)


@click.command()
@click.argument("hosts", metavar="ID...", nargs=-1, required=True)
@config_option
@json_option
@span_option(
    "--quiet", default="1h", text="For how long nobody must have called: 90s, 30m, 2h, 1d."
)
@span_option("--wait", "patience", default="0s", text="Wait up to this long for it.")
@click.option("--fresh", is_flag=True, help="First ask every host to say anew how it is, and wait.")
def drained(
    hosts: tuple[str, ...], config: Path, as_json: bool, quiet: float, patience: float, fresh: bool
) -> None:
    """Say whether nobody calls a host any more.

    Neither by its overlay address nor by a real one: no member is connected, and none has begun a
    connection for --quiet. Other hosts say by themselves whom they call by real addresses, every
    ten minutes; on that host itself its agent is asked who is connected at this moment. 'neti
    verify' counts as a call, and so does monitoring by overlay address. Users and load balancers
    are no members, and are not seen. Of a host that is lost or missing it is not known. A host
    counts every ten minutes, and what came since then is not known either: so --quiet is measured
    up to then, and --fresh has it count now. Exit code 0: all are drained. For operators.

    \b
    Examples:
      neti drained db-old
      neti drained web-1 web-2 --quiet 10m --wait 1h
    """
    settings = settings_in_force(config)
    deadline = time.monotonic() + patience
    while True:
        seen = _seen(settings, fresh=fresh)
        found = _drained(settings, seen, hosts, quiet)
        left = [host_id for host_id, each in found.items() if not is_drained(each)]
        remaining = deadline - time.monotonic()
        if not left or remaining <= 0:
            break
        if is_terminal(sys.stderr):
            progress(f"not drained yet: {', '.join(left)}")
        time.sleep(min(_EVERY, remaining))
    if is_terminal(sys.stderr):
        progress()
    if as_json:
        print_json([_plain(host_id, each) for host_id, each in found.items()])
    else:
        for host_id, each in found.items():
            say(*drained_lines(host_id, each))
    sys.exit(1 if left else 0)


def is_drained(findings: Sequence[Finding]) -> bool:
    return worst(findings) == "green"


def _plain(host_id: str, findings: Sequence[Finding]) -> dict[str, Any]:
    told = [asdict(one) for one in findings]
    return {"id": host_id, "drained": is_drained(findings), "findings": told}


def drained_lines(host_id: str, findings: Sequence[Finding]) -> Iterator[str]:
    if is_drained(findings):
        evidence = "; ".join(one.what for one in findings) or "it is not registered"
        yield f"{host_id}: drained: {evidence}"
        return
    red = worst(findings) == "red"
    yield f"{host_id}: {'NOT drained' if red else 'not known to be drained'}"
    for one in findings:
        if one.light != "green":
            yield f"  {one.what}"
            yield from (f"  {line}" for line in one.then)


def _drained(
    settings: Settings, seen: Seen, hosts: Sequence[str], quiet: float
) -> dict[str, list[Finding]]:
    return drained_of(settings, seen, [seen.id_of(host) for host in hosts], quiet)


def drained_of(
    settings: Settings, seen: Seen, ids: Sequence[str], quiet: float
) -> dict[str, list[Finding]]:
    """By id, for each of these once."""
    known = looking.known(settings, seen, time.time(), quiet)
    own = looking.own_id(settings, ask)
    return {i: _of(settings, i, known, own=i == own) for i in dict.fromkeys(ids)}


def _of(settings: Settings, host_id: str, known: Known, *, own: bool) -> list[Finding]:
    more: list[Finding] = []
    if own:
        found = looking.here(settings, ask)
        known = looking.with_here(host_id, known, found)
        more = [one for one in looking.findings_here(found) if one.of == ("retire",)]
    about = readiness.drained(host_id, known)
    return [*(one for one in about if "retire" in one.of), *more]


def refuse_reds(findings: Sequence[Finding], *, anyway: bool) -> None:
    """Raises NetiError with what is red, unless that was said to be all right."""
    reds = [one for one in findings if one.light == "red"]
    if reds and not anyway:
        lines = [line for one in reds for line in (one.what, *one.then)]
        raise NetiError("\n".join([*lines, "nothing was changed", "→ --anyway, if that is meant"]))

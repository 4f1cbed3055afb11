"""``neti lab migrate`` from curtain to curtain.

Must never do: leave anything of the lab behind, however it ends (unless it was asked to), or call
a migration well in which a request failed that Neti promises to serve.
"""

import contextlib
import json
from collections.abc import Callable, Sequence
from typing import Final

from neti.errors import NetiError
from neti_lab import busy, dashboard, lifecycle, namespaces, registries
from neti_lab.migrate import before, books, moving, tiers
from neti_lab.migrate.books import REPAIR_SECONDS
from neti_lab.migrate.chaos import Chaos
from neti_lab.migrate.company import PORTS, TASKS, Company, task_of
from neti_lab.migrate.journey import Journey
from neti_lab.migrate.looking import opens
from neti_lab.play import Play
from neti_lab.report import drawing
from neti_lab.shop.figures import merge, parse_trace
from neti_lab.stage import Stage, one_line
from neti_lab.state import LabState
from neti_lab.topology import SITES, STRANGER, WEB_PORT, LabPlan, lab_command, plan_lab

# The number of docs/runbook.md (its 2 and 3 are one phase here), a title, and what is done.
Phases = tuple[tuple[str, str, Callable[[Journey], None]], ...]

_PREPARING: Final[Phases] = (
    ("1", "The old site", before.old_site),
    ("2", "Ensemble and proxies", before.registry),
)
_MOVING: Final[Phases] = (
    ("4", "Agents in shadow", before.shadow),
    ("5", "Coverage", before.coverage),
    ("6", "Overlay addresses", before.overlay_addresses),
    ("7", "The new site", before.new_site),
    ("8", "Reachability", before.reachability),
    ("9", "Preview", before.preview),
    ("10", "Enforce one", before.enforce_one),
    ("11", "Enforce by tier", before.enforce_tiers),
    ("12", "Groups opened", before.open_groups),
    ("13", "Web and app moved", moving.web_and_app),
    ("14", "The database", moving.database),
    ("15", "Old hosts retired", moving.retire),
)
_LAST: Final[Phases] = (("16", "Proxies gone", moving.proxies_gone),)
# With groups: after which phase each of these comes.
_TIERS: Final[dict[str, tuple[str, str, Callable[[Journey], None]]]] = {
    "Ensemble and proxies": ("", "Groups of members", tiers.define),
    "Agents in shadow": ("", "Members recorded", tiers.record),
    "Overlay addresses": ("", "Member ports", tiers.suggested),
    "The new site": ("", "New site's groups", tiers.new_site),
    "Enforce by tier": ("", "Member ports in force", tiers.enforce),
    "Web and app moved": ("", "New database's group", tiers.new_database),
    "Old hosts retired": ("", "Old ids out of groups", tiers.retired),
}


def plan(name: str, *, private_only: bool = False) -> LabPlan:
    return plan_lab(
        name=name,
        hosts=len(TASKS),
        registry="ensemble",
        encrypt=private_only,
        gateways=private_only,
        private_only=SITES if private_only else (),
    )


def run(
    state: LabState,
    plan: LabPlan,
    stage: Stage,
    *,
    seed: int | None = None,
    groups: bool = False,
    keep: bool = False,
    shown: bool = False,
) -> bool:
    """The whole migration; with a ``seed`` things go wrong all the while, with ``groups`` each tier
    reaches only what it has to; ``shown``: in a browser too. True when all was well.

    The caller holds the lab (``lifecycle.commanding``).
    """
    if lifecycle.is_up(state):
        raise lifecycle.already_up(plan.name)
    try:
        _perform(state, plan, stage, seed, groups=groups, shown=shown)
    except NetiError as error:
        stage.find("the migration ran to its end", False, one_line(error))
    finally:
        if keep and state.exists:
            state.declare_complete()
        else:
            with stage.scene("Teardown", number=""):
                lifecycle.take_down(state)
                stage.find("everything taken down", not lifecycle.anything_left(state), plan.name)
    well = stage.close()
    if not well and not keep:
        again = lab_command(plan.name, "migrate", "--keep", *_again(plan, seed, groups=groups))
        stage.say(f"To read the logs, run it again: '{again}' leaves the lab up.")
    return well


def _again(plan: LabPlan, seed: int | None, *, groups: bool) -> tuple[str, ...]:
    words = {"--private-only": plan.has_gateways, "--groups": groups, "--chaos": seed is not None}
    chosen = tuple(word for word, said in words.items() if said)
    return chosen if seed is None else (*chosen, "--seed", str(seed))


def _perform(
    state: LabState,
    plan: LabPlan,
    stage: Stage,
    seed: int | None,
    *,
    groups: bool,
    shown: bool,
) -> None:
    stage.say(busy.stretch_time_outs())
    stage.say("numbers of phases are those of docs/runbook.md")
    for line in drawing(plan):
        stage.say(line)
    lifecycle.bring_up(
        state,
        plan,
        with_registry=False,
        with_agents=False,
        groups_closed=True,
        provisional=True,
        tell=stage.say,
    )
    company = Company(plan, state)
    with contextlib.ExitStack() as stack:
        play = Play(plan=plan, state=state, stage=stage, opened=None, hosts=[])
        journey = Journey(play, company)
        chaos = Chaos(journey, seed) if seed is not None else None
        failed: NetiError | None = None
        try:
            _travel(journey, chaos, stack, groups=groups, shown=shown)
        except NetiError as error:
            failed = error  # what happened until then is told all the same
        for name in (*_callers(journey), "scanner", *tiers.OUTSIDERS):
            company.stop(name)
        _settle_the_books(journey, chaos)
        if failed is not None:
            raise failed
    _count_the_orders(journey)
    if groups:
        tiers.prove(journey)
    _prove_the_door(journey)


def _travel(
    journey: Journey,
    chaos: Chaos | None,
    stack: contextlib.ExitStack,
    *,
    groups: bool,
    shown: bool,
) -> None:
    for phase in _told(_PREPARING, groups=groups):
        _play(journey, *phase)
    play = journey.play
    play.opened = registries.open_registry(play.plan, play.state)
    stack.callback(play.opened.close)
    if shown:
        play.stage.say(f"in a browser: {dashboard.start(play.plan, play.state)}")
    with chaos.reigning() if chaos is not None else contextlib.nullcontext():
        for phase in _told(_MOVING, groups=groups):
            _play(journey, *phase)
    for phase in _LAST:
        _play(journey, *phase)


def _told(phases: Phases, *, groups: bool) -> Phases:
    after = _TIERS if groups else {}
    return tuple(one for phase in phases for one in (phase, after.get(phase[1])) if one is not None)


def _play(journey: Journey, step: str, title: str, act: Callable[[Journey], None]) -> None:
    with journey.phase(title, step):
        act(journey)


def _settle_the_books(journey: Journey, chaos: Chaos | None) -> None:
    company, stage = journey.company, journey.play.stage
    callers = _callers(journey)
    if not callers:
        return
    requests = [
        request for name in callers for request in parse_trace(company.trace_file(name).read_text())
    ]
    troubles = chaos.troubles if chaos else ()
    found = books.lines_of(journey.phases, requests, _hits(journey, "scanner"), troubles)
    stage.say()
    for line in books.as_text(found):
        stage.say(line)
    stage.say()
    failed = sum(one.figures.failures - one.excused for one in found)
    stage.find("failed requests", failed == 0, f"{failed} of {len(requests):,}")
    counted = merge(company.statistics(name) for name in callers)
    for at, text in counted["errors"]:
        stage.say(f"  after {at - journey.phases[0].began:.2f} s: {text}")
    stage.find("wrong answers", counted["wrong"] == 0, str(counted["wrong"]))
    hidden = counted["hidden_retries"]
    stage.say(
        "repeated by the application itself, unseen by its users: "
        f"{hidden['web']} times by a web server at the next app, "
        f"{hidden['app']} times by an app's database driver"
    )
    excused = sum(one.excused_hits for one in found)
    _count_who_got_in(journey, ("scanner",), "times that the scanner got in", excused)
    _say_who_kept_it_out(journey)
    if journey.member_ports:
        hits = _hits(journey, *tiers.OUTSIDERS)
        beside = books.lines_of(journey.phases, (), hits, troubles)
        what = "times that a member outside of the groups got in"
        excused = sum(one.excused_hits for one in beside)
        _count_who_got_in(journey, tiers.OUTSIDERS, what, excused)
    if chaos is not None:
        _name_troubles(stage, chaos, found)


def _hits(journey: Journey, *names: str) -> list[float]:
    """When each of them began (CLOCK_MONOTONIC); of very many the last ones only."""
    return [at for name in names for at, _ in journey.company.statistics(name).get("hits", ())]


def _count_who_got_in(journey: Journey, names: Sequence[str], what: str, excused: int) -> None:
    counted = [journey.company.statistics(name) for name in names]
    got_in = sum(int(one.get("hit_count", 0)) for one in counted) - excused
    tries = sum(one.get("tries", 0) for one in counted)
    journey.find(what, got_in == 0, f"{got_in} in {tries:,} tries")


def _say_who_kept_it_out(journey: Journey) -> None:
    """While groups are shut, no hit says nothing of Neti."""
    tries = journey.company.statistics("scanner").get("tries", 0)
    by_groups = journey.tries_at_groups
    alone = 0 if by_groups is None else tries - by_groups
    journey.say(
        f"{tries - alone:,} of these tries met the sites' groups, shut or not yet opened; "
        f"{alone:,} were let through by them, and only Neti was in the way"
    )


def _callers(journey: Journey) -> list[str]:
    """Whoever has counted requests so far."""
    sites = journey.play.plan.sites
    names = ["users", *(f"clients-{site.host(1).name}" for site in sites)]
    return [name for name in names if journey.company.trace_file(name).exists()]


def _name_troubles(stage: Stage, chaos: Chaos, found: list[books.Line]) -> None:
    for one in chaos.troubles:
        lasted = f"{one.ended - one.began:.2f} s" if one.error is None else one.error
        stage.say(f"{one.kind:<8}{one.where:<12}{lasted}")
    broken = [one for one in chaos.troubles if one.error is not None]
    stage.find("troubles that were overcome", not broken, str(len(chaos.troubles) - len(broken)))
    flushes = [
        one.ended - one.began for one in chaos.troubles if one.kind == "flush" and not one.error
    ]
    if flushes:
        slowest = max(flushes)
        well = slowest < busy.stretched(REPAIR_SECONDS)
        stage.find("flushed rulesets: slowest repair", well, f"{slowest:.2f} s")
    excused = sum(one.excused for one in found)
    hits = sum(one.excused_hits for one in found)
    stage.say(
        f"while a host's rules were flushed: {excused} requests failed, the scanner got in {hits} "
        "times; Neti promises repair, not that nothing happens before it"
    )


def _count_the_orders(journey: Journey) -> None:
    """Every order that was acknowledged is in the new database, once."""
    acknowledged = json.loads(journey.company.orders_file.read_text())["orders"]
    stored = journey.company.stored(journey.company.the("vpc", "database"))
    lost = acknowledged.keys() - set(stored)
    twice = len(stored) - len(set(stored))
    journey.find(
        "acknowledged orders that are lost", not lost, f"{len(lost)} of {len(acknowledged):,}"
    )
    journey.find("orders stored twice", twice == 0, str(twice))


def _prove_the_door(journey: Journey) -> None:
    """Nobody got in, and it was Neti that kept them out: with it relaxed the same door is open."""
    plan = journey.play.plan
    site = plan.site("vpc")
    host = site.gateways[0] if plan.has_gateways else journey.company.the("vpc", "cache")
    address = (str(host.public), WEB_PORT if host.gateway else PORTS[task_of(host)])
    stranger = plan.namespace(STRANGER)
    shut = not namespaces.call_inside(stranger, lambda: opens(address))
    journey.neti(host, "relax")
    opened = namespaces.call_inside(stranger, lambda: opens(address))
    figure = f"{'shut' if shut else 'open'}, then {'open' if opened else 'shut'}"
    what = f"the stranger at {host.name}'s door, enforced and relaxed"
    journey.find(what, shut and opened, figure)

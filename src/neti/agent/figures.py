"""Gathers the values behind the metrics. Only reads, and is asked every few seconds, so nothing
here may cost more than a count."""

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from neti import __version__
from neti.agent import encryption
from neti.agent.conditions import problems_of
from neti.errors import DataplaneError
from neti.monitoring.figures import Conntrack, Figures

if TYPE_CHECKING:
    from neti.agent.loop import Agent

_CONNTRACK: Final = Path("/proc/sys/net/netfilter")


def figures(agent: "Agent") -> Figures:
    core = agent.core
    fleet = core.members.fleet
    problems = problems_of(core)
    return Figures(
        version=__version__,
        site=core.host.site,
        registry="embedded" if core.settings.embedded else "zookeeper",
        sites=Counter(member.site for member in fleet.members.values()),
        lost=len(fleet.lost) - len(fleet.holds),
        held=len(fleet.holds),
        skipped=fleet.skipped_count(),
        problems=Counter(one.severity.value for one in problems),
        codes=tuple(sorted({(one.code, one.severity.value) for one in problems})),
        registered=agent.registration.entry is not None,
        fresh=core.in_step.fresh,
        stale_seconds=core.in_step.stale_seconds(core.since()) or 0.0,
        stage=core.stage.word,
        wished=core.stage.record.wished,
        relaxed=core.stage.record.relaxed and core.settings.reject_all,
        failures=core.stage.record.failures,
        down=core.down.now,
        counters=_counters(agent),
        passed_bytes=_passed(agent),
        apply=core.measured.apply.told(),
        change=core.measured.change.told(),
        repairs=agent.kernel.others.fight.repairs,
        fight=agent.kernel.others.fight.sentence(core.now()) is not None,
        conntrack=Conntrack(_number("nf_conntrack_count"), _number("nf_conntrack_max")),
        encryption=encryption.shown(core, agent.roads),
        member_ports=core.stage.ports,
        openings=len(core.openings.held),
    )


def _counters(agent: "Agent") -> dict[str, int]:
    try:
        return agent.core.out.reconciler.counters()
    except DataplaneError:
        return {}  # then the metric is missing, and the problems say why


def _passed(agent: "Agent") -> dict[str, int] | None:
    if not agent.core.members.gateways.is_gateway:
        return None
    try:
        return agent.core.out.reconciler.counted_bytes()
    except DataplaneError:
        return {}


def _number(name: str) -> int | None:
    """None where the kernel does not track connections."""
    try:
        return int((_CONNTRACK / name).read_text())
    except (OSError, ValueError):
        return None

"""What Neti measures of itself, by name: the agent's figures as samples. Pure.

Names carry ``neti_``, base units, and ``_total`` for what only grows. No label names a peer: a
fleet of 16,000 would make 16,000 series on each of 16,000 hosts.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from neti.model import Road
from neti.model.groups import PORTS_STATES
from neti.model.problems import Severity
from neti.monitoring.encryption import Encryption
from neti.monitoring.figures import Distribution, Figures

STAGES: Final = ("down", "shadow", "trial", "enforced")


@dataclass(frozen=True, slots=True)
class Sample:
    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True, slots=True)
class Metric:
    """``name`` without a counter's ``_total``. A histogram has ``buckets`` in place of samples:
    (upper bound, how many are at or below it), and their ``total``."""

    name: str
    kind: Literal["gauge", "counter", "histogram"]
    help: str
    samples: tuple[Sample, ...] = ()
    buckets: tuple[tuple[str, float], ...] = ()
    total: float = 0.0

    @property
    def names(self) -> tuple[str, ...]:
        """As in a query."""
        match self.kind:
            case "gauge":
                return (self.name,)
            case "counter":
                return (f"{self.name}_total",)
            case "histogram":
                return tuple(f"{self.name}_{part}" for part in ("bucket", "sum", "count"))


def metrics(seen: Figures | None) -> list[Metric]:
    """None: no agent answers, and nothing else is known."""
    up = _plain("neti_agent_up", "1 when the agent answered, and 0 alone when not.", bool(seen))
    if seen is None:
        return [up]
    road = _encryption(seen.encryption) if seen.encryption is not None else ()
    passed = _gateway(seen, seen.passed_bytes) if seen.passed_bytes is not None else ()
    return [up, *_fleet(seen), *_registry(seen), *_stage(seen), *_kernel(seen), *road, *passed]


def _fleet(seen: Figures) -> Iterator[Metric]:
    version = {"version": seen.version, "site": seen.site, "registry": seen.registry}
    yield _gauge("neti_agent_info", "The running agent.", Sample(version, 1))
    yield _gauge(
        "neti_members",
        "Members of the fleet as this host knows it, this host included.",
        *(Sample({"site": site}, count) for site, count in sorted(seen.sites.items())),
    )
    yield _plain("neti_members_lost", "Members whose session ended without a word.", seen.lost)
    yield _plain("neti_members_held", "Members whose removal is held back.", seen.held)
    yield _plain("neti_skipped_entries", "Registry entries that are not believed.", seen.skipped)
    yield _gauge(
        "neti_problems",
        "Problems that neti status names.",
        *(Sample({"severity": word}, seen.problems.get(word, 0)) for word in Severity),
    )
    yield _gauge(
        "neti_problem",
        "1 for each kind of problem that there is now, by its code.",
        *(Sample({"code": code, "severity": word}, 1) for code, word in seen.codes),
    )


def _registry(seen: Figures) -> Iterator[Metric]:
    yield _plain("neti_registered", "1 when this host is registered.", seen.registered)
    yield _plain("neti_registry_fresh", "1 when in step with the registry.", seen.fresh)
    yield _plain(
        "neti_registry_stale_seconds",
        "How long the registry has not been in step; 0 when it is.",
        seen.stale_seconds,
    )


def _stage(seen: Figures) -> Iterator[Metric]:
    yield _gauge(
        "neti_stage",
        "1 for the stage of reject_all that is in force; after neti down, for none but down.",
        *(Sample({"stage": stage}, float(seen.stage == stage)) for stage in STAGES),
    )
    yield _plain("neti_reject_all_wished", "1 when reject_all is requested.", seen.wished)
    yield _plain(
        "neti_relaxed",
        "1 when neti relax was said against reject_all: true in the configuration.",
        seen.relaxed,
    )
    yield _plain("neti_trial_failures", "Trials in a row that ended unconfirmed.", seen.failures)
    if seen.member_ports != "none":
        yield _gauge(
            "neti_member_ports",
            "1 for the stage of member_ports in neti.yml.",
            *(Sample({"stage": one}, float(seen.member_ports == one)) for one in PORTS_STATES),
        )
    if seen.openings is not None:
        what = "Ports that are open to somebody for a time, by neti open."
        yield _plain("neti_openings", what, seen.openings)
    yield _plain("neti_down", "1 after neti down.", seen.down)
    for name, what in (
        ("judged", "Packets that no rule let in: recorded in shadow, dropped when enforced."),
        ("admitted", "Packets that were let in because a member sent them."),
    ):
        if name in seen.counters:
            yield _counter(f"neti_{name}_packets", what, seen.counters[name])


def _kernel(seen: Figures) -> Iterator[Metric]:
    yield _histogram("neti_apply_seconds", "Transactions with the kernel.", seen.apply)
    yield _histogram(
        "neti_change_to_kernel_seconds",
        "From hearing of a change of the fleet to its being in the kernel.",
        seen.change,
    )
    yield _counter("neti_drift_repairs", "Times that the kernel was put right.", seen.repairs)
    yield _plain("neti_drift_fight", "1 while another program keeps undoing repairs.", seen.fight)
    for value, name, what in (
        (seen.conntrack.count, "neti_conntrack_entries", "Tracked connections."),
        (seen.conntrack.max, "neti_conntrack_entries_limit", "Connections that can be tracked."),
    ):
        if value is not None:
            yield _plain(name, what, value)


def _encryption(seen: Encryption) -> Iterator[Metric]:
    """Bytes are gauges: they are of the peers that there are now, and a peer that goes takes its
    share with it."""
    yield _gauge(
        "neti_encryption_info",
        "What encrypts traffic between sites: module, wireguard-go, or none.",
        Sample({"implementation": seen.implementation or "none"}, 1),
    )
    yield _gauge(
        "neti_encryption_members",
        "Members of other sites by the road to them; asked: what the stricter site says.",
        *(
            Sample({"site": site, "asked": one.asked, "road": road.value}, one.of(road))
            for site, one in sorted(seen.sites.items())
            for road in Road
        ),
    )
    yield _gauge(
        "neti_encryption_peers",
        "WireGuard peers of this host's device, by whether they had a handshake.",
        Sample({"handshake": "yes"}, seen.shaken),
        Sample({"handshake": "no"}, seen.unshaken),
    )
    for value, name, what in (
        (
            seen.clear,
            "clear_members",
            "Members of sites that require encryption that are reached in the clear.",
        ),
        (seen.keyless, "keyless_members", "Members of encrypting sites without a key."),
        (seen.unheard_count, "silent_members", "Members that do not answer through the tunnel."),
        (seen.require_configured, "require_configured", "1 when neti.yml requires encryption."),
        (seen.requires, "required", "1 when required encryption is in effect."),
        (seen.received, "received_bytes", "Bytes that the present peers have sent."),
        (seen.sent, "sent_bytes", "Bytes that were sent to the present peers."),
        (seen.oldest_handshake, "oldest_handshake_seconds", "Unix time: the oldest last one."),
        (seen.last_handshake, "last_handshake_seconds", "Unix time of the most recent one."),
    ):
        if value is not None:
            yield _plain(f"neti_encryption_{name}", what, value)


def _gateway(seen: Figures, passed_bytes: Mapping[str, int]) -> Iterator[Metric]:
    ways = {"outward": "passed_outward", "inward": "passed_inward"}
    for unit, what, counted in (
        ("packets", "Packets that were passed on for other hosts.", seen.counters),
        ("bytes", "Their bytes, as WireGuard sends them, headers included.", passed_bytes),
    ):
        yield _counters(f"neti_gateway_{unit}", what, "direction", ways, counted)
    yield _counters(
        "neti_gateway_dropped_packets",
        "Packets that were not: to a port that is nobody's, or of no member.",
        "reason",
        {"unknown": "gateway_unknown", "foreign": "gateway_foreign"},
        seen.counters,
    )
    if "probes" in seen.counters:
        what = "Probes of members that were sent back."
        yield _counter("neti_gateway_probes", what, seen.counters["probes"])


def _counters(
    name: str, what: str, label: str, names: Mapping[str, str], counted: Mapping[str, int]
) -> Metric:
    """``names``: the kernel's counter by the label's value."""
    samples = (Sample({label: v}, counted[one]) for v, one in names.items() if one in counted)
    return Metric(name, "counter", what, tuple(samples))


def _gauge(name: str, what: str, *samples: Sample) -> Metric:
    return Metric(name, "gauge", what, samples)


def _plain(name: str, what: str, value: float) -> Metric:
    return _gauge(name, what, Sample({}, float(value)))


def _counter(name: str, what: str, value: float) -> Metric:
    return Metric(name, "counter", what, (Sample({}, float(value)),))


def _histogram(name: str, what: str, seen: Distribution) -> Metric:
    buckets, below = [], 0.0
    for bound, count in zip([*map(str, seen.bounds), "+Inf"], seen.counts, strict=True):
        below += count
        buckets.append((bound, below))
    return Metric(name, "histogram", what, buckets=tuple(buckets), total=seen.total)

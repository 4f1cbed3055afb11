"""What the scenes of a demo share: the lab, and ways to look at it from outside Neti."""

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from neti.registry import Registry
from neti_lab import LabError, agents, registries
from neti_lab.pairs import Pair, judge
from neti_lab.stage import Stage
from neti_lab.state import LabState
from neti_lab.topology import LabHost, LabPlan
from neti_lab.traffic import Probe, each

_PAUSE_SECONDS: Final = 0.0005


@dataclass(slots=True, kw_only=True)
class Play:
    """``hosts`` are those that are to be members now; ``plan`` has the one that left as well."""

    plan: LabPlan
    state: LabState
    stage: Stage
    opened: Registry | None  # None: there is none yet
    hosts: list[LabHost]
    overlays: dict[str, str] = field(default_factory=dict)

    @property
    def registry(self) -> Registry:
        if self.opened is None:
            raise LabError("the lab's registry is not up yet")
        return self.opened

    def first_of(self, site: str) -> LabHost:
        return self.plan.site(site).host(1)

    @property
    def last_of_vpc(self) -> LabHost:
        """A host that others can do without for a while."""
        return [host for host in self.hosts if host.site == "vpc"][-1]

    def neti_json(self, host: LabHost, *arguments: str) -> Any:
        """What the command says in JSON, whatever its exit code; LabError when it says nothing."""
        done = agents.neti(self.plan, host, *arguments, "--json", state=self.state)
        try:
            return json.loads(done.stdout)
        except ValueError:
            reason = (done.stderr.strip().splitlines() or ["no word"])[-1]
            raise LabError(
                f"'neti {' '.join(arguments)}' on {host.name} failed: {reason}"
            ) from None

    def verify(self, sources: Sequence[LabHost] | None = None) -> list[Pair]:
        """From each of these, or of all, to all, by the hosts' own agents."""
        asked = self.hosts if sources is None else sources
        # No more at once than there are processors, or they would measure each other.
        documents = each(asked, self._verified, at_once=len(os.sched_getaffinity(0)))
        return [
            pair
            for host, document in zip(asked, documents, strict=True)
            for pair in judge(host, self.hosts, document, tunnel_from=self._tunnel_from(host))
        ]

    def _tunnel_from(self, host: LabHost) -> str | None:
        return self.overlays.get(host.name, "") if self.plan.has_gateways else None

    def registered(self) -> frozenset[str]:
        """The ids of all hosts that have a registration at this moment."""
        return registries.registered(self.registry)

    def moment(self, condition: Callable[[], bool], what: str, *, seconds: float) -> float:
        """When (CLOCK_MONOTONIC) the condition became true: the last look at which it was not.

        So a latency that is counted from here is never flattered.
        """
        before = time.monotonic()
        deadline = before + seconds
        while True:
            looked = time.monotonic()
            if condition():
                return before
            before = looked
            if looked > deadline:
                raise LabError(f"{what} (waited {seconds:.0f} s)")
            time.sleep(_PAUSE_SECONDS)

    @contextmanager
    def probing(self, pairs: Sequence[tuple[LabHost, LabHost]], mode: str) -> Iterator[list[Probe]]:
        """Probes from each first to each second host's overlay address, all of them ready."""
        with ExitStack() as stack:
            probes = [
                stack.enter_context(Probe(self.plan, source.name, mode, self.overlays[target.name]))
                for source, target in pairs
            ]
            for probe in probes:
                probe.wait_until_ready()
            yield probes

    def _verified(self, host: LabHost) -> dict[str, Any]:
        try:
            document: dict[str, Any] = self.neti_json(host, "verify")
        except LabError as error:  # its agent may be just being restarted
            return {"error": str(error)}
        return document


def wait_for(condition: Callable[[], bool], what: str, *, seconds: float) -> float:
    """Seconds until the condition holds; LabError when it does not come true in time, which is more
    on a machine that has more to do than it can."""
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        if waited > seconds and waited > seconds * _busy():
            raise LabError(f"{what} (waited {waited:.0f} s)")
        time.sleep(0.02)
    return time.monotonic() - began


def _busy() -> float:
    """How many programs want each processor (getloadavg(3), of the last minute), from 1 to 6."""
    return min(6.0, max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)))

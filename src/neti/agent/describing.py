"""What the registry tells others about this host: version, stage, codes of what is wrong, and
whether it encrypts.

For operators only: no agent decides anything by it. Must never do: report a wrong stage for longer
than one turn of the loop, or write more than once a minute because of problems that come and go.
"""

from collections.abc import Callable
from typing import Final

from neti.agent import own_entry
from neti.agent.conditions import own_codes
from neti.agent.core import Core
from neti.agent.in_the_clear import has_no_device
from neti.registry.detail import gateways_named
from neti.ruleset.reach import requires_everywhere

# Stage, codes, what is said of encryption, the port of its tunnel, the stage of member_ports, and
# whom neti.yml names as gateways.
Told = tuple[str, tuple[str, ...], str, int | None, str, str]
_EVERY: Final = 60.0  # seconds between checks whether what was told is still true


class Describing:
    """Not thread-safe: the loop's thread owns it. ``registered``: whether there is an entry to
    write a document for."""

    def __init__(self, core: Core, registered: Callable[[], bool]) -> None:
        self._core = core
        self._registered = registered
        self._told: Told | None = None

    def detail(self) -> bytes:
        """The document as of now. The caller must write it."""
        core = self._core
        self._told = said = self._said()
        core.soon("describe", _EVERY)
        return own_entry.own_detail(*said)

    def _said(self) -> Told:
        core = self._core
        port = core.settings.tunnel_port if core.own_key.wanted else None
        ports = core.stage.ports.replace(" ", "-")
        named = gateways_named({s.name: s.gateways for s in core.settings.sites.values()})
        return core.stage.word, own_codes(core), _encryption(core), port, ports, named

    def describe(self) -> None:
        core = self._core
        if self._registered() and core.in_step.fresh:
            registry, host_id, detail = core.out.registry, core.host.id, self.detail()
            core.out.worker.submit("describe", lambda: registry.describe(host_id, detail))

    def follow_stage(self) -> None:
        """In each turn of the loop, so that no change of the stage can be forgotten."""
        if self._told is not None and self._told[0] != self._core.stage.word:
            self.describe()

    def look(self) -> None:
        """The timer "describe"."""
        core = self._core
        core.soon("describe", _EVERY)
        if self._told != self._said():
            self.describe()

    def failed(self) -> None:
        """The job "describe" failed: the next look tries again."""
        self._told = None


def _encryption(core: Core) -> str:
    """As ``neti.registry.detail.Document`` has it."""
    if not core.own_key.wanted:
        return "off"
    if core.down.now or has_no_device(core):
        requires = core.stage.requires or core.stage.tries_to_require
        return "require-unable" if requires else "unable"
    if core.stage.tries_to_require:
        return "trial"
    if not core.stage.requires:
        return "prefer"
    return "require" if requires_everywhere(core.settings.sites, core.host.site) else "partly"

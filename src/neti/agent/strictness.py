"""Whether only what hosts' records name is believed: an operator's word, kept on this host's disk.

The word is a setting in the registry. Once it was "on", a registry that does not say so any more
(because it was wiped, or restored from an older copy) does not end it: only "off" does, said in the
registry of the same fleet. See docs/design/host-records.md.

Must never do: believe "off" anywhere but in ``take``.
"""

from dataclasses import replace

from neti import log
from neti.agent.core import Core
from neti.registry import Origin
from neti.registry.strict import decode


class Strictness:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def take(self, value: bytes | None, origin: Origin | None) -> None:
        """The setting ``strict`` as it stands in the registry that ``origin`` names."""
        core = self._core
        said = decode(value)
        fleet = origin.fleet if origin is not None else ""
        remembered = core.disk.itself.strict
        core.problems.clear("strict_gone")
        same = fleet == remembered and "origin" not in core.problems
        ended = same and said is not None and not said.on
        if core.members.fleet.records == "off":
            self._without_tls(remembered)
        elif said is not None and said.on:
            self._turn(fleet)
        elif remembered is None or ended:
            self._turn(None)
        else:
            what = "says that this is over" if said is not None else "does not say so any more"
            other = "" if fleet == remembered else ", and is another one than the one that did"
            core.problems.set(
                "strict_gone",
                "this host believes only what hosts' records name, because an operator said so. "
                f"The registry {what}{other}: this host stays strict\n"
                "→ 'neti registry strict on' if that is right, or 'on' and then 'off' to end it",
            )
            core.members.fleet.decide_by_records(True)

    def _without_tls(self, remembered: str | None) -> None:
        if remembered is not None:
            self._core.problems.set(
                "strict_gone",
                "an operator said that only what hosts' records name is believed. This host has no "
                "registry_tls any more, so it believes whatever the registry holds\n"
                "→ configure registry_tls, or 'neti registry strict off'",
            )

    def _turn(self, fleet: str | None) -> None:
        """``fleet``: the one that is strict; None: none is."""
        core = self._core
        if core.disk.itself.strict != fleet:
            log.warning("strict", on=fleet is not None)
            core.disk.keep_self(replace(core.disk.itself, strict=fleet))
        core.members.fleet.decide_by_records(fleet is not None)

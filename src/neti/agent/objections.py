"""Why no trial should begin now: what an operator should see to before.

Must never do: begin one, or change what the kernel drops.
"""

from neti import log
from neti.agent.core import Core
from neti.agent.in_the_clear import look
from neti.agent.kernel import Kernel
from neti.agent.trial import Shadow
from neti.model.groups import MemberPorts
from neti.ruleset.member_ports import needed
from neti.stage import evidence
from neti.state.loaded import StateError
from neti.words import some


class Objections:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: Core, kernel: Kernel, shadow: Shadow) -> None:
        self._core = core
        self._kernel = kernel
        self._shadow = shadow

    def unlikely_to_end_well(self) -> str:
        """What is missing now and would be missing at the end of the trial; empty: nothing."""
        core = self._core
        if not core.in_step.fresh:
            return (
                f"the registry is not in step ({core.in_step.reason}), so the trial could not be "
                "confirmed; wait until 'neti status' says that it is, or say --anyway"
            )
        unsaved = core.stage.not_on_disk()
        return f"{unsaved}; or say --anyway" if unsaved else ""

    def less_strict(self, seconds: int, *, wait: bool) -> str | None:
        """Why no other trial is begun in place of the one that runs, which may be somebody else's;
        None: none runs, or the new one asks for more."""
        core, trial = self._core, self._core.stage.record.trial
        if trial is None or wait:
            return None
        if trial.wait:
            return (
                "a trial is running that only 'neti confirm' makes permanent, so no other one is "
                "begun"
            )
        left = trial.deadline - core.now()
        if seconds >= left:
            return None
        return f"a trial is running for {left:.0f} s more, so no shorter one is begun"

    def keys_that_count_for_nothing(self) -> str:
        """Why encryption must not be required now; empty: it may."""
        core = self._core
        if core.settings.registry_tls is None:
            return (
                "sites in neti.yml require encryption, but without registry_tls anybody may "
                "replace a member's key in the registry\n→ configure registry_tls, or write "
                "encrypt: prefer until then"
            )
        if core.members.fleet.records != "strict":
            return (
                "sites in neti.yml require encryption, but the registry is not strict, so a "
                "member's key may be another's\n→ 'neti registry strict on', or write "
                "encrypt: prefer until then"
            )
        return ""

    def in_the_clear(self) -> str:
        """What an operator should see to before it is refused; empty: nothing."""
        found = look(self._core)
        words = found.words() if found is not None else ()
        if found is None or not words:
            return ""
        wait = f"\n→ {found.hint()}" if found.hint() else ""
        return (
            f"'neti preview' lists what still goes in the clear and would be refused: "
            f"{'; '.join(words)}\n→ 'neti preview' names each; end them, or open what must stay"
            f"{wait}\n"
            "→ 'neti enforce --anyway' begins all the same, and they are refused"
        )

    def to_member_ports(self, ports: MemberPorts, *, anyway: bool) -> str:
        """Why a trial of these should not begin; empty: it may, or there are none."""
        named = needed(ports)
        if not named and not ports:
            return ""
        groups, problems = self._core.members.groups, self._core.problems
        if named and not groups.known:
            return (
                "member_ports names groups, and what operators said of them has never been read: "
                "wait until 'neti status' says that the registry is in step"
            )
        if anyway:
            return ""
        if unknown := sorted(named & set(groups.undefined)):
            return (
                f"member_ports names {some(unknown)}, which no operator has defined, so nobody is "
                f"in it\n→ 'neti group set {unknown[0]} ID…', or take it out of the file; or say "
                "--anyway"
            )
        if held := problems.sentence("groups_held"):
            return f"the registry's groups are not followed: {held}; or say --anyway"
        used = self._shadow.kept_out()
        if not used:
            return ""
        return (
            f"'neti preview' lists ports in use that member_ports would shut to members: "
            f"{'; '.join(used)}\n→ 'neti preview --suggest' says what to write; or say that they "
            "may be lost (neti preview --accept-losing PORT/PROTO)\n→ 'neti enforce --anyway' "
            "begins all the same, and they are kept out"
        )

    def unanswered(self, *, anyway: bool) -> str | None:
        """Why an operator should think again: ports in use that would be shut. ``anyway`` is an
        answer: they may be lost."""
        self._kernel.listen()
        self._shadow.sample()
        used = self._shadow.unanswered()
        if not used:
            return None
        if not anyway:
            ports = ", ".join(used.values())
            return (
                f"'neti preview' lists ports in use that would be shut: {ports}; "
                f"{evidence.ANSWERS}, or shut all of them with 'neti enforce --anyway'"
            )
        try:
            self._shadow.give_up(used)
        except StateError as error:
            return f"that these ports may be lost cannot be written down: {error}"
        log.warning("losing_accepted", ports=", ".join(used.values()))
        return None

    def would_be_lost(self) -> tuple[str, ...]:
        """Ports in use, in words, that the trial which has begun, or is about to, shuts without an
        answer of anybody's."""
        record = self._core.stage.record
        if not record.wants_trial and record.trial is None:
            return ()
        self._kernel.listen()
        self._shadow.sample()
        return tuple(self._shadow.unanswered().values())

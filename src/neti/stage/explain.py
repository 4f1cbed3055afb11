"""Whether a first packet gets into this host: by what, in which stage, and what would change that.
Pure.

It goes through the questions of the input chain (``neti.ruleset.policy``), in order, for one source
as this host sees it, one protocol and one of the host's own ports. Must never do: say of a packet
what the rules would not do.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

from neti.model import IPAddress
from neti.model.groups import EVERY_MEMBER, MemberPorts
from neti.model.openings import Opening
from neti.model.settings import Settings
from neti.ruleset.member_ports import Proto, admits, admits_everybody, covers, reached_by
from neti.stage.stages import DOWN, GROUPS_MISSING

_ONLY_RECORDED: Final = "nothing lets it in, which is only recorded: this host is in shadow"
_THEN: Final = "once that is known, its groups decide"
Clear = Literal["clear", "outside"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What this host knows of the question. ``source``: None for this host itself. ``ids``: members
    that come from there, none: it is nobody's; ``groups``: all that these are in. ``clear``:
    required encryption refuses a member there, or takes it for a stranger. ``in_force``: the
    ``member_ports`` that are; ``narrows``: the file's are on trial. ``stage``: in its word.
    ``groups_known``: who is in which group; otherwise ``in_force`` is None. ``tunnel``: this host
    has its end of the encrypted road. ``answers``: the source was a member until lately, and what
    it sends to this port is taken for an answer, as nobody listens there. ``openings``: what is
    open to ``source`` for a time, and when that ends, as people read it."""

    settings: Settings
    source: IPAddress | None
    proto: Proto
    port: int
    ids: tuple[str, ...] = ()
    groups: frozenset[str] = frozenset()
    clear: Clear | None = None
    in_force: MemberPorts = None
    narrows: bool = False
    groups_known: bool = True
    tunnel: bool = True
    answers: bool = False
    openings: tuple[tuple[Opening, str], ...] = ()
    stage: str


@dataclass(frozen=True, slots=True)
class Explained:
    """``admitted``: now. ``by``: what lets it in, or keeps it out; ``ahead``: what would change
    that; empty: nothing that is under way. ``lasts``: it is let in, and stays so in each stage."""

    admitted: bool
    by: str
    ahead: str = ""

    @property
    def lasts(self) -> bool:
        return self.admitted and not self.ahead


def explain(known: Known) -> Explained:
    settings, name = known.settings, f"{known.port}/{known.proto}"
    if known.stage == DOWN:
        return Explained(True, "Neti is down on this host, so nothing of it judges packets")
    source = known.source
    if source is None:
        return Explained(True, "it is this host itself, which is never judged")
    to_tunnel = known.proto == "udp" and known.port == settings.tunnel_port and settings.encrypts
    if to_tunnel and source.version == 4:
        if known.tunnel:
            return Explained(True, f"{name} is the tunnel's own port")
        known = replace(known, clear=None)  # what must be encrypted is not asked for there
    if (by := _by_whitelist(known, source)) is not None:
        return by
    file = settings.member_ports
    member = bool(known.ids) and known.clear is None
    if member and (by := _by_file(known)) is not None:
        return by
    if (by := _like_a_stranger(known, source)) is not None:
        return by
    if (by := _for_a_time(known)) is not None:
        return by
    if member and not covers(file, known.in_force) and _admits(known, known.in_force):
        return _waiting(known)
    return _judged(known)


def _by_whitelist(known: Known, source: IPAddress) -> Explained | None:
    settings = known.settings
    if (known.proto, known.port) != ("tcp", settings.ssh_port):
        return None
    network = next((one for one in settings.ssh_whitelist if source in one), None)
    if network is None:
        return None
    return Explained(True, f"ssh_whitelist has {network}, which holds {source}")


def _by_file(known: Known) -> Explained | None:
    settings, who = known.settings, _who(known)
    file = settings.member_ports
    if admits_everybody(file):
        return Explained(True, f"it is {who}, and members reach every port of this host")
    if (known.proto, known.port) == ("tcp", settings.verify_port):
        return Explained(True, f"it is {who}, and each one reaches verify_port")
    if not _admits(known, file):
        return None
    reached = reached_by(file, known.proto, known.port)
    by = sorted(reached & known.groups) or [EVERY_MEMBER]
    return Explained(
        True, f"it is {who}, in {', '.join(by)}, which member_ports let in to {_name(known)}"
    )


def _like_a_stranger(known: Known, source: IPAddress) -> Explained | None:
    settings = known.settings
    network = next((one for one in settings.trusted if source in one), None)
    if network is not None:
        return Explained(True, f"trusted has {network}, which holds {source}")
    if known.answers and known.clear != "clear":
        return Explained(
            True,
            f"{source} was a member's until lately, nobody listens on {_name(known)}, and a "
            "datagram to such a port may be an answer",
        )
    for opened in settings.open_ports:
        if opened.proto != known.proto or not opened.first <= known.port <= opened.last:
            continue
        held = next((one for one in opened.sources if source in one), None)
        if not opened.sources or held is not None:
            to = "everyone" if held is None else f"{held}, which holds {source}"
            return Explained(True, f"open_ports opens {_name(known)} to {to}")
    return None


def _for_a_time(known: Known) -> Explained | None:
    """It lets nothing in that must be encrypted and comes in the clear."""
    found = [(one, ends) for one, ends in known.openings if one.lets_in(known.proto, known.port)]
    if not found or known.clear == "clear":
        return None
    one, ends = max(found, key=lambda held: held[0].until)
    return Explained(
        True,
        f"'neti open' opened {one.port} to {one.to} until {ends}",
        "the kernel ends that by its own clock; what is established then goes on",
    )


def _waiting(known: Known) -> Explained:
    """Only the policy in force admits it."""
    who, out = _who(known), _not_in(known, known.settings.member_ports)
    if known.narrows:
        return Explained(
            False,
            f"it is {who}, {out}: that is on trial",
            "the trial ends by the kernel's own clock, or is confirmed",
        )
    if not known.groups_known:
        return Explained(True, f"it is {who}; {GROUPS_MISSING}", _THEN)
    return Explained(
        True,
        f"it is {who}. member_ports take this away, which is not in force yet",
        f"once 'neti enforce' has put it in force it is judged as a stranger's: {out}",
    )


def _judged(known: Known) -> Explained:
    why = _why_not(known)
    if known.stage == "enforced":
        return Explained(False, why)
    if known.stage == "trial":
        return Explained(False, f"{why}; reject_all is on trial", "the trial ends, or is confirmed")
    return Explained(True, f"{_ONLY_RECORDED}: {why}", "'neti enforce' would keep it out")


def _why_not(known: Known) -> str:
    if not known.ids:
        return (
            f"{known.source} is no member's address, and neither trusted nor open_ports let it in"
        )
    if known.clear == "clear":
        return f"it is {_who(known)}, and comes in the clear, which required encryption refuses"
    if known.clear == "outside":
        return (
            f"it is {_who(known)}, by a public address, by which it is a stranger where encryption "
            "is required"
        )
    return f"it is {_who(known)}, {_not_in(known, known.settings.member_ports)}"


def _not_in(known: Known, ports: MemberPorts) -> str:
    to = ", ".join(sorted(reached_by(ports, known.proto, known.port)))
    groups = f"in {', '.join(sorted(known.groups))}" if known.groups else "in no group"
    if not to:
        return f"{groups}, and member_ports let nobody in to {_name(known)}"
    return f"{groups}, and member_ports let only {to} in to {_name(known)}"


def _who(known: Known) -> str:
    return f"member {' or '.join(known.ids)}"


def _name(known: Known) -> str:
    return f"{known.port}/{known.proto}"


def _admits(known: Known, ports: MemberPorts) -> bool:
    return admits(ports, known.groups, known.proto, known.port)

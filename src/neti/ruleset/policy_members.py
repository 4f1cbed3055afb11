"""The chains for members where ``member_ports`` says who may reach what. Pure.

The port decides first, by a map of the size of the file; then only that port's groups are looked
at. What no group admits goes on as a stranger's packet does.

While the file admits less than the policy in force, what only the latter admits is recorded and let
in, unless map ``narrowed`` drops it. That map holds nothing without an end.

Must never do: drop by anything but map ``narrowed``, or depend on who is in a group.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from neti.model.groups import EVERY_MEMBER, MemberPort, MemberPorts
from neti.model.settings import Settings
from neti.ruleset.member_ports import (
    PROTOCOLS,
    Proto,
    admits_everybody,
    covers,
    everywhere,
    needed,
    segments,
)
from neti.ruleset.objects import SEEN_SECONDS, SEEN_SIZE, Chain
from neti.ruleset.set_names import group_sets
from neti.ruleset.surroundings import Surroundings

FIRST: Final = "tcp flags & (fin|syn|rst|ack) == syn"
LET_IN: Final = 'counter name "admitted" accept'
_ADMITTED: Final = "member_admitted"
_NARROWING: Final = "narrowing"
_BEFORE: Final = "before"
_UNASKED: Final = (
    f"inet_proto . inet_service; size {SEEN_SIZE}; flags dynamic,timeout; timeout {SEEN_SECONDS}s"
)
_SETS: Final = (
    ("set unasked4", f"type ipv4_addr . {_UNASKED}"),
    ("set unasked6", f"type ipv6_addr . {_UNASKED}"),
    ("map narrowed", "typeof meta nfproto : verdict; flags timeout"),
    # First packets of members that no group admits: before the verdict on them, and behind it. The
    # difference is what we drop ourselves.
    ("counter unadmitted", "packets 0 bytes 0"),
    ("counter passed", "packets 0 bytes 0"),
)


@dataclass(frozen=True, slots=True)
class Admission:
    """What is looked at: the policies of the file and the one in force, if that admits more."""

    file: MemberPorts
    before: MemberPorts = None
    waits: bool = False


def admission(settings: Settings, surroundings: Surroundings) -> Admission | None:
    """None: every member reaches everything, and there is nothing to look at."""
    file = settings.member_ports
    if admits_everybody(file):
        return None
    in_force = surroundings.member_ports
    waits = not covers(file, in_force)
    return Admission(file, in_force if waits else None, waits)


def kept_out_by(chain_names: Collection[str]) -> bool:
    """Whether rules with these chains keep members out by a policy in force, and not on trial.
    Where the file's waits, one that names no port (``all`` alone) does not show."""
    if _ADMITTED not in chain_names:
        return False
    return "members_before" not in chain_names or f"{_BEFORE}_1" in chain_names


def groups_of(settings: Settings, in_force: MemberPorts) -> frozenset[str]:
    """The groups whose members this host's rules have to know."""
    file = settings.member_ports
    return frozenset() if admits_everybody(file) else needed(file, in_force)


def sets(settings: Settings, surroundings: Surroundings) -> Iterator[tuple[str, str]]:
    if admission(settings, surroundings) is None:
        return
    yield from _SETS
    for group in sorted(groups_of(settings, surroundings.member_ports)):
        four, six = group_sets(group)
        yield f"set {four}", "type ipv4_addr"
        yield f"set {six}", "type ipv6_addr"


def going_on(then: str) -> tuple[str, ...]:
    """Rules for what is established or related, but for a SYN that asks for a connection anew:
    conntrack takes one by the ports of a connection that was reset for a part of it. So whoever had
    one connection could begin others after he was put out of his group."""
    known = "ct state established,related"
    return (
        f"tcp flags & (fin|syn|rst|ack) != syn {known} {then}",
        f"meta l4proto != tcp {known} {then}",
        f"ct direction reply {known} {then}",
    )


def let_in(admitted: Admission | None) -> str:
    """What becomes of a member's packet."""
    return LET_IN if admitted is None else "jump members"


def waiting(
    admitted: Admission | None, members: Sequence[str], *, opened: Sequence[str]
) -> Iterator[str]:
    """Rules for what the file's policy does not admit, where they stand behind all that lets
    strangers in. ``members``: conditions; ``opened``: the rules that let in by ``open_ports``, and
    by what is open for a time."""
    if admitted is not None and admitted.waits:
        yield from opened
        yield from (f"{condition} jump members_before" for condition in members)


def chains(settings: Settings, admitted: Admission | None) -> Iterator[Chain]:
    if admitted is None:
        return
    always = MemberPort((EVERY_MEMBER,), "tcp", settings.verify_port, settings.verify_port)
    file = _Policy((*(admitted.file or ()), always), "reach", LET_IN, _ADMITTED)
    yield from file.chains()
    yield Chain(_ADMITTED, None, (LET_IN,))
    yield Chain(
        "members",
        None,
        (
            *going_on(LET_IN),
            f"meta l4proto {{ icmp, icmpv6 }} {LET_IN}",
            *file.rules(),
            # Late segments of connections that are over. They open none.
            f"ct state invalid tcp flags & (fin|syn|rst|ack) != syn {LET_IN}",
        ),
    )
    if admitted.waits:
        before = _Policy(admitted.before, _BEFORE, f"goto {_NARROWING}", _NARROWING)
        yield from before.chains()
        yield _narrowing()
        yield Chain("members_before", None, tuple(before.rules()))


def _narrowing() -> Chain:
    # Those for this machine itself are counted as they come in.
    counted = f"{FIRST} fib daddr type local counter name"
    return Chain(
        _NARROWING,
        None,
        (
            # A connection from before tracking began; see chain verdict.
            f"tcp flags & (fin|syn|rst|ack) == ack meta nfproto @grace {LET_IN}",
            "jump record_unasked",
            f'{counted} "unadmitted"',
            "meta nfproto vmap @narrowed",
            f'{counted} "passed"',
            LET_IN,
        ),
    )


@dataclass(frozen=True, slots=True)
class _Policy:
    """One policy as rules. ``then``: what becomes of what it admits; ``chain``: the chain that does
    the same; ``name``: how its own chains begin."""

    ports: MemberPorts
    name: str
    then: str
    chain: str

    def chains(self) -> Iterator[Chain]:
        for groups, name in self._chains().items():
            yield Chain(name, None, tuple(self._of(groups)))

    def _of(self, groups: frozenset[str]) -> Iterator[str]:
        for group in sorted(groups):
            for word, where in zip(("ip", "ip6"), group_sets(group), strict=True):
                yield f"{word} saddr @{where} {self.then}"

    def _chains(self) -> Mapping[frozenset[str], str]:
        """A chain for all ports with the same groups."""
        found = {groups for _, _, groups in self._listed() if EVERY_MEMBER not in groups}
        return {one: f"{self.name}_{n}" for n, one in enumerate(sorted(found, key=sorted), 1)}

    def _listed(self) -> Iterator[tuple[Proto, str, frozenset[str]]]:
        """Protocol, ports, and the groups that reach these and not everything."""
        always = everywhere(self.ports)
        for one in segments(self.ports):
            if one.groups != always:
                span = str(one.first) if one.first == one.last else f"{one.first}-{one.last}"
                yield one.proto, span, one.groups - always

    def rules(self) -> Iterator[str]:
        if admits_everybody(self.ports):
            yield self.then
            return
        names, listed = self._chains(), list(self._listed())
        maps = {
            proto: ", ".join(
                f"{span} : jump {names.get(groups, self.chain)}"
                for kind, span, groups in listed
                if kind == proto
            )
            for proto in PROTOCOLS
        }
        for proto, held in maps.items():
            if held:
                # The port that was asked for, also where it is redirected or published.
                yield f"meta l4proto {proto} ct original proto-dst vmap {{ {held} }}"
                yield f"ct state invalid,untracked {proto} dport vmap {{ {held} }}"
        yield from self._of(everywhere(self.ports))

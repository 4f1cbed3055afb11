"""Whether a change of operators' groups may be made. Reads only.

Must never do: let a pattern stand where anybody with a certificate may begin a host under an id of
their choice.
"""

from collections.abc import Collection
from dataclasses import dataclass

from neti.errors import NetiError
from neti.fleet.groups import GroupIndex
from neti.model import Member
from neti.model.groups import Groups
from neti.model.settings import Settings
from neti.registry import OperatorRegistry
from neti.registry.strict import is_strict
from neti.words import some


def check_size(
    before: Groups, after: Groups, members: Collection[Member], now: float, *, shrink: bool
) -> None:
    """As agents judge it. ``now``: Unix seconds. Raises NetiError."""
    index = GroupIndex(before, before.lines, now)
    out = index.taken_out(GroupIndex(after, {*before.lines, *after.lines}, now), members)
    much = [str(one) for one in out if one.is_much]
    if much and not shrink:
        raise NetiError(
            f"that takes {' and '.join(much)} out: nothing was changed\n"
            "→ the same with --shrink, if it is to be so: without it agents would not follow"
        )


@dataclass(frozen=True, slots=True)
class Trust:
    """Who may begin a host under an id of their choice: ``anybody`` who reaches the registry, or
    whoever has a certificate (``admission`` False). ``known``: ids that have a record, and so an
    owner."""

    anybody: bool
    admission: bool
    strict: bool
    known: frozenset[str]

    @classmethod
    def of(cls, settings: Settings, registry: OperatorRegistry, known: frozenset[str]) -> "Trust":
        anybody = settings.registry_tls is None
        admission = not anybody and needs_admission(registry)
        return cls(anybody, admission, is_strict(registry.setting("strict")), known)

    @property
    def unsure(self) -> str:
        if self.anybody:
            return (
                "without registry_tls a group rests on what hosts say: whoever reaches the "
                "registry may register under any id"
            )
        if not self.strict:
            return (
                "strict is off, so any host with a certificate may speak for another, and be in "
                "its groups\n→ neti registry strict on"
            )
        return ""

    def check(self, before: Groups, after: Groups, name: str) -> None:
        """Raises NetiError for what is new, and would let somebody choose to be in the group."""
        new = set(after.lines.get(name, ())) - set(before.lines.get(name, ()))
        subjects = [line.pattern for line in new if line.is_subject]
        if subjects and self.anybody:
            raise NetiError(
                f"subject {some(subjects)}: without registry_tls the registry knows no subjects: "
                "nothing was changed\n→ name ids, or configure registry_tls"
            )
        if self.anybody or self.admission:
            return
        if subjects:
            raise NetiError(
                f"subject {some(subjects)}: admission is off, so whoever has a certificate may say "
                "that a new host's record is somebody else's, and be in the group: nothing was "
                "changed\n→ neti registry admission on, or name the ids"
            )
        patterns = [line.pattern for line in new if line.is_pattern]
        if patterns:
            raise NetiError(
                f"pattern {some(patterns)}: admission is off, so whoever has a certificate may "
                "begin a host under an id that fits it, and be in the group: nothing was changed\n"
                "→ neti registry admission on, or name the ids"
            )
        unknown = {line.pattern for line in new} - self.known
        if unknown:
            raise NetiError(
                f"{some(unknown)} {'has' if len(unknown) == 1 else 'have'} no owner yet, and "
                "admission is off, so the first certificate that registers under such an id would "
                "be in the group: nothing was changed\n→ neti registry admit ID SUBJECT"
            )


def needs_admission(registry: OperatorRegistry) -> bool:
    """Whether only operators begin a host, and the registry has rights."""
    from neti.registry.zookeeper.admission import has_rights, needs_admission
    from neti.registry.zookeeper.registry import ZooKeeperRegistry

    return isinstance(registry, ZooKeeperRegistry) and registry.inspect(
        lambda attempt, layout: has_rights(attempt, layout) and needs_admission(attempt, layout)
    )

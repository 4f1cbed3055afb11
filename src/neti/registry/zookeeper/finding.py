"""What ``neti registry check`` finds, in which order, and how much of it is printed. Pure.

Must never do: let the number of nodes that one member makes decide how much an operator has to
read, or put what is grave behind what is cheap to make.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from neti.registry.zookeeper.layout import removal
from neti.words import counted

Severity = Literal["fault", "warning", "note"]
SEVERITIES: Final[tuple[Severity, ...]] = ("fault", "warning", "note")
# Warnings that an operator may know of and live with.
CODES: Final = (
    *("CVE-2024-23944", "certificate", "client-connections", "clock", "contested-name"),
    *(
        "filled",
        "goodbye",
        "junk-names",
        "lease-of-nobody",
        "listing",
        "name-of-nobody",
        "no-rights",
        "no-tls",
        "open-nodes",
    ),
    *("record-format", "report-rights", "request-length", "root-rights"),
)
# Of each severity the gravest first; what is not named comes between these and those below.
_FIRST: Final = (
    "unanswered",
    "silent",
    "no-tls",
    "missing",
    "open-plain",
    "open-tls",
    "open-nodes",
    "unfinished",
    "shared-certificate",
    "document-rights",
)
_LAST: Final = (
    "record-rights",
    "lease-rights",
    "forged",
    "owners",
    "half-lease",
    "children",
    "unreadable",
    "no-session",
    "junk-names",
)
_OF_A_KIND: Final = 10
_IN_A_COMMAND: Final = 5
_JOINED: Final = 9  # more servers than this are named one by one


@dataclass(frozen=True, slots=True)
class Finding:
    """``code``: stable, by which an operator accepts a warning. ``then``: the command that helps;
    without it, the one that deletes ``nodes``."""

    severity: Severity
    where: str
    sentence: str
    code: str = ""
    then: str = ""
    nodes: tuple[str, ...] = ()

    def command(self) -> str:
        return self.then or (removal(*self.nodes[:_IN_A_COMMAND]) if self.nodes else "")


def accepted(found: Iterable[Finding], codes: Collection[str]) -> list[Finding]:
    """Warnings that an operator knows of and lives with become notes; faults do not."""
    return [
        replace(one, severity="note", sentence=f"{one.sentence} (accepted)")
        if one.severity == "warning" and one.code in codes
        else one
        for one in found
    ]


def joined(found: Iterable[Finding]) -> list[Finding]:
    """What is the same at several servers is one finding, worst first."""
    alike: dict[tuple[Severity, str, str, str], list[Finding]] = {}
    for one in found:
        alike.setdefault((one.severity, one.sentence, one.code, one.command()), []).append(one)
    together = []
    for each in alike.values():
        if len(each) > _JOINED or each[0].nodes:
            together += each
        else:
            together.append(replace(each[0], where=", ".join(one.where for one in each)))
    return sorted(together, key=_gravity)


def shown(found: Iterable[Finding]) -> list[tuple[Finding, int]]:
    """The first of each kind, in order, and after the last of them how many more there are."""
    kinds: dict[tuple[Severity, str], list[Finding]] = {}
    for one in found:
        kinds.setdefault((one.severity, one.code), []).append(one)
    lines: list[tuple[Finding, int]] = []
    for alike in kinds.values():
        first = alike[:_OF_A_KIND] if alike[0].code else alike
        lines += [(one, 0) for one in first[:-1]]
        lines.append((first[-1], len(alike) - len(first)))
    return lines


def counts(found: Collection[Finding]) -> dict[Severity, int]:
    return {severity: sum(one.severity == severity for one in found) for severity in SEVERITIES}


def summary(found: Collection[Finding]) -> str:
    return ", ".join(counted(number, word) for word, number in counts(found).items())


def _gravity(one: Finding) -> tuple[int, int]:
    rank = len(_FIRST)
    if one.code in _FIRST:
        rank = _FIRST.index(one.code)
    elif one.code in _LAST:
        rank += 1 + _LAST.index(one.code)
    return SEVERITIES.index(one.severity), rank

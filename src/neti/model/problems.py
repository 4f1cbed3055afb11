"""What is wrong on this host: typed problems, a collection of them, and their form in a document.

Code and severity decide; the sentence is for people, and nothing ever parses it. All codes are
declared in ``neti.model.problem_codes``. Must never raise in a running agent because of a code, or
read a sentence to decide anything.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from neti.model.problem_codes import KINDS, Severity

__all__ = ["Problem", "Problems", "Severity", "problem", "problems_in"]

UNTYPED: Final = "untyped"  # from an agent of an older version, which reports sentences only
# Set in tests: an undeclared code is an error there, and only a warning in operation.
strict = False


@dataclass(frozen=True, slots=True)
class Problem:
    """``subject``: which of several things with the same code; empty if there is only one."""

    code: str
    severity: Severity
    sentence: str
    subject: str = ""

    def __str__(self) -> str:
        return self.sentence

    def document(self) -> dict[str, str]:
        plain = {"code": self.code, "severity": self.severity.value, "sentence": self.sentence}
        return plain | ({"subject": self.subject} if self.subject else {})


def problem(code: str, sentence: str, subject: str = "") -> Problem:
    """A problem with the severity that its code is declared with."""
    kind = KINDS.get(code)
    if kind is None and strict:
        raise LookupError(f"the problem {code!r} is not declared in neti.model.problem_codes")
    said = " ".join(str(sentence).splitlines())  # a next step has a line of its own elsewhere
    return Problem(code, kind.severity if kind else Severity.WARNING, said, subject)


class Problems:
    """The current problems, in the order in which they were set. Not thread-safe."""

    def __init__(self) -> None:
        self._held: dict[tuple[str, str], Problem] = {}

    def set(self, code: str, sentence: str, *, subject: str = "") -> None:
        """Sets the problem, or replaces its sentence."""
        self._held[code, subject] = problem(code, sentence, subject)

    def clear(self, code: str, *, subject: str | None = None) -> None:
        """Clears the problem, if it is set. ``subject`` None: with every subject."""
        if subject is not None:
            self._held.pop((code, subject), None)
            return
        for key in [key for key in self._held if key[0] == code]:
            del self._held[key]

    def get(self, code: str, *, subject: str = "") -> Problem | None:
        return self._held.get((code, subject))

    def sentence(self, code: str) -> str:
        """Its sentence; empty if there is no such problem."""
        return "; ".join(held.sentence for held in self._held.values() if held.code == code)

    def __contains__(self, code: str) -> bool:
        # Asked in each turn, mostly of nothing: a generator would cost more than the answer.
        return bool(self._held) and code in {key[0] for key in self._held}

    def __iter__(self) -> Iterator[Problem]:
        return iter(tuple(self._held.values()))

    def __len__(self) -> int:
        return len(self._held)


def problems_in(status: Mapping[str, Any]) -> list[Problem]:
    """The problems in a status document, which another version may have written. A problem that
    this version does not know becomes a warning, never an error."""
    listed = status.get("problems")
    return [_read(one) for one in listed] if isinstance(listed, list) else []


def _read(one: object) -> Problem:
    if not isinstance(one, Mapping):  # of an agent before format 2
        return Problem(UNTYPED, Severity.WARNING, str(one))
    try:
        severity = Severity(str(one.get("severity")))
    except ValueError:
        severity = Severity.WARNING
    code, sentence = str(one.get("code", UNTYPED)), str(one.get("sentence", ""))
    return Problem(code, severity, sentence or code, str(one.get("subject", "")))

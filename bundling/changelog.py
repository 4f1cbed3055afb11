"""What CHANGELOG.md says about one release, as the notes for people need it."""

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

from bundling import BundleError

# Which headings a release's section has before all others, each with at least one line.
MUST: Final = "What you must do"
MAY: Final = "What you may do"
_VERSION: Final = re.compile(r"^## (\S+)(?: \((.*)\))?$", re.MULTILINE)
_PART: Final = re.compile(r"^### (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Section:
    """One release's. ``parts``: by heading its text; what comes before the first is under ""."""

    version: str
    dated: date
    parts: dict[str, str]


def section(text: str, version: str, today: date) -> Section:
    """The newest one, which has to be that of ``version``, with a day that has come. Raises
    BundleError with what is wrong and what was expected."""
    heads = list(_VERSION.finditer(text))
    expected = f"## {version} (YEAR-MONTH-DAY)"
    if not heads or heads[0][1] != version:
        there = f"has {heads[0][0]!r}" if heads else "has none"
        raise BundleError(f"CHANGELOG.md: the first section {there}: expected {expected!r}")
    try:
        dated = date.fromisoformat(heads[0][2] or "")
    except ValueError as error:
        raise BundleError(f"CHANGELOG.md: {heads[0][0]!r}: expected {expected!r}") from error
    if dated > today:
        raise BundleError(f"CHANGELOG.md: {heads[0][0]!r} is dated in the future")
    end = heads[1].start() if len(heads) > 1 else len(text)
    parts = _parts(text[heads[0].end() : end])
    for heading in (MUST, MAY):
        if not parts.get(heading):
            raise BundleError(
                f"CHANGELOG.md: {version} has nothing under '### {heading}': write what, or "
                "'Nothing.'"
            )
    return Section(version, dated, parts)


def _parts(text: str) -> dict[str, str]:
    heads = list(_PART.finditer(text))
    found = {"": text[: heads[0].start() if heads else len(text)].strip()}
    for n, head in enumerate(heads):
        end = heads[n + 1].start() if n + 1 < len(heads) else len(text)
        found[head[1]] = text[head.end() : end].strip()
    return found

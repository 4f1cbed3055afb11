"""Our lines in a hosts file that others write too, between two markers. Pure.

Must never do: change a line outside the markers, or guess where they are.
"""

from collections.abc import Sequence
from typing import Final

BEGIN: Final = "# BEGIN neti (written by 'neti hosts --write'; do not edit)"
END: Final = "# END neti"


class MarkersBroken(ValueError):
    """The message says which line is wrong."""


def merged(text: str, lines: Sequence[str]) -> str:
    """``text`` with these lines between the markers, or without markers where there are none.

    Doing it twice changes nothing. Raises MarkersBroken.
    """
    have = text.splitlines(keepends=True)
    found = _place(have)
    block = [f"{line}\n" for line in (BEGIN, *lines, END)] if lines else []
    if found is not None:
        first, last = found
        return "".join([*have[:first], *block, *have[last + 1 :]])
    if not block:
        return text
    if have and not have[-1].endswith("\n"):
        have[-1] += "\n"
    return "".join([*have, *block])


def held(text: str) -> dict[str, str]:
    """The address of each name in our lines. Raises MarkersBroken."""
    have = text.splitlines()
    found = _place(have)
    ours = have[found[0] + 1 : found[1]] if found is not None else []
    named: dict[str, str] = {}
    for line in ours:
        address, *names = line.split() or [""]
        named.update((name, address) for name in names)
    return named


def _place(have: Sequence[str]) -> tuple[int, int] | None:
    """The lines of the two markers, counted from 0."""
    begins = [n for n, line in enumerate(have) if line.startswith("# BEGIN neti")]
    ends = [n for n, line in enumerate(have) if line.startswith(END)]
    if not begins and not ends:
        return None
    if len(begins) == 1 and len(ends) == 1 and begins[0] < ends[0]:
        return begins[0], ends[0]
    at = ", ".join(str(n + 1) for n in sorted((*begins, *ends)))
    raise MarkersBroken(
        f"expected one line '# BEGIN neti' and one '{END}' after it, found them in line {at}"
    )

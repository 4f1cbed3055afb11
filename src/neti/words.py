"""Numbers and names as people read them. Pure."""

from collections.abc import Collection, Iterable
from typing import Final

_SHOWN: Final = 20


def why(error: BaseException) -> str:
    """An error in words, without the number and the file name that Python puts around an OSError's
    (``[Errno 104] Connection reset by peer``)."""
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return str(said) or type(error).__name__


def counted(number: int, one: str, many: str | None = None) -> str:
    """``1 member``, ``2 members``; ``many`` if the plural is not ``one`` with an s."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def some(names: Collection[str], most: int = _SHOWN) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(sorted(names)[:most])
    return shown + and_more(len(names) - most)


def and_more(number: int) -> str:
    return f" and {number} more" if number > 0 else ""


def listed(lines: Iterable[str], of: int, indent: str, most: int = _SHOWN) -> list[str]:
    """The first lines of a list of ``of`` entries, and a last one that says how many are left
    out."""
    shown = [line for _, line in zip(range(most), lines, strict=False)]
    return [*shown, f"{indent}and {of - len(shown)} more"] if of > len(shown) else shown

"""Who calls this host, as its agent tells a command: the document's types. Pure.

It crosses a process, and the command may be of another version than the agent: see
``neti.model.document``. Programs read it too (``neti drained --json``).
"""

from dataclasses import dataclass
from typing import Any

from neti.errors import NetiError
from neti.model.document import DocumentError, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A member that has connections open to a port of this host, as it was asked for. ``ids``:
    several, where they share the address from which they come."""

    ids: tuple[str, ...]
    protocol: str
    port: int
    connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """``since``: from when on it is watched whether members begin connections; None: it is not;
    ``at``: up to when; ``last``: when one last did. Unix seconds. ``callers``: who has any open,
    the most first. ``fault``: why that is not known."""

    now: float
    since: float | None = None
    at: float | None = None
    last: float | None = None
    callers: tuple[Caller, ...] = ()
    fault: str = ""


def called_of(document: Any) -> Called:
    """From an agent's answer. Raises NetiError if it is not understood."""
    try:
        return read(Called, document)
    except DocumentError as error:
        raise NetiError(
            f"the agent's answer cannot be read ({error}): the agent is of another version than "
            "this command\n→ systemctl restart neti"
        ) from error

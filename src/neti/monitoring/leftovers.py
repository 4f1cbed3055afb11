"""What ``neti leftovers`` shows: the document's types. Pure.

It crosses a process, and the command may be of another version than the agent: see
``neti.model.document``. Programs read it too (``neti leftovers --json``).
"""

from dataclasses import dataclass
from typing import Any

from neti.errors import NetiError
from neti.model.document import DocumentError, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Who calls whom. ``member``: its id; ``address``: the real one that was called; ``overlay``:
    the one to use instead, None: it is no member now. ``uid``: the user's number, None for a
    container. ``user``, ``processes``: by name, added by the command. ``group``: the path of the
    control group; empty: none, or not known. ``calls``: new connections. Times as Unix time."""

    member: str
    address: str
    protocol: str
    port: int
    overlay: str | None
    uid: int | None
    group: str
    container: str | None
    calls: int
    first: float
    last: float
    user: str | None = None
    processes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftovers:
    """``since``: from when on it is recorded. ``missed``: connections for which the kernel had no
    room, since its table was made. ``faults``: what could not be read. ``unknown``: the agent was
    asked for one that it has never heard of."""

    agent: bool
    since: float
    now: float
    rows: tuple[Leftover, ...] = ()
    missed: int = 0
    faults: tuple[str, ...] = ()
    unknown: bool = False


def leftovers_of(document: Any) -> Leftovers:
    """From an agent's answer. Raises NetiError if it is not understood."""
    try:
        return read(Leftovers, document)
    except DocumentError as error:
        raise NetiError(
            f"the agent's answer cannot be read ({error}): the agent is of another version than "
            "this command\n→ systemctl restart neti"
        ) from error

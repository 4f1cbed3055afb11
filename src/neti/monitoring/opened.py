"""What is open for a time, as ``neti open`` and ``neti status`` show it: the types. Pure.

It crosses a process, and the command may be of another version than the agent: see
``neti.model.document``. Programs read it too (``neti open --json``).
"""

from dataclasses import dataclass
from typing import Any

from neti.errors import NetiError
from neti.model.document import DocumentError, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """``port``: ``5432/tcp``; ``source``: a network; ``member``: the one by whose id that was
    found. ``until``, ``at`` (when it was said): Unix seconds; ``by``: who said it, from where."""

    port: str
    source: str
    member: str = ""
    until: float
    seconds_left: float
    at: float = 0.0
    by: str = ""

    @property
    def to(self) -> str:
        """To whom, as people read it. One address is not written as a network."""
        shown = self.source
        for whole in ("/32", "/128"):
            if whole == "/128" or ":" not in shown:
                shown = shown.removesuffix(whole)
        return f"{self.member} ({shown})" if self.member else shown

    def __str__(self) -> str:
        by = f", by {self.by}" if self.by else ""
        return f"{self.port} to {self.to}: {duration(self.seconds_left)} left{by}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``opened``: all that is open now, or what a command has opened or closed. ``notes``: what
    else there is to say. ``unsaved``: why it is not on disk; None: it is."""

    stage: str
    opened: tuple[Opened, ...] = ()
    notes: tuple[str, ...] = ()
    unsaved: str | None = None


def answer_of(document: Any) -> Answer:
    """From an agent's answer. Raises NetiError if it is not understood."""
    try:
        return read(Answer, document)
    except DocumentError as error:
        raise NetiError(
            f"the agent's answer cannot be read ({error}): the agent is of another version than "
            "this command\n→ systemctl restart neti"
        ) from error


def duration(seconds: float) -> str:
    """``1 d 2 h``, ``1 h 58 min``, ``42 s``: the two largest units."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole} s"
    parts = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if whole >= size:
            parts.append(f"{whole // size} {unit}")
            whole %= size
    return " ".join(parts[:2])

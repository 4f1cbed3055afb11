"""What ``neti explain`` shows: the document's types. Pure.

It crosses a process, and the command may be of another version than the agent: see
``neti.model.document``. Programs read it too (``neti explain --json``).
"""

from dataclasses import dataclass
from typing import Any

from neti.errors import NetiError
from neti.model.document import DocumentError, read


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """For one address of the source as this host sees it (None: this host itself): see
    ``neti.stage.explain.Explained``."""

    address: str | None
    admitted: bool
    by: str
    ahead: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """``here``: the destination is this host; otherwise there are no answers, because only that
    host's own neti.yml has them. ``notes``: what else is known."""

    source: str
    dest: str
    protocol: str
    port: int
    here: bool
    stage: str
    answers: tuple[Answer, ...] = ()
    notes: tuple[str, ...] = ()


def pair_of(document: Any) -> Pair:
    """From an agent's answer. Raises NetiError if it is not understood."""
    try:
        return read(Pair, document)
    except DocumentError as error:
        raise NetiError(
            f"the agent's answer cannot be read ({error}): the agent is of another version than "
            "this command\n→ systemctl restart neti"
        ) from error

"""What a trial refused that had been in use, port by port. Pure.

Must never do: leave out a port that was recorded since the trial began.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from neti.model import IPAddress
from neti.stage.record import Record
from neti.stage.shadow import Listener, Port, address_of, answering

_EXAMPLES: Final = 5


@dataclass(frozen=True, slots=True)
class Loss:
    """A port to which ``sources`` sent since some moment; ``examples``: the latest of them.
    ``listener`` None: it leads to a container (``forwarded``), or nothing listens."""

    protocol: str
    port: int
    sources: int
    examples: tuple[IPAddress, ...]
    listener: Listener | None
    forwarded: bool


@dataclass(frozen=True, slots=True)
class Losses:
    """Every port that was recorded since a moment, in exactly one of four lists. While packets are
    refused, ``lost`` speaks against going on; the other three do not, each for a reason of its
    own."""

    lost: tuple[Loss, ...] = ()  # used before, something listens, nobody accepted losing it
    accepted: tuple[Loss, ...] = ()  # as above, but somebody accepted losing it
    not_used_before: tuple[Loss, ...] = ()  # something listens; the shadow had never seen it used
    nobody_listens: tuple[Loss, ...] = ()


def losses(
    record: Record, listening: Iterable[Listener], accepted: Collection[Port], since: float
) -> Losses:
    """What a trial that began at ``since`` (steady seconds) refused that had been in use.

    *Used before* is said of the port, not of the source: a client that comes from a new address is
    lost all the same. A port counts as recorded since then when any source's last packet came at
    ``since`` or later. A port that leads to a container counts as listening. The caller lets the
    record look at the kernel (``ShadowLog.sample``) right before the trial begins, because
    otherwise what came just then may pass for new, and again right before asking, because otherwise
    the latest is missing.
    """
    listening = list(listening)
    found: dict[str, list[Loss]] = {}
    for port, use in sorted(record.ports.items()):
        again = sorted(
            ((held.last, source) for source, held in use.sources.items() if held.last >= since),
            reverse=True,
        )
        if not again:
            continue
        heard = answering(port, use, listening)
        examples = tuple(address_of(source) for _, source in again[:_EXAMPLES])
        listener = heard[0] if heard else None
        loss = Loss(*port, len(again), examples, listener, use.forwarded)
        if not heard and not use.forwarded:
            kind = "nobody_listens"
        elif all(held.first >= since for held in use.sources.values()):
            kind = "not_used_before"
        else:
            kind = "accepted" if port in accepted else "lost"
        found.setdefault(kind, []).append(loss)
    return Losses(**{kind: tuple(each) for kind, each in found.items()})

"""``neti ready`` and ``neti drained``: what the fleet's documents say of a host; on the host itself
also what its agent and its sockets say at this moment.

Must never do: change anything.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from neti.control.aside import ASIDES
from neti.errors import NetiError
from neti.fleet.finding import A_DAY, Finding, Known, Question
from neti.host.listeners import listeners, with_owners
from neti.model.settings import Settings
from neti.monitoring.called import Called, called_of
from neti.monitoring.preview import Preview, Wanted, preview_of
from neti.monitoring.status import status_of
from neti.oneshot.seen import Seen
from neti.registry.detail import CallsSeen, Document
from neti.registry.hurts import Hurts
from neti.stage.shadow import Listener, port_name
from neti.words import counted, some

Ask = Callable[..., Any]
_SHOWN: Final = 20


def known(settings: Settings, seen: Seen, now: float, quiet: float = A_DAY) -> Known:
    named = {one for site in settings.sites.values() for one in site.gateways}
    return Known(
        gateways=frozenset(named & seen.members.keys() - seen.drained),
        members=frozenset(seen.members),
        told=seen.told,
        away={row["id"]: str(row["state"]) for row in seen.away},
        now=now,
        quiet=quiet,
    )


@dataclass(frozen=True, slots=True)
class Here:
    """What only the host itself knows. ``fault``: why its agent did not say who calls it."""

    called: Called | None
    preview: Preview | None
    listening: tuple[Listener, ...]
    fault: str = ""


def own_id(settings: Settings, ask: Ask) -> str | None:
    """Of the host on which this is typed; None: no agent says."""
    if ASIDES.in_vain(settings.table_files_path) is not None:
        return None
    try:
        return status_of(ask(settings.table_files_path, "status")).id
    except NetiError:
        return None


def here(settings: Settings, ask: Ask) -> Here:
    """Asks this host's agent, and looks at its sockets."""
    folder: Path = settings.table_files_path
    called, preview, fault = None, None, ""
    try:
        called = called_of(ask(folder, "callers"))
        preview = preview_of(ask(folder, "preview"))
    except NetiError as error:
        fault = str(error).splitlines()[0]
    own = settings.verify_port
    found = [one for one in listeners() if one.port != own]
    return Here(called, preview, tuple(_bound(found)), fault)


def _bound(found: Collection[Listener]) -> Iterator[Listener]:
    """Sockets that wait at one address of this machine, which no other machine has."""
    everywhere = {(one.protocol, one.port) for one in found if one.address.is_unspecified}
    yield from with_owners(
        one
        for one in found
        if not (one.address.is_unspecified or one.address.is_loopback)
        and not one.address.is_link_local
        and (one.protocol, one.port) not in everywhere
    )


def with_here(host_id: str, seen: Known, found: Here) -> Known:
    """What its agent says now, in place of what it wrote within the last ten minutes."""
    told = seen.told.get(host_id, Document())
    if found.preview is not None:
        used = _in_use(found.preview)
        hurts = Hurts(
            ports=len(used),
            sources=sum(row.sources for row in used),
            since=int(found.preview.since),
        )
        told = replace(told, hurts=hurts)
    asked = found.called
    if asked is None:
        return replace(seen, told={**seen.told, host_id: told})
    opened = None if asked.fault else sum(one.connections for one in asked.callers)
    calls = None
    if asked.since is not None and asked.at is not None:
        last = None if asked.last is None else int(asked.last)
        calls = CallsSeen(since=int(asked.since), at=int(asked.at), last=last, open=opened)
    said: Mapping[str, Document] = {**seen.told, host_id: replace(told, calls=calls)}
    return replace(seen, told=said, here=True)


def _in_use(shown: Preview) -> list[Wanted]:
    return [row for row in shown.ports if row.rank == "used" and not row.accepted]


def findings_here(found: Here) -> Iterator[Finding]:
    if found.fault:
        yield Finding(light="yellow", of=("move", "enforce", "retire"), what=found.fault, then=())
    for one in found.called.callers[:_SHOWN] if found.called is not None else ():
        who = " or ".join(one.ids)
        what = f"{who} is connected to {one.port}/{one.protocol}: {_times(one.connections)}"
        yield Finding(light="red", of=("retire",), what=what, then=("→ end it there",))
    for listener in found.listening[:_SHOWN]:
        where = f"{port_name((listener.protocol, listener.port))} at {listener.address}"
        yield Finding(
            light="yellow",
            of=("move",),
            what=f"{listener.process or 'a program'} listens on {where} only, and the new host has "
            "another address",
            then=("→ let it listen on 0.0.0.0, or change that in its configuration there",),
        )
    if broken := _in_use(found.preview) if found.preview is not None else []:
        ports = some([port_name((row.protocol, row.port)) for row in broken])
        sources = some(sorted({one.address for row in broken for one in row.top}), 5)
        yield Finding(
            light="red",
            of=("enforce",),
            what=f"enforcing would shut {ports}, used by {sources}",
            then=("→ neti preview",),
        )


def _times(number: int) -> str:
    return counted(number, "connection")


def unknown_elsewhere(host_id: str, of: Collection[Question]) -> str:
    """What a look from another machine cannot see."""
    parts = {
        "move": "which programs listen on one address only",
        "enforce": "which ports enforcing would shut",
        "retire": "who is connected",
    }
    said = [words for question, words in parts.items() if question in of]
    return f"run it on {host_id} to see {', '.join(said)}"

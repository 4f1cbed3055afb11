"""The part of ``neti preview`` about members that ``member_ports`` keep out, or would.

Reads, changes nothing.
"""

from collections.abc import Iterable, Iterator
from typing import Final

from neti.agent.core import Core
from neti.agent.kept_out import KeptOut
from neti.agent.preview import may_be_lost, socket
from neti.agent.shadow_log import ShadowLog
from neti.monitoring import preview as told
from neti.stage import kept_out
from neti.stage.kept_out import Around, Row

_SHOWN: Final = 5
_LISTED: Final = 100  # ports, so that a scan of all of them does not keep the loop


def members_kept_out(core: Core, shadow: ShadowLog) -> told.KeptOut | None:
    """None: ``member_ports`` say nothing, and nobody is kept out."""
    state = core.stage.ports
    if state == "none":
        return None
    if not core.members.groups.known:  # whom groups lack, nobody can say
        return told.KeptOut(state=state, groups_known=False)
    accepted, _ = may_be_lost(shadow.folder)
    look, ahead = KeptOut(core, shadow), shadow.shown(0.0)
    waiting, around = look.waiting(accepted)
    if state == "in force":
        waiting = []  # what is recorded came before, and counts among the others since
    refused = look.refused(accepted)[0] if core.ports_in_force is not None else []
    ports = core.settings.member_ports
    missing = kept_out.suggested(ports, kept_out.unanswered(waiting), around)
    return told.KeptOut(
        state=state,
        ports=(
            *_told(core, waiting[:_LISTED], around, ahead, waits=True),
            *_told(core, refused[:_LISTED], around, ahead, waits=False),
        ),
        more=sum(max(0, len(rows) - _LISTED) for rows in (waiting, refused)),
        suggestion=tuple(kept_out.text_of(missing.ports)),
        commands=kept_out.commands_of(missing),
    )


def _told(
    core: Core, rows: Iterable[Row], around: Around, ahead: float, *, waits: bool
) -> Iterator[told.KeptPort]:
    for row in rows:
        line, commands = kept_out.row_lines(row, core.settings.member_ports, around)
        protocol, port = row.port
        yield told.KeptPort(
            protocol=protocol,
            port=port,
            waits=waits,
            listeners=tuple(map(socket, row.listeners)),
            answered=row.answered,
            accepted=row.accepted,
            members=len(row.ids),
            packets=row.packets,
            first=row.first + ahead,
            last=row.last + ahead,
            top=tuple(
                told.KeptMember(
                    id=one.id,
                    groups=one.groups,
                    address=str(one.address),
                    packets=one.packets,
                    first=one.first + ahead,
                    last=one.last + ahead,
                )
                for one in row.kept[:_SHOWN]
            ),
            line=line,
            commands=commands,
        )

"""The commands that an agent answers on its socket, and who answers each.

Must never do: leave a request without an answer.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from neti import log
from neti.agent import explaining, figures, in_the_clear, leftover_log, preview, status
from neti.agent.opening import unrecorded
from neti.agent.preview_members import members_kept_out
from neti.control.server import Request
from neti.errors import NetiError
from neti.model.document import plain

if TYPE_CHECKING:
    from neti.agent.loop import Agent


def answer(agent: "Agent", request: Request) -> None:
    core = agent.core
    commands: dict[str, Callable[[Request], None]] = {
        "status": lambda r: r.succeed(status.status(agent).document()),
        "members": lambda r: r.succeed(status.members(agent)),
        "metrics": lambda r: r.succeed(plain(figures.figures(agent))),
        "down": agent.going_down.down,
        "up": agent.going_down.up,
        "leave": agent.registration.leave,
        "rotate": agent.registration.key.rotating.rotate,
        "enforce": agent.staging.enforce,
        "confirm": agent.staging.confirm,
        "relax": agent.staging.relax,
        "release": agent.following.release,
        "preview": lambda r: preview.answer(
            r,
            agent.shadow,
            core.members,
            core.stage.word,
            agent.journal.former,
            in_the_clear.look(core),
            partial(members_kept_out, core),
            tuple(unrecorded(core)),
        ),
        "verified": agent.verifying.told,
        "leftovers": lambda r: leftover_log.answer(core, agent.leftovers, r),
        "callers": agent.calling.answer,
        "open": agent.opening.open,
        "close": agent.opening.close,
        "opened": agent.opening.opened,
        "explain": lambda r: explaining.answer(core, r),
        "explain_many": lambda r: explaining.answer_many(core, r),
        "reload": agent.reloading.answer,
    }
    command = commands.get(request.command)
    if command is None:
        request.fail(
            f"this agent does not know the command {request.command!r}, so it is of another "
            "version\n→ systemctl restart neti"
        )
        return
    if not request.looks and not request.take():
        log.warning("command_abandoned", command=request.command)
        request.fail("this was given up before the agent came to it; nothing was done")
        return
    try:
        command(request)
    except NetiError as error:
        request.fail(str(error))

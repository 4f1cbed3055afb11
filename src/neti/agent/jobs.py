"""To whom the end of a worker's job matters.

Must never do: decide what follows from it.
"""

from typing import TYPE_CHECKING, Any

from neti import log
from neti.errors import NetiError

if TYPE_CHECKING:
    from neti.agent.loop import Agent


def done(agent: "Agent", name: str, result: Any) -> None:
    agent.core.timers.worked(name)
    match name:
        case "identity":
            agent.whoami.read(result)
        case "lease":
            agent.registration.lease_held(result)
            agent.registration.job_ended()
        case "register":
            agent.registration.registered(result)
            agent.registration.job_ended()
        case "describe":
            agent.registration.describing.written(stands=result)
        case "leave":
            agent.registration.left()
        case "probe":
            agent.trying.registry_answered(None)
        case "verify":
            agent.verifying.done(result)


def failed(agent: "Agent", name: str, error: NetiError) -> None:
    match name:
        case "identity":
            agent.whoami.failed(error)
        case "leave":
            agent.registration.leave_failed(error)
        case "describe":
            agent.registration.describing.failed()
            log.warning("detail_not_written", what=str(error))
        case "probe":
            agent.trying.registry_answered(error)
        case "verify":
            agent.verifying.failed(error)
        case _:
            agent.registration.failed(error)
            agent.registration.job_ended()

"""A command's side of the control socket (see ``neti.control.protocol``)."""

import json
import socket
import time
from pathlib import Path
from typing import Any, Final

from neti.control.protocol import ANSWER_SECONDS, LOOKS, SOCKET_NAME, WITHOUT_IT, socket_name
from neti.errors import NetiError
from neti.host import caller as origin

BEFORE_ALONE: Final = 10.0  # seconds for an agent without which the command works as well


class AgentUnreachable(NetiError):
    """No agent answers on the socket: it is not running, or it hangs."""


class AgentSilent(AgentUnreachable):
    """There is an agent, and it does not answer: it hangs."""


class AgentStarting(AgentUnreachable):
    """There is an agent, and it waits for something before it begins."""


class AgentForbidden(AgentUnreachable):
    """This user may not ask the agent."""


def call(
    folder: Path, command: str, *, within: float = ANSWER_SECONDS + 5, **arguments: Any
) -> Any:
    """Ask the agent whose state is in ``folder``, and wait ``within`` seconds at most. Raises
    AgentUnreachable, or NetiError with what the agent said."""
    path = folder / SOCKET_NAME
    try:
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection,
            socket_name(path) as name,
        ):
            connection.settimeout(within)
            connection.connect(name)
            until = time.monotonic() + within
            asked = {"command": command, "arguments": arguments, "until": until}
            if command not in LOOKS:
                asked["place"] = origin.place()
            connection.sendall(json.dumps(asked).encode() + b"\n")
            answered = _all_of(connection)
        if not answered:
            raise AgentSilent(f"the agent closed {path} without an answer: {WITHOUT_IT}")
        answer = json.loads(answered)
    except PermissionError as error:
        raise AgentForbidden(f"{path}: permission denied: run this as root") from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise AgentUnreachable(
            f"no agent is running on this host ({path} does not answer): "
            "start it with 'neti agent' or systemctl start neti; 'neti relax' and 'neti down' work "
            "without it"
        ) from error
    except TimeoutError as error:
        raise AgentSilent(
            f"the agent did not answer in {within:.0f} s on {path}: {WITHOUT_IT}"
        ) from error
    except (OSError, ValueError) as error:
        raise AgentSilent(f"the agent does not answer on {path} ({error}): {WITHOUT_IT}") from error
    if not isinstance(answer, dict) or not answer.keys() & {"error", "result"}:
        raise AgentSilent(f"the agent's answer on {path} makes no sense: {WITHOUT_IT}")
    if answer.get("starting"):
        raise AgentStarting(
            f"{answer['error']}; until then 'neti relax' and 'neti down' work without it"
        )
    if "error" in answer:
        refusal = NetiError(answer["error"])
        raise refusal
    return answer["result"]


def _all_of(connection: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        part = connection.recv(65536)
        if not part:
            break
        received += part
    return bytes(received)

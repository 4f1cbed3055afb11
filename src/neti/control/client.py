"""A command's side of the control socket (see ``neti.control.protocol``)."""

import json
import socket
import time
from pathlib import Path
from typing import Any, ClassVar, Final

from neti.control.protocol import LOOKS, SOCKET_NAME, WITHOUT_IT, socket_name, spare_socket
from neti.errors import NetiError
from neti.host import caller as origin
from neti.host import process
from neti.words import why

PATIENCE: Final = 10.0  # seconds; an agent that needs longer for an answer hangs


class AgentUnreachable(NetiError):
    """No agent answers on the socket: it is not running, or it hangs. ``is_called``: which."""

    is_called: ClassVar[str] = "not running"


class AgentSilent(AgentUnreachable):
    """There is an agent, and it does not answer: it hangs."""

    is_called = "hangs"


class AgentStarting(AgentUnreachable):
    """There is an agent, and it waits for something before it begins."""

    is_called = "starting"


class AgentForbidden(AgentUnreachable):
    """This user may not ask the agent."""


def call(folder: Path, command: str, *, within: float = PATIENCE, **arguments: Any) -> Any:
    """Ask the agent whose state is in ``folder``, and wait ``within`` seconds at most. Raises
    AgentUnreachable, or NetiError with what the agent said. What an agent has not taken up by then
    it never does (see ``neti.control.server``)."""
    path = folder / SOCKET_NAME
    agent: int | None = None
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(within)
            _connect(connection, folder)
            agent = process.listener_of(connection)
            until = time.monotonic() + within
            asked = {"command": command, "arguments": arguments, "until": until}
            if command not in LOOKS:
                asked["place"] = origin.place()
            connection.sendall(json.dumps(asked).encode() + b"\n")
            answered = _all_of(connection)
        if not answered:
            raise AgentSilent(_turned_away(path))
        answer = json.loads(answered)
    except PermissionError as error:
        raise AgentForbidden(f"{path}: permission denied: run this as root") from error
    except (FileNotFoundError, ConnectionRefusedError) as error:
        raise AgentUnreachable(
            f"no agent is running on this host (nothing listens on {path})\n"
            "→ systemctl start neti, or 'neti agent' in the foreground\n"
            "→ 'neti relax' and 'neti down' work without it"
        ) from error
    except TimeoutError as error:
        raise _hanging(agent, f"it did not answer in {within:.0f} s on {path}") from error
    except (ConnectionResetError, BrokenPipeError) as error:
        raise AgentSilent(_turned_away(path)) from error
    except (OSError, ValueError) as error:
        raise _hanging(agent, f"it does not answer on {path} ({why(error)})") from error
    if not isinstance(answer, dict) or not answer.keys() & {"error", "result"}:
        raise _hanging(agent, f"its answer on {path} makes no sense")
    if answer.get("starting"):
        raise AgentStarting(f"{answer['error']}\n→ 'neti relax' and 'neti down' work without it")
    if "error" in answer:
        refusal = NetiError(answer["error"])
        raise refusal
    return answer["result"]


def _hanging(agent: int | None, what: str) -> AgentSilent:
    """``agent``: its process, if that is known."""
    if agent is None:
        return AgentSilent(f"the agent hangs: {what}\n{WITHOUT_IT}")
    state = process.state_of(agent)
    goes_on = f"→ kill -CONT {agent} lets it go on\n" if state == process.STOPPED else ""
    return AgentSilent(
        f"the agent hangs ({process.in_words(agent, state)}): {what}\n{goes_on}{WITHOUT_IT}"
    )


def _turned_away(path: Path) -> str:
    """An agent that hangs still accepts and keeps the connection: this one did not want it."""
    return (
        f"the agent closed {path} without an answer: it has no room for another command now "
        "(its log says so: listener_in_trouble), or it has just ended\n"
        "→ try again\n→ 'neti relax' and 'neti down' work without it"
    )


def _connect(connection: socket.socket, folder: Path) -> None:
    """To the agent of this folder; where the folder has no socket that somebody listens on, to the
    one beside. Raises OSError, of the folder's own."""
    try:
        with socket_name(folder / SOCKET_NAME) as name:
            connection.connect(name)
    except (FileNotFoundError, ConnectionRefusedError):
        try:
            connection.connect(str(spare_socket(folder)))
        except PermissionError:
            raise
        except OSError:
            pass
        else:
            return
        raise


def _all_of(connection: socket.socket) -> bytes:
    received = bytearray()
    while not received.endswith(b"\n"):
        part = connection.recv(65536)
        if not part:
            break
        received += part
    return bytes(received)

"""The database's control socket: one JSON object in, one out, and the command that does it.

``python -m neti_lab.shop control SOCKET COMMAND`` prints what came back; a refusal is an
``error`` in it.
"""

import asyncio
import contextlib
import json
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from neti_lab import LabError
from neti_lab.shop import lines
from neti_lab.shop.configuration import Document

COMMANDS: Final = ("status", "hand-over", "promote")

_ANSWER_SECONDS: Final = 15.0  # a hand-over may take two times five


async def serve(path: Path, obey: Callable[[str], Awaitable[Document]]) -> asyncio.Server:
    """Obey commands on the socket. LabError when it cannot be made."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, ValueError):
            request = await lines.read(reader)
            if request is not None:
                try:
                    answer = await obey(str(request.get("command")))
                except (LabError, OSError) as error:
                    answer = {"error": str(error)}
                writer.write(lines.encode(answer))
                await writer.drain()
        writer.close()

    try:
        return await asyncio.start_unix_server(take, path)
    except OSError as error:
        raise LabError(f"cannot listen on {path}: {error.strerror or error}") from error


def ask(path: Path, command: str) -> Document:
    """What the database behind the socket answers. LabError when there is none."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_ANSWER_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(lines.encode({"command": command}))
            with connection.makefile() as answers:
                answer: Document = json.loads(answers.readline())
        except (OSError, ValueError) as error:
            raise LabError(f"{path} does not answer: {error}") from error
    return answer

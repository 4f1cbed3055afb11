"""What the dashboard answers: the page and its files, and the fleet as JSON.

Must never do: anything but read.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from neti.dashboard.board import Board
from neti.dashboard.details import Details, would_break
from neti.dashboard.door import Door
from neti.model.settings import Settings
from neti.oneshot.seen import Seen

PAGE: Final = Path(__file__).parent / "page"
_TYPES: Final = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
DATA: Final = "/data/"
_BEAT: Final = 15.0  # seconds: a page that hears nothing for longer than this knows why


def made(
    settings: Settings,
    board: Board,
    seen: Callable[[], Seen | None],
    *,
    token: str,
    names: Collection[str],
    scheme: str,
) -> Starlette:
    """``seen``: what the last picture was made of; ``names``: see ``Door``."""

    broken: dict[str, Any] = {}  # the last answer to what would break, and what it was made of

    def ready() -> tuple[Seen, Board] | None:
        found = seen()
        return (found, board) if found is not None and board.shown is not None else None

    async def fleet(_: Request) -> Response:
        if ready() is None:
            return _not_yet()
        return await _json(board.whole())

    async def host(request: Request) -> Response:
        if (now := ready()) is None:
            return _not_yet()
        host_id = request.query_params.get("id", "")
        found = Details(settings, now[0], board, time.time()).of(host_id)
        if found is None:
            return PlainTextResponse("nobody has this id\n", 404)
        return await _json(found)

    async def breaks(_: Request) -> Response:
        if (now := ready()) is None:
            return _not_yet()
        key = board.shown.key if board.shown is not None else ""
        if broken.get("of") is not now[0]:
            # Beside the loop: of a large fleet it takes a while. What is seen does not change.
            told = await asyncio.to_thread(would_break, now[0], key)
            broken.update(of=now[0], told=told)
        return await _json(broken["told"])

    async def changes(request: Request) -> Response:
        try:
            since = int(request.query_params.get("since", ""))
        except ValueError:
            return PlainTextResponse("since: expected the number of a revision\n", 400)
        # By this type it is left uncompressed, and so each change is sent as it comes.
        return StreamingResponse(_changes(board, since, request), media_type="text/event-stream")

    files = dict(_files())

    async def page(_: Request) -> Response:
        return Response(files["index.html"], media_type=_TYPES[".html"])

    async def static(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in files:
            return PlainTextResponse("there is no such file\n", 404)
        return Response(files[name], media_type=_TYPES.get(Path(name).suffix, "text/plain"))

    return Starlette(
        routes=[
            Route("/", page),
            Route(f"{DATA}fleet", fleet),
            Route(f"{DATA}host", host),
            Route(f"{DATA}breaks", breaks),
            Route(f"{DATA}changes", changes),
            Route("/static/{name:path}", static),
        ],
        middleware=[
            Middleware(Door, token=token, names=names, scheme=scheme, data=DATA),
            Middleware(GZipMiddleware, minimum_size=2000, compresslevel=5),
        ],
    )


def _files() -> Iterator[tuple[str, bytes]]:
    """By name, read once: later this process may be another user, who cannot."""
    for path in PAGE.rglob("*"):
        if path.is_file():
            yield path.relative_to(PAGE).as_posix(), path.read_bytes()


def _not_yet() -> Response:
    return PlainTextResponse("the registry has not answered yet\n", 503, {"retry-after": "1"})


async def _json(value: Any) -> Response:
    return Response(await asyncio.to_thread(_encoded, value), media_type="application/json")


def _encoded(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


async def _changes(board: Board, since: int, request: Request) -> AsyncIterator[str]:
    """As server-sent events (WHATWG HTML, 9.2); a comment where nothing happens, so that who hears
    nothing at all knows that this server is gone."""
    while not board.ended and not await request.is_disconnected():
        told = await board.after(since, _BEAT)
        since = board.revision if told else since
        yield "".join(f"data: {one}\n\n" for one in told) or ": nothing new\n\n"

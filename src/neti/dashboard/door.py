"""Who may ask the dashboard for anything: whoever has the token, by a page of its own.

Every local user can reach a port of loopback, and so can any page that a browser shows: by DNS
rebinding it even passes for the same origin. So Host and Origin are looked at, and each request for
data bears the token in a header, which no other page can know or send. It is not in a cookie:
cookies do not tell ports apart, so another user's server on this machine would be sent it.

Must never do: answer with data before all of this is checked, or write the token anywhere.
"""

import hmac
import secrets
from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS: Final = frozenset({"GET", "HEAD"})
# Of a page of another origin the browser says so (W3C, Fetch Metadata).
_OWN: Final = frozenset({"same-origin", "none"})
_POLICY: Final = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS: Final = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


def new_token() -> str:
    """256 bits."""
    return secrets.token_urlsafe(32)


class Door:
    """ASGI middleware. ``names``: what a browser may call this server, with the port, in lower
    case; ``data``: paths that need the token; everything else is the page itself, which holds
    nothing of the fleet."""

    def __init__(
        self, app: ASGIApp, *, token: str, names: Collection[str], scheme: str, data: str
    ) -> None:
        self._app = app
        self._token = token.encode()
        self._names = frozenset(names)
        self._origins = frozenset(f"{scheme}://{name}" for name in names)
        self._data = data
        # By this a page tells that it is still answered by whom it began with.
        self._instance = secrets.token_hex(16).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(b"neti-instance", self._instance)] if refused is None and is_data else []
                message["headers"] = [*message["headers"], *_HEADERS, *own]
            await send(message)

        refused, is_data = self._refused(scope), scope["path"].startswith(self._data)
        if refused is not None:
            await refused(scope, receive, answer)
        else:
            await self._app(scope, receive, answer)

    def _refused(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        if scope["method"] not in _METHODS:
            return PlainTextResponse("this page changes nothing\n", 405)
        if headers.get("host", "").lower() not in self._names:
            return PlainTextResponse(
                "this server is not called so: open the link that 'neti dashboard' printed\n", 421
            )
        origin, site = headers.get("origin"), headers.get("sec-fetch-site")
        foreign = origin is not None and origin.lower() not in self._origins
        if not scope["path"].startswith(self._data):
            # A link that leads here from elsewhere may be followed: there is no data in the page.
            return PlainTextResponse("not for another page\n", 403) if foreign else None
        if foreign or (site is not None and site not in _OWN):
            return PlainTextResponse("not for another page\n", 403)
        if not self._has_token(headers.get("authorization", "")):
            return PlainTextResponse(
                "no token, or not this one's: open the link that 'neti dashboard' printed\n",
                401,
                {"www-authenticate": "Bearer"},
            )
        return None

    def _has_token(self, said: str) -> bool:
        scheme, _, token = said.partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(token.encode(), self._token)

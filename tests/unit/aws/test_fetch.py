"""AWS's published file: fetched within limits, and only from where it may come."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from neti.aws import published
from neti.errors import NetiError


class _Mirror(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "ftp://192.0.2.1/ip-ranges.json")
            self.end_headers()
            return
        body = b"x" * 2000 if self.path == "/ip-ranges.json" else b""
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        return None


@pytest.fixture(name="mirror")
def _mirror() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Mirror)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_it_is_fetched(mirror: str) -> None:
    """From a mirror on this machine; AWS's own place is not asked by a test."""
    assert published.fetch(f"{mirror}/ip-ranges.json") == b"x" * 2000


def test_what_is_too_long_is_not_read_to_its_end(
    mirror: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's server must not fill this machine's memory."""
    monkeypatch.setattr(published, "_MAX_BYTES", 1000)
    with pytest.raises(NetiError, match="longer than 1000 bytes"):
        published.fetch(f"{mirror}/ip-ranges.json")


@pytest.mark.parametrize("path", ["/nothing", "/away"])
def test_a_failure_says_what_else_to_do(mirror: str, path: str) -> None:
    """An error of the server, and a redirect to another kind of place."""
    with pytest.raises(NetiError, match="give it with --file"):
        published.fetch(f"{mirror}{path}")


def test_nobody_there_says_so() -> None:
    """As behind a firewall that refuses."""
    with pytest.raises(NetiError, match=r"refused.*--file"):
        published.fetch("http://127.0.0.1:9/ip-ranges.json")


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1/ip-ranges.json", "file:///etc/passwd", "ftp://127.0.0.1/x", "x"],
)
def test_nothing_but_https_is_asked(url: str) -> None:
    """Whoever can change the file on its way opens groups to anybody."""
    with pytest.raises(NetiError, match="https only"):
        published.fetch(url)

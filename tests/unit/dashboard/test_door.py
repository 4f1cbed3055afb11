"""Who is answered: whoever has the token, by the page itself, and nobody else."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Final

import pytest
from tests.support.dashboards import Running, running

from neti.dashboard.connections import MOST

DATA: Final = ("/data/fleet", "/data/breaks", "/data/host?id=db-0", "/data/changes?since=1")


@pytest.fixture(name="there", scope="module")
def _there() -> Iterator[Running]:
    with running("30") as there:
        yield there


def test_the_link_is_of_this_machine_alone(there: Running) -> None:
    """By a name of this start alone: what a browser holds of the port's former owner is of
    another one."""
    assert re.match(rf"http://[0-9a-f]{{16}}\.localhost:{there.port}/#token=", there.link)
    assert len(there.token) >= 43  # 256 bits


@pytest.mark.parametrize("path", DATA)
def test_there_is_no_data_without_the_token(there: Running, path: str) -> None:
    for token in (None, "x", there.token[:-1], there.token + "x"):
        answer = there.ask(path, token=token)
        assert answer.status == 401
        assert b"neti dashboard" in answer.body
        assert b"db-0" not in answer.body
    cookie = there.ask(path, token=None, Cookie=f"token={there.token}")
    assert cookie.status == 401  # cookies do not tell ports apart
    assert there.ask(f"{path.partition('?')[0]}?token={there.token}", token=None).status == 401


def test_a_host_by_another_name_is_refused(there: Running) -> None:
    """DNS rebinding: a foreign page whose name leads to 127.0.0.1."""
    for name in ("evil.example", f"evil.example:{there.port}", "127.0.0.1", "127.0.0.1:1", ""):
        assert there.ask("/data/fleet", Host=name).status == 421
        assert there.ask("/", Host=name, token=None).status == 421
    own = there.link.partition("//")[2].partition("/")[0]
    for name in (own, f"127.0.0.1:{there.port}", f"LocalHost:{there.port}"):
        assert there.ask("/data/fleet", Host=name).status == 200
    assert there.ask("/data/fleet", Host=f"0{own[1:-1]}").status == 421


def test_another_origin_is_refused(there: Running) -> None:
    own = f"http://127.0.0.1:{there.port}"
    assert there.ask("/data/fleet", Origin=own).status == 200
    for origin in ("http://evil.example", "null", own + "0", own.replace("http", "https")):
        assert there.ask("/data/fleet", Origin=origin).status == 403
        assert there.ask("/static/index.html", Origin=origin, token=None).status == 403
    for site in ("cross-site", "same-site"):
        assert there.ask("/data/fleet", Sec_Fetch_Site=site).status == 403
    # A link in a chat leads to the page, which then has to have the token.
    assert there.ask("/", token=None, Sec_Fetch_Site="cross-site").status == 200


def test_each_answer_with_data_says_of_which_process_it_is(there: Running) -> None:
    said = {there.ask(path).headers.get("neti-instance") for path in DATA[:3]}
    assert len(said) == 1
    assert None not in said
    for path, token in (("/", None), ("/static/main.js", None), ("/data/fleet", "x")):
        assert "neti-instance" not in there.ask(path, token=token).headers


def test_nothing_can_be_changed(there: Running) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert there.ask("/data/fleet", method=method).status == 405


@pytest.mark.parametrize("path", ["/", "/data/fleet", "/static/index.html", "/nowhere"])
def test_each_answer_says_what_a_browser_may_do_with_it(there: Running, path: str) -> None:
    headers = there.ask(path).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in headers
    assert "server" not in headers


def test_no_file_outside_the_page_is_served(there: Running) -> None:
    for path in ("/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/static/"):
        assert there.ask(path).status == 404


def test_what_is_asked_wrongly_is_said(there: Running) -> None:
    assert there.ask("/data/changes?since=x").status == 400
    assert there.ask("/data/host?id=nobody").status == 404
    assert there.ask("/data/host").status == 404


def answers_within(there: Running, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(ConnectionError):
            return there.ask("/data/fleet").status == 200
        time.sleep(0.1)
    return False


def test_whoever_opens_many_connections_keeps_nobody_out() -> None:
    with running("3") as there, ExitStack() as opened:
        for _ in range(MOST + 50):
            opened.enter_context(socket.create_connection(("127.0.0.1", there.port), 10))
        assert there.process.poll() is None
        opened.close()
        # Until a busy server has seen that these are closed, it has too many still.
        assert answers_within(there, 20.0)
        with ExitStack() as few:
            for _ in range(MOST // 2):
                few.enter_context(socket.create_connection(("127.0.0.1", there.port), 10))
            assert there.ask("/data/fleet").status == 200
        there.process.terminate()
        assert there.process.wait(10) == 0


def test_who_asks_nothing_is_let_go_of() -> None:
    with running("3") as there:
        with socket.create_connection(("127.0.0.1", there.port), 60) as silent:
            assert silent.recv(1) == b""  # after ten seconds
        assert there.ask("/data/fleet").status == 200

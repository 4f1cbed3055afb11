"""Who is answered: whoever has the token, by the page itself, and nobody else."""

from collections.abc import Iterator
from typing import Final

import pytest
from tests.support.dashboards import Running, running

DATA: Final = ("/data/fleet", "/data/breaks", "/data/host?id=db-0", "/data/changes?since=1")


@pytest.fixture(name="there", scope="module")
def _there() -> Iterator[Running]:
    with running("30") as there:
        yield there


def test_the_link_is_of_this_machine_alone(there: Running) -> None:
    assert there.link.startswith(f"http://127.0.0.1:{there.port}/#token=")
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
    for name in (f"127.0.0.1:{there.port}", f"LocalHost:{there.port}"):
        assert there.ask("/data/fleet", Host=name).status == 200


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

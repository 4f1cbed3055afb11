"""A dashboard's server of a made-up fleet in a process of its own, and questions to it."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]
NOT_YET = 503
_PATIENCE = 30.0  # seconds


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Dashboard:
    link: str

    @property
    def token(self) -> str:
        return self.link.partition("#token=")[2]

    @property
    def port(self) -> int:
        return urlsplit(self.link).port or 80

    def ask(
        self, path: str, *, token: str | None = "", method: str = "GET", **headers: str
    ) -> Answer:
        """``token``: None: without one; empty: its own. ``headers``: with _ for -. Until the server
        has read the registry for the first time it says so, and is asked again."""
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            said["Authorization"] = f"Bearer {token or self.token}"
        until = time.monotonic() + _PATIENCE
        while (answer := self._asked(method, path, said)).status == NOT_YET:
            if time.monotonic() > until:
                break
            time.sleep(0.1)
        return answer

    def _asked(self, method: str, path: str, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            held = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, held, answer.read())

    def changes(self, since: int) -> Iterator[Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            said = {"Authorization": f"Bearer {self.token}"}
            connection.request("GET", f"/data/changes?since={since}", headers=said)
            answer = connection.getresponse()
            assert answer.status == 200
            while line := answer.readline():
                if line.startswith(b"data: "):
                    yield json.loads(line[len(b"data: ") :])


@dataclass
class Running(Dashboard):
    """One that was started here."""

    process: subprocess.Popen[str] = field(repr=False)


@contextlib.contextmanager
def running(*arguments: str) -> Iterator[Running]:
    """``python -m tests.support.shown_fleet`` with these."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.shown_fleet", *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            link = process.stdout.readline().strip()
            assert "#token=" in link, link
            yield Running(link, process)
        finally:
            process.terminate()
            process.wait(10)

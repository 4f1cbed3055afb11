"""A dashboard's server of a made-up fleet in a process of its own, and questions to it."""

import contextlib
import http.client
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).parents[2]


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
        """``token``: None: without one; empty: its own. ``headers``: with _ for -."""
        said = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            said["Authorization"] = f"Bearer {token or self.token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, headers=said)
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

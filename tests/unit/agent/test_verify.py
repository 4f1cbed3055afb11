"""``neti verify`` against members that answer anything: each fails alone, in one sentence."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from neti.agent.member_talk import NoAnswer, _answer
from neti.agent.responder import TRANSFER_BYTES
from neti.cli import cli
from neti.control import client
from neti.model.document import plain
from neti.monitoring.encryption import Encryption

GOOD = b'{"id": "b", "seen_from": "127.0.0.1"}\n' + bytes(TRANSFER_BYTES)
SAYS = {
    "a list": b"[]\n" + bytes(TRANSFER_BYTES),
    "a number": b"5\n" + bytes(TRANSFER_BYTES),
    "null": b"null\n" + bytes(TRANSFER_BYTES),
    "no JSON": b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(TRANSFER_BYTES),
    "deep": b"[" * 1000 + b"\n" + bytes(TRANSFER_BYTES),
    "typed wrong": b'{"id": {}, "seen_from": []}\n' + bytes(TRANSFER_BYTES),
    "escapes": b'{"id": "\\u001b[2J", "seen_from": "127.0.0.1"}\n' + bytes(TRANSFER_BYTES),
    "where": b'{"id": "b", "seen_from": "\\u001b[2J"}\n' + bytes(TRANSFER_BYTES),
    "no UTF-8": b"\xff\xfe\n" + bytes(TRANSFER_BYTES),
    "endless": b"x" * (1 << 20),
    "nothing": b"",
    "half": GOOD[:1000],
}


class Member:
    """One that says what it is told to, to as many as ask."""

    def __init__(self, says: bytes, pause: float = 0.0) -> None:
        self._says, self._pause = says, pause
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.over = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        left = TRANSFER_BYTES
        while left and (part := connection.recv(left)):
            left -= len(part)
        if not self._pause:
            connection.sendall(self._says)
            return
        for number in range(len(self._says)):
            connection.sendall(self._says[number : number + 1])
            if self.over.wait(self._pause):
                return

    def close(self) -> None:
        self.over.set()
        self._listener.close()


@pytest.fixture
def member() -> Iterator[Callable[..., Member]]:
    made: list[Member] = []

    def make(*how: Any) -> Member:
        made.append(Member(*how))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    def verify_at(
        port: int,
        *more: str,
        overlay: str = "192.168.0.1",
        encryption: Encryption | None = None,
        **as_the_agent_has_it: Any,
    ) -> dict[str, Any]:
        path = tmp_path / "neti.yml"
        path.write_text(
            f"registry: embedded:{tmp_path}/registry.db\ntable_files_path: {tmp_path}/state\n"
            f"site: ec2\nidentity: {{id: a, private: 10.0.0.5}}\nverify_port: {port}\n"
        )
        host = {"id": "a", "site": "ec2", "private": "127.0.0.1", "overlay": overlay}
        itself = {**host, "version": "1", "registry": {"fresh": True}}
        if encryption is not None:
            itself["encryption"] = plain(encryption)
        others = [{"id": i, "site": "ec2", "overlay": "127.0.0.1"} for i in ("b", "c")]
        others = [{**other, **as_the_agent_has_it} for other in others]
        answers = {"status": itself, "members": others, "verified": "kept"}
        monkeypatch.setattr(client, "call", lambda _folder, what, **_: answers[what])
        command = ["verify", "-c", str(path), "--timeout", "0.5", "--json", *more]
        told = CliRunner().invoke(cli, command)
        assert told.exit_code == 1, told.output
        assert "\x1b" not in told.output
        document: dict[str, Any] = json.loads(told.stdout)
        return document

    return verify_at


@pytest.mark.parametrize("says", SAYS)
def test_a_strange_answer_is_one_sentence_about_one_member(
    says: str, member: Callable[..., Member], run: Callable[[int], dict[str, Any]]
) -> None:
    """And the matrix goes on."""
    results = run(member(SAYS[says]).port)["results"]
    assert [result["id"] for result in results] == ["b", "c"]
    for result in results:
        assert not result["ok"]
        assert result["error"].isprintable()
        assert len(result["error"]) < 100


def test_a_right_answer_is_right(
    member: Callable[..., Member], run: Callable[[int], dict[str, Any]]
) -> None:
    good, other = run(member(GOOD).port)["results"]
    assert (good["ok"], good["seen_from"]) == (True, "127.0.0.1")
    assert other["error"] == "another host answered: b"


def test_the_own_overlay_address_proves_the_tunnel(
    member: Callable[..., Member], run: Callable[..., dict[str, Any]]
) -> None:
    """By what the member saw, and not by what the agent says of the road."""
    port = member(GOOD).port
    good, other = run(port, overlay="127.0.0.1", road="preferred")["results"]
    assert (good["ok"], good["encrypted"], good["road"]) == (True, True, "preferred")
    assert not other["encrypted"]  # somebody else answered
    clear, _ = run(port, road="required")["results"]
    assert (clear["ok"], clear["encrypted"]) == (False, False)
    assert clear["error"] == "it saw this host as 127.0.0.1, expected 192.168.0.1"
    trying, _ = run(port, road="trying")["results"]
    assert (trying["ok"], trying["encrypted"]) == (True, False)


def test_a_member_without_a_key_where_one_is_required_says_so(
    run: Callable[..., dict[str, Any]],
) -> None:
    for result in run(1, road="none")["results"]:
        assert result["error"] == "encryption is required, and it has no key that is believed here"


def test_without_a_device_here_no_member_is_blamed(run: Callable[..., dict[str, Any]]) -> None:
    for result in run(1, road="none", encryption=Encryption())["results"]:
        assert "this host has no WireGuard device" in result["error"]


def test_a_member_that_answers_byte_by_byte_has_no_more_time_than_others(
    member: Callable[..., Member], run: Callable[[int], dict[str, Any]]
) -> None:
    results = run(member(GOOD, 0.05).port)["results"]
    assert {result["error"] for result in results} == {"no answer in time"}


def test_who_does_not_answer_through_the_tunnel_says_which_port_to_open(
    member: Callable[..., Member], run: Callable[..., dict[str, Any]]
) -> None:
    for result in run(member(GOOD, 0.05).port, road="required")["results"]:
        assert "is UDP port 51820 open between the sites, both ways?" in result["error"]


def test_who_does_not_answer_by_gateways_says_which_they_are(
    member: Callable[..., Member], run: Callable[..., dict[str, Any]]
) -> None:
    found = run(member(GOOD, 0.05).port, road="required", gateways=["gw-1", "gw-2"])["results"]
    for result in found:
        assert result["gateways"] == ["gw-1", "gw-2"]
        said = "through the tunnel, by gateway gw-1, then gw-2: are UDP ports 16384-32767 open to"
        assert said in result["error"]


@given(st.binary(max_size=200))
def test_an_answer_is_typed_or_refused(line: bytes) -> None:
    try:
        answer = _answer(line)
    except ValueError:
        return
    assert answer.id.isascii()


@pytest.mark.parametrize("dialled", ['"x"', "[]", "0", "false", '{"80": "x"}', '{"80": []}'])
def test_nonsense_of_what_came_of_ports_is_no_answer_of_an_earlier_version(dialled: str) -> None:
    said = '{"id": "a", "seen_from": "10.0.0.1"'
    assert _answer(f"{said}}}".encode()).dialled is None
    with pytest.raises(NoAnswer):
        _answer(f'{said}, "dialled": {dialled}}}'.encode())


def test_where_neti_is_down_that_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not that each member fails."""
    path = tmp_path / "neti.yml"
    path.write_text(f"registry: embedded:{tmp_path}/r.db\nsite: ec2\n")
    host = {"id": "a", "site": "ec2", "private": "10.0.0.5", "public": None}
    itself = {**host, "version": "1", "registry": {"fresh": True}, "down": True}
    monkeypatch.setattr(client, "call", lambda *_, **__: itself)
    told = CliRunner().invoke(cli, ["verify", "-c", str(path)])
    assert told.exit_code == 1
    assert told.stdout == ""
    assert "Neti is down on this host" in told.stderr
    assert "→ neti up" in told.stderr

"""Who changed something, and from where, is said where no agent says it."""

import json
import re
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from neti import log
from neti.aws import lease_gc
from neti.aws.terminated import Lease
from neti.cli import cli
from neti.config import load
from neti.control import client
from neti.control.server import ControlServer
from neti.host import caller
from neti.registry.opening import open_registry


@pytest.fixture(name="syslog")
def _syslog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    monkeypatch.setattr(caller, "_SYSLOG", tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "log"))
        listening.settimeout(5)
        yield listening


@pytest.fixture(name="config")
def _config(tmp_path: Path) -> Path:
    path = tmp_path / "neti.yml"
    (tmp_path / "state").mkdir()
    path.write_text(
        f"registry: embedded:{tmp_path}/r.db\ntable_files_path: {tmp_path}/state\nsite: ec2\n"
    )
    return path


def neti(*words: object, exit_code: int = 0) -> None:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    assert done.exit_code == exit_code, done.output


def told(syslog: socket.socket) -> str:
    """The next line, without who and from where."""
    return re.sub(r" uid=.* ssh=(none|\".*?\")", "", syslog.recv(4096).decode())


def assert_silent(syslog: socket.socket) -> None:
    syslog.setblocking(False)
    with pytest.raises(BlockingIOError):
        syslog.recv(4096)
    syslog.settimeout(5)


def test_a_line_names_user_process_login_and_place(syslog: socket.socket) -> None:
    caller.note("lease move", old="a", new="b\n<0>forged")
    line = syslog.recv(4096).decode()
    assert line.startswith("<29>neti[")
    assert ']: command command="lease move" uid=' in line
    for key in ("pid", "login", "terminal", "ssh"):
        assert f" {key}=" in line
    assert line.endswith(' old=a new="b\\n<0>forged"')


def test_a_syslog_that_listens_by_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "_SYSLOG", tmp_path / "log")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listening:
        listening.bind(str(tmp_path / "log"))
        listening.listen(1)
        caller.note("down")
        accepted, _ = listening.accept()
        with accepted:
            line = accepted.recv(4096)
    assert b"command=down" in line
    assert line.endswith(b"\0")


def test_without_a_syslog_nothing_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "_SYSLOG", tmp_path / "none")
    caller.note("down")


def test_a_syslog_that_is_full_is_not_waited_for(
    syslog: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caller, "_PATIENCE", 0.01)
    for _ in range(40):
        caller.note("down")
    assert syslog.recv(4096)


def test_what_proc_holds_can_be_anything(monkeypatch: pytest.MonkeyPatch) -> None:
    def torn() -> str:
        raise IndexError

    monkeypatch.setattr(caller, "_terminal", torn)
    monkeypatch.setattr(caller, "_ssh_client", torn)
    assert caller.place() == {"terminal": "none", "ssh": "none"}


def test_down_and_up_without_an_agent(
    syslog: socket.socket, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neti.dataplane.way_out.remove_table", lambda: False)
    monkeypatch.setattr("neti.dataplane.way_out.remove_routes", list)
    monkeypatch.setattr("neti.oneshot.conntrack_max.raise_limit", lambda _: None)
    for word in ("down", "up"):
        neti(word, "-c", config)
        assert f'command={word} agent="none answers"' in told(syslog)


def test_what_is_changed_in_the_registry(syslog: socket.socket, config: Path) -> None:
    """By hand and by EC2's word; what was refused has changed nothing, and is no line."""
    settings = load(config)
    with closing(open_registry(settings, None)) as registry:
        held = {i: registry.acquire(i, settings.overlay_subnet) for i in ("old", "gone", "dead")}
        neti("lease", "move", "old", "new", "--yes", "-c", config)
        assert f'command="lease move" overlay={held["old"]} old=old new=new' in told(syslog)
        neti("lease", "release", "gone", "--yes", "-c", config)
        assert f'command="lease release" id=gone overlay={held["gone"]}' in told(syslog)
        neti("lease", "release", "gone", "--yes", "-c", config, exit_code=1)
        dead = [Lease(host_id="dead", overlay=held["dead"])]
        lease_gc.release(settings, registry, dead, now=0.0)
        assert f'command="lease gc" id=dead overlay={held["dead"]}' in told(syslog)
    assert_silent(syslog)


@pytest.mark.parametrize("steps", [(), ("create /neti", "close /neti/ids")])
def test_a_tree_that_is_laid_out(
    syslog: socket.socket, config: Path, monkeypatch: pytest.MonkeyPatch, steps: tuple[str, ...]
) -> None:
    """Only what changes something; a dry run never does."""
    planned = SimpleNamespace(
        steps=steps,
        subjects=("CN=ann",),
        records=(),
        without_owner=(),
        nothing=not steps,
        lays_out=False,
    )
    registry = SimpleNamespace(
        plan_init=lambda *_, **__: planned, init=lambda _: (), close=lambda: None, in_the_way=str
    )
    monkeypatch.setattr("neti.registry.opening.open_zookeeper", lambda *_, **__: registry)
    neti("registry", "init", "--dry-run", "-c", config)
    assert_silent(syslog)
    neti("registry", "init", "-c", config)
    if steps:
        assert 'command="registry init" changes=2 records=0 operators="CN=ann"' in told(syslog)
    assert_silent(syslog)


def test_the_agent_is_told_from_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a command says of itself: an old one says nothing, and one line stays one line."""
    lines: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(log, "info", lambda name, **more: lines.append((name, more)))
    place = {"terminal": "pts/3", "ssh": "203.0.113.9 port 50000"}
    monkeypatch.setattr(caller, "place", lambda: place)
    server = ControlServer(tmp_path, lambda request: request.succeed("done"))
    server.start()
    server.open()
    try:
        client.call(tmp_path, "status")
        assert lines == []
        client.call(tmp_path, "relax")
        for said in ({}, {"place": 7}, {"place": {"terminal": "x" * 500}}):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect(str(server.path))
                connection.sendall(json.dumps({"command": "relax", **said}).encode() + b"\n")
                assert json.loads(connection.recv(4096)) == {"result": "done"}
    finally:
        server.close()
    assert [name for name, _ in lines] == ["command"] * 4
    (first, *others) = [{key: more[key] for key in place} for _, more in lines]
    nowhere = {"terminal": "none", "ssh": "none"}
    assert first == place
    assert others == [nowhere, nowhere, {"terminal": "x" * 100, "ssh": "none"}]

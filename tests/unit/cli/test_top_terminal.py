"""``neti top`` as somebody uses it: in a terminal, with keys, on a registry."""

import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support.terminal import Terminal, terminal

from neti.cli import cli
from neti.model import Member
from neti.model import entry as entries
from neti.registry.detail import Document, encode
from neti.registry.embedded.registry import EmbeddedRegistry

TOP = (sys.executable, "-m", "neti", "top")


class Fleet:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "registry.db"
        self._held: dict[str, EmbeddedRegistry] = {}
        self.config = folder / "neti.yml"
        self.config.write_text(
            "overlay_subnet: 192.168.0.0/16\n"
            "sites: {ec2: {private: [10.0.0.0/16]}, vpc: {private: [10.1.0.0/16]}}\n"
            "site: ec2\nidentity: {id: me, private: 10.0.99.5}\n"
            f"table_files_path: {folder}/state\nregistry: embedded:{folder}/registry.db\n"
        )

    def join(self, host_id: str, site: str, number: int, stage: str, tier: str) -> None:
        made = self._held[host_id] = EmbeddedRegistry(self._path, session_seconds=600)
        overlay = made.acquire(host_id, IPv4Network("192.168.0.0/16"))
        private = IPv4Address("10.0.0.0" if site == "ec2" else "10.1.0.0") + number
        member = Member(id=host_id, site=site, private=private, public=None, overlay=overlay)
        said = encode(Document(stage=stage, version="0.1.0", labels={"tier": tier}))
        made.register(host_id=host_id, name=entries.encode(member), data=b"", detail=said)

    def vanish(self, host_id: str) -> None:
        self._held.pop(host_id).close()

    def close(self) -> None:
        for one in self._held.values():
            one.close()


@pytest.fixture(name="fleet")
def _fleet(tmp_path: Path) -> Iterator[Fleet]:
    with closing(Fleet(tmp_path)) as made:
        made.join("db-1", "ec2", 1, "enforced", "db")
        made.join("db-2", "vpc", 2, "shadow", "db")
        made.join("web-1", "vpc", 3, "down", "web")
        yield made


@pytest.fixture(name="top")
def _top(fleet: Fleet) -> Iterator[Terminal]:
    with terminal(TOP, {"NETI_CONFIG": str(fleet.config)}) as made:
        yield made


def test_keys_lead_to_each_host_and_back(fleet: Fleet, top: Terminal) -> None:
    before = top.modes()
    shown = top.shows("3 hosts, 3 registered", "1 host is down", "neti up")
    assert "e enforced 1" in shown
    assert "vpc 2 hosts: 1 warning" in shown
    top.press("\t")
    top.shows("db-2", "web-1", "D web-1")
    top.press("/db shadow\r")
    top.shows("Hosts 1 of 3", "filter: db shadow")
    top.press("\r")
    top.shows("neti ready db-2", "private 10.1.0.2", "tier=db")
    top.press("\x1b")
    top.shows("What needs attention")
    top.press("\x1b\t")
    top.shows("Last hour 0", "Nothing has happened")
    fleet.vanish("db-1")
    top.press("r")
    top.shows("3 hosts, 2 registered", "db-1  is missing")
    top.press("?")
    top.shows("the next list")
    top.resize(50, 10)
    top.shows("it has 50 x 10", "60 x 18")
    top.resize(100, 30)
    top.shows("the next list")
    top.press("q")
    assert top.ends() == 0
    assert top.modes() == before


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, "\x03"])
def test_the_terminal_is_left_as_it_was(top: Terminal, end: int | str) -> None:
    before = top.modes()
    top.shows("3 hosts")
    assert top.modes() != before
    if isinstance(end, str):
        top.press(end)
    else:
        os.kill(top.pid, end)
    assert top.ends() == 0
    assert top.modes() == before


def test_a_bug_leaves_it_so_too_and_is_named(fleet: Fleet) -> None:
    broken = (
        "from neti.oneshot.watched import Watched\n"
        "def look(self): raise ValueError('odd')\n"
        "Watched.look = look\n"
        "from neti.cli import cli\n"
        "cli(['top'])"
    )
    command = (sys.executable, "-c", broken)
    with terminal(command, {"NETI_CONFIG": str(fleet.config)}) as made:
        before = made.modes()
        assert made.ends() == 1
        assert made.modes() == before
        assert "ValueError: odd. This is a bug in Neti" in made.all


def test_a_registry_that_is_not_there_yet_is_waited_for(fleet: Fleet, tmp_path: Path) -> None:
    path = tmp_path / "registry.db"
    path.rename(tmp_path / "away.db")
    with terminal(TOP, {"NETI_CONFIG": str(fleet.config)}) as made:
        made.shows("NO ANSWER: ", "asking it again...", "q quit")
        (tmp_path / "away.db").rename(path)
        made.shows("3 hosts, 3 registered")
        path.rename(tmp_path / "away.db")
        made.shows("NO ANSWER since ", "3 hosts")


def test_colours_only_where_they_are_wanted(fleet: Fleet) -> None:
    env = {"NETI_CONFIG": str(fleet.config), "TERM": "xterm"}
    for more, wanted in (({}, True), ({"NO_COLOR": "1"}, False)):
        with terminal(TOP, {**env, **more}) as made:
            made.shows("3 hosts", "neti up")
            coloured = any(re.search(r"\b3[1-6]\b", one) for one in made.picture.looks)
            assert coloured == wanted, made.picture.looks


def test_without_a_terminal_it_says_what_to_use(fleet: Fleet) -> None:
    done = CliRunner().invoke(cli, ["top", "-c", str(fleet.config)])
    assert done.exit_code == 1
    assert "neti fleet" in done.stderr


@pytest.mark.parametrize("kind", ["dumb", "no-such-terminal"])
def test_on_a_terminal_that_cannot_draw_too(fleet: Fleet, kind: str) -> None:
    with terminal(TOP, {"NETI_CONFIG": str(fleet.config), "TERM": kind}) as made:
        assert made.ends() == 1
        assert "neti fleet" in made.all
        assert "Traceback" not in made.all

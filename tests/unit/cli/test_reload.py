"""``neti reload`` as a service manager calls it: what the agent refuses has failed, and an agent
that does not answer gets the signal."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from neti.cli import cli
from neti.control import client
from neti.control.client import AgentSilent, AgentStarting
from neti.errors import NetiError

Asked = Callable[[Any], Result]
TAKEN = {
    "changed": ["open_ports"],
    "restart": [],
    "waiting": [],
    "refused": None,
    "stage": "shadow",
    "reject_all": False,
    "trial_seconds": 120,
    "would_be_lost": [],
}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: signals.append((pid, number)))
    return signals


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sent: object) -> Asked:
    config = tmp_path / "neti.yml"
    config.write_text(f"table_files_path: {tmp_path}\n")

    def ask(answer: Any) -> Result:
        def call(*_: object, **__: object) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(client, "call", call)
        return CliRunner().invoke(cli, ["reload", "-c", str(config), "--or-signal", "4242"])

    return ask


def test_what_is_taken_in_is_a_success_without_a_signal(
    asked: Asked, sent: list[tuple[int, int]]
) -> None:
    assert asked(TAKEN).exit_code == 0
    assert sent == []


def test_that_encryption_ended_is_said(asked: Asked) -> None:
    """Connections through the tunnel were ended by it."""
    assert "encryption" not in asked(TAKEN).stdout
    assert "went through the tunnel was ended" in asked({**TAKEN, "encryption_ended": True}).stdout


def test_that_encryption_is_not_required_yet_is_said(asked: Asked) -> None:
    assert "not required yet" not in asked(TAKEN).stdout
    told = asked({**TAKEN, "changed": ["sites"], "require_waits": ["vpc"]}).stdout
    assert "in force now: sites" in told
    assert "encryption is not required yet towards vpc" in told
    assert "→ neti preview, then neti enforce" in told


def test_member_ports_that_wait_are_not_called_in_force(asked: Asked) -> None:
    """What the file takes away from members is not; what else was changed is."""
    told = asked({**TAKEN, "changed": ["member_ports"], "ports_wait": True}).stdout
    assert "in force now" not in told
    assert "nothing has changed" not in told
    assert "until 'neti enforce' has tried it" in told
    both = asked({**TAKEN, "changed": ["member_ports", "trusted"], "ports_wait": True}).stdout
    assert "in force now: trusted\n" in both


def test_what_is_refused_is_a_failure_without_a_signal(
    asked: Asked, sent: list[tuple[int, int]]
) -> None:
    done = asked(NetiError("the new configuration is refused, the old one stays in force"))
    assert done.exit_code == 1
    assert "is refused" in done.stderr
    assert asked({**TAKEN, "refused": "no way", "waiting": ["open_ports"]}).exit_code == 1
    assert sent == []


def test_an_agent_that_starts_reads_it_when_it_can(
    asked: Asked, sent: list[tuple[int, int]]
) -> None:
    done = asked(AgentStarting("the agent is starting: it asks who this host is\n→ wait"))
    assert done.exit_code == 0
    assert "the agent is starting" in done.stderr
    assert sent == [(4242, signal.SIGHUP)]


def test_an_agent_that_hangs_gets_the_signal_and_the_reload_has_failed(
    asked: Asked, sent: list[tuple[int, int]]
) -> None:
    done = asked(AgentSilent("the agent hangs: it did not answer in 10 s\n→ restart it"))
    assert done.exit_code == 1
    assert "the agent hangs" in done.stderr
    assert sent == [(4242, signal.SIGHUP)]


def test_a_file_that_is_gone_is_the_agents_to_refuse_too(
    tmp_path: Path, sent: list[tuple[int, int]]
) -> None:
    words = ["reload", "-c", str(tmp_path / "none.yml"), "--or-signal", "4242"]
    assert CliRunner().invoke(cli, words).exit_code == 1
    assert sent == [(4242, signal.SIGHUP)]

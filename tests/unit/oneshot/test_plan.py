"""What ``neti plan`` says beside the difference."""

from pathlib import Path
from typing import Any

import pytest

from neti import __version__
from neti.control import client
from neti.control.client import AgentUnreachable
from neti.oneshot.plan import other_version

STATUS = {
    "id": "a",
    "site": "ec2",
    "private": "10.0.0.1",
    "registry": {"fresh": True},
}


def test_a_command_of_another_version_does_not_judge_the_agents_rules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says whose rules it compares with, because the agent's own may be others."""

    def say(answer: Any) -> tuple[str, ...]:
        def call(*_: object, **__: object) -> Any:
            if isinstance(answer, Exception):
                raise answer
            return answer

        monkeypatch.setattr(client, "call", call)
        return other_version(Path("/nowhere"))

    (note,) = say({**STATUS, "version": "0.0.9"})
    assert "the agent is neti 0.0.9" in note
    assert __version__ in note
    assert say({**STATUS, "version": __version__}) == ()
    assert say(AgentUnreachable("none runs")) == ()

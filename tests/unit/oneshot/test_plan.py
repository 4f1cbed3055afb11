"""What ``neti plan`` says beside the difference."""

from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from neti import __version__
from neti.control import client
from neti.control.client import AgentUnreachable
from neti.fleet.followed_groups import FollowedGroups
from neti.model import Host
from neti.model.groups import GroupLine, Groups, MemberPort
from neti.model.settings import Settings
from neti.oneshot.plan import _group, other_version
from neti.registry.groups import encode
from neti.registry.memory import MemoryRegistry, MemoryServer
from neti.ruleset.desired import Membership

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


def test_groups_that_the_agent_holds_back_are_held_back_here_too() -> None:
    """Those of another registry than the one in which it read what it follows."""
    registry = MemoryRegistry(MemoryServer())
    registry.change_setting("groups", encode(Groups({"db": (GroupLine("b"),)}, 8)))
    settings = Settings(
        path=Path("neti.yml"), sites={}, member_ports=(MemberPort(("db",), "tcp", 80, 80),)
    )
    host = Host(id="me", site="ec2", private=IPv4Address("10.0.0.1"), public=None)
    members = Membership.empty(settings, host, frozenset())
    followed = Groups({"db": (GroupLine("a"),)}, 7)
    (why,) = _group(members, FollowedGroups(followed, "another"), registry)
    assert "are of another registry than edition 7" in why
    assert _group(members, FollowedGroups(followed, registry.fleet()), registry) == ()

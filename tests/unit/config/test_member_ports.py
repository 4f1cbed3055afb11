"""The key member_ports: what it means, what is refused, and what is in vain."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from neti.cli.config import describe, summary
from neti.config import load
from neti.errors import ConfigError
from neti.model.groups import MemberPort
from neti.model.settings import Settings

Load = Callable[[str], Settings]


@pytest.fixture(name="load_text")
def _load_text(tmp_path: Path) -> Load:
    def load_text(text: str) -> Settings:
        path = tmp_path / "neti.yml"
        path.write_text(f"{text}registry: embedded:/tmp/neti.db\n")
        return load(path)

    return load_text


def test_ports_are_written_as_those_of_open_ports(load_text: Load) -> None:
    text = (
        'member_ports: {5432: [app], 53/udp: [members], "8000:8100": [web, app, web], all: [ops]}\n'
    )
    assert load_text(text).member_ports == (
        MemberPort(("app",), "tcp", 5432, 5432),
        MemberPort(("members",), "udp", 53, 53),
        MemberPort(("web", "app"), "tcp", 8000, 8100),
        MemberPort(("ops",)),
    )


@pytest.mark.parametrize("empty", ["", "{}", "null"])
def test_an_empty_one_is_none(load_text: Load, empty: str) -> None:
    assert load_text(f"member_ports: {empty}\n").member_ports is None


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (
            "{99999: [app]}",
            "member_ports.99999: the text '99999': expected ports from 1 to 65535",
        ),
        (
            "{9000-8000: [app]}",
            (
                "member_ports.9000-8000: the text '9000-8000': expected the lower port first: "
                '"8000-9000/tcp"'
            ),
        ),
        (
            "{http: [app]}",
            (
                'member_ports.http: the text \'http\': expected 80, "443/tcp", "53/udp", '
                '"8000-8010", or all'
            ),
        ),
        (
            "{80: app}",
            (
                "member_ports.80: the text 'app': expected a list such as [app, web] "
                "(write: 80: [app])"
            ),
        ),
        (
            "{80: []}",
            (
                "member_ports.80: a list: expected at least one group, such as [app] (members: "
                "every member)"
            ),
        ),
        (
            "{80: [Web_Hosts]}",
            (
                "member_ports.80[0]: the text 'Web_Hosts': expected a group's name: 1 to 32 of "
                "a-z, 0-9 and '-', starting with a letter (write: - web-hosts)"
            ),
        ),
        (
            "[80]",
            (
                "member_ports: a list: expected a mapping such as {5432: [app], 53/udp: [members], "
                "all: [ops]}"
            ),
        ),
    ],
)
def test_a_mistake_is_answered_with_what_was_expected(
    load_text: Load, text: str, answer: str
) -> None:
    with pytest.raises(ConfigError) as error:
        load_text(f"member_ports: {text}\n")
    assert str(error.value).partition(": ")[2] == answer


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("member_ports: {7077: [app]}", "7077/tcp in vain: it is verify_port"),
        (
            "member_ports: {22: [ops]}\nssh_whitelist: [0.0.0.0/0]",
            "22/tcp in vain: it is ssh_port, which ssh_whitelist opens to everyone",
        ),
        (
            "member_ports: {8001-8003: [web]}\nopen_ports: [8000-8010]",
            "8001-8003/tcp in vain: open_ports opens it to everyone",
        ),
        ("member_ports: {22: [ops], 7077/udp: [app], 53: [app]}\nopen_ports: [53/udp]", ""),
        ("member_ports: {80: [web]}\nopen_ports: [{port: 80, from: [10.0.0.0/8]}]", ""),
    ],
)
def test_a_line_that_means_nothing_is_named(load_text: Load, text: str, told: str) -> None:
    found = [one for one in load_text(f"{text}\n").warnings if "member_ports" in one]
    assert [told in one for one in found] == ([True] if told else [])


def test_config_check_says_who_reaches_what() -> None:
    ports = (
        MemberPort(("app",), "tcp", 5432, 5432),
        MemberPort(("web", "app"), "tcp", 5432, 5432),
        MemberPort(("ops",)),
    )
    settings = Settings(path=Path("neti.yml"), member_ports=ports)
    lines = describe(settings)
    assert "  members     5432/tcp: app, web" in lines
    assert "              all: ops" in lines
    shown = json.loads(json.dumps(summary(settings)))["member_ports"]
    assert shown == {"5432/tcp": ["app", "web"], "all": ["ops"]}
    assert "  members     all: every member" in describe(Settings(path=Path("neti.yml")))

"""The key labels: what it takes, and what is refused in words."""

from pathlib import Path

import pytest

from neti.cli.config import describe, summary
from neti.config import load
from neti.errors import ConfigError
from neti.model.settings import Settings


def loaded(folder: Path, text: str) -> Settings:
    path = folder / "neti.yml"
    path.write_text(f"labels: {text}\nregistry: embedded:/tmp/neti.db\n")
    return load(path)


def test_they_are_text_by_name(tmp_path: Path) -> None:
    settings = loaded(tmp_path, "{tier: db, rack: 12, what_for: 'the big one'}")
    assert settings.labels == {"tier": "db", "rack": "12", "what_for": "the big one"}
    assert summary(settings)["labels"] == dict(settings.labels)
    assert "  labels      rack=12 tier=db what_for=the big one" in describe(settings)


@pytest.mark.parametrize("empty", ["", "{}", "null"])
def test_none(tmp_path: Path, empty: str) -> None:
    assert loaded(tmp_path, empty).labels == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{Tier: db}", "expected a label's name"),
        ("{tier: yes}", "expected text, in quotes"),
        ("{tier: 1.10}", "expected text, in quotes"),
        ("{tier: ''}", "expected one line of 1 to 64 bytes"),
        ("{tier: ' db'}", "expected one line of 1 to 64 bytes"),
        (f"{{tier: {'x' * 65}}}", "expected one line of 1 to 64 bytes"),
        ('{tier: "a\\u202eb"}', "expected one line of 1 to 64 bytes"),
        ("{tier: [db]}", "labels.tier"),
        ("[db]", "labels"),
        (str({f"l{n}": "x" for n in range(17)}), "17 labels: expected at most 16"),
    ],
)
def test_what_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match="labels") as error:
        loaded(tmp_path, text)
    assert said in str(error.value)

"""The fleet, looked at again and again."""

from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest
from tests.unit.oneshot.test_registered import settings

from neti.control.client import AgentUnreachable
from neti.errors import RegistryUnavailable
from neti.oneshot.documents import Told
from neti.oneshot.watched import Documents, Watched
from neti.registry import Detail
from neti.registry.detail import Document, encode
from neti.registry.memory import MemoryRegistry, MemoryServer


class FakeRegistry:
    """Counts whose documents are read."""

    def __init__(self) -> None:
        self.read: list[set[str]] = []
        self.stage = "shadow"

    def reports(self, host_ids: Iterable[str]) -> list[Detail]:
        self.read.append(set(host_ids))
        said = encode(Document(stage=self.stage, written=int(2e9)))
        return [Detail(host_id, said, 1) for host_id in host_ids]

    def details(self, host_ids: Iterable[str] | None = None) -> list[Detail]:
        return []

    def sessions(self, names: Iterable[str]) -> Mapping[str, int]:
        return dict.fromkeys(names, 1)


def stages(told: Told) -> dict[str, str]:
    return {host_id: said.stage for host_id, said in told.by.items()}


def test_a_new_entry_is_read_at_once_and_the_rest_in_turns() -> None:
    registry, documents = FakeRegistry(), Documents(share=2)
    five = {f"h{number}": f"entry-{number}" for number in range(5)}
    assert len(documents(registry, five).by) == 5  # type: ignore[arg-type]
    registry.stage = "enforced"
    told = [documents(registry, five) for _ in range(3)]  # type: ignore[arg-type]
    assert [len(each) for each in registry.read[1:]] == [2, 2, 1]
    assert set(stages(told[-1]).values()) == {"enforced"}
    assert sorted(stages(told[0]).values()) == ["enforced"] * 2 + ["shadow"] * 3
    documents = Documents(share=1)
    registry.read.clear()
    documents(registry, five)  # type: ignore[arg-type]
    documents(registry, {**five, "h4": "entry-4b", "h9": "entry-9"})  # type: ignore[arg-type]
    assert {"h4", "h9"} <= registry.read[1]
    assert len(registry.read[1]) == 3


def test_who_is_no_member_any_more_says_nothing() -> None:
    registry, documents = FakeRegistry(), Documents()
    documents(registry, {"a": "1", "b": "2"})  # type: ignore[arg-type]
    assert documents(registry, {"b": "2"}).by.keys() == {"b"}  # type: ignore[arg-type]


def test_a_registry_that_goes_away_leaves_the_last_picture_with_a_word(tmp_path: Path) -> None:
    server = MemoryServer()
    answers = True

    def registry_of(_: object) -> nullcontext[MemoryRegistry]:
        if not answers:
            raise RegistryUnavailable("no server answers")
        return nullcontext(MemoryRegistry(server))

    def ask(*_: object) -> None:
        raise AgentUnreachable("no agent")

    watched = Watched(settings(tmp_path), registry_of, ask)
    first = watched.look()
    assert first.unanswered is None
    watched.close()
    answers = False
    second = watched.look()
    assert second.unanswered == "no server answers"
    assert second.at == first.at
    answers = True
    assert watched.look().unanswered is None
    answers = False
    with pytest.raises(RegistryUnavailable):
        Watched(settings(tmp_path), registry_of, ask).look()


def test_where_nobody_could_hear_what_hosts_say_that_is_said(tmp_path: Path) -> None:
    server = MemoryServer()
    watched = Watched(
        settings(tmp_path), lambda _: nullcontext(MemoryRegistry(server)), lambda *_: []
    )
    assert watched.look().unheard == ""
    told = Told({"a": Document(version="0.1.0")}, frozenset(), in_part=True)
    watched._documents = lambda *_: told  # type: ignore[assignment]
    watched._rests_until = 0.0
    assert "for operators only" in watched.look().unheard

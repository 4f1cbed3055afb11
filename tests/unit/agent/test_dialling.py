"""What comes of a connection to a port, and whom a responder connects to."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from ipaddress import IPv4Address

import pytest

from neti.agent import dialling, responder
from neti.agent.dialling import AT_MOST, dial
from neti.agent.member_talk import asking, talk
from neti.agent.responder import TRANSFER_BYTES, Responder, _asked

HERE = "127.0.0.1"


@pytest.fixture
def ports() -> Iterator[dict[str, int]]:
    """One that listens, one on which nothing does, and one that answers nothing."""
    with ExitStack() as held:
        heard = held.enter_context(socket.create_server((HERE, 0)))
        shut = held.enter_context(socket.socket())
        shut.bind((HERE, 0))
        full = held.enter_context(socket.socket())
        full.bind((HERE, 0))
        full.listen(0)
        held.enter_context(socket.create_connection(full.getsockname()))
        yield {
            "answered": heard.getsockname()[1],
            "refused": shut.getsockname()[1],
            "silent": full.getsockname()[1],
        }


def test_each_port_has_its_own_outcome(ports: dict[str, int]) -> None:
    found = dial(HERE, ports.values(), 0.2)
    assert {port: outcome for port, (outcome, _) in found.items()} == {
        port: outcome for outcome, port in ports.items()
    }
    assert found[ports["silent"]][1] >= 0.2


def test_where_no_way_leads_it_is_unreachable() -> None:
    assert [outcome for outcome, _ in dial("255.255.255.255", [1], 0.2).values()] == ["unreachable"]


def test_no_more_ports_than_it_may() -> None:
    assert len(dial(HERE, range(1, 100), 0.2)) == AT_MOST


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Addresses that the responder connected to."""
    seen: list[str] = []

    def watched(address: str, ports: list[int]) -> dict[int, tuple[dialling.Outcome, float]]:
        seen.append(address)
        return dial(HERE, ports, 0.2)

    monkeypatch.setattr(responder, "dial", watched)
    return seen


@pytest.fixture
def answering() -> Iterator[Responder]:
    """It knows ``me`` at 127.0.0.1, whose overlay address is 192.168.0.9."""
    known = {(IPv4Address(HERE), "me"): IPv4Address("192.168.0.9")}
    made = Responder(0, "i-1", lambda _source: True, overlay_of=lambda *asked: known.get(asked))
    made.start()
    yield made
    made.close()


def test_who_asks_is_connected_to_at_its_overlay_address(
    answering: Responder, ports: dict[str, int], dialled: list[str]
) -> None:
    begin = asking("me", ports.values())
    answer = talk(HERE, answering.port, 5.0, begin=begin)
    assert answer.dialled == {port: outcome for outcome, port in ports.items()}
    assert (answer.id, dialled) == ("i-1", ["192.168.0.9"])
    # In the smallest packets too.
    assert talk(HERE, answering.port, 5.0, begin=begin, pieces=True).dialled == answer.dialled


def test_nobody_is_connected_to_for_another(
    answering: Responder, ports: dict[str, int], dialled: list[str]
) -> None:
    begin = asking("another", ports.values())
    assert talk(HERE, answering.port, 5.0, begin=begin).dialled == {}
    assert talk(HERE, answering.port, 5.0).dialled is None
    assert dialled == []


def test_an_agent_of_a_version_before_is_asked_in_vain(ports: dict[str, int]) -> None:
    """It answers all the same, and says nothing of it."""
    with socket.create_server((HERE, 0)) as listener:

        def old() -> None:
            connection, _ = listener.accept()
            with connection:
                left = TRANSFER_BYTES
                while left and (part := connection.recv(left)):
                    left -= len(part)
                said = {"id": "i-0", "seen_from": HERE, "arrived_at": HERE}
                connection.sendall(json.dumps(said).encode() + b"\n" + bytes(TRANSFER_BYTES))

        thread = threading.Thread(target=old)
        thread.start()
        answer = talk(HERE, listener.getsockname()[1], 5.0, begin=asking("me", ports.values()))
        thread.join()
    assert (answer.id, answer.dialled) == ("i-0", None)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"[]",
        b'{"id": "me"}',
        b'{"id": 5, "dial": [1]}',
        b'{"id": "me", "dial": 5}',
        b'{"id": "me", "dial": [0]}',
        b'{"id": "me", "dial": [65536]}',
        b'{"id": "me", "dial": [true]}',
        b'{"id": "me", "dial": ["1"]}',
        b'{"id": "me", "dial": [1,2,3,4,5,6,7,8,9]}',
        b'{"id": ' * 40,
        b"\xff{",
    ],
)
def test_nonsense_is_no_question(line: bytes) -> None:
    assert _asked(line + b"\n" + bytes(100)) is None
    assert _asked(asking("me", [5432])) == ("me", [5432])

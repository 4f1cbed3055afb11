"""The agent's door to gateways, where the kernel gives it no socket."""

import errno

import pytest

from neti.agent.probe_socket import ProbeSocket
from neti.errors import NetiError


def test_without_a_file_descriptor_the_port_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent goes on, and names it."""

    def none_left(*_: object) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("socket.socket", none_left)
    door = ProbeSocket()
    with pytest.raises(NetiError, match=r"UDP port 16384 cannot be used \(Too many open files\)"):
        door.open(16384)
    assert door.opened is None

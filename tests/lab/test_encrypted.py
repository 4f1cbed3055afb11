"""The story of the encrypted road end to end: real agents, real packets, and a sniffer between."""

import re
import subprocess
from collections.abc import Callable

import pytest
from tests.support.wireguard_pair import module_there, require_wireguard_go
from tests.support.zookeeper import need_zookeeper

from neti_lab import lifecycle
from neti_lab.state import LabState

pytestmark = pytest.mark.lab

Neti = Callable[..., subprocess.CompletedProcess[str]]


def test_no_word_is_read_once_everybody_encrypts_and_no_connection_is_lost(
    lab: LabState, neti_lab: Neti
) -> None:
    need_zookeeper()
    if not module_there():
        require_wireguard_go()
    done = neti_lab("demo", "--encrypt", "--hosts", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT OK" not in done.stdout
    for when in ("prefer", "require", "nothing falls back"):
        figure = rf"^{when}: packets in which the sniffer reads a word +ok +0, and [1-9]"
        assert re.search(figure, done.stdout, re.MULTILINE)
    assert not lifecycle.anything_left(lab)


@pytest.mark.parametrize("registry", ["embedded", "zookeeper"])
def test_encryption_needs_a_registry_in_which_a_key_is_its_hosts_own(
    lab: LabState, neti_lab: Neti, registry: str
) -> None:
    for command, option in (("up", "--encrypt"), ("demo", "--encrypt"), ("up", "--private-only")):
        done = neti_lab(command, option, "--registry", registry)
        assert done.returncode == 2
        assert "to encrypt takes --registry closed or ensemble" in done.stderr
        assert not lifecycle.anything_left(lab)

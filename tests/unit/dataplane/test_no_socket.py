"""A process that may open no more files hears that from each door of the kernel in one way."""

import errno
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from neti.dataplane import conntrack, interfaces, other_table, rtnetlink, way_out
from neti.dataplane.foreign.read import RulesReader
from neti.dataplane.forwarding import KernelInterfaces
from neti.dataplane.nftables import NftablesDataplane
from neti.dataplane.sightings import SightingsReader
from neti.dataplane.wireguard import road, rule
from neti.dataplane.wireguard.netlink import KernelWireGuard
from neti.errors import DataplaneUnavailable


def routes() -> None:
    with rtnetlink.opened():
        pass


DOORS: dict[str, Callable[[], Any]] = {
    "tables": NftablesDataplane,
    "sightings": SightingsReader,
    "others' rules": RulesReader,
    "others' tables": lambda: other_table.exists("inet", "theirs"),
    "connections": conntrack.Conntrack,
    "interfaces": interfaces.interfaces,
    "routes": routes,
    "forwarding": lambda: KernelInterfaces().forwards("eth0"),
    "road": road.read,
    "rule": rule.set_rule,
    "WireGuard": lambda: KernelWireGuard("neti0"),
    "way out": way_out.disarm,
    "mark": way_out.has_down_mark,
}


@pytest.fixture(autouse=True)
def no_more_files(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def refuses(*_: object, **__: object) -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", refuses)
        yield


@pytest.mark.parametrize("door", DOORS)
def test_no_socket_is_an_error_with_a_sentence(door: str) -> None:
    with pytest.raises(DataplaneUnavailable, match="no netlink socket can be opened: Too many"):
        DOORS[door]()

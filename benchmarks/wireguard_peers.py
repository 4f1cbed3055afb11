"""What it costs to keep thousands of WireGuard peers: added, one of them changed, all looked at.

The other side is a program that writes its configuration whole, as 'wg setconf' does: all peers
replaced in one request, whatever has changed. Both speak to one wireguard-go, in turns.
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from tests.support.wireguard_pair import MTU, PORT, started

from benchmarks.figures import Line, Report, Times, once
from benchmarks.process import cpu_of
from benchmarks.scale import Scale, say
from neti.dataplane.wireguard import road
from neti.dataplane.wireguard.keys import new_key
from neti.dataplane.wireguard.uapi import UapiWireGuard
from neti.errors import NetiError
from neti.model.wireguard_key import PublicKey
from neti.ruleset.peers import Change, Endpoint, Peer, RemovePeer, SetPeer, UpdatePeer
from neti_lab import namespaces
from neti_lab.wiring import Node, Wiring

NAME: Final = "wireguard_peers"
TITLE: Final = "WireGuard peers, with wireguard-go"
_OVERLAY: Final = IPv4Address("192.168.0.1")
_MIB: Final = 1 / (1 << 20)
_WARM: Final = 3


def run(scale: Scale) -> Report:
    report = Report(TITLE)
    lines: list[Line] = []
    for size in scale.sizes:
        say(f"wireguard_peers: {size:,}")
        lines += _measure(size, scale)
    report.compare(lines, ours="changes", other="all anew")
    return report


def _measure(size: int, scale: Scale) -> list[Line]:
    wished = [_peer(number) for number in range(size)]
    with ExitStack() as stack:
        program, door = _device(stack)
        empty = _resident(program)
        whole = partial(_set_whole, program, wished)
        whole_time, whole_cpu = _cost(program, whole)
        whole_memory = _resident(program)
    with ExitStack() as stack:
        program, door = _device(stack)
        added_time, added_cpu = _cost(program, lambda: door.apply([SetPeer(p) for p in wished]))
        memory = _resident(program)
        whole = partial(_set_whole, program, wished)
        anew = _times(whole, scale.slow_rounds)
        one = _peer(size)
        moved = UpdatePeer(wished[0].key, endpoint=_endpoint(size + 1))
        changes: tuple[tuple[str, Sequence[Change]], ...] = (
            ("one more peer", [SetPeer(one)]),
            ("its endpoint", [moved]),
            ("one gone", [RemovePeer(one.key)]),
        )
        seen = {what: Times() for what, _ in changes}
        for number in range(_WARM + scale.rounds):
            for what, each in changes:
                took = _once(partial(door.apply, each))
                if number >= _WARM:
                    seen[what].each.append(took)
        look = _times(lambda: _looked_at(door, size), scale.slow_rounds)
    return [
        Line(f"{size:,}: all added", once(added_time), once(whole_time)),
        Line(f"{size:,}:   processor of wireguard-go", once(added_cpu), once(whole_cpu)),
        Line(
            f"{size:,}: memory of wireguard-go ({empty * _MIB:.0f} MiB without peers)",
            once(memory),
            once(whole_memory),
            _MIB,
            "MiB",
        ),
        *(Line(f"{size:,}: {what}", times, anew) for what, times in seen.items()),
        Line(f"{size:,}: a look at all", look, None),
    ]


def _device(stack: ExitStack) -> tuple[int, UapiWireGuard]:
    name = f"neti-bench-{os.getpid()}-wg"
    stack.callback(namespaces.delete, [name])
    wiring = Wiring(create=(name,), links=(), nodes=(Node(namespace=name),))
    namespaces.build(wiring)
    program, door = started(stack, name)
    namespaces.call_inside(name, partial(road.set_link, MTU))
    door.configure(new_key(), PORT)
    return program, door


def _peer(number: int) -> Peer:
    allowed = frozenset({IPv4Network(_OVERLAY + number)})
    return Peer(PublicKey(os.urandom(32)), allowed, _endpoint(number))


def _endpoint(number: int) -> Endpoint:
    return Endpoint(IPv4Address("10.64.0.1") + number, PORT)


def _set_whole(program: int, peers: Sequence[Peer]) -> None:
    words = ["set=1", "replace_peers=true"]
    for peer in peers:
        words += [f"public_key={peer.key.raw.hex()}", f"endpoint={peer.endpoint}"]
        words += ["replace_allowed_ips=true", *(f"allowed_ip={one}" for one in peer.allowed)]
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(str(Path("/proc", str(program), "root", "run/wireguard/neti0.sock")))
        door.sendall("\n".join([*words, "", ""]).encode())
        if door.recv(99) != b"errno=0\n\n":
            raise NetiError("wireguard-go refused its configuration")


def _looked_at(door: UapiWireGuard, size: int) -> None:
    device = door.device()
    if device is None or len(device.peers) != size:
        raise NetiError("wireguard-go does not hold what it was given")


def _cost(program: int, work: Callable[[], None]) -> tuple[float, float]:
    """Wall clock and wireguard-go's processor time."""
    cpu = cpu_of([program])
    took = _once(work)
    return took, cpu_of([program]) - cpu


def _times(work: Callable[[], None], rounds: int) -> Times:
    return Times([_once(work) for _ in range(rounds)])


def _once(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _resident(program: int) -> int:
    """Bytes of memory."""
    pages = int(Path(f"/proc/{program}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")

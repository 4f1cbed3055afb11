"""What is said to ZooKeeper and heard of it, byte by byte."""

import struct

from kazoo.exceptions import NoAuthError, NoNodeError
from kazoo.protocol.states import ZnodeStat

from neti.registry.zookeeper.requests import MultiRead, reads

STAT = ZnodeStat(11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21)
SERVER_TAKES = 65_535  # jute.maxbuffer at 64 KiB


def found(data: bytes | None) -> bytes:
    length = -1 if data is None else len(data)
    return (
        bytes.fromhex("00000004 00 00000000")
        + struct.pack("!i", length)
        + (data or b"")
        + struct.pack("!qqqqiiiqiiq", *STAT)
    )


def failed(code: int) -> bytes:
    return bytes.fromhex("ffffffff 00") + struct.pack("!ii", code, code)


END = bytes.fromhex("ffffffff 01 ffffffff")


def test_a_multi_read_asks_for_each_node_behind_a_header_and_says_where_it_ends() -> None:
    part = "00000004 00 ffffffff"
    asked = f"{part} 00000002 2f61 00 {part} 00000003 2fc3a4 00 ffffffff 01 ffffffff"
    assert MultiRead(("/a", "/ä")).serialize() == bytes.fromhex(asked)


def test_the_error_of_one_node_is_only_that_nodes() -> None:
    reply = b"header" + found(b"1") + failed(-101) + found(None) + failed(-102) + found(b"") + END
    answer = MultiRead.deserialize(reply, len(b"header"))
    assert answer is not None
    one, gone, nothing, closed, empty = answer
    assert one == (b"1", STAT)
    assert one[1].mzxid == 12
    assert isinstance(gone, NoNodeError)
    assert nothing == (None, STAT)
    assert isinstance(closed, NoAuthError)
    assert empty == (b"", STAT)


def test_requests_name_all_nodes_in_order_and_fit_a_server() -> None:
    paths = [f"/neti/ip-map/{number}-{'x' * (number % 900)}" for number in range(3_000)]
    asked = list(reads(paths))
    assert [path for request in asked for path in request.paths] == paths
    assert max(len(request.serialize()) for request in asked) < SERVER_TAKES
    assert max(len(request.paths) for request in asked) <= 128
    assert len(list(reads([f"/neti/hosts/i-{number:017x}" for number in range(1_280)]))) == 10


def test_a_path_that_is_too_long_keeps_no_other_from_being_read() -> None:
    long = "/" + "x" * 60_000
    assert [request.paths for request in reads(["/a", long, "/b", "/c"])] == [
        ("/a",),
        (long,),
        ("/b", "/c"),
    ]


def test_nothing_is_asked_about_nothing() -> None:
    assert list(reads([])) == []


def test_an_answer_that_was_not_kept_is_none() -> None:
    assert MultiRead.deserialize(b"header", len(b"header")) is None

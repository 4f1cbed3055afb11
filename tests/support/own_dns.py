"""A name server for a machine without a network: run there, by whatever Python is at hand.

    own_dns.py LOG [ADDRESS...] [silent=ADDRESS...]

Answers by UDP and TCP what ``ZONE`` says, and that there is no other name. What is asked goes to
LOG, a line each: how, the address that was asked, the name, the type. A silent address takes
questions and answers none. LOG is there once it listens.
"""

import selectors
import socket
import struct
import sys
from pathlib import Path

PORT = 53
A = 1
EDNS = b"\0" + struct.pack("!HHIH", 41, 1232, 0, 0)  # RFC 6891, 6.1.2
ZONE = {"name.test": "10.9.8.7", "short.corp.test": "10.9.8.6", "here.deep.test": "10.9.8.5"}


def main(log: Path, words: list[str]) -> None:
    selector = selectors.DefaultSelector()
    for word in words:
        kind, _, address = word.rpartition("=")
        place = socket.getaddrinfo(address, PORT, type=socket.SOCK_DGRAM)[0]
        datagrams = socket.socket(place[0], socket.SOCK_DGRAM)
        datagrams.bind(place[4])
        selector.register(datagrams, selectors.EVENT_READ, ("udp", kind, address))
        stream = socket.socket(place[0], socket.SOCK_STREAM)
        stream.bind(place[4])
        stream.listen()
        selector.register(stream, selectors.EVENT_READ, ("tcp", kind, address))
    with log.open("a", buffering=1) as lines:
        while True:
            for key, _ in selector.select():
                how, kind, address = key.data
                listening = key.fileobj
                assert isinstance(listening, socket.socket)
                if how == "udp":
                    question, asker = listening.recvfrom(4096)
                    print(how, address, *asked(question), file=lines)
                    if kind != "silent":
                        listening.sendto(answer(question), asker)
                elif kind != "silent":
                    with listening.accept()[0] as one:
                        spoken(one, address, lines)


def spoken(one: socket.socket, address: str, lines: object) -> None:
    """Questions of one connection, each after its length (RFC 1035, 4.2.2)."""
    with one.makefile("rb") as read:
        while len(size := read.read(2)) == 2:
            question = read.read(struct.unpack("!H", size)[0])
            print("tcp", address, *asked(question), file=lines)  # type: ignore[call-overload]
            said = answer(question)
            one.sendall(struct.pack("!H", len(said)) + said)


def asked(question: bytes) -> tuple[str, int]:
    """The name and the type of a message's first question."""
    labels, at = [], 12
    while size := question[at]:
        labels.append(question[at + 1 : at + 1 + size].decode("ascii", "replace"))
        at += 1 + size
    return ".".join(labels), int.from_bytes(question[at + 1 : at + 3], "big")


def answer(question: bytes) -> bytes:
    name, kind = asked(question)
    found = ZONE.get(name.lower())
    records = b""
    if found is not None and kind == A:
        records = b"\xc0\x0c" + struct.pack("!HHIH", A, 1, 60, 4) + socket.inet_aton(found)
    flags = 0x8180 if found is not None else 0x8183  # no such name
    more = EDNS if question[10:12] != bytes(2) else b""  # only whoever sends such a record knows it
    head = question[:2] + struct.pack("!5H", flags, 1, bool(records), 0, bool(more))
    end = 12 + len(name.encode()) + 2 + 4
    return head + question[12:end] + records + more


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

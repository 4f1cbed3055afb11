"""Commands for ``table inet neti`` as nf_tables messages, and elements back out of them. Pure.

Layouts and numbers are those of linux/netfilter/nf_tables.h. Only the elements of sets that
``neti.ruleset.policy`` defines are written here; rules and sets come from ``compiler``.

Must never do: name a table that is not ours.
"""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final

from neti.dataplane import opening_keys
from neti.dataplane.netlink import NLM_F_CREATE, NLM_F_EXCL, Order, attribute, attributes, nested
from neti.ruleset.objects import FAMILIES, FAMILY_TABLE, FOREIGN, FOREVER
from neti.ruleset.set_names import SetName, group_set, opening_set

SUBSYSTEM: Final = 10  # NFNL_SUBSYS_NFTABLES
NEWTABLE, GETTABLE, DELTABLE, NEWCHAIN, GETCHAIN, DELCHAIN = range(0xA00, 0xA06)
NEWRULE, GETRULE, DELRULE, NEWSET, GETSET, DELSET = range(0xA06, 0xA0C)
NEWSETELEM, GETSETELEM, DELSETELEM, NEWGEN, GETGEN = range(0xA0C, 0xA11)
NEWOBJ, GETOBJ = 0xA12, 0xA13

INET: Final = struct.pack("=BBH", 1, 0, 0)  # NFPROTO_INET, version 0, resource 0
ANY: Final = struct.pack("=BBH", 0, 0, 0)
NFGEN_BYTES: Final = 4
TABLE_BYTES: Final = FAMILY_TABLE.split()[1].encode() + b"\0"

TABLE_NAME, TABLE_FLAGS, TABLE_USE, TABLE_HANDLE = 1, 2, 3, 4
CHAIN_TABLE, CHAIN_NAME, CHAIN_HOOK, CHAIN_POLICY, CHAIN_TYPE = 1, 3, 4, 5, 7
HOOK_NUMBER, HOOK_PRIORITY = 1, 2
RULE_TABLE, RULE_CHAIN, RULE_EXPRESSIONS = 1, 2, 4
EXPRESSION_NAME, EXPRESSION_DATA = 1, 2
SET_TABLE, SET_NAME, SET_FLAGS = 1, 2, 3
OBJECT_TABLE, OBJECT_NAME, OBJECT_TYPE, OBJECT_DATA = 1, 2, 3, 4
COUNTER_OBJECT = 1
COUNTER_BYTES, COUNTER_PACKETS = 1, 2
LIST_TABLE, LIST_SET, LIST_ELEMENTS, LIST_ELEMENT = 1, 2, 3, 1
KEY, DATA, FLAGS, TIMEOUT, EXPIRATION = 1, 2, 3, 4, 5
VALUE, VERDICT = 1, 2
VERDICT_CODE, VERDICT_CHAIN = 1, 2
ANONYMOUS: Final = 0x1
NF_DROP: Final = 0

_PROTOCOL_FAMILIES: Final = {"ipv4": 2, "ipv6": 10}
_FAMILY_NAMES: Final = {number: name for name, number in _PROTOCOL_FAMILIES.items()}
# The length of an attribute is a 16-bit number. An element takes about 50 bytes at most.
_PER_MESSAGE: Final = 1000


def _family(key: str) -> bytes:
    return bytes((_PROTOCOL_FAMILIES[key] if key in _PROTOCOL_FAMILIES else int(key),))


def _family_name(value: bytes) -> str:
    number = value[0] if value else 0
    return _FAMILY_NAMES.get(number, str(number))


def _port(key: str) -> bytes:
    return int(key).to_bytes(2)


def _port_text(value: bytes) -> str:
    return str(int.from_bytes(value))


_four, _six = partial(inet_pton, AF_INET), partial(inet_pton, AF_INET6)
_four_text, _six_text = partial(inet_ntop, AF_INET), partial(inet_ntop, AF_INET6)
_Packing = tuple[Callable[[str], bytes], int]
_PACK: Final[Mapping[SetName, _Packing]] = {
    "overlay": (_four, 4),
    "peers4": (_four, 4),
    "across4": (_four, 4),
    "tunnel_peers": (_four, 4),
    "tunneled": (_four, 4),
    "clear4": (_four, 4),
    "outside4": (_four, 4),
    "gateways": (_four, 4),
    "gateway_near": (_family, 1),
    "gateway_far": (_port, 2),
    "gateway_inside": (_port, 2),
    "gateway_own": (_four, 4),
    "gateway_direct": (_port, 2),
    "gateway_public": (_four, 4),
    "revoked4": (_four, 4),
    "peers6": (_six, 16),
    "across6": (_six, 16),
    "clear6": (_six, 16),
    "revoked6": (_six, 16),
    "tcp_listening": (_port, 2),
    "udp_listening": (_port, 2),
    "grace": (_family, 1),
    "enforce": (_family, 1),
    "require": (_family, 1),
    "narrowed": (_family, 1),
}
# Of maps whose values are no verdicts.
_VALUES: Final[Mapping[SetName, tuple[Callable[[str], bytes], int]]] = {
    "overlay": (_four, 4),
    "gateway_near": (_four, 4),
    "gateway_far": (_four, 4),
    "gateway_inside": (_four, 4),
    "gateway_own": (_port, 2),
    "gateway_direct": (_four, 4),
    "gateway_public": (_port, 2),
}
_TEXT: Final[Mapping[int, Callable[[bytes], str]]] = {
    4: _four_text,
    16: _six_text,
    12: opening_keys.text,
    24: opening_keys.text,
    2: _port_text,
    1: _family_name,
}


# --- elements to the kernel ---


def _packing(where: SetName) -> _Packing:
    """How a key is written, and how long it is."""
    if group_set(where) is not None:
        return (_six, 16) if where.endswith("6") else (_four, 4)
    if opening_set(where) is not None:
        return opening_keys.packing(where)
    return _PACK[where]


def add(where: SetName, items: Mapping[str, str]) -> Iterator[Order]:
    """Each must be absent, otherwise the kernel says ``File exists``."""
    pack, width = _packing(where)
    tail = b"\0" * (-width % 4)
    if where in _VALUES:
        pack_value, size = _VALUES[where]
        head, middle = _shape(width, value=size)
        between, end = tail + middle, b"\0" * (-size % 4)
        elements = [
            head + pack(key) + between + pack_value(value) + end for key, value in items.items()
        ]
    else:
        head, _ = _shape(width)
        elements = [head + pack(key) + tail for key in items]
    return _listed(NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, where, elements)


def add_timed(where: SetName, milliseconds: Mapping[str, int]) -> Iterator[Order]:
    pack, _ = _packing(where)
    elements = [
        nested(LIST_ELEMENT, _key(pack(key)), attribute(TIMEOUT, struct.pack(">Q", left)))
        for key, left in milliseconds.items()
    ]
    return _listed(NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, where, elements)


def add_drop(milliseconds: int | None, where: SetName = "enforce") -> Iterator[Order]:
    """Both families into a map of verdicts."""
    verdict = nested(DATA, nested(VERDICT, attribute(VERDICT_CODE, struct.pack(">i", NF_DROP))))
    until = b"" if milliseconds is None else attribute(TIMEOUT, struct.pack(">Q", milliseconds))
    elements = [nested(LIST_ELEMENT, _key(_family(family)), verdict, until) for family in FAMILIES]
    return _listed(NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, where, elements)


def add_require(milliseconds: int | None) -> Iterator[Order]:
    """Both families into set ``require``."""
    until = b"" if milliseconds is None else attribute(TIMEOUT, struct.pack(">Q", milliseconds))
    elements = [nested(LIST_ELEMENT, _key(_family(family)), until) for family in FAMILIES]
    return _listed(NEWSETELEM, NLM_F_CREATE | NLM_F_EXCL, "require", elements)


def delete(where: SetName, keys: Iterable[str]) -> Iterator[Order]:
    """Each must be there."""
    pack, width = _packing(where)
    head, _ = _shape(width)
    tail = b"\0" * (-width % 4)
    return _listed(DELSETELEM, 0, where, [head + pack(key) + tail for key in keys])


def _key(packed: bytes) -> bytes:
    return nested(KEY, attribute(VALUE, packed))


def _shape(width: int, value: int = 0) -> tuple[bytes, bytes]:
    """The bytes before an element's key, and between key and value: the same in all of a set."""
    zeros = b"\0" * width
    data = nested(DATA, attribute(VALUE, b"\0" * value)) if value else b""
    whole = nested(LIST_ELEMENT, _key(zeros) + data)
    return whole[:12], data[:8]


def _listed(kind: int, flags: int, where: SetName, elements: list[bytes]) -> Iterator[Order]:
    named = INET + attribute(LIST_TABLE, TABLE_BYTES) + attribute(LIST_SET, _string(where))
    for start in range(0, len(elements), _PER_MESSAGE):
        part = b"".join(elements[start : start + _PER_MESSAGE])
        yield kind, flags, named + nested(LIST_ELEMENTS, part)


# --- the table ---


def delete_table(handle: int | None) -> Order:
    """By its number (Linux 4.16) or, with None, by its name."""
    if handle is None:
        return DELTABLE, 0, INET + attribute(TABLE_NAME, TABLE_BYTES)
    return DELTABLE, 0, INET + attribute(TABLE_HANDLE, handle.to_bytes(8))


def delete_chains(names: Iterable[str]) -> Iterator[Order]:
    """Emptied first, since a chain that a rule leads to cannot be deleted."""
    listed = list(names)
    for kind, where in ((DELRULE, RULE_CHAIN), (DELCHAIN, CHAIN_NAME)):
        for name in listed:
            named = attribute(RULE_TABLE, TABLE_BYTES) + attribute(where, _string(name))
            yield kind, 0, INET + named


# --- elements from the kernel ---


def asked(where: str) -> bytes:
    """The payload of a request for a set's elements."""
    return INET + attribute(LIST_TABLE, TABLE_BYTES) + attribute(LIST_SET, _string(where))


def elements(bodies: Iterable[bytes]) -> Iterator[bytes]:
    """The lists of elements in a dump."""
    for body in bodies:
        for kind, value in attributes(body[NFGEN_BYTES:]):
            if kind == LIST_ELEMENTS:
                yield value


def plain(where: SetName, listed: Iterable[bytes]) -> list[tuple[str, str]]:
    """Key and value of each; in a set every value is empty."""
    width, value = _packing(where)[1], _VALUES[where][1] if where in _VALUES else 0
    found: list[tuple[str, str]] = []
    for payload in listed:
        found += _all_alike(payload, width, value) or _one_by_one(payload)
    return found


def _all_alike(payload: bytes, width: int, value_width: int) -> list[tuple[str, str]] | None:
    """Elements that all look alike, as they nearly always do, in one go: about five times as fast.
    None unless every element has the headers that we ourselves would write. ``value_width``: bytes
    of a value; 0: a set."""
    head, middle = _shape(width, value=value_width)
    shape = f"12s{width}s{-width % 4}x"
    if value_width:
        shape += f"8s{value_width}s{-value_width % 4}x"
    size = struct.calcsize(shape)
    if not payload or len(payload) % size:
        return None
    text = _TEXT[width]
    found = []
    # The kernel may or may not set the flag for nested attributes: compare with the first element.
    first = payload[:12]
    if _unflagged(first) != _unflagged(head):
        return None
    if not value_width:
        for at, key in struct.iter_unpack(shape, payload):
            if at != first:
                return None
            found.append((text(key), ""))
        return found
    begins = 12 + width + -width % 4
    between, shown = payload[begins : begins + 8], _TEXT[value_width]
    if _unflagged(between) != _unflagged(middle):
        return None
    for at, key, then, value in struct.iter_unpack(shape, payload):
        if at != first or then != between:
            return None
        found.append((text(key), shown(value)))
    return found


def _unflagged(headers: bytes) -> bytes:
    words = struct.unpack(f"={len(headers) // 2}H", headers)
    return struct.pack(
        f"={len(words)}H", *(w & 0x3FFF if n % 2 else w for n, w in enumerate(words))
    )


def _one_by_one(payload: bytes) -> Iterator[tuple[str, str]]:
    for key, held in _keyed([payload]):
        value = _value(held[DATA]) if DATA in held else None
        yield key, "" if value is None else _shown(value)


def timed(listed: Iterable[bytes]) -> list[tuple[str, int]]:
    """Key and seconds left of each."""
    return [(key, _seconds(held, FOREVER)) for key, held in _keyed(listed)]


def enforced(listed: Iterable[bytes]) -> list[tuple[str, int | None]]:
    """What map ``enforce`` or ``narrowed`` holds, see ``neti.ruleset.KernelState``."""
    found: list[tuple[str, int | None]] = []
    for key, held in _keyed(listed):
        if verdict(held.get(DATA, b""))[0] != NF_DROP:
            found.append((key, FOREIGN))
        else:
            found.append((key, _seconds(held, -1) if TIMEOUT in held else None))
    return found


def required(listed: Iterable[bytes]) -> list[tuple[str, int | None]]:
    """What set ``require`` holds, see ``neti.ruleset.KernelState``."""
    return [
        (key, _seconds(held, FOREIGN) if TIMEOUT in held else None) for key, held in _keyed(listed)
    ]


def _keyed(listed: Iterable[bytes]) -> Iterator[tuple[str, dict[int, bytes]]]:
    """Each element's key and attributes."""
    for payload in listed:
        for _, element in attributes(payload):
            held = dict(attributes(element))
            yield _shown(_value(held.get(KEY, b""))), held


def verdict(data: bytes) -> tuple[int | None, bytes]:
    """A verdict's code, and the chain that it leads to; (None, …): this is no verdict."""
    held = dict(attributes(dict(attributes(data)).get(VERDICT, b"")))
    if VERDICT_CODE not in held:
        return None, b""
    (code,) = struct.unpack(">i", held[VERDICT_CODE])
    return code, held.get(VERDICT_CHAIN, b"").rstrip(b"\0")


def _seconds(held: Mapping[int, bytes], without: int) -> int:
    if EXPIRATION not in held:
        return without
    left: int = struct.unpack(">Q", held[EXPIRATION])[0]
    return left // 1000


def _value(key: bytes) -> bytes:
    return dict(attributes(key)).get(VALUE, b"")


def _shown(value: bytes) -> str:
    text = _TEXT.get(len(value))
    return text(value) if text is not None else value.hex()


def _string(text: str) -> bytes:
    return text.encode() + b"\0"

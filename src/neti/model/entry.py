"""Entry names: a member as at most 60 bytes of text, and back. Strict: one spelling per member.

    1.<private><public><overlay>.<generation>.<site>.<id>      a member
    1+<private><public><overlay>.<generation>.<site>.<id>      its data contain more addresses
    left.<generation>.<id>                                     a departure
    moved.<overlay>.<id>                                       a lease went over to this id

Addresses are 8 lower-case hex digits each (00000000: no public address), the generation is base 36.
Sixty bytes because ZooKeeper answers a listing with 4 bytes of length before each name, and 16,382
times 64 bytes is the most that fits the 1 MiB which a stock client accepts (jute.maxbuffer).

Whatever the text, ``parse`` and ``parse_data`` raise nothing but EntryError. Whether a well-formed
entry is acceptable (its ranges, its lease) is not decided here but in ``neti.fleet``.
"""

import json
import re
from ipaddress import IPv4Address, ip_address
from typing import Any, Final

from neti.errors import EntryError
from neti.model import Departure, IPAddress, Member, Moved

MAX_NAME_BYTES: Final = 60
MAX_DATA_BYTES: Final = 4096
MAX_MORE_ADDRESSES: Final = 64
# Room for later generations that a new registration must leave: 36**3 address changes.
GENERATION_RESERVE: Final = 3
MAX_GENERATION_DIGITS: Final = 8

HOST_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", re.ASCII)
SITE_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,15}", re.ASCII)

_GENERATION = r"(0|[1-9a-z][0-9a-z]{0,7})"
_MEMBER: Final = re.compile(
    r"1([.+])([0-9a-f]{8})([0-9a-f]{8})([0-9a-f]{8})"
    rf"\.{_GENERATION}\.({SITE_NAME.pattern})\.({HOST_ID.pattern})",
    re.ASCII,
)
_DEPARTURE: Final = re.compile(rf"left\.{_GENERATION}\.({HOST_ID.pattern})", re.ASCII)
_MOVED: Final = re.compile(rf"moved\.([0-9a-f]{{8}})\.({HOST_ID.pattern})", re.ASCII)
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"


def encode(member: Member) -> str:
    """The member's entry name. Raises EntryError when id and site are too long together."""
    if not HOST_ID.fullmatch(member.id):
        raise EntryError(
            f"host id {member.id!r} cannot be registered: "
            "expected 1 to 40 of letters, digits, '.', '_', '-', beginning with a letter or digit"
        )
    if not SITE_NAME.fullmatch(member.site):
        raise EntryError(
            f"site name {member.site!r} cannot be registered: "
            "expected 1 to 16 of a-z, 0-9, '_', '-', beginning with a letter or digit"
        )
    generation = _base36(member.generation)
    public = int(member.public) if member.public is not None else 0
    name = (
        f"1{'+' if member.extended else '.'}"
        f"{int(member.private):08x}{public:08x}{int(member.overlay):08x}"
        f".{generation}.{member.site}.{member.id}"
    )
    excess = len(name) - len(generation) + max(GENERATION_RESERVE, len(generation)) - MAX_NAME_BYTES
    if excess > 0:
        raise EntryError(
            f"host id {member.id!r} and site name {member.site!r} are {excess} bytes too long "
            "together for one registry entry: shorten the site name"
        )
    return name


def encode_departure(member: Member) -> str:
    return encode_goodbye(Departure(member.id, member.generation))


def encode_goodbye(word: Departure) -> str:
    return f"left.{_base36(word.generation)}.{word.id}"


def encode_moved(overlay: IPv4Address, host_id: str) -> str:
    """Created and removed in the transaction that moves the lease: an event that does not stay."""
    return f"moved.{int(overlay):08x}.{host_id}"


def parse(name: str) -> Member | Departure | Moved:
    """What the name means; EntryError when it is not an entry."""
    if len(name) > MAX_NAME_BYTES:
        raise EntryError(f"longer than {MAX_NAME_BYTES} bytes")
    match = _MEMBER.fullmatch(name)
    if match is None:
        departure = _DEPARTURE.fullmatch(name)
        if departure is None:
            if (moved := parse_moved(name)) is not None:
                return moved
            raise EntryError("not an entry of format 1")
        return Departure(departure[2], int(departure[1], 36))
    flag, private, public, overlay, generation, site, host_id = match.groups()
    return Member(
        id=host_id,
        site=site,
        private=IPv4Address(int(private, 16)),
        public=IPv4Address(int(public, 16)) if public != "00000000" else None,
        overlay=IPv4Address(int(overlay, 16)),
        generation=int(generation, 36),
        extended=flag == "+",
    )


def parse_moved(name: str) -> Moved | None:
    """The reverse of ``encode_moved``; None for any other name."""
    match = _MOVED.fullmatch(name)
    return Moved(IPv4Address(int(match[1], 16)), match[2]) if match is not None else None


def encode_data(more: tuple[IPAddress, ...]) -> bytes:
    """The data of an extended entry. Raises EntryError when there are too many addresses."""
    if len(more) > MAX_MORE_ADDRESSES:
        raise EntryError(
            f"{len(more)} further addresses, but at most {MAX_MORE_ADDRESSES} are allowed"
        )
    if not more:
        return b""
    return json.dumps({"more": [str(address) for address in more]}).encode()


def parse_data(data: bytes) -> tuple[IPAddress, ...]:
    """The further addresses in an entry's data; EntryError when the data are anything else."""
    if len(data) > MAX_DATA_BYTES:
        raise EntryError(f"its data are longer than {MAX_DATA_BYTES} bytes")
    if not data:
        return ()
    try:
        document: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise EntryError("data are not JSON") from error
    more = document.get("more") if isinstance(document, dict) else None
    if not isinstance(more, list) or len(more) > MAX_MORE_ADDRESSES:
        raise EntryError(f'its data have no list "more" of at most {MAX_MORE_ADDRESSES} addresses')
    addresses: list[IPAddress] = []
    for text in more:
        if not isinstance(text, str):
            raise EntryError('an address in "more" is not a string')
        try:
            address = ip_address(text)
        except ValueError as error:
            raise EntryError(f"{text[:50]!r} is not a single address") from error
        if getattr(address, "scope_id", None) is not None:
            raise EntryError(f"{text[:50]!r} has a scope, which has no meaning on other hosts")
        addresses.append(address)
    return tuple(dict.fromkeys(addresses))


def _base36(number: int) -> str:
    if number < 36:
        return _DIGITS[number]
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _DIGITS[digit] + text
    return text

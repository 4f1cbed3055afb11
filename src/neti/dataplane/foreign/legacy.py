"""Tables of iptables-legacy: nftables neither lists them nor sends events when they change.

Read from the kernel by getsockopt(2), as iptables itself does (linux/netfilter_ipv4/ip_tables.h and
linux/netfilter_ipv6/ip6_tables.h, the layout of 64-bit machines). It needs CAP_NET_ADMIN.
"""

import bisect
import ctypes
import errno
import os
import shutil
import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neti.dataplane.foreign import Chain, Rule, Table, Verdict
from neti.words import why

# IPT_SO_GET_INFO and IPT_SO_GET_ENTRIES; those of IPv6 have the same numbers at their own level.
_GET_INFO: Final = 64
_GET_ENTRIES: Final = 65
# name, valid_hooks, hook_entry[5], underflow[5], num_entries, size
_INFO: Final = struct.Struct("=32s I 5I 5I I I")
_ASKED: Final = struct.Struct("=32s I 4x")  # ipt_get_entries up to its entries
_HOOKS: Final = ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING")  # in NF_INET_*'s order
_JUDGED: Final = {"PREROUTING": "prerouting", "INPUT": "input", "FORWARD": "forward"}
_ELEMENT: Final = struct.Struct("=H29sB")  # of a match and of a target: size, name, revision
_VERDICT: Final = struct.Struct("=i")
_VERDICTS: Final[dict[int, Verdict]] = {-1: "drop", -2: "accept", -5: "return"}
_MODULES: Final = Path("/sys/module")
_TABLES: Final = ("filter", "mangle", "nat", "raw", "security")
_TRIES: Final = 5  # a table that changes between the two questions is asked for again


@dataclass(frozen=True, slots=True)
class _Layout:
    """One family's; sizes and places in bytes. An entry begins with what packets are compared with
    (``match`` bytes, all zero: any packet), flags among it; then come two offsets and its parts."""

    family: str
    program: str
    names: Path
    domain: int
    level: int
    match: int
    flags: int
    goto: int
    offsets: int
    head: int

    def __str__(self) -> str:
        return self.program


_LAYOUTS: Final = (
    _Layout(
        *("ip", "iptables-legacy", Path("/proc/thread-self/net/ip_tables_names")),
        *(socket.AF_INET, socket.IPPROTO_IP),
        *(84, 82, 0x02, 88, 112),
    ),
    _Layout(
        *("ip6", "ip6tables-legacy", Path("/proc/thread-self/net/ip6_tables_names")),
        *(socket.AF_INET6, socket.IPPROTO_IPV6),
        *(136, 131, 0x04, 140, 168),
    ),
)


def in_use() -> bool:
    """Whether this namespace has any; True as well where only root can tell, and there may be."""
    return any(_used(layout) != () for layout in _LAYOUTS)


def read() -> tuple[tuple[Table, ...], tuple[str, ...]]:
    """Tables of iptables-legacy, and sentences about those that cannot be read. The table nat is
    left out, because iptables does not allow dropping there."""
    tables: list[Table] = []
    untold = []
    for layout in _LAYOUTS:
        used = _used(layout)
        if used is None:
            untold.append(
                f"{layout} may have tables here, which only root can read, so it is not known "
                f"whether they drop what Neti lets in: '{layout} -S' shows them"
            )
            continue
        try:
            tables += [_table(layout, name) for name in used if name != "nat"]
        except (OSError, ValueError, struct.error) as error:
            untold.append(
                f"{layout} has tables here ({', '.join(used)}) that cannot be read ({why(error)}), "
                "so it is not known whether they drop what Neti lets in"
            )
    return tuple(tables), tuple(untold)


def _used(layout: _Layout) -> tuple[str, ...] | None:
    """Tables of this namespace; None: there may be some, and only root can tell. Asking for one
    that is not there would make it."""
    try:
        return tuple(sorted(layout.names.read_text().split()))
    except PermissionError:
        return None if _may_be_used(layout) else ()
    except OSError:
        return ()


def _may_be_used(layout: _Layout) -> bool:
    """A module is loaded when its table is first used, by this namespace or another. Where the
    kernel has them built in, they are always there, so the program tells."""
    if not (_MODULES / f"{layout.family}_tables").exists():
        return _has(layout.program)
    return any((_MODULES / f"{layout.family}table_{table}").exists() for table in _TABLES)


def _has(program: str) -> bool:
    return any(shutil.which(program, path=path) for path in (None, "/usr/sbin:/sbin"))


def _table(layout: _Layout, name: str) -> Table:
    """Raises OSError, and ValueError or struct.error where the kernel's answer makes no sense."""
    with socket.socket(layout.domain, socket.SOCK_DGRAM) as asking:
        for _ in range(_TRIES - 1):
            try:
                return _asked(layout, name, asking)
            except BlockingIOError:  # EAGAIN: another size by now
                continue
        return _asked(layout, name, asking)


def _asked(layout: _Layout, name: str, asking: socket.socket) -> Table:
    wanted = name.encode()
    told = _get(asking, layout.level, _GET_INFO, _INFO.pack(wanted, *[0] * 13))
    _, valid, *places, _, size = _INFO.unpack(told)
    question = _ASKED.pack(wanted, size) + bytes(size)
    blob = _get(asking, layout.level, _GET_ENTRIES, question)[_ASKED.size :]
    return Table(
        layout.family, name, "iptables-legacy", _chains(layout, blob, valid, places[:5], places[5:])
    )


def _get(asking: socket.socket, level: int, option: int, question: bytes) -> bytes:
    """socket.getsockopt cannot ask with a question."""
    buffer = ctypes.create_string_buffer(question, len(question))
    length = ctypes.c_uint32(len(question))
    call = ctypes.CDLL(None, use_errno=True).getsockopt
    if call(asking.fileno(), level, option, buffer, ctypes.byref(length)) != 0:
        number = ctypes.get_errno() or errno.EIO
        raise OSError(number, os.strerror(number))
    return buffer.raw


def _chains(
    layout: _Layout, blob: bytes, valid: int, first: list[int], policy: list[int]
) -> dict[str, Chain]:
    """``valid``: which hooks the table has, a bit each. A base chain reaches from ``first`` to the
    rule at ``policy``; another begins after an entry with target ERROR that has its name."""
    hooks = {first[hook]: name for hook, name in enumerate(_HOOKS) if valid & 1 << hook}
    policies = {policy[hook]: name for hook, name in enumerate(_HOOKS) if valid & 1 << hook}
    entries = _entries(layout, blob)
    names = dict(hooks)  # by the place of a chain's first entry
    # The last entry is one of these, too, and begins nothing.
    heads = [one for one in entries.values() if one.target == "ERROR" and one.next < len(blob)]
    names |= {head.next: head.text for head in heads}
    starts = sorted(names)
    chains = {name: Chain(name, _JUDGED.get(name)) for name in names.values()}
    for at, entry in entries.items():
        if entry.target == "ERROR":
            continue
        chain = chains[names[starts[bisect.bisect_right(starts, at) - 1]]]
        if at in policies:
            chain.drops = chain.hook is not None and entry.verdict == -1
        else:
            rule = _rule(entry, names)
            if rule is not None:
                chain.rules.append(rule)
    return chains


@dataclass(frozen=True, slots=True)
class _Entry:
    """``text`` of target ERROR, ``verdict`` of the standard one, whose name is empty."""

    always: bool
    goto: bool
    target: str
    text: str
    verdict: int
    next: int


def _entries(layout: _Layout, blob: bytes) -> dict[int, _Entry]:
    """By their places."""
    found: dict[int, _Entry] = {}
    at = 0
    while at < len(blob):
        target_offset, size = struct.unpack_from("=HH", blob, at + layout.offsets)
        if size < layout.head or target_offset < layout.head:
            raise ValueError("an entry is too short")
        flags = blob[at + layout.flags]
        compared = bytearray(blob[at : at + layout.match])
        compared[layout.flags] &= ~layout.goto
        always = not any(compared)
        part = at + layout.head
        while part < at + target_offset:
            length, name, _ = _ELEMENT.unpack_from(blob, part)
            if length < _ELEMENT.size:
                raise ValueError("a match is too short")
            always = always and _text(name) == "comment"
            part += length
        _, name, _ = _ELEMENT.unpack_from(blob, at + target_offset)
        target, after = _text(name), at + target_offset + _ELEMENT.size
        verdict = _VERDICT.unpack_from(blob, after)[0] if not target else 0
        text = _text(blob[after : at + size]) if target == "ERROR" else ""
        found[at] = _Entry(always, bool(flags & layout.goto), target, text, verdict, at + size)
        at += size
    return found


def _text(name: bytes) -> str:
    return name.split(b"\0", 1)[0].decode(errors="replace")


def _rule(entry: _Entry, names: dict[int, str]) -> Rule | None:
    """None for a rule that ends nothing: without a target, or with LOG and the like."""
    if entry.target == "REJECT":
        return Rule((("drop", ""),), entry.always)
    if entry.target or entry.verdict == entry.next:
        return None
    if entry.verdict >= 0:
        return Rule((("goto" if entry.goto else "jump", names[entry.verdict]),), entry.always)
    verdict = _VERDICTS.get(entry.verdict)
    return Rule(((verdict, ""),), entry.always) if verdict is not None else None

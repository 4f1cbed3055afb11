"""``neti verify --ports``: its words, and its exit code."""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

from neti.cli.asking import ask
from neti.cli.output import is_terminal, print_json, progress, say
from neti.model.document import plain
from neti.oneshot.verify_ports import Asked, Heard, PortRow, PortsVerified, verify_ports

_NOT_KNOWN: Final = 3
_DRAWN_EACH: Final = 100  # members
_UDP: Final = "not asked: a UDP port need not answer"
_OUTWARD: Final[Mapping[str, str]] = {
    "answered": "answered",
    "refused": "refused (nothing listens there, or a rule rejects)",
    "silent": "silent",
    "unreachable": "unreachable",
}


def run(asked: Asked, as_json: bool) -> int:
    """The exit code."""
    folder, drawn = asked.settings.table_files_path, is_terminal(sys.stderr)

    def done(number: int, every: int) -> None:
        if drawn and number % _DRAWN_EACH == 0:
            progress(f"{number} of {every} members")

    found = verify_ports(
        asked, lambda ids, ports: ask(folder, "explain_many", ids=ids, ports=ports), done
    )
    if drawn:
        progress()
    if as_json:
        print_json(plain(found))
    else:
        say(*lines(found))
    if any(row.disagrees for row in found.rows):
        return 1
    return _NOT_KNOWN if any(row.unknown for row in found.rows) else 0


def lines(found: PortsVerified) -> Iterator[str]:
    for name in found.ports:
        heard = [one for one in found.listeners if f"{one.port}/{one.protocol}" == name]
        who = ", ".join(map(_socket, heard)) or "no socket of this host waits there"
        yield f"{name} of {found.host} (stage: {found.stage}): {who}"
    for row in found.rows:
        yield f"DISAGREES  {_line(row)}" if row.disagrees else _line(row)
        yield from (f"  {step}" for step in row.disagrees.splitlines()[1:])
    for name in found.ports:
        yield _count(name, [row for row in found.rows if row.name == name])
    if any(row.outward == "silent" for row in found.rows):
        yield (
            "→ where 'here → ID' is silent, 'neti explain "
            f"{found.host} here PORT' on that host says why"
        )


def _socket(one: Heard) -> str:
    who = f"{one.process} (pid {one.pid})" if one.process else "a process"
    return f"{who} on {one.address}"


def _line(row: PortRow) -> str:
    inward = f"{row.id} → here {row.name}: {_inward(row)}"
    if row.outward is None:
        return inward
    took = f" in {row.milliseconds} ms" if row.milliseconds is not None else ""
    return f"{inward} · here → {row.id}: {_OUTWARD[row.outward]}{took}"


def _inward(row: PortRow) -> str:
    word = {True: "admitted", False: "kept out", None: "not known"}[row.admitted]
    by = f"{word}, {row.by}" + (f" (then: {row.ahead})" if row.ahead else "")
    if row.protocol == "udp":
        return f"{by}; {_UDP}"
    if row.inward is None:
        return f"{by}; not tried: {row.unknown}" if row.unknown != row.by else by
    return f"{row.inward}; {by}"


def _count(name: str, rows: list[PortRow]) -> str:
    says = Counter(row.admitted for row in rows)
    facts = Counter[str](row.inward or "" for row in rows)
    text = f"{name}: {says[True]} of {len(rows)} members are admitted by this host's rules"
    if name.endswith("/udp"):
        return text
    tried = ", ".join(f"{facts[word]} {word}" for word in _OUTWARD if facts[word])
    text += f"; in fact {tried or 'none was tried'}"
    if facts[""]:
        text += f", {facts['']} not known"
    wrong = sum(bool(row.disagrees) for row in rows)
    return f"{text}; {wrong} {'disagrees' if wrong == 1 else 'disagree'}"

"""Makes text from a host, the cloud, a file or another program safe to pass on. Pure.

One function per target, because what is harmless in one is a command in another:

    printable        a line on a terminal
    command          a command that an operator may paste into a shell
    logfmt, plain    a value in a log line, a value in JSON
    json_document    JSON for a program
    csv_cell         a cell that a spreadsheet does not calculate
    plain_name       a name that may stand where names are commands: inventories, hosts files, pipes
    inventory_value  a variable that Ansible does not render
    hosts_line       a line of /etc/hosts
    label            a label's value for Prometheus
    plugin_line      the one line of a monitoring plugin

Must never raise, whatever the text is (``hosts_line`` returns None), or let a long text through.
What is too long loses its middle, and never the reason at its end.
"""

import json
import math
import re
import shlex
import unicodedata
from ipaddress import IPv4Address, IPv6Address
from json.encoder import encode_basestring_ascii
from typing import Any, Final

MOST: Final = 400
MOST_LOGGED: Final = 4096
MOST_IN_A_LABEL: Final = 200
MOST_IN_A_LINE: Final = 1024
_MOST_LAID_OUT: Final = 100  # entries of a list

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", re.ASCII)
# Names that mean this machine, or that resolvers read as an address. A host with such a name would
# get what is meant for others (Ansible runs "localhost" on the controller, for example).
_MEANS_ITSELF: Final = re.compile(
    r"(?:.*\.)?(?:localhost|localhost[46]|localdomain|ip6-[a-z0-9-]*|broadcasthost)(?:\..*)?",
    re.IGNORECASE,
)
_NUMERIC: Final = re.compile(r"(?:[0-9]{1,10}|0x[0-9a-f]*)", re.IGNORECASE | re.ASCII)
_MARKS: Final = frozenset({"Mn", "Me", "Mc"})
_MARKS_PER_LETTER: Final = 2  # more of them would write over neighbouring lines
# Assigned and "printable", but invisible: two different names would look the same.
_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")
# Right-to-left letters reorder the digits and signs next to them.
_RIGHT_TO_LEFT: Final = frozenset({"R", "AL", "AN"})
# A spreadsheet takes what starts with one of these for a formula; some also split at ';' or tab.
_FORMULA: Final = re.compile(r"(^|[;|,])([\s\"]*)([=+\-@\uff1d\uff0b\uff0d\uff20])")


def printable(text: object, most: int | None = MOST) -> str:
    """One line without terminal controls or look-alikes; those become ``\\u…``."""
    return _cut(_visible(_cut(str(text), most)), most)


def command(fixed: str, *words: object) -> str:
    """``fixed``, which is our own text, and foreign words as its arguments: each stays one word,
    and none is taken for an option. What is shown is what is pasted."""
    shown = [printable(word) for word in words]
    guard = ["--"] if any(word.startswith("-") for word in shown) else []
    return " ".join([fixed, *guard, *map(shlex.quote, shown)])


def logfmt(text: object) -> str:
    """A value after ``name=``: bare, or in quotes with JSON's escapes."""
    raw = _cut(str(text), MOST_LOGGED)
    shown = _visible(raw.replace("\\", "\\\\").replace('"', '\\"'))
    if raw and shown == raw and not any(letter in ' "=\\' for letter in raw):
        return raw
    return f'"{shown}"'


def plain(value: object) -> Any:
    """``value`` for JSON: numbers, lists and dictionaries stay; everything else becomes text of
    limited length."""
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return round(value, 6) if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_cut(str(key), MOST_LOGGED): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return _cut(str(value), MOST_LOGGED)


def json_document(document: object, *, indent: int | None = None) -> str:
    """JSON in ASCII without control characters, which every reader accepts. Nothing is cut."""
    try:
        written = _laid_out(document, " " * indent) if indent else _compact(document)
        whole = "\\ud" not in written  # most documents contain none
    except ValueError:  # NaN and the like are not JSON
        whole = False
    if not whole:
        written = json.dumps(_whole(document), indent=indent)
    return written.replace("\x7f", "\\u007f")


def _compact(value: object) -> str:
    return json.dumps(value, allow_nan=False)


def _laid_out(value: Any, step: str, line: str = "\n") -> str:
    """As ``json.dumps`` with ``indent``, in half the time: that has no encoder in C. Of a long list
    each entry stands on one line, for grep, and takes a tenth of the time. Raises ValueError where
    ``json.dumps`` does."""
    kind, deeper = type(value), line + step
    if kind is str:
        return encode_basestring_ascii(value)
    if value is None:
        return "null"
    if kind is int:
        return str(value)
    if kind is dict and value and all(type(key) is str for key in value):
        each = [
            f"{encode_basestring_ascii(key)}: {_laid_out(held, step, deeper)}"
            for key, held in value.items()
        ]
        return f"{{{deeper}{f',{deeper}'.join(each)}{line}}}"
    if kind is list and len(value) > _MOST_LAID_OUT:
        return f"[{deeper}{f',{deeper}'.join(map(_compact, value))}{line}]"
    if kind is list and value:
        return f"[{deeper}{f',{deeper}'.join([_laid_out(e, step, deeper) for e in value])}{line}]"
    if kind is list or (kind is dict and not value):
        return "[]" if kind is list else "{}"
    if isinstance(value, dict | list | tuple):
        return json.dumps(value, indent=len(step), allow_nan=False).replace("\n", line)
    return _compact(value)


def _whole(value: object) -> Any:
    """Without lone surrogates, because of which some readers refuse the whole document."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {_whole(key): _whole(each) for key, each in value.items()}
    return [_whole(each) for each in value] if isinstance(value, list | tuple) else value


def csv_cell(value: object) -> str:
    """One line of text that a spreadsheet shows and does not calculate; empty for None."""
    return "" if value is None else _FORMULA.sub(r"\1'\2\3", printable(value).strip())


def plain_name(name: object) -> str | None:
    """``name`` if it is safe as a host name in every target; otherwise None."""
    if not isinstance(name, str) or _NAME.fullmatch(name) is None:
        return None
    last = name.rstrip(".").rpartition(".")[2]
    if _NUMERIC.fullmatch(last) or _MEANS_ITSELF.fullmatch(name):
        return None
    return name


def inventory_value(value: object) -> str | int | bool | dict[str, str] | None:
    """A host's variable. Ansible would render text with braces if it were not marked unsafe."""
    if value is None or isinstance(value, bool | int):
        return value
    shown = printable(value)
    return {"__ansible_unsafe": shown} if "{" in shown or "}" in shown else shown


def hosts_line(address: IPv4Address | IPv6Address, *names: str) -> str | None:
    """A line for /etc/hosts with those of the names that are safe there; None if none is."""
    good = [name for name in dict.fromkeys(names) if plain_name(name) is not None]
    return f"{address}\t{' '.join(good)}" if good else None


def label(value: object) -> str:
    """A label's value: one line of limited length, because a label is kept as long as its
    series."""
    return printable(value, MOST_IN_A_LABEL)


def plugin_line(text: object, most: int = MOST_IN_A_LINE) -> str:
    """The text before the performance data, which start at ``|``."""
    return printable(text, most).replace("|", "/")


def _cut(text: str, most: int | None) -> str:
    """From the middle: a sentence says at its end why, and what to do."""
    if most is None or len(text) <= most:
        return text
    end = most // 3
    begins = len(text) - end
    while begins < len(text) and unicodedata.category(text[begins]) in _MARKS:
        begins += 1  # it belongs to a letter that is cut off
    return f"{text[: most - end - 1]}…{text[begins:]}"


def _visible(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    shown: list[str] = []
    marks = _MARKS_PER_LETTER  # a combining mark would attach to the text before it
    for letter in text:
        kind = unicodedata.category(letter)
        if kind in ("Mn", "Me"):
            marks += 1
        elif kind != "Mc":
            marks = 0 if letter.isalnum() else _MARKS_PER_LETTER
        good = marks <= _MARKS_PER_LETTER and _harmless(letter)
        shown.append(letter if good else _escaped(letter))
    return "".join(shown)


def _harmless(letter: str) -> bool:
    return (
        letter.isprintable()
        and letter not in _BLANK
        and unicodedata.bidirectional(letter) not in _RIGHT_TO_LEFT
    )


def _escaped(letter: str) -> str:
    return "\\u007f" if letter == "\x7f" else json.dumps(letter)[1:-1]

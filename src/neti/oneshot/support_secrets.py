"""What must not stand in a file for a bug report: secrets that this host holds, and whatever looks
like one. Reads files; hands their secrets to nobody.

Must never do: raise because a file cannot be read: then its secrets are not known here either, and
what looks like one is cut all the same.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from neti import files
from neti.config import json_schema
from neti.errors import NetiError
from neti.model.settings import Settings
from neti.state.folder import StateFolder
from neti.state.location import GOOD_CONFIG

CUT: Final = "[cut]"
_MOST: Final = 1 << 20
_LEAST: Final = 6  # characters: shorter ones would cut words and numbers
_IN_STATE: Final = ("session.json", "wireguard.key")
_NAME: Final = re.compile(r"(^|[\s{,])[\"']?([A-Za-z0-9_.-]+)[\"']?\s*[:=]\s*")
_SECRET_NAME: Final = re.compile(r"(?i)secret|passw|token|credential|private|aws_|(^|_)key")
_RUN: Final = "A-Za-z0-9+/"
_LOOKS_SECRET: Final = (
    re.compile(r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
    re.compile(r"\b(?:AKIA|ASIA|AGPA|AIDA|AROA)[A-Z0-9]{12,}\b"),  # AWS's key ids
    # Behind = as well: a log is of key=value.
    re.compile(rf"(?<![{_RUN}])[{_RUN}]{{43}}=(?![{_RUN}=])"),  # a key of WireGuard's
    re.compile(rf"(?<![{_RUN}])[{_RUN}]{{40}}(?![{_RUN}=])"),  # AWS's secrets
    re.compile(r"(?<=://)[^/\s:@]+:[^/\s@]+(?=@)"),  # in an address
    re.compile(r"(?i)(?<=password )\S+|(?<=secret )\S+|(?<=token )\S+|(?<=bearer )\S{6,}"),
)
# Behind a name that sounds like a secret: a quoted text, or all words as far as the line, a quote
# or the next key. Each part has its limit, so that no log makes this slow. What a file of ours says
# of whether there is one stays, and so does what only begins a longer document.
_NAMED: Final = re.compile(
    r"""(?ix)
    (?P<name> (?:secret|passw|pwd|token|credential|authorization|(?:api|access|private)_?key)
        [\w.-]{0,64} \\{0,4} ["']? [ \t]{0,8} [:=] [ \t]{0,8} )
    (?: (?P<quote> \\{1,4}["'] ) .{0,4096}? (?<!\\) (?P=quote)
      | " (?: [^"\\\n] | \\. )* "
      | ' (?: [^'\\\n] | \\. | '' )* '
      | (?! (?:true|false|null|none) \b | [\[{] [ \t]* $ | \[\] | \{\} )
        \S+ (?: [ \t]+ (?! [\w.-]{1,64} = ) [^\s"]+ )*
    )""",
    re.MULTILINE,
)
_FOUND: Final = re.compile(r"the (?:text|number) ('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\S+?):")
_HEX: Final = re.compile(r"[0-9a-f]{40}")


def scrubber(config: Path, settings: Settings | None, refused: str = "") -> Callable[[str], str]:
    """Takes secrets out of a text. Longest first, so that no end of one stays. ``refused``: what is
    wrong with the file: the values that it quotes may be secrets in the wrong place."""
    known = sorted({*_known(config, settings), *_quoted(refused)}, key=len, reverse=True)

    def scrub(text: str) -> str:
        for secret in known:
            text = text.replace(secret, CUT)
        text = _NAMED.sub(_cut_behind_name, text)
        for form in _LOOKS_SECRET:
            text = form.sub(lambda m: m[0] if _HEX.fullmatch(m[0]) else CUT, text)
        return text

    return scrub


def _cut_behind_name(found: re.Match[str]) -> str:
    """In its quotes, if it has some: what a program reads it still can."""
    value = found[0][len(found["name"]) :]
    quote = found["quote"] or (value[0] if value[0] in "\"'" and value[-1] == value[0] else "")
    return f"{found['name']}{quote}{CUT}{quote}"


def _known(config: Path, settings: Settings | None) -> Iterator[str]:
    for secret in _held(config, settings):
        for form in (secret, json.dumps(secret)[1:-1], repr(secret)[1:-1]):
            if len(form) >= _LEAST:
                yield form


def _quoted(refused: str) -> Iterator[str]:
    for found in _FOUND.finditer(refused):
        shown = found[1].strip("\"'")
        if len(shown) >= _LEAST:
            yield from (shown, json.dumps(shown)[1:-1])


def _held(config: Path, settings: Settings | None) -> Iterator[str]:
    yield from _in_yaml(_linked(config))
    yield from (value for name, value in os.environ.items() if _SECRET_NAME.search(name))
    if settings is None:
        return
    yield from filter(None, (settings.aws_key, settings.aws_secret_key))
    folder = settings.table_files_path
    yield from _in_yaml(_text(folder / GOOD_CONFIG))
    for name in _IN_STATE:
        yield from _in_json(_text(folder / name))
    if settings.registry_tls is not None:
        yield from _linked(settings.registry_tls.key).splitlines()
    with suppress(NetiError, OSError):
        key = StateFolder(folder, make=False).private_key()
        yield from () if key is None else (key.text(),)


def _text(path: Path) -> str:
    try:
        return files.read(path, _MOST).decode(errors="replace")
    except OSError:
        return ""


def _linked(path: Path) -> str:
    """Of a file that operators may have put behind a link, as those who renew certificates do."""
    try:
        return _text(path.resolve())
    except (OSError, RuntimeError):  # a link that leads to itself
        return ""


def _in_yaml(text: str) -> Iterator[str]:
    """Values behind a name that sounds like a secret, or at the beginning of a line behind one that
    no configuration has: a misspelt key may hold one. Line by line, because a file that is broken
    has to be read as well."""
    known = _keys(json_schema())
    for line in text.splitlines():
        for found in _NAME.finditer(line):
            name, value = found[2], line[found.end() :].strip()
            a_path = name == "key" and value.startswith("/")
            misspelt = found.start() == 0 and not found[1] and name not in known
            if (_SECRET_NAME.search(name) and name != "private" and not a_path) or misspelt:
                yield from (value, value.strip("\"'"), *re.split(r"[\s\"',{}\[\]]+", value))


def _keys(schema: Any) -> frozenset[str]:
    found = set(schema.get("properties", {}))
    for form in schema.get("$defs", {}).values():
        found |= set(form.get("properties", {}))
    return frozenset(found)


def _in_json(text: str) -> Iterable[str]:
    return re.findall(r':\s*"([^"]*)"', text)

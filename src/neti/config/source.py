"""YAML text to plain values with line numbers. Makes no objects, obeys no tags, shows no secrets.

It reads YAML's events and types plain scalars itself, because YAML 1.1 would make 22:25 the number
1345, 010 the number 8 and 2024-01-01 a date, and would let a second key silently replace the first.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Final

import yaml

from neti.config.problems import Place, Problem, is_secret, shorten

_MAX_DEPTH: Final = 32
_MAX_NODES: Final = 200_000  # a few lines of nested aliases can grow without bound

_LOADER: Final = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STR_TAG: Final = "tag:yaml.org,2002:str"
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE: Final = frozenset(f(w) for w in ("true", "yes", "on") for f in (str, str.title, str.upper))
_FALSE: Final = frozenset(f(w) for w in ("false", "no", "off") for f in (str, str.title, str.upper))
_INTEGER: Final = re.compile(r"[-+]?(0|[1-9][0-9]{0,17})", re.ASCII)
_DECIMAL: Final = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+)", re.ASCII)
_OCTAL: Final = re.compile(r"[-+]?0[0-9]+", re.ASCII)
_OTHER_BASE: Final = re.compile(r"[-+]?0[xob][0-9a-fA-F]+", re.ASCII)


@dataclass(slots=True)
class Document:
    """The file's plain value, the line of each place in it, and the problems found so far."""

    value: object = None
    lines: dict[Place, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    # Places where null replaces something unreadable: its problem is already listed.
    unreadable: set[Place] = field(default_factory=set)

    def line_of(self, place: Place) -> int:
        """The line of the place, or of the nearest enclosing place that has one."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)


class _Pairs(list["tuple[_Node, _Node]"]):
    """What is in a mapping."""


@dataclass(slots=True)
class _Node:
    line: int
    content: "str | list[_Node] | _Pairs"
    quoted: bool = False
    trouble: str = ""  # why it cannot be read


class _Unparsable(Exception):
    def __init__(self, line: int, found: str, expected: str) -> None:
        super().__init__(found)
        self.problem = Problem(line=line, place=(), found=found, expected=expected)


def read(text: str) -> Document:
    """The document in the text. Raises nothing; errors are in its problems."""
    document = Document()
    try:
        node = _compose(text)
    except _Unparsable as error:
        document.problems.append(error.problem)
        return document
    except yaml.YAMLError as error:
        document.problems.append(_syntax_problem(error, text))
        return document
    _Flattener(document).run(node)
    return document


def _syntax_problem(error: yaml.YAMLError, text: str) -> Problem:
    # Not str(error): it quotes the line, which may contain a key.
    mark = getattr(error, "problem_mark", None)
    line = mark.line + 1 if mark is not None else 1
    lines = text.splitlines()
    here = lines[line - 1] if line <= len(lines) else ""
    if here[: len(here) - len(here.lstrip())].count("\t"):
        found, expected = (
            "a tab at the beginning of the line",
            "spaces, because YAML is indented with spaces",
        )
    else:
        found = f"not YAML: {getattr(error, 'problem', None) or 'a control character'}"
        expected = "'key: value' lines, lists of '- item', quotes around text with ': ' or '#'"
    return Problem(line=line, place=(), found=found, expected=expected)


def _compose(text: str) -> _Node:
    """The tree of the only document in the text."""
    events: Iterator[yaml.Event] = yaml.parse(text, Loader=_LOADER)
    builder = _Builder(events)
    root: _Node | None = None
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            if root is not None:
                raise _Unparsable(
                    _line(event), "a second document (---)", "one document in the file"
                )
            root = builder.node(next(events), 0)
    if root is None:
        return _Node(1, "")
    return root


def _line(event: yaml.Event) -> int:
    mark = event.start_mark
    return mark.line + 1 if mark is not None else 1


class _Builder:
    def __init__(self, events: Iterator[yaml.Event]) -> None:
        self._events = events
        self._anchors: dict[str, _Node] = {}

    def node(self, event: yaml.Event, depth: int) -> _Node:
        line = _line(event)
        if depth > _MAX_DEPTH:
            raise _Unparsable(line, f"more than {_MAX_DEPTH} levels", "a few levels")
        if isinstance(event, yaml.AliasEvent):
            known = self._anchors.get(event.anchor or "")
            if known is None:
                return _Node(line, "", trouble="an alias (*) without its anchor (&) above")
            return replace(known, line=line)
        node = self._fresh(event, line, depth)
        if isinstance(event, yaml.NodeEvent) and event.anchor is not None:
            # Set only now, so that nothing can contain itself.
            self._anchors[event.anchor] = node
        return node

    def _fresh(self, event: yaml.Event, line: int, depth: int) -> _Node:
        if isinstance(event, yaml.ScalarEvent):
            if event.tag not in {None, _STR_TAG}:
                return _Node(line, "", trouble="a YAML tag (!)")
            plain = event.tag is None and event.implicit[0]
            return _Node(line, event.value, quoted=not plain)
        if isinstance(event, yaml.SequenceStartEvent):
            items: list[_Node] = []
            while not isinstance(inner := next(self._events), yaml.SequenceEndEvent):
                items.append(self.node(inner, depth + 1))
            return self._untagged(event, _Node(line, items))
        pairs = _Pairs()
        while not isinstance(inner := next(self._events), yaml.MappingEndEvent):
            key = self.node(inner, depth + 1)
            pairs.append((key, self.node(next(self._events), depth + 1)))
        return self._untagged(event, _Node(line, pairs))

    def _untagged(self, event: yaml.Event, node: _Node) -> _Node:
        if getattr(event, "tag", None) is None:
            return node
        return _Node(node.line, "", trouble="a YAML tag (!)")


class _Flattener:
    """Turns the tree into plain values; lines and problems go into the document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._nodes = 0

    def run(self, root: _Node) -> None:
        try:
            self._document.value = self._value(root, ())
        except _Unparsable as error:
            self._document.problems.append(error.problem)

    def _value(self, node: _Node, place: Place) -> object:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise _Unparsable(
                node.line, "aliases that expand to too many values", "a file without nested aliases"
            )
        self._document.lines.setdefault(place, node.line)
        if node.trouble:
            self._unreadable(node.line, place, node.trouble, "a plain value")
            return None
        match node.content:
            case str(text):
                return text if node.quoted else self._plain(text, node.line, place)
            case _Pairs() as pairs:
                return self._mapping(pairs, place)
            case items:
                return [self._value(item, (*place, index)) for index, item in enumerate(items)]

    def _mapping(self, pairs: _Pairs, place: Place) -> dict[str, object]:
        mapping: dict[str, object] = {}
        for key, content in pairs:
            if not isinstance(key.content, str) or key.trouble:
                self._complain(key.line, place, "a key that is not plain text", "a name before ':'")
                continue
            name, here = key.content, (*place, key.content)
            if name == "<<" and not key.quoted:
                self._complain(key.line, place, "a merge (<<)", "its keys, written out")
            elif name in mapping:
                first = self._document.line_of(here)
                self._complain(key.line, here, f"given twice (also on line {first})", "it once")
            else:
                self._document.lines[here] = key.line
                mapping[name] = self._value(content, here)
        return mapping

    def _plain(self, text: str, line: int, place: Place) -> object:
        if text in _NULL:
            return None
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        if _INTEGER.fullmatch(text):
            return int(text)
        if _DECIMAL.fullmatch(text) and len(text) < 20:
            return float(text)
        odd = _odd_number(text)
        if odd:
            secret = is_secret(place)
            shown = "a number that is not shown" if secret else f"the number {shorten(text)}"
            self._unreadable(line, place, shown, "a decimal number", "" if secret else odd)
            return None
        return text

    def _unreadable(
        self, line: int, place: Place, found: str, expected: str, hint: str = ""
    ) -> None:
        self._complain(line, place, found, expected, hint)
        self._document.unreadable.add(place)

    def _complain(self, line: int, place: Place, found: str, expected: str, hint: str = "") -> None:
        self._document.problems.append(
            Problem(line=line, place=place, found=found, expected=expected, hint=hint)
        )


def _odd_number(text: str) -> str:
    """What to write for a number that YAML 1.1 reads differently than people do; '' for any
    other."""
    if len(text) > 20:
        return ""
    if _OCTAL.fullmatch(text):
        decimal = str(int(text))
        if set(text) <= set("+-01234567"):
            return f"YAML reads it as octal {int(text, 8)}; write: {decimal}, or in quotes if text"
        return f"write: {decimal}, or in quotes if it is text"
    if _OTHER_BASE.fullmatch(text):
        try:
            return f"write: {int(text, 0)}, or in quotes if it is text"
        except ValueError:
            return ""
    return ""

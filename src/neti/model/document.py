"""Documents that cross a process, a disk or a version: a dataclass to plain JSON values and back.

A reader ignores keys that it does not know, because a newer version may have written them, and
gives the field's default for a key that is missing, because an older one may have. Anything else
that does not fit is a DocumentError that names the place. A document that must not be read by an
older version has a ``format`` of its own, which its reader looks at first.

Must never do: guess. A value of another type is refused, not converted; only an int may stand for a
float.
"""

import enum
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, Final, Literal, TypeVar, Union, cast

T = TypeVar("T")

_ADDRESSES = (IPv4Address, IPv6Address, IPv4Network, IPv6Network)
_PLAIN_ALREADY = frozenset({str, int, float, bool, type(None)})
_WORDS: Final[dict[str, str]] = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "NoneType": "null",
    "list": "a list",
    "dict": "an object",
    "IPv4Address": "an IPv4 address",
    "IPv6Address": "an IPv6 address",
    "IPv4Network": "an IPv4 network",
    "IPv6Network": "an IPv6 network",
}


class DocumentError(ValueError):
    """A document does not have the shape that its reader expects; says where."""


def plain(value: Any) -> Any:
    """A dataclass, and all that it holds, as what ``json`` can write."""
    if type(value) in _PLAIN_ALREADY:
        return value
    kind: Any = type(value)
    names = _names(kind)
    if names is not None:
        return {name: plain(getattr(value, name)) for name in names}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, _ADDRESSES):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    return value


@functools.cache
def _names(kind: Any) -> tuple[str, ...] | None:
    """Of a dataclass's fields; None: it is none."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else None


def read(kind: type[T], held: Any) -> T:
    """The dataclass ``kind`` from what ``json`` read. Raises DocumentError."""
    return cast("T", _read(kind, held, kind.__name__))


def _read(kind: Any, held: Any, where: str) -> Any:
    origin = typing.get_origin(kind)
    if origin in (Union, types.UnionType):
        return _one_of(typing.get_args(kind), held, where)
    if origin is Literal:
        if not isinstance(held, str) or held not in typing.get_args(kind):
            raise _wrong(where, held, f"one of {', '.join(map(str, typing.get_args(kind)))}")
        return held
    if origin is tuple:
        return _tuple(typing.get_args(kind), held, where)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(typing.get_args(kind)[1], held, where)
    if kind is Any:
        return held
    if is_dataclass(kind):
        return _dataclass(cast("type", kind), held, where)
    return _value(kind, held, where)


def _value(kind: Any, held: Any, where: str) -> Any:
    if kind is float and type(held) is int:
        return float(held)
    if kind is type(None) or kind in (bool, int, float, str):
        if type(held) is not kind:
            raise _wrong(where, held, _in_words(kind))
        return held
    try:
        if isinstance(held, str):
            return kind(held)
    except ValueError as error:
        raise DocumentError(f"{where}: expected {_in_words(kind)}") from error
    raise _wrong(where, held, _in_words(kind))


def _one_of(kinds: tuple[Any, ...], held: Any, where: str) -> Any:
    if held is None and type(None) in kinds:
        return None
    for kind in kinds:
        if kind is not type(None):
            try:
                return _read(kind, held, where)
            except DocumentError as error:
                last = error
    raise last


def _tuple(kinds: tuple[Any, ...], held: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(held, list | tuple):
        raise _wrong(where, held, "a list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        return tuple(_read(kinds[0], each, f"{where}[{n}]") for n, each in enumerate(held))
    if len(held) < len(kinds):
        raise _wrong(where, held, f"a list of {len(kinds)}")
    pairs = zip(kinds, held, strict=False)  # a newer version may have added one
    return tuple(_read(kind, each, f"{where}[{n}]") for n, (kind, each) in enumerate(pairs))


def _mapping(kind: Any, held: Any, where: str) -> dict[str, Any]:
    if not isinstance(held, Mapping):
        raise _wrong(where, held, "an object")
    return {str(key): _read(kind, each, f"{where}.{key}") for key, each in held.items()}


def _dataclass(kind: type, held: Any, where: str) -> Any:
    if not isinstance(held, Mapping):
        raise _wrong(where, held, "an object")
    values = {}
    for name, (hint, required) in _shape(kind).items():
        if name in held:
            values[name] = _read(hint, held[name], f"{where}.{name}")
        elif required:
            raise DocumentError(f"{where}: {name} is missing")
    return kind(**values)


@functools.cache
def _shape(kind: type) -> dict[str, tuple[Any, bool]]:
    """Each field's type, and whether it has no default."""
    hints = typing.get_type_hints(kind)
    return {
        field.name: (
            hints[field.name],
            field.default is MISSING and field.default_factory is MISSING,
        )
        for field in fields(kind)
        if field.init
    }


def _wrong(where: str, held: Any, expected: str) -> DocumentError:
    return DocumentError(f"{where}: expected {expected}, not {_in_words(type(held))}")


def _in_words(kind: Any) -> str:
    """For whoever reads the file, and not for Python."""
    name: str = kind.__name__
    return _WORDS.get(name, name)

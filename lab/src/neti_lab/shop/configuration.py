"""What each program of the shop is told: one frozen value per role, from JSON and back.

A document with anything wrong in it is refused as a whole: a program must never run on half of
what it was told. What the keys mean is in the package's own description.
"""

import dataclasses
import socket
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final, Self

from neti_lab import LabError
from neti_lab.shop import APP, CACHE, DATABASE, WEB

Document = dict[str, Any]

_TIERS: Final = ("app", "cache", "database")
_HIGHEST_PORT: Final = 65535
_HIGHEST_RATE: Final = 1000.0


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """Where a program is reached."""

    address: IPv4Address
    port: int

    @classmethod
    def parse(cls, text: object) -> Self:
        address, _, port = str(text).rpartition(":")
        try:
            endpoint = cls(IPv4Address(address), int(port))
        except ValueError as error:
            raise ValueError(f"{text!r} is not ADDRESS:PORT") from error
        if not 0 < endpoint.port <= _HIGHEST_PORT:
            raise ValueError(f"{text!r}: there is no such port")
        return endpoint

    def __str__(self) -> str:
        return f"{self.address}:{self.port}"


Endpoints = tuple[Endpoint, ...]


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text is wanted")
    return value


def _path(value: object) -> Path:
    path = Path(_text(value))
    if not path.is_absolute():
        raise ValueError(f"{value!r} is no absolute path")
    return path


def _port(value: object) -> int:
    """0 lets the kernel choose; the log says what it chose."""
    if type(value) is not int or not 0 <= value <= _HIGHEST_PORT:
        raise ValueError(f"{value!r} is no port")
    return value


def _rate(value: object) -> float:
    if type(value) not in (int, float) or not 0 < float(str(value)) <= _HIGHEST_RATE:
        raise ValueError(f"{value!r} is no rate between 0 and {_HIGHEST_RATE:.0f}")
    return float(str(value))


def _endpoints(value: object) -> Endpoints:
    if not isinstance(value, list):
        raise ValueError("a list is wanted")
    return tuple(Endpoint.parse(item) for item in value)


def _by_tier(value: object) -> Mapping[str, Endpoints]:
    if not isinstance(value, dict) or not set(value) <= set(_TIERS):
        raise ValueError(f"an object with the keys {', '.join(_TIERS)} is wanted")
    return {tier: _endpoints(targets) for tier, targets in value.items()}


def _key(read: Callable[[object], object], default: Any = MISSING) -> Any:
    """A field of a configuration and how its value is read; without a default it must be there."""
    return field(default=default, metadata={"read": read})


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What every role may be told."""

    # Network namespaces share the machine's host name: in the lab this is always given.
    host: str = field(default_factory=socket.gethostname, metadata={"read": _text})
    stats: Path | None = _key(_path, None)

    @classmethod
    def parse(cls, document: object) -> Self:
        """LabError when there is anything wrong with it. A key that is null is not there."""
        if not isinstance(document, dict):
            raise LabError("a JSON object is wanted")
        keys = {item.name: item for item in dataclasses.fields(cls)}
        if unknown := sorted(set(document) - set(keys)):
            raise LabError(f"{unknown[0]}: there is no such key")
        values: Document = {}
        for name, item in keys.items():
            if document.get(name) is not None:
                try:
                    values[name] = item.metadata["read"](document[name])
                except ValueError as error:
                    raise LabError(f"{name}: {error}") from error
            elif item.default is MISSING and item.default_factory is MISSING:
                raise LabError(f"{name}: is missing")
        return cls(**values)

    def to_document(self) -> Document:
        """The JSON document from which ``parse`` makes the same configuration."""
        values = ((item.name, getattr(self, item.name)) for item in dataclasses.fields(self))
        return {name: _json(value) for name, value in values if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class WebConfiguration(Configuration):
    apps: Endpoints = _key(_endpoints)
    port: int = _key(_port, WEB)


@dataclass(frozen=True, slots=True, kw_only=True)
class AppConfiguration(Configuration):
    database: Endpoint = _key(Endpoint.parse)
    cache: Endpoint = _key(Endpoint.parse)
    port: int = _key(_port, APP)


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfiguration(Configuration):
    port: int = _key(_port, CACHE)


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseConfiguration(Configuration):
    file: Path = _key(_path)
    control: Path = _key(_path)
    standby_of: Endpoint | None = _key(Endpoint.parse, None)
    port: int = _key(_port, DATABASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsersConfiguration(Configuration):
    webs: Endpoints = _key(_endpoints)
    rate: float = _key(_rate, 50.0)
    trace: Path | None = _key(_path, None)
    orders: Path | None = _key(_path, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientsConfiguration(Configuration):
    targets: Mapping[str, Endpoints] = _key(_by_tier)
    rate: float = _key(_rate, 20.0)
    trace: Path | None = _key(_path, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScannerConfiguration(Configuration):
    targets: Endpoints = _key(_endpoints)


def _json(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_json(item) for item in value]
    if isinstance(value, int | float | str):
        return value
    return str(value)

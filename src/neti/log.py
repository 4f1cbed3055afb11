"""Events as one line each, to the journal (stderr) or the configured file.

Text is ``name key=value …``; JSON is one object a line with the same names. Where stderr is the
journal, the line begins with its priority (sd-daemon(3)) and carries no time: the journal has both.

Values may be anybody's text: ``neti.text`` keeps each in its line.

Must never be given a secret: there is no filter here that would take it out again.
"""

import logging
import os
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from neti.errors import NetiError
from neti.text import json_document, logfmt, plain, printable

_LOGGER: Final = logging.getLogger("neti")
_LOGGER.addHandler(logging.NullHandler())  # else Python prints names alone where nobody configured
_STDERR: Final = 2
_UNEXPECTED_EVERY: Final = 60.0  # seconds between two lines about the same unexpected error
_MOST_SAID: Final = 200
_MOST_TRACE: Final = 8000
_MOST_KINDS: Final = 100
_unexpected: dict[tuple[str, str], tuple[float, int]] = {}  # when it was logged, how often not
# syslog's levels, as systemd reads them from the beginning of a line
_PRIORITIES: Final = {logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

Format = Literal["text", "json"]


def configure(log_file: Path | None, log_format: Format = "text") -> None:
    """Send events to ``log_file``, or to stderr, which systemd hands to the journal."""
    try:
        handler: logging.Handler = (
            logging.FileHandler(log_file) if log_file is not None else logging.StreamHandler()
        )
    except OSError as error:
        raise NetiError(f"log_file {log_file}: cannot be written: {error.strerror}") from error
    journal = log_file is None and stderr_is_the_journal(os.environ)
    handler.setFormatter(_Lines(log_format, journal=journal))
    _LOGGER.handlers[:] = [handler]
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False


def stderr_is_the_journal(environment: Mapping[str, str]) -> bool:
    """Not only whether systemd started this: stderr may lead elsewhere (sd-journal's own rule)."""
    device, _, inode = environment.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(_STDERR)
    except OSError:
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def info(name: str, **fields: Any) -> None:
    _LOGGER.info(name, extra={"fields": fields})


def warning(name: str, **fields: Any) -> None:
    _LOGGER.warning(name, extra={"fields": fields})


def error(name: str, **fields: Any) -> None:
    _LOGGER.error(name, extra={"fields": fields})


def unexpected(where: str, raised: BaseException) -> str:
    """Log what nobody thought of, with its traceback in the same line; the sentence to go on with.

    The same one again within a minute is only counted: what fails in a loop must not fill a disk.
    """
    said = printable(str(raised).replace("\n", " "), _MOST_SAID)  # it may quote somebody else
    what = f"unexpected error in {where}: {type(raised).__name__}" + (f": {said}" if said else "")
    key, now = (where, type(raised).__name__), time.monotonic()
    at, times = _unexpected.get(key, (-_UNEXPECTED_EVERY, 0))
    if now - at < _UNEXPECTED_EVERY:
        _unexpected[key] = (at, times + 1)
        return what
    if len(_unexpected) >= _MOST_KINDS:
        _unexpected.clear()
    _unexpected[key] = (now, 0)
    trace = "".join(traceback.format_exception(raised))
    error("unexpected", what=what, not_logged=times, traceback=trace[-_MOST_TRACE:])
    return what


class _Lines(logging.Formatter):
    def __init__(self, log_format: Format, *, journal: bool) -> None:
        super().__init__()
        self._format = log_format
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        name = record.getMessage()
        said = _json(record, name, fields) if self._format == "json" else line(name, fields)
        if self._journal:
            return f"<{_PRIORITIES.get(record.levelno, 6)}>{said}"
        if self._format == "json":
            return said
        return f"{self.formatTime(record)} {record.levelname} {said}"


def _json(record: logging.LogRecord, name: str, fields: dict[str, Any]) -> str:
    at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
    document = {"time": at, "level": record.levelname.lower(), "event": name}
    # A field may not hide what every line has.
    document |= {f"{key}_" if key in document else key: plain(v) for key, v in fields.items()}
    return json_document(document)


def line(name: str, fields: Mapping[str, Any]) -> str:
    """An event as text, in one line whatever the fields hold."""
    return " ".join([name, *(f"{key}={_value(value)}" for key, value in fields.items())])


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return logfmt(value)

"""Events as one line each, to the journal (stderr) or the configured file.

Text is ``name key=value …``; JSON is one object per line with the same names. If stderr is the
journal, the line starts with its priority (sd-daemon(3)) and has no time, because the journal adds
it.

Values may be anybody's text: ``neti.text`` keeps each on one line.

Must never be given a secret: nothing here filters it out.
"""

import contextlib
import logging
import logging.handlers
import os
import sys
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from neti.text import json_document, logfmt, plain, printable

_LOGGER: Final = logging.getLogger("neti")
_LOGGER.addHandler(logging.NullHandler())  # otherwise Python prints only names before configuration
_STDERR: Final = 2
_UNEXPECTED_EVERY: Final = 60.0  # seconds between lines about the same unexpected error
_MOST_SAID: Final = 200
_MOST_TRACE: Final = 8000
_MOST_KINDS: Final = 100
_unexpected: dict[
    tuple[str, str], tuple[float, int]
] = {}  # when it was logged, and how often it was suppressed since
# syslog's levels, which systemd reads from the start of a line
_PRIORITIES: Final = {logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}

Format = Literal["text", "json"]


def configure(log_file: Path | None, log_format: Format = "text") -> None:
    """Send events to ``log_file``, or to stderr, which systemd hands to the journal. A file that
    is moved away is made anew with the next line; what cannot be written to it goes to stderr."""
    journal = logging.StreamHandler()
    journal.setFormatter(_Lines(log_format, journal=stderr_is_the_journal(os.environ)))
    handler: logging.Handler = journal
    if log_file is not None:
        handler = _File(log_file, journal)
        handler.setFormatter(_Lines(log_format, journal=False))
    for former in _LOGGER.handlers:
        former.close()
    _LOGGER.handlers[:] = [handler]
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False


def fault() -> str | None:
    """Why lines do not get into ``log_file``; None: they do, or there is none."""
    faults = (one.fault for one in _LOGGER.handlers if isinstance(one, _File))
    return next((fault for fault in faults if fault is not None), None)


def reopen() -> None:
    """Open ``log_file`` anew, wherever the former one is now."""
    for one in _LOGGER.handlers:
        if isinstance(one, _File):
            one.open_anew()


class _File(logging.handlers.WatchedFileHandler):
    """Looks before each line whether the path still leads to the file that is open. ``fault``: why
    the last line is not in it."""

    def __init__(self, path: Path, beside: logging.Handler) -> None:
        super().__init__(path, delay=True)
        self._path = path
        self._beside = beside
        self.fault: str | None = None
        self.open_anew()

    def open_anew(self) -> None:
        with self.lock or contextlib.nullcontext():
            self.close()
            self._closed = False
            try:
                self.stream = self._open()
                self._statstream()
            except OSError as error:
                self._failed(error)
            else:
                self.fault = None

    def close(self) -> None:
        """What a full disk did not take is lost with it."""
        with contextlib.suppress(OSError):
            super().close()

    def emit(self, record: logging.LogRecord) -> None:
        self._written = True
        try:
            super().emit(record)
        except OSError as error:
            self._failed(error)
        if self._written:
            self.fault = None
        else:
            self._beside.emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, the base's name
        """What writing raised; by default it would print a traceback for each line."""
        error = sys.exc_info()[1]
        self._failed(error if isinstance(error, OSError) else OSError(0, str(error)))

    def _failed(self, error: OSError) -> None:
        self._written = False
        self.fault = (
            f"log_file {self._path}: cannot be written: {error.strerror}: events go to the journal"
        )


def stderr_is_the_journal(environment: Mapping[str, str]) -> bool:
    """Whether stderr is the journal. That systemd started this is not enough: stderr may lead
    elsewhere (rule of sd-journal)."""
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
    """Logs an unexpected error, with its traceback on the same line. Returns a sentence about it.

    The same error again within a minute is only counted, so that a loop cannot fill a disk.
    """
    said = printable(str(raised).replace("\n", " "), _MOST_SAID)  # it may quote foreign text
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
    # A field must not replace what every line has.
    document |= {f"{key}_" if key in document else key: plain(v) for key, v in fields.items()}
    return json_document(document)


def line(name: str, fields: Mapping[str, Any]) -> str:
    """An event as text, on one line whatever its fields contain."""
    return " ".join([name, *(f"{key}={_value(value)}" for key, value in fields.items())])


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return logfmt(value)

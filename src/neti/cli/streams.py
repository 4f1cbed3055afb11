"""Where a command's words go, when nobody takes them: a reader that has seen enough (head), a full
disk, a stream that the caller has closed.

The command goes on, and says at its end what became of its words: what it changes is never left
half done because of them. See docs/operations.md.

Must never do: end a command where it stands, or let a file of the command's own become its output.
"""

import contextlib
import errno
import io
import os
import signal
import sys
from typing import Any, Final, TextIO

READ_ENOUGH: Final = 128 + signal.SIGPIPE  # what a shell shows for a program that SIGPIPE ended
_CLOSED: Final = errno.EBADF


class _Stream(io.FileIO):
    """Never fails: after the first failure nothing is written any more."""

    failure: OSError | None = None

    def write(self, words: Any, /) -> int:
        if self.failure is None:
            try:
                return super().write(words)
            except OSError as error:
                self.failure = error
        return memoryview(words).nbytes


_stdout: _Stream | None = None


def heed() -> None:
    """From now on no output fails. Once in a process, at its beginning."""
    global _stdout  # of the process, as sys.stdout is
    _occupy()
    _stdout, sys.stdout = _heeded(sys.stdout, 1)
    _, sys.stderr = _heeded(sys.stderr, 2)


def _occupy() -> None:
    """A closed stream's number would be that of the next file that is opened, such as a state file,
    and what is printed would stand in there. Of the null device nobody can write to one that is
    opened for reading, so that it is heard that nobody reads."""
    for number, way in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            with contextlib.suppress(OSError):  # no descriptors: then nothing else opens, either
                os.open(os.devnull, way)


def _heeded(stream: TextIO | None, number: int) -> tuple[_Stream, TextIO]:
    raw = _Stream(number, "w", closefd=False)
    made = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding if stream is not None else "utf-8",
        errors=stream.errors if stream is not None else "backslashreplace",
        line_buffering=True,
    )
    return raw, made


def lost() -> bool:
    """Whether nobody takes the words any more: who only shows something may stop."""
    return _stdout is not None and _stdout.failure is not None


def failure() -> OSError | None:
    """Why words were lost."""
    if _stdout is not None:
        sys.stdout.flush()
    return _stdout.failure if _stdout is not None else None


def in_words(error: OSError) -> str:
    if error.errno == _CLOSED:
        return "standard output is closed"
    return error.strerror or str(error)

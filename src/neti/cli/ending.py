"""How a command ends when something is wrong: a sentence, and no traceback.

Must never: hide what happened from whoever mends it (``--debug``, NETI_DEBUG=1, and always in the
journal of a service), or fail itself.
"""

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar, Final

import click

from neti.cli import streams
from neti.cli.output import explain, print_json
from neti.control.aside import ASIDES
from neti.control.client import AgentForbidden, AgentSilent, AgentStarting, AgentUnreachable
from neti.errors import (
    AwsRefused,
    AwsUnavailable,
    ConfigError,
    DataplaneError,
    NetiError,
    RegistryError,
    RegistryUnavailable,
)

SERVICES: Final = frozenset({"agent", "zk-proxy"})  # their traceback belongs in the journal
_NO: Final = frozenset({"", "0", "no", "false"})


class OutputFailed(NetiError):
    """Who should read cannot: a full disk, most likely. What the command did is done."""


class Interrupted(NetiError):
    """Ctrl-C, with a sentence about what has become of what was asked for."""

    exit_code: ClassVar[int] = 130


@contextmanager
def if_interrupted(sentence: str) -> Iterator[None]:
    """Say this when Ctrl-C ends what is done inside."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(f"stopped by Ctrl-C: {sentence}") from None


def name_who_hangs() -> None:
    """Whoever waited for this host's agent, and went on without it, has to know."""
    hangs = ASIDES.in_vain()
    if hangs is not None and not isinstance(sys.exception(), AgentSilent):
        what, *steps = hangs.splitlines()
        without = (
            "so this command lacks what only the agent knows, such as who is lost and since when"
        )
        explain("\n".join([what, without, *steps]))


def ended_by(
    error: BaseException, *, debug: bool, command: str | None, as_json: bool = False
) -> int:
    """Say why a command ends, on stderr; its exit code."""
    with suppress(Exception):  # stderr is gone as well: the exit code is left
        expected = isinstance(error, NetiError | KeyboardInterrupt)
        unexpected_in_service = command in SERVICES and not expected
        if debug or wants_traceback() or unexpected_in_service:
            traceback.print_exception(error)
        if as_json:
            print_json(_document(error, command), indent=None, err=True)
        else:
            explain(_sentences(error, command), "bad")
    match error:
        case NetiError() | click.ClickException():
            return error.exit_code
    return _EXIT.get(type(error), 1)


def ended_with(code: str | int | None) -> str | int | None:
    """The exit code of a process whose command ended with ``code``: also of one whose words nobody
    took. A command's own failure is more than that."""
    lost = streams.failure()
    if lost is None:
        return code
    if isinstance(lost, BrokenPipeError):
        return code or streams.READ_ENOUGH
    failed = OutputFailed(f"the output could not be written: {streams.in_words(lost)}")
    said = ended_by(failed, debug=False, command=None, as_json="--json" in sys.argv)
    return code or said


# The first that fits; for programs, so these words stay (docs/operations.md).
_CODES: Final[tuple[tuple[type[BaseException], str], ...]] = (
    (click.ClickException, "usage"),
    (click.Abort, "not_confirmed"),
    (EOFError, "not_confirmed"),
    (KeyboardInterrupt, "interrupted"),
    (Interrupted, "interrupted"),
    (OutputFailed, "output"),
    (ConfigError, "configuration"),
    (AgentForbidden, "not_permitted"),
    (AgentSilent, "agent_hangs"),
    (AgentStarting, "agent_starts"),
    (AgentUnreachable, "no_agent"),
    (RegistryUnavailable, "no_registry"),
    (RegistryError, "registry_refused"),
    (DataplaneError, "kernel_refused"),
    (AwsUnavailable, "no_aws"),
    (AwsRefused, "aws_refused"),
    (NetiError, "refused"),
    (PermissionError, "not_permitted"),
    (OSError, "system"),
    (MemoryError, "system"),
    (BaseException, "bug"),
)


def _document(error: BaseException, command: str | None) -> dict[str, dict[str, str | None]]:
    """``{"error": {"code", "message", "hint"}}``; a hint is the next steps, each on its line."""
    lines = _sentences(error, command).splitlines()
    hints = [line.removeprefix("→ ") for line in lines if line.startswith("→ ")]
    return {
        "error": {
            "code": next(code for kind, code in _CODES if isinstance(error, kind)),
            "message": "\n".join(line for line in lines if not line.startswith("→ ")),
            "hint": "\n".join(hints) or None,
        }
    }


_EXIT: Final[dict[type[BaseException], int]] = {KeyboardInterrupt: 130}


def wants_traceback() -> bool:
    return os.environ.get("NETI_DEBUG", "").lower() not in _NO


def _sentences(error: BaseException, command: str | None) -> str:
    match error:
        case NetiError():
            return str(error)
        case click.ClickException():
            return error.format_message()
        case KeyboardInterrupt():
            return "stopped by Ctrl-C"
        case click.Abort() | EOFError():
            return "stopped: you did not answer yes, so nothing was changed"
        case PermissionError() if os.geteuid() != 0:
            return f"{_of(error)}\n→ run this as root"
        case OSError():
            return _of(error)
        case MemoryError():
            return "this machine is out of memory"
    line = " ".join(["neti", "--debug", command or "…"])
    said = " ".join(str(error).split())
    return (
        f"{type(error).__name__}{': ' if said else ''}{said}. This is a bug in Neti: please report "
        f"it to the project\n→ '{line}' shows the traceback, which belongs in the report"
    )


def _of(error: OSError) -> str:
    why = error.strerror or str(error) or type(error).__name__
    return f"{error.filename}: {why}" if error.filename else why

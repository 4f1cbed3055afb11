"""Events as one line each, ``name key=value …``, to the journal (stderr) or the configured file.

Must never be given a secret: there is no filter here that would take it out again.
"""

import logging
from pathlib import Path
from typing import Any, Final

from neti.errors import NetiError

_LOGGER: Final = logging.getLogger("neti")


def configure(log_file: Path | None) -> None:
    """Send events to ``log_file``, or to stderr, which systemd hands to the journal."""
    try:
        handler: logging.Handler = (
            logging.FileHandler(log_file) if log_file is not None else logging.StreamHandler()
        )
    except OSError as error:
        raise NetiError(f"log_file {log_file}: cannot be written: {error.strerror}") from error
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _LOGGER.handlers[:] = [handler]
    _LOGGER.setLevel(logging.INFO)
    _LOGGER.propagate = False


def info(name: str, **fields: Any) -> None:
    _LOGGER.info("%s", _line(name, fields))


def warning(name: str, **fields: Any) -> None:
    _LOGGER.warning("%s", _line(name, fields))


def error(name: str, **fields: Any) -> None:
    _LOGGER.error("%s", _line(name, fields))


def _line(name: str, fields: dict[str, Any]) -> str:
    return " ".join([name, *(f"{key}={_value(value)}" for key, value in fields.items())])


def _value(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    if text and not any(character.isspace() or character in '"=' for character in text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'

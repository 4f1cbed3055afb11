"""The key ``labels``: its keys and values. Pure."""

from typing import Any, Final

from neti.config.problems import Said, Unfit
from neti.model.labels import LABEL_KEY, MOST_LABELS, MOST_VALUE_BYTES, is_value

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "propertyNames": {"pattern": f"^{LABEL_KEY.pattern}$"},
    "additionalProperties": {"type": ["string", "integer"], "minLength": 1},
    "maxProperties": MOST_LABELS,
    "default": {},
}
_KEY: Final = "a label's name: 1 to 32 of a-z, 0-9, '-' and '_', starting with a letter"
_VALUE: Final = f"one line of 1 to {MOST_VALUE_BYTES} bytes, without space around it"


def key(value: object) -> str:
    if isinstance(value, str) and LABEL_KEY.fullmatch(value):
        return value
    meant = value.strip().lower().replace(" ", "-") if isinstance(value, str) else ""
    raise Unfit(value, _KEY, write=meant if LABEL_KEY.fullmatch(meant) else None)


def text(value: object) -> str:
    """Whole numbers count as text: ``rack: 12``. What YAML takes for something else (``yes``,
    ``1.10``) has lost what was written."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, str) and is_value(value):
        return value
    if isinstance(value, bool | float):
        raise Unfit(value, f"text, in quotes ({_VALUE})")
    raise Unfit(value, _VALUE)


def few(value: object) -> object:
    if isinstance(value, dict) and len(value) > MOST_LABELS:
        raise Unfit(Said(f"{len(value)} labels"), f"at most {MOST_LABELS}")
    return value

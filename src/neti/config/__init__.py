"""neti.yml to Settings. Touches nothing but the file, and raises nothing but ConfigError.

The way: ``file`` (bytes to text) → ``source`` (text to values with line numbers) → ``schema`` and
``validate`` (types) → ``convert`` (Settings) → ``rules`` (how keys fit together) → ``warnings``.
YAML and pydantic are imported by ``load``, not by importing this package, because most commands
that mention the configuration never read one.
"""

import dataclasses
import os
from pathlib import Path
from typing import Any, Final

from neti.model.settings import Settings

DEFAULT_PATH: Final = Path("/etc/neti/neti.yml")

__all__ = ["DEFAULT_PATH", "json_schema", "load"]

# Otherwise pydantic looks through every distribution on the machine for plugins of its own, and
# runs them: a sixth of the time that a configuration takes, and code that nobody asked for.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")


def load(path: Path) -> Settings:
    """The settings in the file; ConfigError lists everything that is wrong with it."""
    from neti.config import convert, file, rules, source
    from neti.config.problems import at, refuse
    from neti.config.validate import validate
    from neti.config.warnings import warnings

    content = file.read(path)
    document = source.read(content.text)
    valid = validate(document)
    settings, misnamed = convert.settings(valid.form, path)
    unfit = [*misnamed, *rules.findings(settings, valid.failed | {str(k[0]) for k, _ in misnamed})]
    problems = [
        *document.problems,
        *valid.problems,
        *(at(place, document.line_of(place), reason) for place, reason in unfit),
    ]
    if problems:
        raise refuse(path, problems)
    told = [*warnings(valid.form, settings, readable_by_all=content.readable_by_all)]
    if content.writable_by_all:
        told.append(f"everyone can write to {path}, and so decide who gets in: chmod o-w {path}")
    return dataclasses.replace(settings, warnings=tuple(told))


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of neti.yml, for editors and configuration management."""
    from neti.config.descriptions import describe, limits
    from neti.config.schema import ConfigForm

    made = limits(ConfigForm.model_json_schema())
    describe(made)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **made,
        "title": "neti.yml",
    }

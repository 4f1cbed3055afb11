"""In each Python that a playbook of the tests starts: a module that Ansible sends is compiled once.

Ansible sends a module and its fifty helpers as sources in a zip file, and from there Python
compiles them anew for every task on every host: most of what a task costs. What is compiled is
kept by what the source says. Must never do: run anything but just that source, or matter where it
is missing.
"""

import contextlib
import marshal
import os
import zipimport
from importlib.util import source_hash
from types import CodeType
from typing import Any

_FOLDER = os.environ.get("NETI_TEST_COMPILED", "")
_compile: Any = getattr(zipimport, "_compile_source", None)


def _compiled_once(path: str, source: bytes) -> CodeType:
    kept = os.path.join(_FOLDER, f"{os.path.basename(path)}.{source_hash(source).hex()}")
    with contextlib.suppress(OSError, EOFError, ValueError, TypeError), open(kept, "rb") as file:
        found = marshal.loads(file.read())
        if isinstance(found, CodeType):
            return found
    code: CodeType = _compile(path, source)
    with contextlib.suppress(OSError):
        scratch = f"{kept}.{os.getpid()}"
        with open(scratch, "wb") as file:
            file.write(marshal.dumps(code))
        os.replace(scratch, kept)
    return code


if _FOLDER and _compile is not None:
    zipimport._compile_source = _compiled_once  # type: ignore[attr-defined]

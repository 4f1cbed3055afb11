"""``neti support``: what a bug report needs of this host, in one file without secrets.

Each part is found by itself: one that cannot be had says why, and keeps no other from being had.

Must never do: change anything, wait for long for anybody, or hand on a text that was not scrubbed.
"""

import dataclasses
import io
import json
import os
import platform
import re
import socket
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from neti import __version__, files
from neti.build import installed
from neti.control import client
from neti.dataplane.nftables import NftablesDataplane
from neti.errors import ConfigError, NetiError
from neti.host.journal import last_lines
from neti.model.document import plain, read
from neti.model.settings import Settings
from neti.monitoring import exposition
from neti.monitoring.figures import Figures
from neti.monitoring.status import Status, status_of
from neti.oneshot.support_secrets import scrubber
from neti.state.last_good import load_or_last_good
from neti.text import plain_name
from neti.words import why

_PATIENCE: Final = 3.0  # seconds for the agent's answer to each question
_LOG_BYTES: Final = 1 << 20
_LIBRARIES: Final = ("click", "cryptography", "kazoo", "prometheus_client", "pydantic", "PyYAML")
_NOT_SHOWN: Final = frozenset({"aws_key", "aws_secret_key"})
_PLACE: Final = re.compile(r"(.*?:\d+): ([A-Za-z0-9_.\[\]-]+): ")
MANIFEST: Final = "MANIFEST"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file of it. ``missing``: why it could not be had; empty: it is there."""

    name: str
    what: str
    text: str = ""
    missing: str = ""


@dataclass(frozen=True, slots=True)
class _Host:
    config: Path
    settings: Settings | None
    refused: ConfigError | None

    @property
    def in_force(self) -> Settings:
        if self.settings is None:
            raise NetiError("no valid configuration is known here")
        return self.settings

    def ask(self, command: str) -> Any:
        return client.call(self.in_force.table_files_path, command, within=_PATIENCE)


def parts(config: Path) -> list[Part]:
    """All of them, scrubbed; the last one is the manifest."""
    settings, refused = None, None
    try:
        settings, refused = load_or_last_good(config)
    except ConfigError as error:
        refused = error
    host, scrub = _Host(config, settings, refused), scrubber(config, settings, str(refused or ""))
    found = []
    for name, what, look in _WANTED:
        try:
            found.append(Part(name=name, what=what, text=scrub(look(host))))
        except Exception as error:  # a report about a fault must not end with it
            found.append(Part(name=name, what=what, missing=scrub(_sentence(error))))
    return [*found, Part(name=MANIFEST, what="this list", text="".join(_manifest(found)))]


def named() -> str:
    """After this host and this second."""
    host = plain_name(socket.gethostname()) or "host"
    return f"neti-support-{host}-{time.strftime('%Y%m%d-%H%M%S')}"


def archive(of: list[Part], name: str) -> bytes:
    """A tar.gz with all in one folder of this name, each readable by its owner alone."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for part in of:
            if not part.missing:
                body = part.text.encode(errors="replace")
                entry = tarfile.TarInfo(f"{name}/{part.name}")
                entry.size, entry.mode, entry.mtime = len(body), 0o600, int(time.time())
                tar.addfile(entry, io.BytesIO(body))
    return packed.getvalue()


def refuse_what_is_there(path: Path) -> None:
    """Before anything is gathered, which takes a while. Raises NetiError."""
    if path.exists() or path.is_symlink():
        raise _not_written(path, FileExistsError())


def write(path: Path, content: bytes) -> None:
    """A new file that only its owner may read; nothing stays of one that has no room. Raises
    NetiError."""
    try:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _not_written(path, error) from error
    try:
        with open(number, "wb") as written:
            written.write(content)
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        raise _not_written(path, error) from error


def _not_written(path: Path, error: OSError) -> NetiError:
    if path.exists():
        return NetiError(
            f"{path} is there already, and may be somebody's\n→ neti support --output, another file"
        )
    return NetiError(
        f"{path} cannot be written: {why(error)}\n"
        "→ neti support --output - > FILE, on a disk that has room, or through ssh to another "
        "machine"
    )


def _manifest(found: list[Part]) -> Iterator[str]:
    width = max(len(part.name) for part in found)
    for part in found:
        missing = f" NOT THERE: {' '.join(part.missing.split())}" if part.missing else ""
        yield f"{part.name:<{width}}  {part.what}.{missing}\n"


def _sentence(error: Exception) -> str:
    if isinstance(error, NetiError):
        return str(error).partition("\n")[0]
    return why(error) if isinstance(error, OSError) else f"{type(error).__name__}: {why(error)}"


# --- the parts ---


def _versions(_: _Host) -> str:
    found = {
        "neti": f"{__version__} ({installed()})",
        "python": sys.version.replace("\n", " "),
        "kernel": " ".join(platform.uname()[index] for index in (0, 2, 3, 4)),
    }
    with suppress(OSError):
        found["system"] = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    for library in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            found[library] = metadata.version(library)
    return "".join(f"{name}: {version}\n" for name, version in found.items())


def _configuration(host: _Host) -> str:
    """What is in force, and no text of the file: there may be anything in it."""
    settings = host.in_force
    held = {
        one.name: plain(getattr(settings, one.name))
        for one in dataclasses.fields(settings)
        if one.name not in _NOT_SHOWN
    }
    said = {name: getattr(settings, name) is not None for name in sorted(_NOT_SHOWN)}
    return _json({**held, "set": said})


def _mistakes(host: _Host) -> str:
    """Where they are. Not what stands there, which may be a secret in the wrong place."""
    if host.refused is None:
        return "the file is valid\n"
    lines = [_PLACE.match(line) for line in str(host.refused).splitlines()]
    places = [f"{found[1]}: {found[2]}\n" for found in lines if found is not None]
    return "the file is refused; the values are left out\n" + "".join(places)


def _status(host: _Host) -> str:
    return _json(host.ask("status"))


def _members(host: _Host) -> str:
    return _json(host.ask("members"))


def _metrics(host: _Host) -> str:
    return exposition.text(read(Figures, host.ask("metrics"))).decode()


def _check(host: _Host) -> str:
    from neti.monitoring.situation import Limits
    from neti.oneshot.look import verdict

    def ask(folder: Path) -> Status:
        return status_of(client.call(folder, "status", within=_PATIENCE))

    return _json(plain(verdict(host.config, Limits(), None, ask)))


def _plan(host: _Host) -> str:
    from neti.oneshot.plan import difference

    return _json(plain(difference(host.in_force)))


def _table(_: _Host) -> str:
    with closing(NftablesDataplane()) as dataplane:
        return _json(plain(dataplane.read()))


def _state(host: _Host) -> str:
    folder = host.in_force.table_files_path
    lines = []
    for path in sorted(folder.iterdir()):
        held = path.lstat()
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(held.st_mtime))
        lines.append(f"{held.st_mode:o} {held.st_uid} {held.st_size:>10} {when} {path.name!r}\n")
    return "".join(lines)


def _journal(_: _Host) -> str:
    return last_lines("neti.service")


def _log_file(host: _Host) -> str:
    path = host.in_force.log_file
    if path is None:
        raise NetiError("neti.yml has no log_file")
    # The last good copy is the agent's user's, who may name a file there that is root's alone.
    its = None if host.refused is None else host.in_force.table_files_path.stat().st_uid
    return files.read_end(path, _LOG_BYTES, owner=its).decode(errors="replace")


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, default=str) + "\n"


_WANTED: Final[tuple[tuple[str, str, Callable[[_Host], str]], ...]] = (
    ("versions.txt", "versions of Neti, its libraries and the kernel", _versions),
    ("configuration.json", "the configuration in force, without AWS keys", _configuration),
    ("configuration-mistakes.txt", "where neti.yml is not valid", _mistakes),
    ("status.json", "what the agent says: neti status --json", _status),
    ("members.json", "the members that it knows", _members),
    ("metrics.txt", "its figures: neti metrics", _metrics),
    ("check.json", "what is wrong: neti check", _check),
    ("plan.json", "what it would change in the kernel: neti plan --json", _plan),
    ("table.json", "table inet neti as the kernel has it", _table),
    ("state.txt", "names, sizes and times of the files in table_files_path", _state),
    ("journal.txt", "the agent's last lines in the journal", _journal),
    ("log.txt", "the end of log_file", _log_file),
)

"""A machine with the package's tree, for what hosts of all kinds do to it: see
tests/package/test_foreign_host.py and test_foreign_names.py."""

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support import machine, own_dns
from tests.support.machine import Machine, wait

PYTHON: Final = "/opt/neti/bin/python3"
NETI: Final = "/opt/neti/bin/neti"


@contextmanager
def machine_with(tarball: Path, root: Path) -> Iterator[Machine]:
    """The archive is unpacked in /mnt/files/neti, by a tar that makes all of it root's alone."""
    folder = Path(tempfile.mkdtemp(prefix="neti-machine-"))
    folder.chmod(0o755)
    (folder / "files/neti").mkdir(parents=True)
    words = ["tar", "xzf", str(tarball), "--no-same-permissions", "--strip-components=1"]
    subprocess.run([*words, "-C", str(folder / "files/neti")], check=True, umask=0o077)
    shutil.copy(own_dns.__file__, folder / "files/own_dns.py")
    try:
        with machine.booted(root, folder, degraded=True) as booted:
            booted.run("ip", "link", "set", "lo", "up")
            yield booted
    finally:
        shutil.rmtree(folder)


def run_with(
    host: Machine, environment: Mapping[str, str], *words: str, check: bool = True
) -> "subprocess.CompletedProcess[str]":
    return host.run("env", *(f"{k}={v}" for k, v in environment.items()), *words, check=check)


def python(host: Machine, text: str, *words: str, **environment: str) -> str:
    """What a program for the bundle's Python prints."""
    return run_with(host, environment, PYTHON, "-I", "-c", text, *words).stdout.strip()


def found(host: Machine, *names: str) -> dict[str, list[str]]:
    """By name its addresses, as the agent asks for those of registry servers."""
    text = (
        "import json, socket, sys\n"
        "def ask(name):\n"
        "    try: found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)\n"
        "    except OSError: return []\n"
        "    return sorted({one[4][0] for one in found})\n"
        "print(json.dumps({name: ask(name) for name in sys.argv[1:]}))"
    )
    answer: dict[str, list[str]] = json.loads(python(host, text, *names))
    return answer


def name_server(host: Machine, *addresses: str) -> Path:
    """Starts tests/support/own_dns.py there. What it was asked is written in the returned file."""
    log = host.files / "asked"
    log.unlink(missing_ok=True)
    host.run("systemctl", "stop", "names.service", check=False)
    program = (PYTHON, "-I", "/mnt/files/own_dns.py", f"/mnt/files/{log.name}", *addresses)
    host.run("systemd-run", "--collect", "--unit=names", *program)
    wait(log.exists, "the name server listens")
    return log


def mapped(host: Machine, pid: str) -> set[str]:
    """The files that are mapped into a process, but for those below /opt."""
    lines = host.path(f"/proc/{pid}/maps").read_text().splitlines()
    files = {line.split(maxsplit=5)[5] for line in lines if len(line.split(maxsplit=5)) > 5}
    return {file for file in files if file.startswith("/") and not file.startswith("/opt/neti/")}

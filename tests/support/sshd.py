"""A real sshd in a namespace of the test, with keys, a user and a sudoers file of its own.

``ip netns exec`` gives it a mount namespace too, so the user and sudo's rule are mounted over the
machine's files for it alone, and the machine has neither.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.netns import Net

USER = "neti-operator"
_UID = 42420
_SCRIPT = """\
mkdir -p /run/sshd
for name in passwd shadow group sudoers; do mount --bind {folder}/$name /etc/$name; done
exec {sshd} -D -e -f {folder}/sshd_config
"""
_CONFIG = """\
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PermitRootLogin prohibit-password
PasswordAuthentication no
AllowTcpForwarding yes
"""


@dataclass(frozen=True)
class Sshd:
    net: Net
    folder: Path
    port: int

    def ssh(
        self, *command: str, user: str, source: str, to: str, options: tuple[str, ...] = ()
    ) -> str:
        """What the command printed on the host, typed from one of the outside's addresses."""
        done = subprocess.run(
            [*self.line(user, source, to, *options), *command],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def line(self, user: str, source: str, to: str, *options: str) -> list[str]:
        quiet = ["UserKnownHostsFile=/dev/null", "StrictHostKeyChecking=no", "LogLevel=ERROR"]
        inside = ["ip", "netns", "exec", self.net.outside, "ssh", "-F", "none", "-b", source]
        settings = [word for setting in quiet for word in ("-o", setting)]
        key = ["-i", str(self.folder / "key"), "-p", str(self.port)]
        return [*inside, *settings, *key, *options, f"{user}@{to}"]


def require_sshd() -> None:
    # Debian has sshd where a user's PATH does not look.
    missing = [name for name in ("sshd", "ssh", "sudo") if _path(name) is None]
    if missing:
        reason = f"{', '.join(missing)} not installed: scripts/system-packages installs them"
        if os.environ.get("CI") == "true":
            pytest.fail(f"cannot run in CI: {reason}")
        pytest.skip(reason)


@contextmanager
def sshd(net: Net, port: int) -> Iterator[Sshd]:
    """Listening when the block begins."""
    folder = Path(tempfile.mkdtemp(prefix="neti-sshd-"))  # pytest's own are closed to other users
    try:
        folder.chmod(0o755)
        _files(folder, port)
        script = _SCRIPT.format(folder=folder, sshd=_path("sshd"))
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", net.host, "sh", "-euc", script], stderr=log
            )
        try:
            _wait_for(folder / "log", process)
            yield Sshd(net, folder, port)
        finally:
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(folder)


def _files(folder: Path, port: int) -> None:
    for name in ("host_key", "key"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    shutil.copy(folder / "key.pub", folder / "user_key.pub")
    (folder / "user_key.pub").chmod(0o644)
    (folder / "sshd_config").write_text(_CONFIG.format(port=port, folder=folder))
    lines = {
        "passwd": f"{USER}:x:{_UID}:{_UID}::/tmp:/bin/sh\n",
        "group": f"{USER}:x:{_UID}:\n",
        "shadow": f"{USER}:*:20000:0:99999:7:::\n",
    }
    for name, line in lines.items():
        (folder / name).write_text(Path("/etc", name).read_text() + line)
    (folder / "shadow").chmod(0o640)
    (folder / "sudoers").write_text(f"root ALL=(ALL) ALL\n{USER} ALL=(ALL) NOPASSWD: ALL\n")
    (folder / "sudoers").chmod(0o440)


def _wait_for(log: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 20
    while b"Server listening" not in log.read_bytes():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, "sshd does not listen: " + log.read_text()
        time.sleep(0.05)


def _path(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")


PYTHON = sys.executable
SAY_SESSION = Path(__file__).with_name("say_session.py")

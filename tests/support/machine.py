"""A whole machine to try the package on: a clean root file system, systemd as its first process.

Own process, mount, network, host name and control group namespaces over an overlay file system in
memory, so nothing of it is left and the root file system below can be used again. As systemd in a
container has it (CONTAINER_INTERFACE of systemd.io): /sys and /proc/sys are read-only but for the
network's part.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# What /etc/neti/neti.yml of one host by itself may have.
CONFIG: Final = """\
registry: embedded:/var/lib/neti/registry.db
identity: {id: a, private: 10.0.0.5}
site: ec2
sites: {ec2: {private: [10.0.0.0/8]}, vpc: {private: [10.0.0.0/8]}}
ssh_whitelist: [10.0.0.77/32]
"""
_CGROUPS: Final = Path("/sys/fs/cgroup")

_FIRST: Final = r"""
set -e
lower=$1 work=$2 files=$3
shift 3
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs "$work"
mkdir "$work/upper" "$work/work" "$work/root"
root=$work/root
mount -t overlay -o "lowerdir=$lower,upperdir=$work/upper,workdir=$work/work" overlay "$root"
mkdir -p "$root/mnt/files"
mount --bind "$files" "$root/mnt/files"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
    touch "$root/dev/$node"
    mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs tmpfs "$root/dev/shm"
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
mount -o remount,bind,ro "$root/proc/sys"
mount -o remount,bind,rw "$root/proc/sys/net"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 none "$root/sys/fs/cgroup"
ip link set lo up
hostname neti-test
cd "$root"
mkdir -p .former
pivot_root . .former
umount -l /.former
# As systemd does on real machines only; credentials of units need it.
mount --make-rshared /
exec env -i container=neti-test PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --show-status=no systemd.unified_cgroup_hierarchy=1 "$@"
"""


@dataclass(frozen=True)
class Machine:
    """``pid``: of its systemd, as seen from here. ``files``: is /mnt/files inside."""

    pid: int
    files: Path

    def run(
        self, *words: str, check: bool = True, timeout: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            ["nsenter", "--target", str(self.pid), "--all", "--wd=/", "--", *words],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
        )
        if check:
            assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done

    def out(self, *words: str, check: bool = True) -> str:
        return self.run(*words, check=check).stdout.strip()

    def path(self, inside: str) -> Path:
        return Path(f"/proc/{self.pid}/root") / inside.lstrip("/")


def wait(condition: Callable[[], object], what: str, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)


@contextmanager
def booted(
    lower: Path, folder: Path, *kernel_words: str, degraded: bool = False
) -> Iterator[Machine]:
    """``folder``: an empty one; ``kernel_words`` go to systemd as if from the boot loader;
    ``degraded``: units of the machine's own may fail."""
    work, files = folder / "work", folder / "files"
    work.mkdir(parents=True)
    files.mkdir(exist_ok=True)
    group = _own_group()
    enter = ["bash", "-c", 'echo 0 >"$0/cgroup.procs" && exec "$@"', str(group)]
    unshare = ["unshare", "--pid", "--fork", "--mount", "--uts", "--ipc", "--net", "--cgroup"]
    first = ["--kill-child", "bash", "-c", _FIRST, "boot", str(lower), str(work), str(files)]
    with (folder / "boot.log").open("wb") as log:
        outer = subprocess.Popen([*enter, *unshare, *first, *kernel_words], stdout=log, stderr=log)
    try:
        yield _ready(outer, folder, files, {"running", *(["degraded"] if degraded else [])})
    finally:
        outer.kill()  # and with --kill-child, its systemd and everybody below it
        outer.wait(timeout=30)
        _remove(group)


def _own_group() -> Path:
    """Of version 2, wherever this machine has that: the machine sees it as the root of all."""
    top = _CGROUPS / "unified" if (_CGROUPS / "unified").is_dir() else _CGROUPS
    group = top / f"neti-test-{os.getpid()}"
    group.mkdir(exist_ok=True)
    return group


def _remove(group: Path) -> None:
    def gone() -> bool:
        try:
            for inner in sorted(group.rglob("*/"), key=lambda p: -len(p.parts)):
                inner.rmdir()
            group.rmdir()
        except OSError:
            return not group.exists()
        return True

    wait(gone, f"{group} is empty")


def _ready(
    outer: "subprocess.Popen[bytes]", folder: Path, files: Path, states: set[str]
) -> Machine:
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    found: list[int] = []

    def begun() -> bool:
        assert outer.poll() is None, (folder / "boot.log").read_text()
        found[:] = [int(word) for word in children.read_text().split()]
        return bool(found) and "systemd" in Path(f"/proc/{found[0]}/comm").read_text()

    wait(begun, "systemd runs")
    machine = Machine(found[0], files)
    wait(
        lambda: machine.out("systemctl", "is-system-running", check=False) in states,
        "the machine is up",
    )
    return machine


def stop(machine: Machine) -> None:
    """As the power button does: an orderly shutdown, waited for."""
    os.kill(machine.pid, signal.SIGRTMIN + 4)  # systemd(1): starts poweroff.target
    wait(lambda: not Path(f"/proc/{machine.pid}/ns").exists(), "the machine is off", 60)

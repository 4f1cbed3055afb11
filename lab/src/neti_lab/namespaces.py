"""The only door to the kernel's network namespaces: build, enter, find, delete.

Must never do: act on a namespace whose name was not given, or change the machine's own.
"""

import ctypes
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from neti_lab import LabError
from neti_lab.wiring import Node, Wiring

T = TypeVar("T")

_FOLDER: Final = Path("/run/netns")  # where ``ip netns`` keeps them
_CLONE_NEWNET: Final = 0x40000000
_CLONE_NEWUTS: Final = 0x04000000
_libc: Final = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12 only
_PACKAGES: Final = {"ip": "iproute2", "nft": "nftables"}
_SETUP_THREADS: Final = 4


def require() -> None:
    """LabError in one sentence unless this process can build a lab."""
    for program, package in _PACKAGES.items():
        if _path(program) is None:
            raise LabError(
                f"the lab needs the program {program!r}: install Debian's package {package!r}"
            )
    if os.geteuid() != 0:
        raise LabError("the lab builds network namespaces, which only root may: run it with sudo")


def build(wiring: Wiring) -> None:
    """Make everything in ``wiring``. What was made stays when a step fails: the caller deletes."""
    _ip(f"netns add {name}" for name in wiring.create)
    new = set(wiring.create)
    for node in wiring.nodes:
        if node.namespace in new and node.sysctls:
            call_inside(node.namespace, partial(_write_sysctls, node.sysctls))
    # From inside a namespace of the lab, so that not even for an instant a link is elsewhere.
    _ip(wiring.links, inside=wiring.nodes[0].namespace)
    with ThreadPoolExecutor(_SETUP_THREADS) as pool:
        list(pool.map(_furnish, wiring.nodes))


def load_rules(name: str, rules: str) -> None:
    """Load nftables rules inside the namespace, in one transaction."""
    _run(command_inside(name, [_path("nft") or "nft", "-f", "-"]), rules)


def delete(names: Iterable[str]) -> None:
    """Delete those of ``names`` that exist; LabError when one still does afterwards."""
    names = [name for name in names if (_FOLDER / name).exists()]
    if not names:
        return
    _ip((f"netns del {name}" for name in names), force=True)
    left = [name for name in names if (_FOLDER / name).exists()]
    if left:
        raise LabError(f"cannot delete network namespace {left[0]!r} ({len(left)} are left)")


def existing(prefix: str) -> tuple[str, ...]:
    """All namespaces whose names begin with ``prefix``."""
    if not _FOLDER.is_dir():
        return ()
    return tuple(sorted(name for name in os.listdir(_FOLDER) if name.startswith(prefix)))


def processes_in(names: Iterable[str]) -> frozenset[int]:
    """The ids of all processes that run in one of the namespaces."""
    wanted = set()
    for name in names:
        status = (_FOLDER / name).stat()
        wanted.add((status.st_dev, status.st_ino))
    found = set()
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            status = os.stat(f"/proc/{entry}/ns/net")
        except OSError:
            continue  # it has ended meanwhile, or is a kernel thread's
        if (status.st_dev, status.st_ino) in wanted:
            found.add(int(entry))
    return frozenset(found)


def command_inside(name: str, command: Sequence[str]) -> list[str]:
    """The command line that runs ``command`` inside the namespace; its process is replaced."""
    return [_path("ip") or "ip", "netns", "exec", name, *command]


def call_inside(name: str, function: Callable[[], T]) -> T:
    """What ``function`` returns when it is called inside the namespace.

    It runs in a thread of its own, because a namespace belongs to a thread: no other thread is
    affected, and a socket that it opens stays in the namespace for ever.
    """
    return _call_in_thread(lambda: enter(name), function)


def call_as(hostname: str, function: Callable[[], T]) -> T:
    """What ``function`` returns in a thread whose host name this is; so do processes it starts."""
    return _call_in_thread(lambda: rename(hostname), function)


def rename(hostname: str) -> None:
    """Give the calling thread a host name of its own, for good; the machine keeps its own."""
    if _libc.unshare(_CLONE_NEWUTS) != 0:
        raise LabError(f"cannot give {hostname!r} its name: {os.strerror(ctypes.get_errno())}")
    socket.sethostname(hostname)


def enter(name: str) -> None:
    """Move the calling thread into the namespace, for good."""
    try:
        descriptor = os.open(_FOLDER / name, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise LabError(f"there is no network namespace {name!r}: {error.strerror}") from error
    try:
        if _libc.setns(descriptor, _CLONE_NEWNET) != 0:
            reason = os.strerror(ctypes.get_errno())
            raise LabError(f"cannot enter network namespace {name!r}: {reason}")
    finally:
        os.close(descriptor)


def _call_in_thread(prepare: Callable[[], None], function: Callable[[], T]) -> T:
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            prepare()
            results.append(function())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _furnish(node: Node) -> None:
    _ip(node.commands, inside=node.namespace)
    if node.rules:
        load_rules(node.namespace, node.rules)


def _write_sysctls(sysctls: Mapping[str, str]) -> None:
    # /proc/sys/net shows each thread its own namespace.
    for key, value in sysctls.items():
        for scope in ("conf/all", "conf/default"):
            path = Path("/proc/sys/net/ipv4", scope, "forwarding" if key == "ip_forward" else key)
            try:
                path.write_text(value)
            except OSError as error:
                raise LabError(
                    f"cannot write {path} in a network namespace: {error.strerror}"
                ) from error


def _ip(lines: Iterable[str], *, inside: str | None = None, force: bool = False) -> None:
    options = ["-n", inside] if inside else []
    options += ["-force"] if force else []
    text = "".join(f"{line}\n" for line in lines)
    if text:
        _run([_path("ip") or "ip", *options, "-batch", "-"], text, check=not force)


def _run(command: Sequence[str], text: str, *, check: bool = True) -> None:
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    if check and done.returncode != 0:
        reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise LabError(f"{' '.join(command[:4])} failed: {reason}")


def _path(program: str) -> str | None:
    # A user's PATH often lacks the sbin folders.
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")

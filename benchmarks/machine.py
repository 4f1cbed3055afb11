"""What machine and which versions the figures are of. Only reads."""

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Final

from neti import __version__

_PROGRAMS: Final = {
    "nft": ["nft", "--version"],
    "iptables": ["iptables-legacy", "--version"],
    "ipset": ["ipset", "--version"],
    "nebula": ["nebula", "-version"],
    "iperf3": ["iperf3", "--version"],
    "nginx": ["/usr/sbin/nginx", "-v"],
}


def lines() -> list[str]:
    versions = ", ".join(f"{name} {_version(words)}" for name, words in _PROGRAMS.items())
    return [
        f"Neti {__version__}, Python {platform.python_version()}, Linux {platform.release()}",
        f"Debian's ZooKeeper {_package('libzookeeper-java')} (forceSync off, temporary folder)",
        versions,
        f"{os.cpu_count()} cores: {_processor()}, {_memory_gib():.0f} GiB",
    ]


def stamp() -> str:
    return f"{time.strftime('%Y-%m-%d %H:%M')}, {os.cpu_count()} cores of {_processor()}"


def load() -> str:
    """Over the last minute: who else was at work."""
    return f"{os.getloadavg()[0]:.1f}"


def _version(words: list[str]) -> str:
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return "missing"
    for word in (done.stdout + done.stderr).replace("/", " ").split():
        plain = word.strip("v,:()")
        if plain[:1].isdigit():
            return plain
    return "?"


def _package(name: str) -> str:
    words = ["dpkg-query", "-W", "-f", "${Version}", name]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout or "missing"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / (1 << 30)

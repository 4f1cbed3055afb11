"""Which WireGuard this machine has, found out by looking at files alone.

For a word to an operator. What a host really uses is decided by asking its kernel, which may load
the module.

Must never do: load, start or ask anything.
"""

import os
import shutil
from pathlib import Path

from neti.dataplane.wireguard.tunnel import Kind

_MODULE = "/wireguard.ko"  # with what its compression appends


def implementation(root: Path = Path("/"), release: str = os.uname().release) -> Kind | None:
    """None: neither. The module is taken where there are both."""
    if (root / "sys/module/wireguard").is_dir() or _is_shipped(root / "lib/modules" / release):
        return "module"
    folders = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin")
    path = os.pathsep.join(str(root / folder) for folder in folders)
    return "wireguard-go" if shutil.which("wireguard-go", path=path) is not None else None


def _is_shipped(modules: Path) -> bool:
    """As a module that can be loaded, or built in."""
    for listing in ("modules.dep", "modules.builtin"):
        try:
            lines = (modules / listing).read_text(errors="replace").splitlines()
        except OSError:
            continue
        if any(_MODULE in line.partition(":")[0] for line in lines):
            return True
    return False

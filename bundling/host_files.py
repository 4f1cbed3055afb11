"""What goes elsewhere on a host than into /opt/neti: units, man pages, completions, documentation.

Laid out as on the host, below one folder.
"""

import gzip
import shutil
import sys
from pathlib import Path
from typing import Final

from bundling import HOME, ROOT
from bundling.command import run

UNITS: Final = "usr/lib/systemd/system"
CONFIG: Final = ("etc/logrotate.d/neti", "etc/neti/neti.yml.example")
_COMPLETIONS: Final = {
    "bash": "bash-completion/completions/neti",
    "zsh": "zsh/site-functions/_neti",
    "fish": "fish/vendor_completions.d/neti.fish",
}


def lay_out(root: Path) -> None:
    """``root``: a folder that is not there yet."""
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/neti").symlink_to(f"{HOME}/bin/neti")
    deploy = ROOT / "deploy"
    # The proxy's unit too, which nobody enables: no agent may run on its host.
    for unit in (*deploy.glob("*.service"), *deploy.glob("*.socket")):
        _put(unit, root / UNITS / unit.name)
    _put(deploy / "neti.sysusers", root / "usr/lib/sysusers.d/neti.conf")
    _put(deploy / "neti.logrotate", root / "etc/logrotate.d/neti")
    _put(deploy / "neti.yml.example", root / "etc/neti/neti.yml.example")
    _documentation(root / "usr/share/doc/neti")
    run([sys.executable, ROOT / "scripts/man_pages.py", root / "usr/share/man"])
    for page in sorted((root / "usr/share/man").glob("man[1-8]/*")):
        _packed(page, page.with_name(f"{page.name}.gz"))
        page.unlink()
    (root / "usr/share/neti").mkdir()
    (root / "usr/share/neti/neti.schema.json").write_text(_neti("config", "schema"))
    for shell, place in _COMPLETIONS.items():
        target = root / "usr/share" / place
        target.parent.mkdir(parents=True)
        target.write_text(_neti("completion", shell))


def _documentation(target: Path) -> None:
    """Laid out as here, so that docs/ and deploy/ lead to the same files from every page and
    message."""
    said = (ROOT / name for name in ("README.md", "SECURITY.md", "CONTRIBUTING.md"))
    for source in (*said, *_files(ROOT / "docs"), *_files(ROOT / "deploy")):
        if not source.is_relative_to(ROOT / "deploy/debian"):
            _put(source, target / source.relative_to(ROOT))
    _put(ROOT / "LICENSE", target / "copyright")
    _packed(ROOT / "CHANGELOG.md", target / "changelog.gz")


def _files(folder: Path) -> list[Path]:
    return [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")
    ]


def _put(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _packed(source: Path, target: Path) -> None:
    with target.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(source.read_bytes())


def _neti(*words: str) -> str:
    return run([sys.executable, "-m", "neti", *words])

"""Archives that have the same bytes each time: the tarball, the .deb and the .rpm.

The .deb and the .rpm hold the same tree as the tarball, and what a package manager wants of them.
"""

import os
import shutil
import tarfile
from pathlib import Path
from typing import Final

from bundling import HOME, MACHINE, ROOT, Arch, host_files
from bundling.command import run

_HERE: Final = Path(__file__).parent
# Files in /usr/lib/systemd would vanish in an upgrade from a .deb that had them in /lib/systemd,
# where /lib is a link: dpkg takes these for two files.
_UNITS_OF_DEB: Final = "lib/systemd/system"


def dated(folder: Path, epoch: int) -> None:
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (epoch, epoch), follow_symlinks=False)


def tarball(content: Path, name: str, target: Path, epoch: int) -> None:
    """``content``, as ``name`` in the archive."""
    plain = target.with_suffix("")
    plain_tar(content, name, plain, epoch)
    # A twentieth smaller than by gzip -9, and what every host can unpack.
    run(["libdeflate-gzip", "-12", "-f", "-n", plain])


def plain_tar(content: Path, name: str, target: Path, epoch: int) -> None:
    with tarfile.open(target, "w", format=tarfile.GNU_FORMAT) as archive:
        for path in [content, *sorted(content.rglob("*"))]:
            info = archive.gettarinfo(path, str(Path(name) / path.relative_to(content)))
            info.uid = info.gid = 0
            info.uname = info.gname = "root"
            info.mtime = epoch
            if info.isreg():
                with path.open("rb") as file:
                    archive.addfile(info, file)
            else:
                archive.addfile(info)


def deb(tree: Path, root: Path, version: str, arch: Arch, target: Path, work: Path) -> None:
    """``tree`` and ``root``: what is to be /opt/neti, and what goes elsewhere."""
    content = _content(tree, root, work / "deb", "deb")
    units = content / _UNITS_OF_DEB
    units.parent.mkdir(parents=True)
    (content / host_files.UNITS).rename(units)
    (content / host_files.UNITS).parent.rmdir()
    control = content / "DEBIAN"
    control.mkdir()
    for name in ("preinst", "postinst", "prerm", "postrm"):
        shutil.copyfile(ROOT / "deploy/debian" / name, control / name)
        (control / name).chmod(0o755)
    (control / "conffiles").write_text("".join(f"/{path}\n" for path in host_files.CONFIG))
    size = sum(-(-p.lstat().st_size // 1024) for p in content.rglob("*") if not p.is_dir())
    text = (ROOT / "deploy/debian/control").read_text()
    for key, value in (("VERSION", version), ("ARCHITECTURE", arch), ("SIZE", str(size))):
        text = text.replace(f"@{key}@", value)
    (control / "control").write_text(text)
    epoch = int(tree.stat().st_mtime)
    dated(content, epoch)
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    run(["dpkg-deb", "--root-owner-group", "-Zxz", "--build", content, target], env=env)


def rpm(tree: Path, root: Path, version: str, arch: Arch, target: Path, work: Path) -> None:
    """``version``: VERSION-RELEASE."""
    content = _content(tree, root, work / "rpm", "rpm")
    epoch = int(tree.stat().st_mtime)
    dated(content, epoch)
    number, _, release = version.rpartition("-")
    listed = work / "rpm-files"
    listed.write_text("\n".join(_lines(content)) + "\n", encoding="utf-8")
    defined = {
        "_topdir": work / "rpm-top",
        "neti_version": number,
        "neti_release": release,
        "neti_content": content,
        "neti_files": listed,
        "_rpmdir": work / "rpm-made",
        "_buildhost": "localhost",
        "use_source_date_epoch_as_buildtime": 1,
        "clamp_mtime_to_source_date_epoch": 1,
        "_binary_payload": "w7.xzdio",
    }
    words = [word for key, value in defined.items() for word in ("--define", f"{key} {value}")]
    env = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    run(["rpmbuild", "-bb", "--target", MACHINE[arch], *words, _HERE / "neti.spec"], env=env)
    (made,) = (work / "rpm-made").rglob("*.rpm")
    shutil.copyfile(made, target)


def _content(tree: Path, root: Path, content: Path, by: str) -> Path:
    shutil.copytree(root, content, symlinks=True)
    home = content / HOME.lstrip("/")
    shutil.copytree(tree, home, symlinks=True)
    (home / "installed-by").write_text(f"{by}\n", encoding="ascii")
    (content / "etc/neti/neti.yml.example").chmod(0o640)
    return content


def _lines(content: Path) -> list[str]:
    """For ``%files``: of the folders outside of /opt/neti those that are Neti's."""
    lines = []
    for path in sorted(content.rglob("*")):
        inside = path.relative_to(content)
        ours = inside.is_relative_to(HOME.lstrip("/")) or "neti" in inside.name
        if path.is_dir() and not path.is_symlink():
            if ours or inside.is_relative_to("usr/share/doc/neti"):
                lines.append(f'%dir "/{inside}"')
        else:
            kept = "%config(noreplace) " if str(inside) in host_files.CONFIG else ""
            lines.append(f'{kept}"/{inside}"')
    return lines

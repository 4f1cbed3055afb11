"""Puts Neti on a host, or takes it away: for the tarball, and for the scripts of the rpm.

Run by the bundle's own Python, with nothing of Neti's code, so that it works where that is broken.
Of the host's programs it calls systemctl and systemd-sysusers. What goes wrong is said, with what
to do; and what was not done yet is done by running it again.
"""

import grp
import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NoReturn

HOME: Final = Path("/opt/neti")
_FILES: Final = "share/root"  # of the tree: what goes elsewhere, laid out as there
_BY: Final = "installed-by"  # of the tree: deb, rpm or tarball
_LISTED: Final = "share/files"  # of the tree: what was put elsewhere, a path a line
_KEPT: Final = ("etc/logrotate.d/neti",)  # the operator's, once it is there
_CONFIG: Final = Path("/etc/neti/neti.yml")
_GOOD: Final = Path("/var/lib/neti/neti.yml.good")
_DOWN: Final = Path("/var/lib/neti/down")
_SYSTEMD: Final = Path("/run/systemd/system")
_USERS: Final = ("neti", "neti-wireguard")
_ENABLED: Final = ("neti.service", "neti-restore.service", "neti-leave.service")
_SOCKET: Final = "neti-wireguard.socket"
_TUNNEL: Final = "neti-wireguard.service"
_PROXY: Final = "neti-zk-proxy.service"
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OPTIONS: Final = ("--no-start", "--remove", "--purge", "--hook")


def main(words: Sequence[str]) -> None:
    os.umask(0o022)  # what it makes is for every user: the agent is one
    tree, asked = Path(words[0]).resolve(), list(words[1:])
    if unknown := [word for word in asked if word.startswith("-") and word not in _OPTIONS]:
        _refuse(f"{unknown[0]} is unknown: --no-start, --remove, --purge, or nothing")
    if os.geteuid() != 0:
        _refuse("only root can install it")
    if asked[:1] == ["--hook"]:  # of a package manager, whose files these are
        _hook(asked[1] if len(asked) > 1 else "")
    elif "--remove" in asked or "--purge" in asked:
        _not_of_a_package("removed")
        _leave_the_host()
        _take_away()
        if "--purge" in asked:
            _purge()
        print("Neti is gone" + ("" if "--purge" in asked else "; /etc/neti and /var/lib/neti stay"))
    else:
        _not_of_a_package("installed over")
        if tree == HOME.resolve():  # /opt may be a link
            _refuse("it is installed already; install.sh of a later version upgrades it")
        new = not HOME.exists()
        if not new and not (HOME / _BY).exists():
            _refuse(
                f"{HOME} is there and not Neti's bundle, such as an environment of pip: remove it"
            )
        _put_in_place(tree)
        _configure(new=new, start="--no-start" not in asked)
        print(f"Neti is {'installed' if new else 'upgraded'}.")
        if not _CONFIG.exists():
            print(f"→ write {_CONFIG}: an example stands beside it")
            print("→ neti config check, then systemctl start neti")


def _hook(when: str) -> None:
    """``installed``, ``upgraded``: its files are there; ``removing``: they are there still."""
    if when in ("installed", "upgraded"):
        _configure(new=when == "installed", start=True)
    elif when == "removing":
        _leave_the_host()
    else:
        _refuse(f"--hook {when}: unknown")


# --- files ---


def _put_in_place(tree: Path) -> None:
    """The tree is exchanged whole: killed before that, the host has the former one."""
    new, old = HOME.with_name("neti.new"), HOME.with_name("neti.old")
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)
    HOME.parent.mkdir(exist_ok=True)
    shutil.copytree(tree, new, symlinks=True)
    _usual_modes(new)
    (new / _BY).write_text("tarball\n", encoding="ascii")
    shutil.copyfile(tree.parents[1] / "install.sh", new / "install.sh")
    former = set(_listed(HOME))
    files = [path.relative_to(new / _FILES) for path in _below(new / _FILES)]
    (new / _LISTED).write_text("".join(f"{path}\n" for path in files), encoding="utf-8")
    os.sync()
    if HOME.exists():
        HOME.rename(old)
    new.rename(HOME)
    for file in files:
        _put(HOME / _FILES / file, Path("/") / file, keep=str(file) in _KEPT)
    for gone in former.difference(map(str, files)):
        (Path("/") / gone).unlink(missing_ok=True)
    for done in (HOME / _FILES, old):
        shutil.rmtree(done, ignore_errors=True)


def _usual_modes(tree: Path) -> None:
    """Whoever unpacked the archive, with whatever umask and whatever tar."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            runs = path.is_dir() or path.stat().st_mode & 0o100
            path.chmod(0o755 if runs else 0o644)


def _put(source: Path, target: Path, *, keep: bool) -> None:
    if keep and target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.neti-new")
    partial.unlink(missing_ok=True)
    if source.is_symlink():
        partial.symlink_to(os.readlink(source))
    else:
        shutil.copy2(source, partial)
    partial.replace(target)


def _take_away() -> None:
    for name in _listed(HOME):
        path = Path("/") / name
        if name not in _KEPT:
            path.unlink(missing_ok=True)
        _empty_folders(path.parent)
    _systemctl("daemon-reload")
    shutil.rmtree(HOME)


def _empty_folders(folder: Path) -> None:
    """Those that are Neti's."""
    while "neti" in folder.name and folder != Path("/etc/neti"):
        try:
            folder.rmdir()
        except OSError:
            return
        folder = folder.parent


def _purge() -> None:
    for name in _KEPT:
        (Path("/") / name).unlink(missing_ok=True)
    for folder in ("/var/lib/neti", "/var/log/neti", "/run/neti"):
        shutil.rmtree(folder, ignore_errors=True)
    for name in ("neti.yml", "neti.yml.example"):
        (_CONFIG.parent / name).unlink(missing_ok=True)
    try:
        _CONFIG.parent.rmdir()
    except OSError:
        print(f"{_CONFIG.parent} stays: certificates and the like are somebody else's")
    for user in _USERS:
        _call("userdel", user)


def _listed(home: Path) -> list[str]:
    try:
        return (home / _LISTED).read_text(encoding="utf-8").split("\n")[:-1]
    except FileNotFoundError:
        return []


def _below(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_symlink() or path.is_file())


# --- the host ---


def _configure(*, new: bool, start: bool) -> None:
    _users()
    _configuration_is_for_the_agent()
    _systemctl("daemon-reload")
    if new:
        _call("systemctl", "enable", *_ENABLED, _SOCKET)
    if not start or not _SYSTEMD.exists():
        return
    # Does nothing without wireguard-go. An upgrade leaves the tunnel alone.
    _systemctl("start", _SOCKET)
    if new:
        _systemctl("start", "neti.service")  # does nothing without a neti.yml
    else:
        _systemctl("try-restart", "neti.service", _PROXY)


def _users() -> None:
    missing = [user for user in _USERS if not _there(user)]
    if missing and not _call("systemd-sysusers", "neti.conf"):
        for user in missing:
            _call("useradd", "--system", "--user-group", "--no-create-home", user)
    if missing := [user for user in _USERS if not _there(user)]:
        _refuse(
            f"the user {missing[0]} cannot be made, by systemd-sysusers or useradd. Make a system "
            "user and group of this name, without a login, and run this again"
        )


def _there(user: str) -> bool:
    try:
        return bool(pwd.getpwnam(user) and grp.getgrnam(user))
    except KeyError:
        return False


def _configuration_is_for_the_agent() -> None:
    """It reads it again at each reload. Nobody else: there may be keys in it."""
    group = grp.getgrnam("neti").gr_gid
    _CONFIG.parent.mkdir(exist_ok=True)
    os.chown(_CONFIG.parent, 0, group)
    _CONFIG.parent.chmod(0o750)
    if _CONFIG.exists() and (found := _CONFIG.stat()).st_uid == found.st_gid == 0:
        os.chown(_CONFIG, 0, group)
        _CONFIG.chmod(found.st_mode & 0o777 | 0o040)


def _leave_the_host() -> None:
    """As it was before Neti. An upgrade stops nothing and takes nothing out."""
    _systemctl("stop", "neti.service", _PROXY)
    config = next((path for path in (_CONFIG, _GOOD) if path.exists()), None)
    marked = _DOWN.exists()
    neti = str(HOME / "bin/neti")
    if config is not None:
        if _call(neti, "down", "-c", str(config)):
            if not marked:  # whoever installs it again did not say 'neti down'
                _call(neti, "up", "-c", str(config))
        else:
            print(
                "neti: what Neti put into the kernel could not be taken out; look at:\n"
                "neti:   nft list table inet neti; ip route show table all proto 78",
                file=sys.stderr,
            )
    _systemctl("stop", _SOCKET, _TUNNEL)
    _call("systemctl", "disable", *_ENABLED, _SOCKET, _PROXY)
    _systemctl("stop", "neti-leave.service", "neti-restore.service")


def _systemctl(*words: str) -> None:
    if _SYSTEMD.exists():
        _call("systemctl", *words)


def _call(program: str, *words: str) -> bool:
    """Whether it did it. Without a word: whoever asks says what is wrong."""
    path = program if "/" in program else shutil.which(program, path=_PATH)
    if path is None:
        return False
    done = subprocess.run(
        [path, *words],
        capture_output=True,
        check=False,
        env={"PATH": _PATH},
        stdin=subprocess.DEVNULL,
    )
    return done.returncode == 0


def _not_of_a_package(what: str) -> None:
    try:
        by = (HOME / _BY).read_text(encoding="ascii").strip()
    except OSError:
        return
    if by in ("deb", "rpm"):
        then = "apt remove neti" if by == "deb" else "rpm -e neti"
        _refuse(f"{HOME} is of a package ({by}), and cannot be {what} from here: {then}")


def _refuse(why: str) -> NoReturn:
    print(f"neti: {why}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main(sys.argv[1:])

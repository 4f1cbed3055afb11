"""What hosts of all kinds do to a bundle that has a C library, a Python and an OpenSSL of its own:
their variables, locales, clocks, certificate authorities, mounts and modules. Names: see
test_foreign_names.py.

One machine for all: installed from the tarball, with umask 077, where /opt is a link.
"""

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
from tests.package.conftest import ROOTS, newest
from tests.support.foreign_host import NETI, machine_with, mapped, python, run_with
from tests.support.machine import CONFIG, Machine, wait
from tests.support.netns import require_root

pytestmark = pytest.mark.package

MODULES: Final = ROOTS / "bookworm-modules"
LIBRARIES: Final = "/usr/lib/x86_64-linux-gnu"
LOCALES: Final = {"ja_JP.eucjp": ("ja_JP", "EUC-JP"), "de_DE.iso885915": ("de_DE", "ISO-8859-15")}
POISON: Final = "/srv/poison"  # libraries that are none, modules of Python that raise
# What somebody may have set, for a shell or for all units.
VARIABLES: Final = {
    "LD_PRELOAD": f"/nonexistent.so:{LIBRARIES}/libeatmydata.so",
    "LD_LIBRARY_PATH": f"{POISON}:{LIBRARIES}",
    "LD_AUDIT": f"{POISON}/libc.so.6",
    "PYTHONPATH": POISON,
    "PYTHONHOME": POISON,
    "PYTHONSTARTUP": f"{POISON}/yaml.py",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONINSPECT": "1",
    "PYTHONWARNINGS": "error",
    "OPENSSL_CONF": f"{POISON}/openssl.cnf",
    "OPENSSL_MODULES": f"{LIBRARIES}/ossl-modules",
    "OPENSSL_ENGINES": POISON,
    "SSLKEYLOGFILE": "/nonexistent/keys",
    "GCONV_PATH": POISON,
    "LOCPATH": POISON,
    "MALLOC_CHECK_": "3",
    "MALLOC_PERTURB_": "165",
    "GLIBC_TUNABLES": "glibc.malloc.check=3:glibc.malloc.tcache_count=x:nonsense",
    "XTABLES_LIBDIR": POISON,
    "LANG": "ja_JP.eucjp",
    "LANGUAGE": "de",
    "LC_ALL": "de_DE.iso885915",
    "TMPDIR": "/nonexistent",
    "TZ": "Mars/Olympus",
}
DROPPED: Final = set(VARIABLES) - {"TMPDIR", "TZ", "LC_ALL"}
OPENSSL_CNF: Final = """\
config_diagnostics = 1
openssl_conf = all
[all]
providers = modules
ssl_conf = ssl
[modules]
default = on
legacy = on
[on]
activate = 1
[ssl]
system_default = unknown
[unknown]
NoSuchCommand = 1
"""


@pytest.fixture(scope="module", name="host")
def _host(debs: list[Path]) -> Iterator[Machine]:
    require_root()
    if not (MODULES / ".complete").exists():
        pytest.skip("the host's modules are not there: make package-test")
    with machine_with(newest("neti-*.tar.gz"), ROOTS / "bookworm") as booted:
        for words in (
            "link add eth0 type veth peer name far",
            "addr add 10.0.0.5/24 dev eth0",
            "link set far up",
            "link set eth0 up",
        ):
            booted.run("ip", *words.split())
        _of_the_host(booted)
        booted.run("sh", "-c", "rmdir /opt && mkdir /srv/opt && ln -s /srv/opt /opt")
        # Those that the host's own shell survives.
        survived = {k: v for k, v in VARIABLES.items() if k not in ("LD_LIBRARY_PATH", "LD_AUDIT")}
        run_with(booted, survived, "sh", "-c", "umask 077; exec sh /mnt/files/neti/install.sh")
        config = booted.path("/etc/neti/neti.yml")
        config.write_text(CONFIG)
        booted.run("chgrp", "neti", "/etc/neti/neti.yml")
        yield booted


def _of_the_host(host: Machine) -> None:
    """Libraries, modules, locales and an openssl.cnf that are for other programs."""
    libraries = host.path(LIBRARIES)
    for name in ("libeatmydata.so*", "xtables"):
        found = [str(path) for path in (MODULES / LIBRARIES.lstrip("/")).glob(name)]
        subprocess.run(["cp", "-a", *found, str(libraries)], check=True)
    poison = host.path(POISON)
    poison.mkdir()
    for name in ("libc.so.6", "libcrypto.so.3", "libnftables.so.1", "libsqlite3.so.0"):
        (poison / name).write_text("no library")
    for name in ("yaml", "click", "os", "sitecustomize", "usercustomize", "neti"):
        (poison / f"{name}.py").write_text("raise SystemExit('not mine')\n")
    for folder in (poison, host.path("/etc/ssl"), host.path("/usr/lib/ssl")):
        folder.mkdir(exist_ok=True)
        (folder / "openssl.cnf").write_text(OPENSSL_CNF)
    for name, (source, charset) in LOCALES.items():
        words = ["localedef", "-c", "-i", source, "-f", charset]
        made = host.path(f"/usr/lib/locale/{name}")
        subprocess.run([*words, str(made)], capture_output=True, check=False)
        assert made.is_dir(), f"localedef made no {name}"


@pytest.fixture(name="agent")
def _agent(host: Machine) -> Iterator[Path]:
    """For drop-ins of its unit. Afterwards it is stopped, and the unit as it was."""
    folder = host.path("/etc/systemd/system/neti.service.d")
    folder.mkdir(parents=True)
    yield folder
    host.run("systemctl", "stop", "neti.service", check=False)
    shutil.rmtree(folder)
    host.run("systemctl", "daemon-reload")


def starts(host: Machine) -> str:
    """The agent's process, once it is in step and has loaded rules."""
    host.run("systemctl", "daemon-reload")
    host.run("systemctl", "restart", "neti.service")
    wait(lambda: "in step" in host.out(NETI, "status", check=False), "in step", 60)
    status = json.loads(host.out(NETI, "status", "--json", check=False))
    assert not status["problems"], status["problems"]
    assert "chain" in host.out("nft", "list", "table", "inet", "neti")
    return host.out("systemctl", "show", "-P", "MainPID", "neti.service")


def checked(host: Machine, environment: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """Says what it made of a file with names that are not ASCII, by two libraries at least."""
    file = host.path("/etc/neti/ü日.yml")
    if not file.exists():
        file.write_text(CONFIG.replace("site: ec2", "site: nö"), encoding="utf-8")
    words = (NETI, "config", "check", "-c", "/etc/neti/ü日.yml")
    return run_with(host, environment, *words, check=False)


def test_everybody_may_read_what_was_installed(host: Machine) -> None:
    """The agent is not root. The archive was unpacked with umask 077 too."""
    places = ["/srv/opt", "/usr/bin/neti", "/usr/lib/systemd/system", "/usr/lib/sysusers.d"]
    places += [f"/usr/share/{name}" for name in ("neti", "doc/neti", "zsh", "fish", "man")]
    assert host.out("find", *places, "!", "-type", "l", "!", "-perm", "-o=r") == ""
    assert host.out("find", *places, "-type", "d", "!", "-perm", "-o=x") == ""
    assert host.out("find", "/srv/opt/", "-perm", "/022", "!", "-type", "l") == ""
    nobody = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    assert host.out(*nobody, NETI, "--version").startswith("neti ")
    again = host.run("sh", "/opt/neti/install.sh", check=False)
    assert "it is installed already" in again.stderr


def test_variables_of_somebody_change_nothing_that_a_command_says(host: Machine) -> None:
    calm = checked(host, {})
    assert calm.returncode == 2
    assert "/etc/neti/ü日.yml:3: site: the text 'nö'" in calm.stderr
    alike = ("LD_PRELOAD", "LD_L", "PYTHON", "OPENSSL", "MALLOC")
    groups = ({k: v for k, v in VARIABLES.items() if k.startswith(word)} for word in alike)
    for environment in (*groups, VARIABLES):
        said = checked(host, environment)
        assert (said.returncode, said.stdout, said.stderr) == (2, calm.stdout, calm.stderr), (
            environment
        )


def test_locales_change_nothing(host: Machine) -> None:
    """Missing ones, none, and such as the bundle has no codec for."""
    calm = checked(host, {})
    for word in ("C", "POSIX", "xx_YY.UTF-8", "", *LOCALES, "x" * 5000):
        assert checked(host, {"LC_ALL": word}).stderr == calm.stderr, word
    for name in ("LANG", "LC_CTYPE"):
        assert checked(host, {name: "ja_JP.eucjp"}).stderr == calm.stderr, name
    # And where it is not bin/neti that starts Python, as for whoever looks into a host's bundle.
    for word in LOCALES:
        assert python(host, "print('ü')", LC_ALL=word) == "ü"


def test_time_zones(host: Machine) -> None:
    """By name, by file, nonsense; and a host that has none of it."""
    clock = "import time; print(time.strftime('%H:%M', time.localtime(10**9)))"

    def shown(zone: str | None) -> str:
        return python(host, clock, **({} if zone is None else {"TZ": zone}))

    local = host.path("/etc/localtime")
    assert shown("Asia/Tokyo") == shown(":/usr/share/zoneinfo/Asia/Tokyo") == "10:46"
    assert shown("CET-1CEST") == "03:46"
    for zone in ("Asia/Tokyo", "é", "x" * 5000):
        assert checked(host, {"TZ": zone}).returncode == 2, zone
    for nonsense in ("Mars/Olympus", ":::", "/", "/etc/passwd", "../../etc", "é", "x" * 5000, ""):
        assert shown(nonsense) == "01:46", nonsense
    local.unlink()
    local.symlink_to("/usr/share/zoneinfo/Asia/Tokyo")
    assert shown(None) == "10:46"
    host.run("mount", "-t", "tmpfs", "tmpfs", "/usr/share/zoneinfo")
    assert shown(None) == shown("Asia/Tokyo") == "01:46"
    for content in (b"", b"TZif2", b"TZif9" + bytes(range(256)) * 9):
        local.unlink()
        local.write_bytes(content)
        assert shown(None) == "01:46"
    local.unlink()
    assert shown(None) == "01:46"
    assert checked(host, {}).returncode == 2
    host.run("umount", "/usr/share/zoneinfo")


def test_an_agent_with_variables_of_somebody(host: Machine, agent: Path) -> None:
    """In its unit, with a locale, libraries to preload and a loader's cache of the host beside it.
    It has none of them in its process, and no library but the bundle's."""
    lines = "".join(f'Environment="{name}={value}"\n' for name, value in VARIABLES.items())
    (agent / "variables.conf").write_text(f"[Service]\n{lines}")
    preload = host.path("/etc/ld.so.preload")
    preload.write_text(f"{LIBRARIES}/libeatmydata.so\n/nonexistent.so\n")
    host.path("/etc/ld.so.conf.d/first.conf").write_text("/srv/libraries\n")
    host.run("sh", "-c", f"mkdir -p /srv/libraries; cp {LIBRARIES}/libz.so.1 /srv/libraries/")
    try:
        host.run("ldconfig")
        pid = starts(host)
        assert {file for file in mapped(host, pid) if "/neti/" not in file} == set()
        environ = host.path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
        held = dict(one.split("=", 1) for one in environ if one)
        assert not held.keys() & DROPPED
        assert held["LC_ALL"] == "C.UTF-8"
        assert host.out(NETI, "--version").startswith("neti ")
    finally:
        preload.unlink()


def test_modules_of_the_host_are_not_loaded(host: Machine) -> None:
    """OpenSSL's, which its configuration names; iptables', of which libnftables asks for what a
    rule has that it does not know: of another version they end the process."""
    text = (
        "import ctypes, ssl, hashlib, cryptography.x509\n"
        "ssl.create_default_context(); hashlib.new('sha256')\n"
        "nft = ctypes.CDLL('libnftables.so.1')\n"
        "nft.nft_ctx_new.restype = ctypes.c_void_p\n"
        "context = ctypes.c_void_p(nft.nft_ctx_new(0))\n"
        "assert nft.nft_run_cmd_from_buffer(context, b'list table ip filter') == 0\n"
        "print({line.split()[-1] for line in open('/proc/self/maps') if '/usr/' in line})"
    )
    outside = ["nsenter", "--target", str(host.pid), "--net", "--", "iptables-nft"]
    rule = ["-A", "INPUT", "-p", "tcp", "--dport", "99", "-m", "recent", "--name", "x", "--set"]
    subprocess.run([*outside, *rule], check=True)
    try:
        said = python(host, text, CRYPTOGRAPHY_OPENSSL_NO_LEGACY="1")
    finally:
        subprocess.run([*outside, "-F", "INPUT"], check=True)
    assert 'xt match "recent"' in said or "xt match recent" in said
    assert said.splitlines()[-1] == "set()"
    # A certificate is made by the library that would ask for the module.
    made = host.run(NETI, "registry", "dev-ca", "/srv/ca", "--server", "localhost=127.0.0.1")
    assert "server-localhost.pem" in made.stdout


def test_mounts_that_forbid(host: Machine, agent: Path) -> None:
    """No programs in temporary folders, a read-only /opt, /proc that shows each user its own."""
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        host.run("mount", "-t", "tmpfs", "-o", "noexec,nosuid,nodev", "tmpfs", folder)
    host.run("mount", "--bind", "/srv/opt", "/srv/opt")
    host.run("mount", "-o", "remount,bind,ro", "/srv/opt")
    host.run("mount", "-o", "remount,hidepid=2", "/proc")
    (agent / "tmp.conf").write_text('[Service]\nPrivateTmp=no\nEnvironment="TMPDIR=/nonexistent"\n')
    try:
        starts(host)
        host.run(NETI, "enforce", "--trial", "30", "--anyway", "--no-follow")
        host.run(NETI, "confirm")
        assert json.loads(host.out(NETI, "status", "--json"))["stage"] == "enforced"
        host.run("systemctl", "reload", "neti.service")
        host.run(NETI, "plan")
        host.run(NETI, "relax")
    finally:
        host.run("mount", "-o", "remount,hidepid=0", "/proc")
        host.run("systemctl", "stop", "neti.service")
        host.run("umount", "--lazy", "/srv/opt", "/dev/shm", "/var/tmp", "/tmp")


def test_an_empty_path(host: Machine, agent: Path) -> None:
    """For commands and for the agent. A program of the working directory is nobody's."""
    (agent / "path.conf").write_text('[Service]\nEnvironment="PATH="\n')
    starts(host)
    host.path("/srv/journalctl").write_text("#!/bin/sh\necho not mine\n")
    host.path("/srv/journalctl").chmod(0o755)
    for word in ("--version", "status", "fleet", "plan", "metrics", "check"):
        usual = host.run(NETI, word, check=False)
        said = host.run("env", "PATH=", NETI, word, check=False)
        assert (said.returncode, said.stderr) == (usual.returncode, usual.stderr), word
    assert host.out("env", "-i", NETI, "--version").startswith("neti ")
    inside = "cd /srv && PATH= exec /opt/neti/bin/neti support --output /srv/support.tar.gz"
    host.run("sh", "-c", inside)
    shown = host.out("tar", "xOzf", "/srv/support.tar.gz", "--wildcards", "*/journal.txt")
    assert "in_step" in shown or "registered" in shown, shown

"""Names of hosts and users, by the bundle's C library and the host's files: /etc/nsswitch.conf that
names what the bundle has not, the host's modules, /etc/resolv.conf of all kinds."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.package.conftest import ROOTS, newest
from tests.support.foreign_host import (
    NETI,
    PYTHON,
    found,
    machine_with,
    name_server,
    python,
)
from tests.support.machine import CONFIG, Machine
from tests.support.netns import require_root

pytestmark = pytest.mark.package

# An older C library, and a newer one. Debian 11's systemd has systemd-resolved in it.
RELEASES: Final = ("bullseye", "forky")
MODULES: Final = "usr/lib/x86_64-linux-gnu"
USUAL: Final = """\
passwd: files sss systemd
group: files sss systemd
hosts: files mymachines resolve [!UNAVAIL=return] myhostname dns
"""
NOBODY_HAS: Final = "ghost.test"


@pytest.fixture(scope="module", name="host", params=RELEASES)
def _host(debs: list[Path], request: pytest.FixtureRequest) -> Iterator[Machine]:
    require_root()
    if not (ROOTS / f"{request.param}-modules/.complete").exists():
        pytest.skip("the host's modules are not there: make package-test")
    with machine_with(newest("neti-*.tar.gz"), ROOTS / request.param) as booted:
        booted.run("sh", "/mnt/files/neti/install.sh")
        for words in (
            "link add eth0 type veth peer name far",
            "link set far up",
            "link set eth0 up",
            "addr add 10.0.0.5/24 dev eth0",
            "addr add fe80::1/64 dev eth0 nodad",
        ):
            booted.run("ip", *words.split())
        booted.path("/etc/hosts").write_text("127.0.0.1 localhost\n10.0.0.5 here.test zk-1\n")
        booted.path("/etc/resolv.conf").write_text("nameserver 127.0.0.1\n")
        name_server(booted, "127.0.0.1")
        booted.path("/srv/modules").mkdir()
        modules = ROOTS / f"{request.param}-modules" / MODULES
        subprocess.run(
            ["cp", "-a", *modules.glob("libnss_*.so*"), booted.path("/srv/modules")], check=True
        )
        yield booted


def with_modules(host: Machine) -> None:
    host.run("sh", "-c", f"cp -a /srv/modules/* /{MODULES}")


def without_modules(host: Machine) -> None:
    host.run("sh", "-c", f"cd /srv/modules && for m in *; do rm -f /{MODULES}/$m; done")


def names_are_found(host: Machine) -> None:
    assert found(host, "here.test", "zk-1", "localhost", "name.test", NOBODY_HAS) == {
        "here.test": ["10.0.0.5"],
        "zk-1": ["10.0.0.5"],
        "localhost": ["127.0.0.1"],
        "name.test": ["10.9.8.7"],
        NOBODY_HAS: [],
    }


def users_are_found(host: Machine) -> None:
    text = (
        "import pwd, grp\n"
        "assert grp.getgrnam('neti').gr_gid == pwd.getpwnam('neti').pw_gid\n"
        "assert pwd.getpwuid(0).pw_name == 'root'\n"
        "try: pwd.getpwnam('ghost')\n"
        "except KeyError: print('and nobody else')"
    )
    assert python(host, text) == "and nobody else"


@pytest.mark.parametrize("there", [False, True])
def test_modules_that_the_bundle_has_not(host: Machine, there: bool) -> None:
    """Without the host's modules, and with them: systemd-resolved does not run, so its module is
    loaded and says that it is unavailable."""
    (with_modules if there else without_modules)(host)
    host.path("/etc/nsswitch.conf").write_text(USUAL)
    names_are_found(host)
    users_are_found(host)
    loads = "import socket\ntry: socket.getaddrinfo('ghost.test', 1)\nexcept OSError: pass\n"
    loads += "print('libnss_resolve' in open('/proc/self/maps').read())"
    assert python(host, loads) == str(there)
    # To the end: a registry's server that is this host itself is found by that name.
    for name in ("here.test", "zk-1"):
        config = CONFIG.replace(
            "registry: embedded:/var/lib/neti/registry.db", f"zk_hosts: {{ec2: [{name}:2181]}}"
        )
        host.path("/srv/zk.yml").write_text(config)
        refused = host.run(NETI, "agent", "-c", "/srv/zk.yml", check=False)
        assert f"10.0.0.5, which zk_hosts lists ({name}" in refused.stderr


def test_the_hosts_own_resolver_is_asked(host: Machine) -> None:
    """By its module in the bundle's process, over the socket of systemd-resolved, which knows this
    name itself. Where that does not run, the next in line is asked."""
    if not host.path("/lib/systemd/systemd-resolved").exists():
        pytest.skip("this release has it in a package of its own")
    with_modules(host)
    host.path("/etc/nsswitch.conf").write_text("hosts: resolve [!UNAVAIL=return] dns\n")
    assert found(host, "localhost", "name.test") == {"localhost": [], "name.test": ["10.9.8.7"]}
    host.run("systemctl", "start", "systemd-resolved.service")
    try:
        assert "127.0.0.1" in found(host, "localhost")["localhost"]
    finally:
        host.run("systemctl", "stop", "systemd-resolved.service")
    assert found(host, "localhost", "name.test") == {"localhost": [], "name.test": ["10.9.8.7"]}


def test_users_by_a_module_of_the_c_library_itself(host: Machine) -> None:
    """passwd(5) as hosts of long ago have it, with an entry that only this module understands."""
    without_modules(host)
    host.path("/etc/nsswitch.conf").write_text("passwd: compat\ngroup: compat\nhosts: files dns\n")
    passwd = host.path("/etc/passwd")
    before = passwd.read_text()
    passwd.write_text(f"{before}+@nobodys:x:::::\n")
    try:
        users_are_found(host)
    finally:
        passwd.write_text(before)
    names_are_found(host)


def test_a_module_that_cannot_be_loaded(host: Machine, tmp_path: Path) -> None:
    """Of a newer C library than the bundle's, for another processor, or no library at all."""
    without_modules(host)
    host.path("/etc/nsswitch.conf").write_text(
        "passwd: newer broken other files\ngroup: newer broken other files\n"
        "hosts: newer [!UNAVAIL=return] broken [!UNAVAIL=return] other [!UNAVAIL=return] files dns"
    )
    versions = tmp_path / "versions"
    versions.write_text("GLIBC_9.9 { global: of_another_time; };\n")
    for name, code, more in (
        ("libc.so.6", "void of_another_time(void) {}", [f"-Wl,--version-script={versions}"]),
        (
            "libnss_newer.so.2",
            "void of_another_time(void); int _nss_newer_x(void) { of_another_time(); return 1; }",
            [f"-Wl,--no-as-needed,{tmp_path}/libc.so.6"],
        ),
    ):
        source = tmp_path / "source.c"
        source.write_text(code)
        built = ["gcc", "-shared", "-fPIC", "-nostdlib", f"-Wl,-soname,{name}", str(source), *more]
        subprocess.run([*built, "-o", str(tmp_path / name)], check=True)
    there = host.path(f"/{MODULES}")
    newer = (tmp_path / "libnss_newer.so.2").read_bytes()
    assert b"GLIBC_9.9" in newer
    (there / "libnss_newer.so.2").write_bytes(newer)
    (there / "libnss_broken.so.2").write_text("no library")
    machine_at = 18  # e_machine of elf(5)
    (there / "libnss_other.so.2").write_bytes(newer[:machine_at] + b"\2" + newer[machine_at + 1 :])
    try:
        loaded = python(
            host,
            "import ctypes\ntry: ctypes.CDLL('libnss_newer.so.2')\n"
            "except OSError as error: print(error)",
        )
        assert "GLIBC_9.9" in loaded
        names_are_found(host)
        users_are_found(host)
    finally:
        for name in ("newer", "broken", "other"):
            (there / f"libnss_{name}.so.2").unlink()


# --- /etc/resolv.conf ---


@pytest.fixture(name="asked")
def _asked(host: Machine) -> Iterator[Path]:
    """What its name server was asked; one address takes questions and answers none."""
    if not host.path("/etc/debian_version").read_text().startswith("11"):
        pytest.skip("one release is enough: the resolver is the bundle's")
    without_modules(host)
    host.path("/etc/nsswitch.conf").write_text("hosts: files dns\n")
    yield name_server(host, "127.0.0.1", "::1", "fe80::1%eth0", "silent=127.0.0.9")
    name_server(host, "127.0.0.1")
    host.path("/etc/resolv.conf").write_text("nameserver 127.0.0.1\n")


RESOLV_CONF: Final = {
    # the file, the name, its address, and the beginning of a line of the name server
    "timeout and attempts": (
        "nameserver 127.0.0.9\nnameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        *("name.test", "10.9.8.7", "udp 127.0.0.9 name.test"),
    ),
    "more than three, and the fourth is not asked": (
        "nameserver 127.0.0.90\nnameserver 127.0.0.91\nnameserver 127.0.0.1\nnameserver ::1\n",
        *("name.test", "10.9.8.7", "udp 127.0.0.1 name.test"),
    ),
    "rotate, edns0, trust-ad": (
        "nameserver 127.0.0.1\nnameserver ::1\noptions rotate edns0 trust-ad\n",
        *("name.test", "10.9.8.7", "udp "),
    ),
    "search": (
        "search nowhere.test corp.test\nnameserver 127.0.0.1\n",
        *("short", "10.9.8.6", "udp 127.0.0.1 short.nowhere.test"),
    ),
    "ndots": (
        "search test\noptions ndots:2\nnameserver 127.0.0.1\n",
        *("here.deep", "10.9.8.5", "udp 127.0.0.1 here.deep.test"),
    ),
    "by TCP": (
        "nameserver 127.0.0.1\noptions use-vc\n",
        *("name.test", "10.9.8.7", "tcp 127.0.0.1 name.test"),
    ),
    "IPv6": ("nameserver ::1\n", "name.test", "10.9.8.7", "udp ::1 name.test"),
    "IPv6 with a scope": (
        "nameserver fe80::1%eth0\n",
        *("name.test", "10.9.8.7", "udp fe80::1%eth0 name.test"),
    ),
    "options that nobody knows, comments, tabs": (
        "# made by hand\n; so\noptions\tno-such:7 single-request\nnameserver\t127.0.0.1 # here\n",
        *("name.test", "10.9.8.7", "udp 127.0.0.1 name.test"),
    ),
}


def test_resolv_conf(host: Machine, asked: Path) -> None:
    for what, (text, name, address, line) in RESOLV_CONF.items():
        before = len(asked.read_text())
        host.path("/etc/resolv.conf").write_text(text)
        assert found(host, name, NOBODY_HAS) == {name: [address], NOBODY_HAS: []}, what
        lines = asked.read_text()[before:].splitlines()
        assert any(one.startswith(line) for one in lines), (what, lines)
        # And the agent's own reading of that file, for what lies inside the overlay.
        read = "from neti.identity.preflight import resolvers_of_this_host as r; print(*r())"
        first = text.partition("nameserver")[2].split()[0].partition("%")[0]
        assert host.out(PYTHON, "-I", "-c", read).startswith(first), what


@pytest.mark.parametrize("text", ["", "nameserver\n", None])
def test_without_a_name_server_names_are_not_found_and_nothing_hangs(
    host: Machine, asked: Path, text: str | None
) -> None:
    """The C library asks 127.0.0.1 then, where our own answers."""
    path = host.path("/etc/resolv.conf")
    path.unlink()
    if text is not None:
        path.write_text(text)
    assert found(host, "here.test", "name.test") == {
        "here.test": ["10.0.0.5"],
        "name.test": ["10.9.8.7"],
    }

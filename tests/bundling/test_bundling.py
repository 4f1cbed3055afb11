"""What the bundle is made of, and that it is made of the same bytes each time."""

import importlib.util
import json
import subprocess
import sys
import tarfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from bundling.__main__ import differences, package_version
from bundling.debian import LATER, OF_LATER, OF_RELEASE
from bundling.lock import Part

from bundling import ARCHES, BundleError, archive, elf, lock, sbom

ROOT = Path(__file__).parents[2]
PART = Part("libc6", "2.41-12", "libc6_2.41-12_amd64.deb", "ab" * 32, "trixie")


def test_the_lock_names_every_package_for_each_architecture() -> None:
    """By hash, and without a word of where it comes from."""
    held = lock.read()
    for arch in ARCHES:
        by_name = {part.name: part for part in held.debs[arch]}
        assert by_name.keys() == {*OF_RELEASE, *OF_LATER}
        assert {name for name, part in by_name.items() if part.suite == LATER} == set(OF_LATER)
        assert all(part.file.endswith((f"_{arch}.deb", "_all.deb")) for part in held.debs[arch])
        wheels = {part.name for part in held.wheels[arch]}
        assert {"click", "kazoo", "pydantic", "boto3", "uvicorn"} <= wheels
        assert not wheels & {"neti", "cryptography"}
        assert all(len(part.sha256) == 64 for part in (*held.debs[arch], *held.wheels[arch]))
    text = lock.PATH.read_text()
    assert "://" not in text


def test_the_lock_is_written_as_it_was_read(tmp_path: Path) -> None:
    lock.write(lock.read(), tmp_path / "lock.json")
    assert (tmp_path / "lock.json").read_text() == lock.PATH.read_text()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2}', '{"format": 1, "debs": {}}'])
def test_a_lock_that_is_none_says_so(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lock.json"
    path.write_text(text)
    with pytest.raises(BundleError, match=r"lock\.json"):
        lock.read(path)


def test_what_is_newer_is_named() -> None:
    newer = replace(PART, version="2.41-13", sha256="cd" * 32)
    other = replace(PART, name="libexpat1")
    assert differences([PART], [replace(PART, suite="trixie-security")]) == []
    assert differences([PART], [newer]) == ["libc6 2.41-12 → 2.41-13"]
    assert differences([PART], [PART, other]) == ["libexpat1 2.41-12 is new"]
    assert differences([PART, other], [PART]) == ["libexpat1 is needed no more"]


def test_packages_of_commits_are_older_than_their_release_and_in_the_order_of_time() -> None:
    first = package_version("0.2.0+gaaaaaaaaaa", 1_700_000_000)
    second = package_version("0.2.0+g1111111111", 1_700_000_060)
    order = ["0.1.0-1", first, second, package_version("0.2.0", 1_700_000_120)]
    for older, newer in pairwise(order):
        subprocess.run(["dpkg", "--compare-versions", older, "lt", newer], check=True)


def test_the_bill_says_what_is_inside_and_is_always_the_same() -> None:
    held = lock.read()
    text = sbom.document(held, "amd64", "0.1.0", 1_700_000_000)
    assert text == sbom.document(held, "amd64", "0.1.0", 1_700_000_000)
    said = json.loads(text)
    assert (said["bomFormat"], said["specVersion"]) == ("CycloneDX", "1.5")
    assert len(said["components"]) == len(held.debs["amd64"]) + len(held.wheels["amd64"])
    purls = {one["purl"].partition("@")[0] for one in said["components"]}
    assert {"pkg:deb/debian/libc6", "pkg:pypi/kazoo"} <= purls
    assert (
        said["serialNumber"] != json.loads(sbom.document(held, "arm64", "0.1.0", 0))["serialNumber"]
    )


def test_the_tarball_has_the_same_bytes_whoever_makes_it_and_when(tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        content = tmp_path / name
        (content / "opt/neti").mkdir(parents=True)
        for file in ("b", "a") if name == "one" else ("a", "b"):
            (content / file).write_text(file)
        (content / "opt/neti/link").symlink_to("../../a")
        plain = tmp_path / f"{name}.tar"
        archive.plain_tar(content, "neti", plain, 1_700_000_000)
        made.append(plain.read_bytes())
    assert made[0] == made[1]
    with tarfile.open(tmp_path / "one.tar") as opened:
        found = opened.getmembers()
    assert [one.name for one in found] == [
        *("neti", "neti/a", "neti/b", "neti/opt", "neti/opt/neti", "neti/opt/neti/link"),
    ]
    assert {(one.uid, one.gid, one.mtime) for one in found} == {(0, 0, 1_700_000_000)}


def test_the_libraries_of_the_bundle_find_nothing_of_the_host(tmp_path: Path) -> None:
    """Each path once, as a string of its own: what only has one in it stays."""
    held = {
        "ld-linux-x86-64.so.2": b"x\0/etc/ld.so.preload\0y\0/etc/ld.so.cache\0z",
        "libc.so.6": b"\0/usr/lib/x86_64-linux-gnu/gconv\0/usr/lib/x86_64-linux-gnu/gconv/"
        b"gconv-modules.cache\0\0/usr/lib/locale\0/usr/lib/locale/locale-archive\0",
        "libcrypto.so.3": b"\0/usr/lib/ssl\0/usr/lib/ssl/certs\0\0"
        b"/usr/lib/x86_64-linux-gnu/engines-3\0\0/usr/lib/x86_64-linux-gnu/ossl-modules\0",
        "libxtables.so.12": b"\0/usr/lib/x86_64-linux-gnu/xtables\0",
    }
    for name, data in held.items():
        (tmp_path / name).write_bytes(data)
    elf.reads_nothing_of_the_host(tmp_path, "amd64")
    for name, data in held.items():
        after = (tmp_path / name).read_bytes()
        assert len(after) == len(data)
        left = [part for part in after.split(b"\0") if part.startswith((b"/etc", b"/usr"))]
        assert left == ([b"/usr/lib/ssl/certs"] if name == "libcrypto.so.3" else [])
    with pytest.raises(BundleError, match="expected once"):
        elf.reads_nothing_of_the_host(tmp_path, "amd64")


# --- install.py ---


@pytest.fixture(name="install")
def _install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", ROOT / "bundling/on_host/install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HOME", tmp_path / "opt/neti")
    monkeypatch.setattr(module.os, "geteuid", lambda: 0)
    return module


@pytest.mark.parametrize(
    ("by", "words", "said"),
    [
        ("deb", ["--remove"], "apt remove neti"),
        ("rpm", [], "rpm -e neti"),
        (None, [], "an environment of pip"),
        ("tarball", ["--forse"], "--forse is unknown"),
        ("tarball", ["--hook", "nonsense"], "nonsense: unknown"),
    ],
)
def test_what_is_not_its_own_is_left_alone(
    install: ModuleType,
    capsys: pytest.CaptureFixture[str],
    by: str | None,
    words: list[str],
    said: str,
) -> None:
    install.HOME.mkdir(parents=True)
    (install.HOME / "file").write_text("somebody's")
    if by is not None:
        (install.HOME / "installed-by").write_text(f"{by}\n")
    with pytest.raises(SystemExit) as ended:
        install.main([str(install.HOME.parent / "unpacked/opt/neti"), *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert (install.HOME / "file").read_text() == "somebody's"


def test_only_root_installs(
    install: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install.os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit):
        install.main(["/nowhere"])
    assert "only root" in capsys.readouterr().err


def test_a_file_is_put_in_place_whole_and_the_operators_is_kept(
    install: ModuleType, tmp_path: Path
) -> None:
    source, target = tmp_path / "source", tmp_path / "etc/logrotate.d/neti"
    source.write_text("new")
    install._put(source, target, keep=True)
    assert target.read_text() == "new"
    target.write_text("mine")
    install._put(source, target, keep=True)
    assert target.read_text() == "mine"
    install._put(source, target, keep=False)
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["neti"]


def test_it_asks_for_nothing_but_the_standard_library() -> None:
    """Where Neti's own code is broken it must still take it away."""
    words = [sys.executable, "-I", "-S", ROOT / "bundling/on_host/install.py", "/nowhere", "--what"]
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--what is unknown" in done.stderr

"""Which WireGuard a machine has, by its files."""

from pathlib import Path

import pytest

from neti.dataplane.wireguard.implementation import implementation

KO = "kernel/drivers/net/wireguard/wireguard.ko"


def machine(root: Path, *files: str, dep: str = "", builtin: str = "") -> Path:
    folder = root / "lib/modules/6.1"
    folder.mkdir(parents=True)
    (folder / "modules.dep").write_text(dep)
    (folder / "modules.builtin").write_text(builtin)
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(0o755)
    return root


@pytest.mark.parametrize(
    ("dep", "builtin", "files", "expected"),
    [
        (f"{KO}: kernel/lib/crypto/libchacha.ko\n", "", (), "module"),
        (f"kernel/a.ko:\n{KO}.xz:\n", "", ("usr/bin/wireguard-go",), "module"),
        ("", f"{KO}\n", (), "module"),
        ("", "", ("sys/module/wireguard/version",), "module"),
        ("", "", ("usr/bin/wireguard-go",), "wireguard-go"),
        ("", "", (), None),
        (f"kernel/other.ko: {KO}\n", "", (), None),
    ],
)
def test_it_is_told_by_files(
    tmp_path: Path, dep: str, builtin: str, files: tuple[str, ...], expected: str | None
) -> None:
    """Of both the module is taken. What only needs it does not count."""
    root = machine(tmp_path, *files, dep=dep, builtin=builtin)
    assert implementation(root, "6.1") == expected


def test_a_machine_without_a_list_of_modules(tmp_path: Path) -> None:
    """As a container is."""
    assert implementation(tmp_path, "6.1") is None

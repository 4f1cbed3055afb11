"""The house's own rules: each outside thing has one door, and data flow one way."""

import ast
import functools
from pathlib import Path

import pytest

import neti
from neti.dataplane import compiler, libnftables
from neti.errors import DataplaneError

SOURCE = Path(neti.__file__).parent

# library -> the modules that may import it, as prefixes of their path below src/neti
DOORS = {
    "kazoo": ("registry/zookeeper",),
    "cryptography": ("registry/certificates",),
    "sqlite3": ("registry/embedded",),
    "pydantic": ("config/",),
    "pydantic_core": ("config/",),
    "yaml": ("config/", "lab/"),
    "boto3": ("aws/access",),
    "botocore": ("aws/access",),
    "rich": ("lab/",),
    "click": ("cli/",),
    "prometheus_client": ("exposition",),
}

# what stands in the pure middle, and all of Neti that it may know
PURE = {
    "model.py": set[str](),
    "ruleset.py": set[str](),
    "elements.py": {"ruleset", "enforcement"},
    "enforcement.py": {"ruleset"},
    "table.py": {"ruleset", "elements", "enforcement"},
    "claims.py": {"model"},
    "admission.py": {"model"},
    "guard.py": set[str](),
    "absence.py": {"claims", "guard", "model"},
    "stage.py": {"enforcement"},
    "questions.py": {"model"},
    "standing.py": {"model", "claims"},
    "roster.py": {"model", "admission", "claims", "errors", "registry"},
    "judging.py": {"absence", "questions", "roster", "standing"},
    "leaving.py": {"model", "absence", "guard", "questions", "roster", "standing"},
    "fleet.py": {
        "model",
        "absence",
        "admission",
        "guard",
        "judging",
        "leaving",
        "questions",
        "roster",
        "standing",
    },
    "policy.py": {"model", "policy_record", "ruleset", "settings"},
    "policy_record.py": {"ruleset"},
    "settings.py": {"model"},
    "shadow.py": {"model", "settings"},
    "preview.py": {"model", "settings", "shadow"},
    "measured.py": set[str](),
    "listing.py": {"model", "text"},
    "words.py": set[str](),
    "text.py": set[str](),
    "metrics.py": {"measured", "problems"},
    "arrivals.py": set[str](),
    "attendance.py": {"listing", "words"},
    "problem_codes.py": set[str](),
    "problems.py": {"problem_codes"},
}


# what of the AWS package compares and decides, and asks nobody
PURE_AWS = ("apply", "changes", "fleet_ranges", "ip_ranges", "prefixes", "refusals", "report")


@functools.cache  # each test asks about every file
def imports(path: Path) -> frozenset[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return frozenset(names)


@pytest.mark.parametrize("library", sorted(DOORS))
def test_each_library_has_one_door(library: str) -> None:
    """Nobody but the named modules imports the library."""
    for path in SOURCE.rglob("*.py"):
        place = path.relative_to(SOURCE).as_posix()
        if any(name.split(".")[0] == library for name in imports(path)):
            assert place.startswith(DOORS[library]), f"{place} imports {library}"


@pytest.mark.parametrize("name", sorted(PURE))
def test_the_middle_is_pure(name: str) -> None:
    """The pure modules know only each other: no registry, kernel, clock or file."""
    known = {module for module in imports(SOURCE / name) if module.startswith("neti.")}
    assert {module.split(".")[1] for module in known} <= PURE[name]
    outside = {module.split(".")[0] for module in imports(SOURCE / name)}
    assert not outside & {"os", "socket", "subprocess", "time", "threading", "ctypes"}


@pytest.mark.parametrize("name", PURE_AWS)
def test_plans_for_aws_know_no_sdk(name: str) -> None:
    """What is planned is held apart from who calls: neither the door nor a socket is imported."""
    outside = imports(SOURCE / f"aws/{name}.py")
    assert not outside & {"neti.aws.access", "socket", "subprocess", "urllib.request", "os"}


def test_only_one_module_loads_libnftables() -> None:
    """The C library has one door too."""
    users = [p.name for p in SOURCE.rglob("*.py") if "libnftables.so" in p.read_text()]
    assert users == ["libnftables.py"]


def test_a_missing_libnftables_names_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Without the library there is one sentence, which says what to install."""
    child = tmp_path / "child.py"
    text = Path(libnftables.__file__).read_text()
    child.write_text(text.replace("libnftables.so.1", "libnftables-that-is-not-there.so.1"))
    monkeypatch.setattr(compiler, "_CHILD", child)
    with pytest.raises(DataplaneError, match="install the package libnftables1"):
        compiler.compile_rules("add table inet nobody-compiled-this-yet")


# what writes where people or programs read, and the only places that may call it
PRINTERS = {"echo", "secho", "print", "echo_via_pager", "progressbar", "writelines"}
MAY_PRINT = ("cli/output.py", "lab/shop/__main__.py", "lab/probe.py", "lab/stage.py")


def printed(path: Path) -> list[str]:
    """Calls in a file that put text on a terminal by themselves."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        last = name.rpartition(".")[2]
        if last in PRINTERS or name.startswith(("sys.stdout.w", "sys.stderr.w")):
            found.append(f"{path.relative_to(SOURCE)}:{node.lineno}: {name}")
    return found


def test_all_that_a_command_says_goes_through_one_door() -> None:
    """There foreign text is made printable, so that no new command can forget it."""
    elsewhere = [p for p in SOURCE.rglob("*.py") if not p.as_posix().endswith(MAY_PRINT)]
    assert not [call for path in elsewhere for call in printed(path)]


def test_nobody_decides_anew_what_is_printable() -> None:
    """``isprintable`` lets combining marks, right-to-left letters and endless text through."""
    allowed = {"text.py", "identity/imds.py", "config/values.py", "dataplane/listeners.py"}
    users = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if "isprintable" in path.read_text()
    }
    assert users <= allowed

"""The house's own rules: each outside thing has one door, and imports lead one way."""

import ast
import functools
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import neti
import neti_lab
from neti.dataplane import compiler, libnftables
from neti.errors import DataplaneError

SOURCE = Path(neti.__file__).parent
LAB = Path(neti_lab.__file__).parent

# From the floor up, as in docs/design/house.md. Nobody imports what stands further down the list.
ROOMS = (
    "errors clock log text words durable files build threads",
    "model",
    "config",
    "identity",
    "registry",
    "fleet",
    "ruleset",
    "stage",
    "dataplane",
    "host",
    "state",
    "monitoring",
    "control",
    "agent",
    "oneshot",
    "aws",
    "proxy",
    "dashboard",
    "cli __init__ __main__",
)
LEVEL = {room: level for level, rooms in enumerate(ROOMS) for room in rooms.split()}

# library -> the rooms that may import it
DOORS = {
    "kazoo": ("registry/zookeeper/",),
    "cryptography": ("registry/zookeeper/", "dataplane/wireguard/keys.py"),
    "sqlite3": ("registry/embedded/",),
    "pydantic": ("config/",),
    "pydantic_core": ("config/",),
    "yaml": ("config/",),
    "boto3": ("aws/access.py",),
    "botocore": ("aws/access.py",),
    "click": ("cli/",),
    "starlette": ("dashboard/",),
    "uvicorn": ("dashboard/",),
    "anyio": ("dashboard/",),
    "prometheus_client": ("monitoring/",),
}

PURE = ("model", "fleet", "ruleset", "stage")
EFFECTS = {"os", "socket", "subprocess", "time", "threading", "ctypes", "select", "fcntl"}
# What of the AWS package compares and decides, and asks nobody.
PURE_AWS = ("apply", "changes", "fleet_ranges", "ip_ranges", "prefixes", "refusals")


@functools.cache  # each test asks about every file
def imports(path: Path) -> frozenset[str]:
    """Full names of the modules that a file imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= inside if node.module == "neti" else {node.module}
    return frozenset(names)


def files() -> Iterator[tuple[str, Path]]:
    for path in SOURCE.rglob("*.py"):
        yield path.relative_to(SOURCE).as_posix(), path


def room_of(place: str) -> str:
    return place.partition("/")[0].removesuffix(".py")


def test_every_file_stands_in_a_room() -> None:
    """A new room has a place in the list, so that somebody has thought about who may know it."""
    assert {room_of(place) for place, _ in files()} <= set(LEVEL)


def test_no_import_leads_to_a_room_further_down() -> None:
    """Which also means that no two rooms import each other."""
    wrong = []
    for place, path in files():
        for name in imports(path):
            if name.startswith("neti.") and not name.startswith("neti.__"):
                other = name.split(".")[1]
                same = other == room_of(place)
                if not same and LEVEL[other] > LEVEL[room_of(place)]:
                    wrong.append(f"{place} imports {name}")
    assert wrong == []


@pytest.mark.parametrize("library", sorted(DOORS))
def test_each_library_has_one_door(library: str) -> None:
    """Nobody but the named rooms imports the library."""
    for place, path in files():
        if any(name.split(".")[0] == library for name in imports(path)):
            assert place.startswith(DOORS[library]), f"{place} imports {library}"


@pytest.mark.parametrize("room", PURE)
def test_decisions_are_pure(room: str) -> None:
    """Neither a clock nor a file nor a socket is imported where something is decided."""
    for path in (SOURCE / room).rglob("*.py"):
        outside = {name.split(".")[0] for name in imports(path)}
        assert not outside & EFFECTS, f"{path.name} imports {outside & EFFECTS}"


@pytest.mark.parametrize("name", PURE_AWS)
def test_plans_for_aws_know_no_sdk(name: str) -> None:
    """What is planned is held apart from who calls: neither the door nor a socket is imported."""
    outside = imports(SOURCE / f"aws/{name}.py")
    assert not outside & {"neti.aws.access", "socket", "subprocess", "urllib.request", "os"}


def test_a_command_does_no_work_of_its_own() -> None:
    """It knows neither the kernel nor a rule nor a socket nor how a fleet is judged: that is behind
    the agent's socket, or in oneshot."""
    work = {
        *("neti.dataplane", "neti.ruleset", "neti.files", "neti.durable"),
        *("neti.fleet.fleet", "neti.fleet.admission", "neti.agent.shadow_log"),
        *("neti.agent.preview", "neti.host.listeners", "neti.state.folder"),
        *("socket", "concurrent.futures", "stat", "fcntl", "subprocess"),
    }
    for place, path in files():
        if place.startswith("cli/"):
            names = imports(path)
            outside = names | {".".join(name.split(".")[:2]) for name in names}
            assert not outside & work, place


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


MAY_RENAME = {
    "durable.py",
    "monitoring/exposition.py",  # figures of the past are worth nothing after a power cut
    # Files that are whole already are put aside.
    *("state/journal.py", "state/written.py", "agent/record_file.py"),
}


def test_files_are_replaced_by_what_survives_a_power_cut() -> None:
    """A rename that is on disk before the content is leaves an empty file."""
    renames = []
    for place, path in files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                name, on = node.func.attr, ast.unparse(node.func.value)
                moves = name == "rename" or (name == "replace" and len(node.args) == 1)
                if (moves and not node.keywords) or (on == "os" and name == "replace"):
                    renames.append(place)
    assert set(renames) == MAY_RENAME


# what writes where people or programs read, and the only places that may call it
PRINTERS = {"echo", "secho", "print", "echo_via_pager", "progressbar", "writelines"}
MAY_PRINT = (
    "cli/output.py",
    "neti_lab/shop/__main__.py",
    "neti_lab/probe.py",
    "neti_lab/sniffer.py",
    "neti_lab/stage.py",
)


def printed(path: Path) -> list[str]:
    """Calls in a file that put text on a terminal by themselves."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        last = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if last not in PRINTERS and not last.startswith("w"):
            continue  # what it is called on need not be spelled out, which takes its time
        name = ast.unparse(node.func)
        if last in PRINTERS or name.startswith(("sys.stdout.w", "sys.stderr.w")):
            found.append(f"{path.name}:{node.lineno}: {name}")
    return found


def test_all_that_a_command_says_goes_through_one_door() -> None:
    """There foreign text is made printable, so that no new command can forget it."""
    sources = [*SOURCE.rglob("*.py"), *LAB.rglob("*.py")]
    elsewhere = [path for path in sources if not path.as_posix().endswith(MAY_PRINT)]
    assert not [call for path in elsewhere for call in printed(path)]


def test_nobody_decides_anew_what_is_printable() -> None:
    """``isprintable`` lets combining marks, right-to-left letters and endless text through."""
    allowed = {
        "text.py",
        "identity/imds.py",
        "identity/metadata.py",
        "config/values.py",
        "host/listeners.py",
    }
    users = {
        path.relative_to(SOURCE).as_posix()
        for path in SOURCE.rglob("*.py")
        if "isprintable" in path.read_text()
    }
    assert users <= allowed


def test_nobody_decides_by_the_words_of_an_error() -> None:
    """Its class, errno or code decides: words change with a version, and with the language."""
    words = ("str(error)", "str(refused)")
    deciders = []
    for place, path in files():
        text = path.read_text()
        if not any(word in text for word in words):
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Compare):
                compared = [node.left, *node.comparators]
                if any(ast.unparse(each) in words for each in compared):
                    deciders.append(f"{place}:{node.lineno}")
    assert deciders == []


def test_what_takes_more_than_an_s_says_its_plural() -> None:
    """``2 entrys`` was in a message that people read at three in the morning."""
    wrong = []
    for path in [*SOURCE.rglob("*.py"), *LAB.rglob("*.py")]:
        if "counted(" not in (text := path.read_text()):
            continue
        for node in ast.walk(ast.parse(text)):
            match node:
                case ast.Call(func=ast.Name(id="counted"), args=[_, ast.Constant(value=str(one))]):
                    if re.search(r"([^aeiou]y|s|x|z|ch|sh)$", one):
                        wrong.append(f"{path.name}:{node.lineno}: {one}")
    assert wrong == []


def test_the_lab_has_the_version_of_neti() -> None:
    """It is a distribution of its own, and calls the agent's insides."""
    project = tomllib.loads((LAB.parents[1] / "pyproject.toml").read_text())["project"]
    assert project["version"] == neti.RELEASE
    assert f"neti=={neti.RELEASE}" in project["dependencies"]


def test_the_version_is_that_of_the_release_to_come() -> None:
    """As the changelog has it, so that what was built after a release is not called so too."""
    changes = (LAB.parents[2] / "CHANGELOG.md").read_text()
    latest = next(line for line in changes.splitlines() if line.startswith("## "))
    assert latest.split()[1] == neti.RELEASE
    assert neti.__version__.startswith(neti.RELEASE)


def test_nothing_of_neti_imports_the_lab() -> None:
    """A firewall host has none. The command line looks whether it is there."""
    for place, path in files():
        assert not any(name.startswith("neti_lab") for name in imports(path)), place


def test_nobody_reads_the_number_of_an_error() -> None:
    """Python puts ``[Errno 104]`` before an OSError's words; ``words.why`` leaves it out."""
    shown = []
    for place, path in files():
        if place in MENDS_ITSELF:
            continue
        for handler in ast.walk(ast.parse(path.read_text())):
            if isinstance(handler, ast.ExceptHandler) and handler.name and _may_be_os(handler.type):
                shown += [f"{place}:{line}" for line in _shows(handler, handler.name)]
    assert sorted(set(shown)) == []


# The SDK's own words, which ``aws.troubles`` mends; a child's, which nobody is shown.
MENDS_ITSELF = ("aws/access.py", "dataplane/libnftables.py")


def _may_be_os(caught: ast.expr | None) -> bool:
    kinds = caught.elts if isinstance(caught, ast.Tuple) else [caught] if caught else []
    words = ("OSError", "Exception", "ConnectionError", "PermissionError", "TimeoutError")
    return any(ast.unparse(kind).endswith(words) for kind in kinds)


def _shows(handler: ast.ExceptHandler, name: str) -> Iterator[int]:
    for node in ast.walk(handler):
        if isinstance(node, ast.FormattedValue) and node.conversion == -1:
            if ast.unparse(node.value) == name:
                yield node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node) == f"str({name})":
            yield node.lineno

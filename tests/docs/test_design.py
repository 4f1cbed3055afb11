"""Design pages speak of files, names and lists that there are."""

import functools
import re
from pathlib import Path

import pytest
from tests.unit.test_house import ROOMS

from neti.agent import leftover_log, shadow_log
from neti.control.protocol import SOCKET_NAME
from neti.identity import cache
from neti.ruleset.policy import SETS
from neti.stage.evidence import Observed, findings
from neti.state import folder, location, marks

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
DESIGN = [page for page in sorted((DOCS / "design").glob("*.md")) if page.name != "ebpf.md"]
SOURCES = [
    path
    for name in ("src", "lab", "drills", "benchmarks", "tests", "scripts", "simulation", "bundling")
    for path in (ROOT / name).rglob("*.py")
]
# ZooKeeper's own word, and a pattern.
NOT_OURS = {"addWatch", "drills/dNN_name.py"}


def _quoted(page: Path) -> set[str]:
    """What stands in backticks, code blocks left out."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    return set(re.findall(r"`([^`\n]+)`", text)) - NOT_OURS


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_modules_that_a_page_names_are_there(page: Path) -> None:
    """By the end of their path, as people write them."""
    there = [path.as_posix() for path in SOURCES]
    for name in _quoted(page):
        if re.fullmatch(r"[\w/-]+\.py", name):
            assert any(path.endswith(f"/{name}") for path in there), name


@functools.cache  # each page asks
def _words() -> frozenset[str]:
    """Every word in the sources, and the names of the modules."""
    text = "\n".join(path.read_text() for path in SOURCES)
    return frozenset(re.findall(r"\w+", text)) | {"", *(path.stem for path in SOURCES)}


@pytest.mark.parametrize("page", DESIGN, ids=lambda page: str(page.name))
def test_names_that_a_design_speaks_of_are_there(page: Path) -> None:
    """A function that is called otherwise now would send a reviewer looking."""
    known = _words()
    for quoted in _quoted(page):
        name = re.fullmatch(r"([A-Za-z_][\w.]*)(?:\(.*\))?", quoted)
        if name is not None:
            assert set(name[1].split(".")) <= known, quoted


def _first_cells(page: str, heading: str) -> list[str]:
    table = page[page.index(heading) :].split("\n\n", 1)[0]
    return [row.split("|")[1].strip() for row in table.splitlines()[2:]]


def test_every_file_of_the_state_folder_has_its_row() -> None:
    """And no row is about a file that is not there any more."""
    cells = _first_cells((DOCS / "design/state.md").read_text(), "| name | holds | written |")
    assert {cell.strip("`") for cell in cells} == {
        *folder._OF_ONE_MACHINE,
        location.GOOD_CONFIG,
        marks.DOWN,
        marks.RELAXED,
        cache.FILE_NAME,
        shadow_log._FILE,
        shadow_log._UNASKED,
        shadow_log._ACCEPTED,
        leftover_log.FILE,
        SOCKET_NAME,
        "agent.lock",
        "conntrack.json",
        "forwarding.json",
    }


def test_the_house_has_the_rooms_of_the_test() -> None:
    """In the same order: who may know whom is read from it."""
    cells = _first_cells((DOCS / "design/house.md").read_text(), "| room | what it is for")
    named = [room.strip("/") for cell in cells for room in re.findall(r"[\w/]+", cell)]
    rooms = [room for line in ROOMS for room in line.split() if not room.startswith("__")]
    assert sorted(named) == sorted(rooms)
    assert [n for n in named if n not in rooms[:7]] == rooms[7:]


def test_every_set_and_counter_is_explained() -> None:
    """Those of one name for both families once."""
    text = (DOCS / "design/dataplane.md").read_text() + (DOCS / "design/shadow.md").read_text()
    for words, _ in SETS:
        stem = words.split()[1].rstrip("46")
        assert re.search(rf"`{stem}[46]?`", text), words


def _evidence() -> list[str]:
    seen = Observed(
        registry="",
        in_step=True,
        kernel="",
        peers=0,
        admitted=0,
        admitted_before=0,
        before_seconds=0.0,
        refused_members=(),
        way_in="",
        lost_uses=(),
        incomplete="",
        unanswered=(),
        containers=(),
        clear=(),
        kept_out=(),
    )
    return [finding.what for finding in findings(seen)]


def test_the_evidence_of_a_trial_is_all_there() -> None:
    """On the page of its design and on the operator's, in the order in which it is printed."""
    design = (DOCS / "design/stages.md").read_text()
    assert _first_cells(design, "| piece | holds when |") == _evidence()
    safety = (DOCS / "safety.md").read_text()
    assert re.findall(r"^\d+\. \*\*([a-z _]+)\*\*: ", safety, re.MULTILINE) == _evidence()

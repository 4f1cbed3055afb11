"""Typed problems: codes declared in one place, a collection, a document that outlives versions.

``python -m tests.unit.model.test_problems`` writes the table of docs/operations.md anew.
"""

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from neti.model import problems as module
from neti.model.problem_codes import _KINDS, KINDS, OUT_OF_STEP, Severity
from neti.model.problems import Problem, Problems, problem, problems_in

PAGE = Path(__file__).parents[3] / "docs/operations.md"
MARKED = re.compile(r"(<!-- problems: .*? -->\n)(.*?)(<!-- end of problems -->)", re.DOTALL)
SOURCE = Path(module.__file__).parents[1]


def test_every_code_is_declared_once_and_says_what_to_do() -> None:
    """In the order of the alphabet, so that a new one has its place."""
    codes = [kind.code for kind in _KINDS]
    assert codes == sorted(set(codes))
    for kind in _KINDS:
        assert kind.code.isidentifier()
        assert kind.meaning
        assert kind.remedy
        assert "|" not in kind.meaning + kind.remedy  # a table holds them


def table() -> str:
    """As Markdown."""
    rows = (
        f"| `{kind.code}` | {kind.severity.value} | {kind.meaning} | {kind.remedy} |"
        for kind in _KINDS
    )
    return "\n".join(["| code | severity | means | what to do |", "|---|---|---|---|", *rows, ""])


def test_the_page_has_every_code() -> None:
    """With what it means and what to do, as it is declared."""
    found = MARKED.search(PAGE.read_text())
    assert found is not None
    assert found[2] == table(), "python -m tests.unit.model.test_problems writes it anew"


def _codes_set(path: Path) -> set[str]:
    """The codes that a module names: the first argument of ``….problems.set("code", …)``."""
    found: set[str] = set()
    text = path.read_text()
    if not re.search(r"problems?\b", text):
        return found  # which is most of them, and parsing takes its time
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.Call) or not node.args:
            continue
        called, first = node.func, node.args[0]
        on = getattr(called, "value", None)
        where = getattr(on, "attr", getattr(on, "id", "")).lstrip("_")
        names = isinstance(called, ast.Attribute) and called.attr == "set" and where == "problems"
        if (names or getattr(called, "id", "") == "problem") and isinstance(first, ast.Constant):
            found.add(str(first.value))
    return found


def test_the_page_says_what_is_out_of_step() -> None:
    """``neti fleet --require in-step`` is a gate of the runbook: what it goes by is no secret."""
    (sentence,) = [line for line in PAGE.read_text().splitlines() if "--require in-step" in line]
    named = sentence.partition("--require in-step")[2].partition(":")[0]
    assert set(re.findall(r"`([a-z_]+)`", named)) == OUT_OF_STEP
    assert KINDS.keys() >= OUT_OF_STEP


def test_every_code_that_is_used_is_declared() -> None:
    """Wherever in the tree it is used."""
    used: set[str] = set().union(*(_codes_set(path) for path in SOURCE.rglob("*.py")))
    assert used <= set(KINDS)


def test_an_undeclared_code_is_an_error_here_and_a_warning_in_operation(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An agent must not die of it."""
    with pytest.raises(LookupError, match="nonsense"):
        Problems().set("nonsense", "x")
    monkeypatch.setattr(module, "strict", False)
    assert problem("nonsense", "x").severity is Severity.WARNING


def test_a_sentence_is_one_line_whatever_it_was_made_of() -> None:
    held = Problems()
    held.set("strict_gone", "this host stays strict\n→ neti registry strict on")
    assert held.sentence("strict_gone") == "this host stays strict → neti registry strict on"


def test_one_code_may_have_several_subjects() -> None:
    """Each comes and goes by itself; without a subject all of them go."""
    held = Problems()
    held.set("state", "a.json is torn", subject="a.json")
    held.set("state", "b.json is torn", subject="b.json")
    held.set("disk", "full")
    assert held.sentence("state") == "a.json is torn; b.json is torn"
    held.clear("state", subject="a.json")
    assert [one.subject for one in held if one.code == "state"] == ["b.json"]
    held.clear("state")
    assert [one.code for one in held] == ["disk"]
    assert ("disk" in held, "state" in held, len(held)) == (True, False, 1)
    assert held.get("disk") == Problem("disk", KINDS["disk"].severity, "full")
    held.clear("state")  # which is no error


def test_a_document_of_another_version_is_read() -> None:
    """Sentences alone, a severity of tomorrow, nonsense: warnings, never an error."""
    assert problems_in({"problems": [problem("fight", "ufw").document()]}) == [
        Problem("fight", Severity.CRITICAL, "ufw")
    ]
    odd: dict[str, Any] = {
        "problems": ["just words", {"code": "new", "severity": "fatal"}, 7, None, {}]
    }
    assert {one.severity for one in problems_in(odd)} == {Severity.WARNING}
    assert [one.sentence for one in problems_in(odd)][:2] == ["just words", "new"]
    nonsense: tuple[dict[str, Any], ...] = ({}, {"problems": None}, {"problems": {}})
    assert all(problems_in(one) == [] for one in nonsense)


if __name__ == "__main__":
    PAGE.write_text(MARKED.sub(lambda found: found[1] + table() + found[3], PAGE.read_text()))

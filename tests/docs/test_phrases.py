"""What the pages put into quotes is printed by the programs, word for word.

An operator looks for these words at night. Ellipses and numbers on a page stand for anything.
"""

import ast
import functools
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (
    *("runbook", "monitoring", "operations", "rollout", "security", "aws", "safety", "preview"),
    *("troubleshooting", "faq", "which-road"),
)
# Put together from parts that no single string of the source has.
COMPOSED = {
    "reject_all  false: nothing is to be kept out (shadow)",
    "in step; registered",
    "stage     shadow",
    "stage     enforced",
    "NETI OK - shadow, … members, registry in step",
    "NETI OK - enforced",
    "enforced: what no rule lets in is dropped",
    "in site vpc",
    "not armed: 'neti preview' lists ports in use that would be shut",
    "s: what no rule lets in is dropped now. At",
    "the kernel goes back to shadow, unless you type 'neti confirm' before",
    "all enforced and in step and without a problem",
    "no answer in time through the tunnel",
    "members: no packet of a member was let in since the trial began",
}
# The same, of the table of what ``neti check`` may say.
OF_THE_PLUGIN = {
    "the stage is enforced, but the kernel does not drop",
    "expected enforced, but this host is",
    "but this host was relaxed by",
    "drops everything that no rule of its own accepts, members' packets too",
    "the trial of reject_all ended unconfirmed",
}
# Other programs' words, and people's.
NOT_OURS = {
    "Mode: follower",
    "Connection timed out",
    "Cannot assign requested address",
    "open to the cloud",
    "trusted proxies",
    "The agent hangs",
}


def _page(name: str) -> str:
    return (ROOT / f"docs/{name}.md").read_text()


@functools.cache
def _strings() -> str:
    """Every string of the sources; what is formatted into one is a hole."""
    found = []
    for name in ("src", "lab/src"):
        for path in (ROOT / name).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
                elif isinstance(node, ast.JoinedStr):
                    parts = (p.value if isinstance(p, ast.Constant) else "\0" for p in node.values)
                    found.append("".join(map(str, parts)))
    return "\n".join(found)


@pytest.mark.parametrize("name", PAGES)
def test_quoted_words_are_printed(name: str) -> None:
    """Code apart: that has tests of its own."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", _page(name), flags=re.DOTALL | re.MULTILINE)
    for quoted in re.findall(r'"([^"\n]{6,160})"', text):
        if quoted in NOT_OURS | COMPOSED:
            continue
        for part in re.split(r"…|\d[\d.,:]*|N of N", quoted):
            words = part.strip(" .,:;")
            known = len(words) < 6 or words in COMPOSED or words in _strings()
            assert known, quoted


def _findings() -> list[str]:
    """The first cells of the tables of what ``neti check`` may say, in parts."""
    text = _page("monitoring")
    tables = text[text.index("## What it finds") : text.index("## Figures")]
    cells = re.findall(r"^\| (.*?) \| ", tables, re.MULTILINE)
    said = [cell for cell in cells if cell not in {"the line says", "---", "anything else"}]
    return [part.strip(" .,:") for cell in said for part in re.split(r"…|;", cell)]


@pytest.mark.parametrize("part", [part for part in _findings() if len(part) > 5])
def test_what_the_plugin_may_say_is_said(part: str) -> None:
    """So that a search for the line of an alarm finds its row."""
    assert part in _strings() or part in OF_THE_PLUGIN


def test_no_exception_is_kept_for_longer_than_its_words() -> None:
    """A phrase that no page has any more would hide the next one."""
    pages = "".join(map(_page, PAGES))
    exceptions = NOT_OURS | COMPOSED | OF_THE_PLUGIN
    assert [words for words in exceptions if words not in pages] == []

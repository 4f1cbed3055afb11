"""The tables of docs/configuration.md and docs/preview.md say what the program says."""

import json
import re
from pathlib import Path

import pytest

from neti.agent.reloading import NEED_RESTART
from neti.cli import preview
from neti.config import json_schema

DOCS = Path(__file__).parents[2] / "docs"
ROWS = dict(
    re.findall(
        r"^\| `(\w+)`(?: \*\*R\*\*)? \| .*? \| (.*?) \|",
        (DOCS / "configuration.md").read_text(),
        re.MULTILINE,
    )
)
PROPERTIES = json_schema()["properties"]
# Where the schema says null or nothing: what that means, in the page's words.
IN_WORDS = {
    "sites": "`ec2` and `vpc` without ranges",
    "registry": "`zookeeper`",
    "container_interfaces": "`auto`",
    "session_seconds": "`30`",
}
KEYS_OF_2014 = {"aws_key", "aws_secret_key", "bin", "overlay_ip_cache_file_path"}


@pytest.mark.parametrize("key", sorted(PROPERTIES.keys() - KEYS_OF_2014))
def test_the_page_has_the_default(key: str) -> None:
    """As it is written in a file."""
    default = PROPERTIES[key].get("default")
    plain = default if isinstance(default, str) else json.dumps(default)
    expected = IN_WORDS.get(key, "none" if default is None else f"`{plain}`")
    assert ROWS[key] == expected


def test_the_keys_that_need_a_restart_are_marked() -> None:
    """And no other."""
    page = (DOCS / "configuration.md").read_text()
    marked = set(re.findall(r"^\| `(\w+)` \*\*R\*\* \|", page, re.MULTILINE))
    assert marked == {"registry" if key == "embedded" else key for key in NEED_RESTART}


def test_the_preview_on_the_page_has_the_printed_headings() -> None:
    """Those of the groups that are shown without --all."""
    page = (DOCS / "preview.md").read_text()
    for rank, heading in preview._HEADINGS.items():
        assert rank == "noise" or f"\n{heading}:\n" in page

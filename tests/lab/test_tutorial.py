"""docs/tutorial.md, every command as it stands there, on machines of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.netns import require_root

pytestmark = pytest.mark.kernel

PAGE = (Path(__file__).parents[2] / "docs/tutorial.md").read_text()
BLOCKS = re.findall(r"^```(sh|text)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
FOLDER = "/tmp/neti-tutorial"  # the page's own
SECONDS = 600


def shape(line: str) -> str:
    """What does not change from one run to the next."""
    line = re.sub(r"\b0\.1\.0\S*", "VERSION", line)
    line = re.sub(r"[0-9a-f.:-]*\d[0-9.:-]*", "0", line)
    return re.sub(r"\s+", " ", line.replace("seconds", "s")).strip()


def test_the_page_prints_what_it_says(tmp_path: Path) -> None:
    require_root()
    script, expected = ["exec 2>&1"], list[tuple[int, list[str]]]()
    for kind, text in BLOCKS:
        if kind == "sh":
            script.append(f"echo '<{len(script)}>'\n{text}")
        else:
            expected.append((len(script) - 1, text.splitlines()))
    script = ["mount -t tmpfs none /run && mkdir -p /run/netns /run/lock", *script]
    # Elsewhere than the page has it, as another run may be there.
    path = tmp_path / "tutorial"
    path.write_text("\n".join(script).replace(FOLDER, str(tmp_path / "here")))
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["unshare", "--mount", "--net", "--propagation", "private", "bash", str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    print(done.stdout, done.stderr)
    said = dict(
        re.findall(r"^<(\d+)>\n(.*?)(?=^<\d+>\n|\Z)", done.stdout, re.DOTALL | re.MULTILINE)
    )
    for number, lines in expected:
        printed = iter([shape(line) for line in said[str(number)].splitlines()])
        for line in filter(str.strip, lines):
            wanted = shape(line.replace(FOLDER, str(tmp_path / "here")))
            assert wanted in printed, f"after {line!r} of: {said[str(number)]}"
    assert not (tmp_path / "here").exists()

"""Puts what a run printed into a page of the documentation, between that row's two marks.

Must never do: change a word outside of the marks.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.svg import Bars, Lines
from neti.errors import NetiError


def put(page: Path, row: str, lines: Sequence[str], plots: Mapping[str, Bars | Lines]) -> None:
    text = page.read_text(encoding="utf-8")
    begin, end = f"<!-- {row} -->\n", f"<!-- end {row} -->"
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise NetiError(f"{page} has no place for {row}: write {begin.strip()} and {end} there")
    folder = page.with_suffix("")
    folder.mkdir(exist_ok=True)
    images = ""
    for name, plot in plots.items():
        (folder / f"{name}.svg").write_text(plot.svg(), encoding="utf-8")
        images += f"\n![{plot.title}]({folder.name}/{name}.svg)\n"
    block = "\n".join(line.rstrip() for line in lines)
    page.write_text(f"{before}{begin}```\n{block}\n```\n{images}{end}{after}", encoding="utf-8")

"""docs/platforms.md says of kernels what the code does."""

from pathlib import Path

from neti.model.capabilities import table

PAGE = Path(__file__).parents[2] / "docs/platforms.md"


def test_the_page_has_what_a_kernel_may_lack() -> None:
    """Written by neti.model.capabilities.table()."""
    assert f"\n\n{table()}\n\n" in PAGE.read_text(encoding="utf-8")

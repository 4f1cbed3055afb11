"""The pictures of the docs: ``python -m tests.browser.screenshots`` takes them anew."""

from pathlib import Path
from typing import Final

from tests.support.browser import Page, browser
from tests.support.dashboards import Running, running

IMAGES: Final = Path(__file__).parents[2] / "docs/images"
# By file: the colours, the view, and its height.
TAKEN: Final = {
    "dashboard-light.png": ("light", "", 1120),
    "dashboard-dark.png": ("dark", "", 1120),
    "dashboard-host.png": ("light", "host/db-0", 900),
    "dashboard-breaks.png": ("light", "breaks", 900),
}


def take(page: Page, there: Running, into: Path) -> list[Path]:
    """All of them."""
    into.mkdir(parents=True, exist_ok=True)
    made = []
    for name, (scheme, view, height) in TAKEN.items():
        page.size(1280, height)
        page.scheme("dark" if scheme == "dark" else "light")
        page.open(there.link)
        page.says("What needs attention now")
        page.run("location.hash = arguments[0]", f"#/{view}")
        page.until(lambda: page.run("return document.querySelector('#view h1') !== null"))
        page.says("db-0" if view else "What needs attention now")
        path = into / name
        path.write_bytes(page.picture())
        made.append(path)
    return made


def main() -> None:
    with running("400", "127.0.0.1:0", "plain") as there, browser() as page:
        page.open(there.link)
        page.says("is enforced (was")  # something has happened that it can show
        for path in take(page, there, IMAGES):
            print(path.relative_to(Path.cwd()))


if __name__ == "__main__":
    main()

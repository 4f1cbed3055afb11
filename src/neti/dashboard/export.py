"""The page with all of the fleet in one file, which asks nobody for anything.

Must never do: leave room for what a host says of itself to become part of the page.
"""

import asyncio
import base64
import hashlib
import json
import re
import time
from pathlib import Path
from typing import Any, Final

from neti import durable
from neti.dashboard.app import PAGE
from neti.dashboard.board import Board
from neti.dashboard.details import Details, would_break
from neti.fleet.picture import Picture
from neti.model.settings import Settings
from neti.oneshot.seen import Seen
from neti.oneshot.watched import Watched

_STYLE: Final = re.compile(r'<link rel="stylesheet" href="static/([a-z/.-]+)">')
_SCRIPT: Final = re.compile(r'<script src="static/([a-z/.-]+)" defer></script>')
# In a script of data these could end it, or begin a comment that hides the rest (WHATWG HTML,
# 4.12.1.3).
_ESCAPED: Final = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def made(settings: Settings, watched: Watched, version: str) -> tuple[Picture, str]:
    """One look, and the page of it. Raises RegistryUnavailable where nothing is known."""
    board = Board(version)
    try:
        shown = watched.look()
    finally:
        watched.close()
    asyncio.run(board.show(shown))
    assert watched.seen is not None
    return shown, page(settings, watched.seen, board, time.time())


def page(settings: Settings, seen: Seen, board: Board, now: float) -> str:
    """All of it. ``now``: Unix seconds."""
    assert board.shown is not None
    details = Details(settings, seen, board, now)
    data = {
        "fleet": board.whole(),
        "breaks": would_break(seen, board.shown.key),
        "hosts": {host_id: details.of(host_id) for host_id in board.shown.cells},
    }
    html = (PAGE / "index.html").read_text()
    styles = [_file(name) for name in _STYLE.findall(html)]
    scripts = [_file(name) for name in _SCRIPT.findall(html)]
    policy = (
        "default-src 'none'; img-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src {_hashes(styles)}; script-src {_hashes(scripts)}"
    )
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    html = _STYLE.sub("", _SCRIPT.sub("", html)).replace("<head>", f"<head>\n{head}", 1)
    inside = "".join(f"<style>{one}</style>\n" for one in styles)
    inside += f'<script type="application/json" id="neti-export">{_data(data)}</script>\n'
    # A script that is deferred has to have a file of its own: these run once all else is there.
    ending = "".join(f"<script>{one}</script>\n" for one in scripts)
    html = html.replace("</head>", f"{inside}</head>", 1)
    before, _, after = html.rpartition("</body>")
    return f"{before}{ending}</body>{after}"


def write(path: Path, text: str) -> None:
    """For its owner alone: which hosts are open is nobody else's business. Raises OSError."""
    durable.replace(path, text.encode(), mode=0o600)


def _file(name: str) -> str:
    return (PAGE / name).read_text()


def _data(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPED)


def _hashes(texts: list[str]) -> str:
    digests = (base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in texts)
    return " ".join(f"'sha256-{one}'" for one in digests) or "'none'"

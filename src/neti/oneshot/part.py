"""A picture of a part of the fleet, as ``neti fleet`` chooses it by ``--site`` and ``--where``.

Must never do: leave a host out without counting it.
"""

from dataclasses import replace

from neti.fleet.needs import needs
from neti.fleet.picture import Picture
from neti.fleet.selecting import Choice
from neti.oneshot.seen import Seen


def part_of(picture: Picture, seen: Seen, choice: Choice) -> tuple[Picture, int]:
    """The hosts that were chosen and what they need, and how many of those that are not registered
    are left out because they say no labels. ``seen``: what the picture was made of. Entries that no
    agent believes are of no part, so they are told in each."""
    rows = [row for row in seen.rows() if choice.takes(row)]
    away = [row for row in seen.away if choice.takes_away(row)]
    there = replace(choice, where=())
    unsaid = sum(1 for row in seen.away if there.takes_away(row)) - len(away)
    ids = {row["id"] for row in (*rows, *away)}
    cells = {host_id: cell for host_id, cell in picture.cells.items() if host_id in ids}
    found = needs(
        rows,
        away,
        seen.told,
        now=picture.at,
        not_own=seen.not_own & ids,
        skipped=seen.skipped_count,
    )
    sites = picture.sites if choice.site is None else (choice.site,)
    there_too = sorted({cell.site for cell in cells.values()} - {*sites})
    return replace(picture, cells=cells, needs=tuple(found), sites=(*sites, *there_too)), unsaid

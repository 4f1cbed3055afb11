"""A picture of a part of the fleet, as ``neti fleet`` chooses it by ``--site`` and ``--where``.

Must never do: leave a host out without counting it.
"""

from dataclasses import replace

from neti.fleet.needs import NOBODY, OF_THE_LOOK, needs, nobody
from neti.fleet.picture import Picture
from neti.fleet.selecting import Choice, left_out, nobody_like
from neti.oneshot.seen import Seen


def part_of(picture: Picture, seen: Seen, choice: Choice) -> tuple[Picture, int]:
    """The hosts that were chosen and what they need, and how many are left out because
    they say no labels. ``seen``: what the picture was made of. Entries that no
    agent believes are of no part, so they are told in each."""
    everybody = seen.rows()
    rows = [row for row in everybody if choice.takes(row)]
    away = [row for row in seen.away if choice.takes_away(row)]
    unsaid = len(left_out(choice, everybody, seen.away))
    ids = {row["id"] for row in (*rows, *away)}
    cells = {host_id: cell for host_id, cell in picture.cells.items() if host_id in ids}
    found = needs(
        rows,
        away,
        seen.told,
        now=picture.at,
        not_own=seen.not_own & ids,
        skipped=seen.skipped_count,
        in_part=seen.in_part,
    )
    found = [one for one in found if one.code != NOBODY]  # which is about all of the fleet
    if not ids and picture.cells:
        found.insert(0, nobody(nobody_like(choice, everybody, seen.away)))
    # What is so of the look itself is so of each part.
    found = [*(one for one in picture.needs if one.code in OF_THE_LOOK), *found]
    sites = picture.sites if choice.site is None else (choice.site,)
    there_too = sorted({cell.site for cell in cells.values()} - {*sites})
    return replace(picture, cells=cells, needs=tuple(found), sites=(*sites, *there_too)), unsaid

"""``neti up``: what only root can do beside an agent, and all of it where none answers.

Must never do: write rules. The agent does when it starts or wakes.
"""

import contextlib

from neti.dataplane import way_out
from neti.errors import DataplaneError
from neti.host import caller
from neti.model.settings import Settings
from neti.oneshot import conntrack_max
from neti.state.folder import StateFolder


def raise_limit_first(settings: Settings) -> None:
    """Before the agent's first rule, which says what is missing."""
    with contextlib.suppress(DataplaneError):
        conntrack_max.raise_limit(settings)


def up_alone(settings: Settings, *, hangs: bool) -> None:
    """Raises NetiError when the disk refuses."""
    StateFolder(settings.table_files_path, make=False).set_down(False)
    with contextlib.suppress(DataplaneError, OSError):
        if way_out.has_down_mark():
            way_out.remove_table()
    caller.note("up", agent="hangs" if hangs else "none answers")

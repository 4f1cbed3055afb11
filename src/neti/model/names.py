"""What operators say of names: the fleet's suffix, and names for single hosts. Values only.

Must never do: read anything.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from neti.model import editions

_LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
# RFC 1123, and "_", which ids may have; in lower case, because resolvers do not tell DB from db.
HOST_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*", re.ASCII)
MAX_NAME: Final = 253
# Beside an id of 40 and a dot.
MAX_SUFFIX: Final = 200


@dataclass(frozen=True, slots=True)
class Names:
    """``suffix``: each member is called by its id inside it; empty: operators gave none. ``ids``:
    by name, in lower case, the host whose lease it stands for. ``edition`` grows with each change,
    and 0 is what there is before the first."""

    suffix: str = ""
    ids: Mapping[str, str] = field(default_factory=dict)
    edition: int = 0

    def of(self, host_id: str) -> list[str]:
        """Sorted."""
        return sorted(name for name, held in self.ids.items() if held == host_id)

    def later(
        self, *, now: float, suffix: str | None = None, ids: Mapping[str, str] | None = None
    ) -> "Names":
        """With these changes, as a later edition. ``now``: Unix seconds, by which what operators
        say in a registry that lost everything is later than all that stood there."""
        return Names(
            self.suffix if suffix is None else suffix,
            self.ids if ids is None else ids,
            editions.after(self.edition, now),
        )


def is_host_name(text: str) -> bool:
    """Whether a resolver takes it for a name and not for an address."""
    last = text.rpartition(".")[2]
    numeric = last.isdigit() or last.startswith("0x")
    return len(text) <= MAX_NAME and HOST_NAME.fullmatch(text) is not None and not numeric

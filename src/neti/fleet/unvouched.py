"""Which of the entries that are believed today no record vouches for. Pure.

Must never do: be asked about a former entry of a host, which stands until its session ends.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from neti.registry import HostRead


@dataclass(frozen=True, slots=True)
class Unvouched:
    """``recorded``: whether the host has a record. One that has none runs an agent of a version
    before records, as a rule."""

    id: str
    name: str
    recorded: bool


def unvouched(
    names: Mapping[str, str], records: Mapping[str, HostRead], made: Mapping[str, int]
) -> list[Unvouched]:
    """Those of ``names`` (by host id) that do not vouch for themselves, in the order of their ids.
    ``made``: by name the number of the step that made the entry; who is not in it is gone."""
    return [
        Unvouched(host_id, name, host_id in records)
        for host_id, name in sorted(names.items())
        if name in made and not vouches(records.get(host_id), name, made[name])
    ]


def vouches(read: HostRead | None, name: str, made: int) -> bool:
    """Whether this record names the entry, and was last written by the step that made it."""
    if read is None or read.record is None:
        return False
    return read.record.word == name and read.written == made

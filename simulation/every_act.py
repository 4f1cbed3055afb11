"""All acts that there are, always in the same order: what a seed draws depends on it."""

from typing import Final

from simulation import (
    cloud_acts,
    disk_acts,
    gateway_acts,
    group_acts,
    kernel_acts,
    name_acts,
    operator_acts,
    process_acts,
    registry_acts,
    retire_acts,
    road_acts,
)
from simulation.acts import KINDS, Kind

# New ones go to the end.
_ORDER: Final = [
    module.__name__
    for module in (
        process_acts,
        disk_acts,
        kernel_acts,
        road_acts,
        cloud_acts,
        operator_acts,
        registry_acts,
        gateway_acts,
        group_acts,
        name_acts,
        retire_acts,
    )
]


def _place(kind: Kind) -> tuple[int, int]:
    return _ORDER.index(kind.perform.__module__), kind.perform.__code__.co_firstlineno


EVERY: Final[dict[str, Kind]] = dict(sorted(KINDS.items(), key=lambda item: _place(item[1])))

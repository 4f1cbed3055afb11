"""An operator's word that was left for an agent: when, by whom, and until when."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Said:
    """Unix seconds, as far as they are known. ``until`` None: for good."""

    at: float | None = None
    by: str = ""
    until: float | None = None

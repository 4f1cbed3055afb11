"""The registry as the other rooms see it: one protocol, and its events.

A registry holds *names* (one compact entry name per registered host, which lives as long as the
session that created it), *leases* (durable pairs overlay address <-> host id, both halves created
and deleted together), a few fleet-wide *settings*, and for each host two small documents that
nobody watches: *details*, which every member may read, and *reports*, for operators alone. It does
not know what a name means: names are untrusted text, and ``neti.fleet`` judges them. A name that is
too long for an entry is replaced by a short one that is no entry either, and data are cut just
beyond what an entry may have.
See docs/design/registry.md.

Its events are in ``events``, what may be asked of it in ``sides``.

Must never do: decide anything about membership, or call back with a lock held.
"""

from neti.registry.events import (
    SETTING_NAMES,
    VERSIONS,
    Appeared,
    DataRead,
    Detail,
    Event,
    Fresh,
    HostChanged,
    HostRead,
    KeyRead,
    LeaseRead,
    Origin,
    Question,
    Session,
    SessionEnded,
    SessionTaken,
    SettingEdit,
    SettingName,
    SettingRead,
    Sink,
    Snapshot,
    Stale,
    Vanished,
)
from neti.registry.sides import AgentRegistry, OperatorRegistry, Registry

__all__ = [
    "SETTING_NAMES",
    "VERSIONS",
    "AgentRegistry",
    "Appeared",
    "DataRead",
    "Detail",
    "Event",
    "Fresh",
    "HostChanged",
    "HostRead",
    "KeyRead",
    "LeaseRead",
    "OperatorRegistry",
    "Origin",
    "Question",
    "Registry",
    "Session",
    "SessionEnded",
    "SessionTaken",
    "SettingEdit",
    "SettingName",
    "SettingRead",
    "Sink",
    "Snapshot",
    "Stale",
    "Vanished",
]

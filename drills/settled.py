"""Is a host settled? Registry, kernel, agent and disk must tell the same, and nothing half done.

What the registry means to a host is worked out anew (``simulation.told``).
"""

import time
from collections.abc import Iterator

from simulation.told import Told, differing, same, told_by

from drills.host import FieldHost
from neti.errors import NetiError
from neti.identity import fingerprint
from neti.model import entry
from neti.registry import Registry
from neti.state.folder import StateFolder

__all__ = ["Told", "differing", "faults", "told_by", "wait_until_settled"]


def faults(host: FieldHost, registry: Registry) -> list[str]:
    """Every way in which this host, its agent running, is not settled now."""
    told = told_by(registry)
    found = list(told.faults)
    found += differing(host.read(), told, host.id)
    try:
        members = {member["id"]: member for member in host.members()}
        status = host.status()
    except NetiError as error:
        return [*found, f"agent: {error}"]
    found += [f"agent: problem: {one['code']}: {one['sentence']}" for one in status["problems"]]
    found += same("agent: members", set(members), set(told.members))
    for host_id, member in told.members.items():
        seen = members.get(host_id)
        if seen is not None and seen["private"] != str(member.private):
            found.append(f"agent: {host_id} is at {seen['private']}, not {member.private}")
        if seen is not None and seen["lost"]:
            found.append(f"agent: {host_id} counts as lost")
    return [*found, *_disk(host, told)]


def wait_until_settled(host: FieldHost, registry: Registry, *, seconds: float = 60.0) -> list[str]:
    """Empty as soon as the host is settled; what was wrong at the end when it never is."""
    deadline = time.monotonic() + seconds
    while found := _faults(host, registry):
        if time.monotonic() > deadline:
            return found
        time.sleep(0.1)
    return []


def _faults(host: FieldHost, registry: Registry) -> list[str]:
    try:
        return faults(host, registry)
    except NetiError as error:
        return [f"registry: {error}"]


def _disk(host: FieldHost, told: Told) -> Iterator[str]:
    loaded = StateFolder(host.state).load(fingerprint())
    for fault in loaded.faults:
        yield f"disk: {fault}"
    yield from same("disk: members", set(loaded.members), set(told.members))
    for host_id in loaded.members.keys() & told.members.keys():
        if loaded.members[host_id].name != entry.encode(told.members[host_id]):
            yield f"disk: {host_id} is not what it is in the registry"
    if loaded.itself.structure_seen != host.read().structure:
        yield "disk: the structure noted is not the kernel's"

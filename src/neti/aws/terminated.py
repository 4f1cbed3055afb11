"""Which leases belong to instances that are gone for good. ``judge`` is pure.

All times are by AWS's clock: this machine's may be wrong, and a clock that is a day ahead would
end every quarantine.

EC2 reports a terminated instance for about an hour. After that it does not know the id, which
proves nothing. So instances that were reported terminated are remembered in a file; instance ids
are never reused. Must never judge from an error or an empty answer.
"""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from neti import durable, files
from neti.aws.calls import Calls
from neti.aws.instances import Instance
from neti.errors import NetiError
from neti.words import why

_AT_MOST: Final = 64 << 20
_INSTANCE_ID: Final = re.compile(r"i-[0-9a-f]{8,17}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One lease and what is known of its holder. ``since``: when it was terminated, Unix
    seconds."""

    host_id: str
    overlay: IPv4Address
    since: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``release``: terminated for longer than the quarantine. ``waiting``: not that long yet.
    ``registered``: terminated, but registered all the same, so somebody should look. ``unknown``:
    EC2 does not know them. ``others``: alive, or not instances."""

    release: tuple[Lease, ...]
    waiting: tuple[Lease, ...]
    registered: tuple[Lease, ...]
    unknown: tuple[Lease, ...]
    others: int


def judge(
    leases: Mapping[IPv4Address, str],
    instances: Iterable[Instance],
    remembered: Mapping[str, float],
    *,
    present: frozenset[str],
    quarantine: float,
    now: float,
) -> Verdict:
    """``present``: host ids with an entry in the registry."""
    seen = {instance.id: instance for instance in instances}
    if not seen:
        raise NetiError(
            "EC2 reports no instances. Nothing was changed, because an empty answer may be wrong"
        )
    kinds: dict[str, list[Lease]] = {
        kind: [] for kind in ("release", "waiting", "registered", "unknown", "others")
    }
    for overlay, host_id in sorted(leases.items()):
        since = terminated_since(host_id, seen, remembered, now)
        lease = Lease(host_id=host_id, overlay=overlay, since=since)
        if since is None:
            known = host_id in seen or not _INSTANCE_ID.fullmatch(host_id) or host_id in present
            kinds["others" if known else "unknown"].append(lease)
        elif host_id in present:
            kinds["registered"].append(lease)
        else:
            kinds["release" if now - since >= quarantine else "waiting"].append(lease)
    return Verdict(
        release=tuple(kinds["release"]),
        waiting=tuple(kinds["waiting"]),
        registered=tuple(kinds["registered"]),
        unknown=tuple(kinds["unknown"]),
        others=len(kinds["others"]),
    )


def time_of(places: Sequence[Calls]) -> float:
    """Now, by AWS's clock, in Unix seconds. The earliest that a place told, so that nothing is
    released too early. NetiError where one did not tell."""
    times = []
    for calls in places:
        if calls.answered_at is None:
            raise NetiError(
                f"AWS, {calls.place}: its answer has no Date, and this machine's clock may be "
                "wrong. Nothing was changed"
            )
        times.append(calls.answered_at)
    return min(times)


def terminated_since(
    host_id: str, seen: Mapping[str, Instance], remembered: Mapping[str, float], now: float
) -> float | None:
    """When the instance was terminated, or first seen terminated; None if it was not."""
    instance = seen.get(host_id)
    if instance is None:
        return remembered.get(host_id)
    if instance.state != "terminated":
        return None
    times = [time for time in (instance.since, remembered.get(host_id)) if time is not None]
    return min([now, *times])


def remember(
    leases: Mapping[IPv4Address, str],
    instances: Iterable[Instance],
    remembered: Mapping[str, float],
    now: float,
) -> dict[str, float]:
    """What to remember for the next run: the terminated instances that still hold a lease."""
    seen = {instance.id: instance for instance in instances}
    since = {
        host_id: terminated_since(host_id, seen, remembered, now) for host_id in leases.values()
    }
    return {host_id: time for host_id, time in since.items() if time is not None}


def load(path: Path) -> dict[str, float]:
    """NetiError when the file is not such a memory: starting without it would silently delay
    releases."""
    try:
        held = json.loads(files.read(path.resolve(), _AT_MOST))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise NetiError(f"{path} cannot be read ({why(error)}): repair it or delete it") from error
    if not isinstance(held, dict) or not all(isinstance(v, int | float) for v in held.values()):
        raise NetiError(f"{path} was not written by 'neti lease gc': repair it or delete it")
    return {str(host_id): float(since) for host_id, since in held.items()}


def save(path: Path, remembered: Mapping[str, float]) -> None:
    content = json.dumps(dict(sorted(remembered.items())), indent=1) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        durable.replace(path.resolve(), content.encode(), 0o644)
    except OSError as error:
        raise NetiError(
            f"{path} cannot be written ({error.strerror}), and without it the quarantine would "
            "be forgotten. Give another file with --memory"
        ) from error

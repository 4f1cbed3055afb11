"""What ``neti aws ip-ranges --fleet`` remembers between runs: which addresses a host had.

A widened prefix does not say whose addresses it covers. Without a memory, all prefixes would have
to stay while any host is missing, the next run would widen what this one left, and so on.
Everything but ``load`` and ``save`` is pure. Must never make a prefix wider than a run left it.
"""

import fcntl
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any, Final

from neti import durable, files
from neti.errors import NetiError
from neti.model import Member

_FORMAT: Final = 1
_MOST_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A host as the registry last had it."""

    site: str
    private: IPv4Address
    public: IPv4Address | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """``hosts``: those that hold a lease, by id. By group: ``left``, the prefixes that runs with
    this memory made; ``kept``, prefixes of other people's runs, with the lost hosts that may be in
    them."""

    hosts: Mapping[str, Seen] = field(default_factory=dict)
    left: Mapping[str, frozenset[str]] = field(default_factory=dict)
    kept: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)

    def of_now(self, members: Iterable[Member], leased: Collection[str]) -> "Memory":
        """Registered hosts as they are and lost hosts as they were. A host without a lease is not
        in it."""
        hosts = {host_id: seen for host_id, seen in self.hosts.items() if host_id in leased}
        for member in members:
            hosts[member.id] = Seen(site=member.site, private=member.private, public=member.public)
        return Memory(hosts=hosts, left=self.left, kept=self.kept)

    def unknown(
        self, group: str, widened: Iterable[str], lost: Collection[str]
    ) -> dict[str, tuple[str, ...]]:
        """Prefixes to keep because a lost host may be in them. This memory cannot tell when another
        machine's run made them, or when they are older than the memory."""
        before = self.kept.get(group, {})
        left = self.left.get(group, frozenset())
        found: dict[str, tuple[str, ...]] = {}
        for cidr in widened:
            if cidr in before:
                hosts = tuple(host_id for host_id in before[cidr] if host_id in lost)
            else:
                hosts = () if cidr in left else tuple(sorted(lost))
            if hosts:
                found[cidr] = hosts
        return found

    def after(
        self,
        group: str,
        *,
        held: Collection[str],
        planned: Iterable[str],
        kept: Mapping[str, tuple[str, ...]],
    ) -> "Memory":
        """Correct even if only part of the plan is carried out."""
        left = (self.left.get(group, frozenset()) & set(held)) | frozenset(planned)
        return Memory(
            hosts=self.hosts,
            left={**self.left, group: left - kept.keys()},
            kept={**self.kept, group: dict(kept)},
        )


def load(path: Path) -> Memory:
    """NetiError when the file is not such a memory: nothing is guessed from half of one."""
    try:
        text = files.read(path.resolve(), _MOST_BYTES)
    except FileNotFoundError:
        return Memory()
    except OSError as error:
        raise NetiError(
            f"{path} cannot be read ({error.strerror or error}): repair it, or give another file "
            "with --memory"
        ) from error
    try:
        return _parse(json.loads(text))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise NetiError(
            f"{path} was not written by 'neti aws ip-ranges --fleet'. Move it away; the prefixes "
            "that are let in now then stay until no host is missing"
        ) from error


def save(path: Path, memory: Memory, groups: Iterable[str]) -> None:
    """``groups``: the groups of this run. What other processes saved meanwhile for theirs is kept:
    each site may have a process that follows it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path.with_name(f"{path.name}.lock")):
            own = set(groups)
            now = load(path)
            merged = Memory(
                hosts=memory.hosts,
                left={**now.left, **{g: c for g, c in memory.left.items() if g in own}},
                kept={**now.kept, **{g: c for g, c in memory.kept.items() if g in own}},
            )
            content = json.dumps(_document(merged), indent=1) + "\n"
            durable.replace(path.resolve(), content.encode(), 0o644)
    except OSError as error:
        raise NetiError(
            f"{path} cannot be written ({error.strerror or error}), and without it the addresses "
            "of lost hosts would be forgotten. Give another file with --memory"
        ) from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # held for milliseconds
        yield
    finally:
        os.close(descriptor)


def _parse(document: Any) -> Memory:
    if document["format"] != _FORMAT:
        raise ValueError(document["format"])
    return Memory(
        hosts={
            str(host_id): Seen(
                site=str(seen["site"]),
                private=IPv4Address(seen["private"]),
                public=IPv4Address(seen["public"]) if seen["public"] else None,
            )
            for host_id, seen in document["hosts"].items()
        },
        left={
            str(group): frozenset(str(IPv4Network(cidr)) for cidr in cidrs)
            for group, cidrs in document["left"].items()
        },
        kept={
            str(group): {
                str(IPv4Network(cidr)): tuple(map(str, hosts)) for cidr, hosts in cidrs.items()
            }
            for group, cidrs in document["kept"].items()
        },
    )


def _document(memory: Memory) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "hosts": {
            host_id: {
                "site": seen.site,
                "private": str(seen.private),
                "public": str(seen.public) if seen.public else None,
            }
            for host_id, seen in sorted(memory.hosts.items())
        },
        "left": {group: sorted(cidrs) for group, cidrs in sorted(memory.left.items())},
        "kept": {
            group: {cidr: list(hosts) for cidr, hosts in cidrs.items()}
            for group, cidrs in sorted(memory.kept.items())
        },
    }

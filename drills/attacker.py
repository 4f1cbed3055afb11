"""A member that lies: a raw client with one host's certificate, and every right that it has.

It asks ZooKeeper for what no agent asks. Its sessions are its own: it does not take up another
host's by a password that it has worked out.
"""

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, Final, Self

from kazoo.client import KazooClient
from kazoo.exceptions import KazooException, NoAuthError
from kazoo.security import OPEN_ACL_UNSAFE, make_acl

from drills import certified, plan
from drills.field import Field
from drills.fleet import LAYOUT
from drills.host import FieldHost
from neti.model import Departure, Member, entry
from neti.model.settings import RegistryTLS
from neti.registry.record import HostRecord, encode
from neti.registry.zookeeper.registry import ZooKeeperRegistry

ID: Final = "mallory"
ADDRESS: Final = plan.PEER
# One more than what agents had; about as many as three digits have; the most that a name can say.
GENERATIONS: Final = (1, 46_654, 46_655, 46_656, 36**8 - 1)
_SECONDS: Final = 10.0
# What is told to nobody but operators would be the attacker's too.
_READABLE: Final = [make_acl("world", "anyone", read=True)]


@dataclass(frozen=True, slots=True)
class Tried:
    """How many requests, and what ZooKeeper said to them: by error's name, "done" for none."""

    said: Counter[str]

    @classmethod
    def none(cls) -> Self:
        return cls(Counter())

    def __add__(self, other: "Tried") -> "Tried":
        return Tried(self.said + other.said)

    @property
    def refused(self) -> bool:
        return "done" not in self.said

    def __str__(self) -> str:
        parts = [f"{count:,} {what}" for what, count in sorted(self.said.items())]
        return ", ".join(parts)


class Session:
    """One session of the attacker."""

    def __init__(self, client: KazooClient) -> None:
        self.client = client

    def make(self, names: Iterable[str], *, persistent: bool = False) -> Tried:
        """Entries, goodbyes, anything in the list of names; pipelined."""
        return self.make_nodes(map(LAYOUT.name, names), persistent=persistent)

    def make_nodes(self, paths: Iterable[str], *, persistent: bool = False) -> Tried:
        return _outcome(
            [
                self.client.create_async(path, b"", acl=_READABLE, ephemeral=not persistent)
                for path in paths
            ]
        )

    def register_as_its_own(self, name: str) -> Tried:
        """Its own record names it, and both are written in one step, as by a host that
        registers."""
        step = self.client.transaction()
        step.set_data(LAYOUT.host(ID), encode(HostRecord(word=name)))
        step.create(LAYOUT.name(name), b"", acl=_READABLE, ephemeral=True)
        wrong = [one for one in step.commit() if isinstance(one, Exception)]
        return Tried(Counter([type(one).__name__ for one in wrong] or ["done"]))

    def write(self, path: str, data: bytes, *, times: int = 1) -> Tried:
        return _outcome([self.client.set_async(path, data) for _ in range(times)])

    def read(self, path: str) -> Tried:
        return _outcome([self.client.get_async(path)])

    def delete(self, path: str) -> Tried:
        return _outcome([self.client.delete_async(path)])

    def take(self, path: str) -> Tried:
        """The rights of this node."""
        return _outcome([self.client.set_acls_async(path, OPEN_ACL_UNSAFE)])


def _outcome(asked: list[Any]) -> Tried:
    said: Counter[str] = Counter()
    for one in asked:
        try:
            one.get(timeout=_SECONDS)
        except NoAuthError:
            said["refused"] += 1
        except KazooException as error:
            said[type(error).__name__] += 1
        else:
            said["done"] += 1
    return Tried(said)


class Attacker:
    """``stem``: of its certificate."""

    def __init__(self, field: Field, stem: str = f"host-{ID}") -> None:
        self._field = field
        self._files = certified.keys(field.certificates, stem)

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """On leaving it ends, and what is its own with it."""
        client = self._field.inside(self._field.street, self._connect)
        try:
            yield Session(client)
        finally:
            client.stop()
            client.close()

    def _connect(self) -> KazooClient:
        client = KazooClient(
            self._field.servers[0].hosts,
            use_ssl=True,
            ca=self._files["ca"],
            certfile=self._files["cert"],
            keyfile=self._files["key"],
            timeout=_SECONDS,
        )
        client.start(_SECONDS)
        return client

    @contextlib.contextmanager
    def registry(self) -> Iterator[ZooKeeperRegistry]:
        """As an honest agent of this certificate would speak."""
        opened = self._field.inside(self._field.street, self._open)
        try:
            yield opened
        finally:
            opened.close()

    def _open(self) -> ZooKeeperRegistry:
        opened = ZooKeeperRegistry(
            [self._field.servers[0].hosts],
            session_seconds=_SECONDS,
            timeout=3 * _SECONDS,
            files=RegistryTLS(**{key: Path(path) for key, path in self._files.items()}),
        )
        opened.leases()
        return opened


# --- what it writes ---


def of(host: FieldHost) -> Member:
    """What the host's entry says now."""
    told = entry.parse(str(host.status()["entry"]))
    assert isinstance(told, Member)
    return told


def forged(member: Member, *, private: IPv4Address = ADDRESS) -> list[str]:
    """Entries of another host that lead to the attacker, of every generation."""
    generations = {member.generation + 1, *GENERATIONS}
    return [
        entry.encode(replace(member, private=private, public=None, generation=generation))
        for generation in sorted(generations)
    ]


def goodbyes(member: Member) -> list[str]:
    generations = {member.generation, member.generation + 1, *GENERATIONS}
    return [entry.encode_goodbye(Departure(member.id, one)) for one in sorted(generations)]


def next_ones(member: Member, count: int) -> list[str]:
    """The names that its agent may want next, its present one among them."""
    return [
        entry.encode(replace(member, generation=member.generation + step)) for step in range(count)
    ]


def under_one_id(member: Member, count: int) -> list[str]:
    """The same host again and again, each time somewhere else."""
    return [
        entry.encode(
            replace(
                member,
                private=plan.STREET_ADDRESS + 256 + number % 5000,
                public=None,
                generation=member.generation + 1 + number,
            )
        )
        for number in range(count)
    ]


def under_one_address(overlay: IPv4Address, count: int) -> list[str]:
    """As many hosts that nobody knows, all with the overlay address of one."""
    return [
        entry.encode(
            Member(
                id=f"x-{number}",
                site="ec2",
                private=plan.STREET_ADDRESS + 256 + number,
                public=None,
                overlay=overlay,
            )
        )
        for number in range(count)
    ]

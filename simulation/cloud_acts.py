"""What the cloud says, and who calls a host: users, and who looks for open doors.

Must never do: what ``simulation/acts.py`` must not.
"""

from ipaddress import IPv4Address

from simulation.acts import Stage, act
from simulation.host import SimulatedHost
from simulation.kernel import ROOM

# --- what the cloud says ---


@act("the metadata service does not answer", 0.7)
def metadata_silent(stage: Stage, host: SimulatedHost) -> None:
    host.metadata.silent = True


@act("the metadata service leaves the public address out, once", 0.7)
def metadata_odd(stage: Stage, host: SimulatedHost) -> None:
    host.metadata.odd = True


@act("the metadata service works again", 3)
def metadata_works(stage: Stage, host: SimulatedHost) -> None:
    host.metadata.works_again()


# --- users, and who looks for open doors ---


@act("users call it from now on: {}", 0.7, lambda c: (c.random() < 0.7,))
def users(stage: Stage, host: SimulatedHost, there: bool) -> None:
    host.users.there = there


@act("is scanned: {} ports where nobody listens", 0.7, lambda c: (c.choice((5, ROOM)),))
def scan(stage: Stage, host: SimulatedHost, ports: int) -> None:
    for number in range(ports):
        host.kernel.call(IPv4Address(f"192.0.2.{100 + number % 50}"), 20_000 + number)

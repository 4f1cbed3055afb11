"""What ``neti preview`` shows: the document's types. Pure.

It crosses a process, and the command may be of another version than the agent: see
``neti.model.document``. Programs read it too (``neti preview --json``). All times are Unix seconds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from neti.errors import NetiError
from neti.model.document import DocumentError, read
from neti.model.groups import PortsState
from neti.stage.in_the_clear import InTheClear
from neti.stage.preview import Noise, Rank, Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Socket:
    """A listening socket of this machine. ``pid`` None: the process could not be seen."""

    address: str
    port: int
    inode: int = 0
    pid: int | None = None
    process: str | None = None
    unit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """``name``: of hosts(5). ``admitted``, ``refused``: see ``neti.stage.preview.Whose``.
    ``former_member``: who had the address last, and until when; only of addresses that no member
    has now."""

    address: str
    name: str | None = None
    member: str | None = None
    admitted: bool | None = False
    former_member: str | None = None
    former_until: float | None = None
    near: Literal["site", "private", "internet"]
    packets: int
    first: float
    last: float
    refused: Refused | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One port to which packets came. ``open_ports``: the entry that would let it in, beside those
    of ``Preview``."""

    protocol: str
    port: int
    rank: Rank
    listeners: tuple[Socket, ...] = ()
    forwarded: bool = False
    redirected: int | None = None
    packets: int
    sources: int
    first: float
    last: float
    top: tuple[Source, ...] = ()
    accepted: bool = False
    open_ports: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptMember:
    """One member at one address. ``groups``: all that it is in."""

    id: str
    groups: tuple[str, ...] = ()
    address: str
    packets: int
    first: float
    last: float


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPort:
    """One port. ``waits``: the file takes it away, and that is not in force. ``answered``:
    something listens there, or it leads to a container. ``line``: the key of neti.yml, all of it,
    that would let these members in; ``commands``: those that make its groups."""

    protocol: str
    port: int
    waits: bool
    listeners: tuple[Socket, ...] = ()
    answered: bool = False
    accepted: bool = False
    members: int
    packets: int
    first: float
    last: float
    top: tuple[KeptMember, ...] = ()
    line: str | None = None
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOut:
    """Members that ``member_ports`` keep out, or would. ``more``: ports that are not among these:
    where something listens, and most members came, comes first. ``suggestion``: the smallest ones
    that fit what was seen, line by line as in neti.yml; ``commands``: those that make their
    groups. ``groups_known`` False: it is not known who is in which group, and nothing is
    listed."""

    state: PortsState
    ports: tuple[KeptPort, ...] = ()
    more: int = 0
    groups_known: bool = True
    suggestion: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """``agent``: whether one answered. ``stage`` None: this user may not look at the kernel.
    ``accepted``: when each port was accepted as lost. ``clear``: what goes in the clear where
    encryption is to be required; None: it is not, or only an agent knows. ``kept_out``: likewise
    without ``member_ports``. ``open_ports``: the entries that are in force, as in neti.yml."""

    agent: bool
    stage: str | None = None
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    since: float
    now: float
    ports: tuple[Wanted, ...] = ()
    noise: Noise = Noise(0, 0, 0)
    noise_listed: bool = False
    accepted: Mapping[str, float] = field(default_factory=dict)
    let_in: tuple[str, ...] = ()
    open_ports: tuple[str, ...] = ()
    clear: InTheClear | None = None
    kept_out: KeptOut | None = None


def preview_of(document: Any) -> Preview:
    """From an agent's answer. Raises NetiError if it is not understood."""
    try:
        return read(Preview, document)
    except DocumentError as error:
        raise NetiError(
            f"the agent's preview cannot be read ({error}): the agent is of another version than "
            "this command\n→ systemctl restart neti"
        ) from error

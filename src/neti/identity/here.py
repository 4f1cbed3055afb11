"""What this machine itself says of its name and its addresses, for ``identity`` without a cloud.

By files below /proc, /sys and /etc: no program is called, nothing is sent.

Must never do: choose between two addresses.
"""

import hashlib
import hmac
import socket
import struct
from dataclasses import dataclass
from fcntl import ioctl
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from neti import files
from neti.errors import IdentityError
from neti.identity.source import Identity
from neti.model.entry import HOST_ID
from neti.model.settings import LocalIdentity
from neti.words import some, why

_SIOCGIFADDR: Final = 0x8915  # netdevice(7)
_RTF_UP: Final = 0x1
_MAX_ID_FILE: Final = 4096
_MACHINE_ID: Final = Path("/etc/machine-id")
_TRIE: Final = Path("/proc/thread-self/net/fib_trie")
_ROUTES: Final = Path("/proc/thread-self/net/route")
_INTERFACES: Final = Path("/sys/class/net")
_NOBODYS_NAMES: Final = frozenset({"localhost", "localhost6", "(none)"})
_ID_DIGITS: Final = 16  # 64 bits: two of 16,000 random ones are the same once in 10**11 fleets


@dataclass(frozen=True, slots=True)
class LocalSource:
    configured: LocalIdentity

    def read(self) -> Identity:
        own = self.configured
        private = _real(_private(own.private), own.private)
        public = private if own.public == "same" else own.public
        ipv6 = () if own.ipv6 is None else (own.ipv6,)
        return Identity(id=_id(own), private=private, public=public, ipv6=ipv6)


def _real(address: IPv4Address, wanted: object) -> IPv4Address:
    """As an address that is written is checked: peers believe no other."""
    if address.is_loopback or address.is_link_local or address.is_multicast:
        raise IdentityError(
            f"{wanted}, which is to say this host's private address, says {address}, which no "
            "other host can reach"
        )
    return address


def _id(own: LocalIdentity) -> str:
    wanted = own.id
    if isinstance(wanted, str) and own.id_is_given:
        return wanted
    if isinstance(wanted, Path):
        return _checked(_content(wanted), f"the first line of {wanted}", "write a host id there")
    if wanted == "machine-id":
        return machine_digits(_content(_MACHINE_ID))
    name = socket.gethostname().partition(".")[0]
    if name in _NOBODYS_NAMES:
        raise IdentityError(
            f"this machine's host name is {name}, which every machine has until it gets one\n"
            "→ set its host name, or write id: NAME"
        )
    return _checked(name, "this machine's host name", "set another host name, or write id: NAME")


def machine_digits(machine_id: str) -> str:
    """Sixteen hexadecimal digits. Not of the id itself, which machine-id(5) asks programs to keep
    to themselves, but of a hash of it that is keyed by Neti's name."""
    if not machine_id or machine_id == "uninitialized":
        raise IdentityError(f"{_MACHINE_ID} is empty, so this machine has no id (machine-id(5))")
    return hmac.new(machine_id.encode(), b"neti host id", hashlib.sha256).hexdigest()[:_ID_DIGITS]


def _checked(found: str, what: str, then: str) -> str:
    if not HOST_ID.fullmatch(found):
        raise IdentityError(
            f"{what} is {found[:60]!r}, which is no host id: expected 1 to 40 of letters, digits, "
            f"'.', '_', '-', beginning with a letter or digit\n→ {then}"
        )
    return found


def _content(path: Path) -> str:
    try:
        text = files.read(path, _MAX_ID_FILE).decode("utf-8", "replace")
    except OSError as error:
        raise IdentityError(f"{path}, which is to say this host's id: {why(error)}") from error
    return text.strip().partition("\n")[0].strip()


def _private(wanted: IPv4Address | IPv4Network | str) -> IPv4Address:
    if isinstance(wanted, IPv4Address):
        return wanted
    if isinstance(wanted, IPv4Network):
        return _only_one_in(wanted, addresses())
    try:
        return address_of(wanted)
    except OSError as error:
        names = some(sorted(name for _, name in socket.if_nameindex() if name != "lo"))
        raise IdentityError(
            f"the interface {wanted}, which is to say this host's private address, has no IPv4 "
            f"address ({why(error)}); this machine's interfaces are {names}"
        ) from error


def _only_one_in(network: IPv4Network, every: frozenset[IPv4Address]) -> IPv4Address:
    inside = sorted(address for address in every if address in network)
    if len(inside) == 1:
        return inside[0]
    seen = some([*map(str, sorted(every))]) if every else "none"
    if not inside:
        raise IdentityError(
            f"no address of this machine is in {network}, which is to say its private one; it has "
            f"{seen}"
        )
    raise IdentityError(
        f"{some([*map(str, inside)])} are all in {network}, so which one is this host's private "
        "address cannot be told: write a smaller range, an interface's name, or the address"
    )


def address_of(interface: str) -> IPv4Address:
    """The interface's first address. OSError: it has none, or is not there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        asked = struct.pack("16s24x", interface.encode()[:15])
        return IPv4Address(ioctl(sock.fileno(), _SIOCGIFADDR, asked)[20:24])


def addresses(trie: Path = _TRIE) -> frozenset[IPv4Address]:
    """This machine's own, but for the loopback's, as the kernel's table ``local`` has them."""
    found, last = set[IPv4Address](), ""
    try:
        lines = trie.read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise IdentityError(f"{trie}: {why(error)}") from error
    for line in lines:
        words = line.split()
        if "--" in line and words:
            last = words[-1]
        elif words == ["/32", "host", "LOCAL"]:
            found.add(IPv4Address(last))
    return frozenset(one for one in found if not one.is_loopback)


def default_mac(routes: Path = _ROUTES, interfaces: Path = _INTERFACES) -> str | None:
    """The MAC address of the interface with the IPv4 default route, the one with the lowest metric;
    None: there is none."""
    best: tuple[int, str] | None = None
    try:
        for line in routes.read_text(encoding="ascii").splitlines()[1:]:
            name, destination, _, flags, _, _, metric, mask = line.split()[:8]
            if destination == mask == "00000000" and int(flags, 16) & _RTF_UP:
                best = min(best or (int(metric), name), (int(metric), name))
        if best is None:
            return None
        return (interfaces / best[1] / "address").read_text(encoding="ascii").strip() or None
    except (OSError, ValueError):
        return None

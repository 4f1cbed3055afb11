"""A proxy's options, checked before anything is opened. Pure, except for the limit on files."""

import resource
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address

from neti.errors import ConfigError
from neti.model.settings import RegistryTLS

# The longest session of a stock ZooKeeper; its client pings three times in it.
LONGEST_SESSION_SECONDS = 40
# Descriptors besides two per connection: listener, metrics, health checks, logs.
_OTHER_FILES = 64


@dataclass(frozen=True, slots=True)
class Endpoint:
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """All times in seconds. ``files``: for TLS in health checks; None: no TLS."""

    listen: Endpoint
    servers: tuple[Endpoint, ...]
    files: RegistryTLS | None = None
    metrics: Endpoint | None = None
    max_connections: int = 4000
    max_per_source: int = 60
    idle: float = 60.0
    connect: float = 3.0
    health: float = 2.0
    drain: float = 5.0


def endpoint(option: str, text: str, *, any_address: bool = False) -> Endpoint:
    """``HOST:PORT``; ConfigError says what is wrong with it."""
    host, colon, port = text.rpartition(":")
    host = host.strip("[]")
    number = int(port) if port.isascii() and port.isdecimal() else 0
    if not colon or not 0 < number < 65536 or (not host and not any_address):
        raise ConfigError(
            f"{option} {text}: expected HOST:PORT such as 10.21.0.4:2181 or [2001:db8::5]:2181"
        )
    return Endpoint(host or "0.0.0.0", number)


def checked(settings: ProxySettings) -> ProxySettings:
    """The same settings; ConfigError if they make no sense."""
    if not settings.servers:
        raise ConfigError(
            "--server is missing: give it once per server of the ensemble, as HOST:PORT"
        )
    doubled = {str(s) for s in settings.servers if settings.servers.count(s) > 1}
    if doubled:
        raise ConfigError(f"--server {min(doubled)} is given twice")
    for server in settings.servers:
        if server.port == settings.listen.port and _means_us(server.host, settings.listen.host):
            raise ConfigError(
                f"--server {server} is the address that this proxy listens on "
                f"({settings.listen}): it would relay to itself"
            )
    if settings.metrics == settings.listen:
        raise ConfigError(f"--metrics {settings.metrics} is also --listen: use another port")
    if settings.idle <= LONGEST_SESSION_SECONDS:
        raise ConfigError(
            f"--idle {settings.idle:g} is too short: expected more than "
            f"{LONGEST_SESSION_SECONDS}, because a healthy ZooKeeper session can be silent for "
            "nearly that long"
        )
    if settings.max_per_source > settings.max_connections:
        raise ConfigError(
            f"--max-per-source {settings.max_per_source} is more than --max-connections "
            f"{settings.max_connections}"
        )
    return settings


def raise_file_limit(connections: int) -> None:
    """Each connection takes two descriptors. Raises ConfigError when this process may not open so
    many."""
    wanted = 2 * connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < wanted:
        raise ConfigError(
            f"--max-connections {connections} needs {wanted} open files, but this process may "
            f"have {hard}: raise LimitNOFILE in the unit or ulimit -Hn, or lower the number"
        )
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _means_us(server: str, listen: str) -> bool:
    if server == listen:
        return True
    try:
        address, listening = ip_address(server), ip_address(listen)
    except ValueError:
        return False
    return listening.is_unspecified and address.is_loopback


def ipv4(option: str, place: Endpoint) -> IPv4Address:
    """For kernel rules, which need addresses, not names."""
    try:
        return IPv4Address(place.host)
    except ValueError as error:
        raise ConfigError(
            f"{option} {place}: --kernel needs an IPv4 address here, not a name or IPv6"
        ) from error

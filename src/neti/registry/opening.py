"""Which registry a configuration means. Imports kazoo or SQLite only when that one is used."""

from typing import TYPE_CHECKING

from neti.errors import ConfigError
from neti.model.settings import Settings
from neti.registry import Registry, Session

if TYPE_CHECKING:
    from neti.registry.zookeeper.registry import ZooKeeperRegistry


def open_registry(
    settings: Settings,
    site: str | None,
    session: Session | None = None,
    *,
    timeout: float = 10.0,
    make: bool = True,
) -> Registry:
    """Not connected yet. ``site`` None (a command outside any site): every listed server. ``make``
    False (for commands): the embedded registry's file is not made if it does not exist."""
    if settings.embedded is not None:
        from neti.registry.embedded.registry import EmbeddedRegistry

        return EmbeddedRegistry(
            settings.embedded,
            session=session,
            session_seconds=settings.session_seconds,
            timeout=timeout,
            make=make,
        )
    return open_zookeeper(settings, site, session, timeout=timeout)


def open_zookeeper(
    settings: Settings, site: str | None, session: Session | None = None, *, timeout: float = 10.0
) -> "ZooKeeperRegistry":
    """The same, for what only ZooKeeper has: rights and servers."""
    from neti.registry.zookeeper.registry import ZooKeeperRegistry

    if settings.embedded is not None:
        raise ConfigError(
            f"{settings.path}: registry is embedded, one file on this machine. This command is for "
            "a registry in ZooKeeper\n→ 'neti fleet' and 'neti lease list' work with both"
        )
    return ZooKeeperRegistry(
        servers(settings, site),
        prefix=settings.zk_prefix,
        iptoid=settings.zk_iptoid_node,
        idtoip=settings.zk_idtoip_node,
        ip_map=settings.zk_ip_map_node,
        interval=settings.zk_update_interval_path,
        maxchange=settings.zk_max_change_threshold_path,
        session=session,
        session_seconds=settings.session_seconds,
        timeout=timeout,
        files=settings.registry_tls,
    )


def servers(settings: Settings, site: str | None) -> tuple[str, ...]:
    if site is None:
        return tuple(server for listed in settings.zk_hosts.values() for server in listed)
    listed = settings.zk_hosts.get(site, ())
    if not listed:
        raise ConfigError(
            f"{settings.path}: zk_hosts: lists no server for this host's site {site}: "
            f"write zk_hosts: {{{site}: [HOST:2181, …]}}"
        )
    return listed


def expiring(settings: Settings, now: float) -> list[str]:
    """What is wrong with this host's certificate, or will be within 14 days; and what would keep
    the next connection from being made, while this one goes on."""
    if settings.registry_tls is None or settings.embedded is not None:
        return []
    from neti.registry.zookeeper import tls
    from neti.registry.zookeeper.expiry import expiry_problems

    sentences = expiry_problems(settings.registry_tls, now)
    if not sentences:
        try:
            tls.context(settings.registry_tls)
        except tls.TLSError as error:
            sentences = [f"no new connection to the registry can be made: {error}"]
    return sentences


def notes_of(settings: Settings) -> list[str]:
    """What operators should know about the connection to the registry."""
    if settings.registry_tls is not None or settings.embedded is not None:
        return []
    sentence = (
        "ZooKeeper is spoken to in plain (no registry_tls): whoever reaches it can read, write and "
        "delete every registration and lease"
    )
    return [sentence]

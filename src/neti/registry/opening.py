"""Which registry a configuration means. Imports kazoo or SQLite only when that one is used."""

from neti.errors import ConfigError
from neti.registry import Registry, Session
from neti.settings import Settings


def open_registry(
    settings: Settings, site: str | None, session: Session | None = None, *, timeout: float = 10.0
) -> Registry:
    """Not connected yet. ``site`` None (a command far from any site): every listed server."""
    if settings.embedded is not None:
        from neti.registry.embedded import EmbeddedRegistry

        return EmbeddedRegistry(
            settings.embedded,
            session=session,
            session_seconds=settings.session_seconds,
            timeout=timeout,
        )
    from neti.registry.zookeeper import ZooKeeperRegistry

    return ZooKeeperRegistry(
        _servers(settings, site),
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


def _servers(settings: Settings, site: str | None) -> tuple[str, ...]:
    if site is None:
        return tuple(server for listed in settings.zk_hosts.values() for server in listed)
    listed = settings.zk_hosts.get(site, ())
    if not listed:
        raise ConfigError(
            f"{settings.path}: zk_hosts: lists no server for this host's site {site}: "
            f"write zk_hosts: {{{site}: [HOST:2181, …]}}"
        )
    return listed

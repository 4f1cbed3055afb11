"""``neti zk-proxy``."""

from pathlib import Path

import click

from neti.cli.output import say
from neti.errors import ConfigError


@click.command("zk-proxy")
@click.option(
    "--listen", default="0.0.0.0:2181", show_default=True, metavar="HOST:PORT", help="Listen here."
)
@click.option(
    "--server", "server_texts", multiple=True, metavar="HOST:PORT", help="A server. Repeatable."
)
@click.option(
    "--max-connections",
    type=click.IntRange(1, 100_000),
    default=4000,
    show_default=True,
    metavar="N",
    help="Relay at most so many connections.",
)
@click.option(
    "--max-per-source",
    type=click.IntRange(1, 100_000),
    default=60,
    show_default=True,
    metavar="N",
    help="The same, for one source address.",
)
@click.option(
    "--idle",
    type=float,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Close a connection that has been silent for this long.",
)
@click.option(
    "--drain",
    type=click.FloatRange(0, 300),
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    help="On SIGTERM, close the connections over this long.",
)
@click.option("--metrics", metavar="HOST:PORT", help="Serve counters as text over HTTP there.")
@click.option(
    "--health-tls",
    nargs=3,
    type=click.Path(path_type=Path),
    metavar="CA CERT KEY",
    help="The servers speak TLS: use these files for the health checks.",
)
@click.option("--kernel", is_flag=True, help="Load DNAT rules instead of relaying, and return.")
@click.option("--remove", is_flag=True, help="With --kernel: remove these rules.")
@click.option("-c", "--config", type=click.Path(path_type=Path), envvar="NETI_CONFIG", hidden=True)
def zk_proxy(
    listen: str,
    server_texts: tuple[str, ...],
    max_connections: int,
    max_per_source: int,
    idle: float,
    drain: float,
    metrics: str | None,
    health_tls: tuple[Path, Path, Path] | None,
    kernel: bool,
    remove: bool,
    config: Path | None,
) -> None:
    """Relay ZooKeeper's port to the ensemble in the other site.

    Checks the servers' health and relays each client to a healthy one. SIGTERM ends it, after
    closing its connections over --drain seconds. TLS passes through, so the servers' certificates
    must carry this proxy's name. No agent may run on this host.

    \b
    Examples:
      neti zk-proxy --server 10.21.0.4:2181 --server 10.21.0.5:2181
      neti zk-proxy --kernel --server 10.21.0.4:2181
      neti zk-proxy --kernel --remove
    """
    from neti import log
    from neti.model.settings import RegistryTLS
    from neti.proxy import main
    from neti.proxy import settings as proxy

    if remove:
        if not kernel:
            raise ConfigError("--remove belongs to --kernel: a relay ends with its process")
        _remove()
        return
    told = proxy.ProxySettings(
        listen=proxy.endpoint("--listen", listen, any_address=True),
        servers=tuple(proxy.endpoint("--server", text) for text in server_texts),
        metrics=proxy.endpoint("--metrics", metrics, any_address=True) if metrics else None,
        files=RegistryTLS(ca=health_tls[0], cert=health_tls[1], key=health_tls[2])
        if health_tls
        else None,
        max_connections=max_connections,
        max_per_source=max_per_source,
        idle=idle,
        drain=drain,
    )
    proxy.checked(told)
    main.refuse_beside_agent(config)
    log.configure(None)
    if not kernel:
        main.run(told)
        return
    from neti.proxy import kernel as rules

    rules.load(told)
    say(f"table {rules.TABLE} relays {told.listen}. Nothing checks the servers' health")


def _remove() -> None:
    from neti.proxy import kernel as rules

    there = rules.remove()
    say(f"table {rules.TABLE} {'is gone' if there else 'was not there'}")

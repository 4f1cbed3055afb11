"""The proxy as kernel rules: DNAT in its own table. Nothing checks the servers then.

Must never touch another table, or turn on forwarding: that is the operator's decision.
"""

from pathlib import Path

from neti.dataplane import other_table
from neti.errors import ConfigError, NetiError
from neti.proxy.settings import ProxySettings, ipv4

TABLE = "ip neti_zk_proxy"
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")


def rules(settings: ProxySettings) -> str:
    """The whole table as nft commands that replace it in one transaction. Pure.

    A client stays with one server, chosen by its address.
    """
    listen = ipv4("--listen", settings.listen)
    servers = [(ipv4("--server", server), server.port) for server in settings.servers]
    where = "fib daddr type local " if listen.is_unspecified else f"ip daddr {listen} "
    chosen = ", ".join(f"{number} : goto to{number}" for number in range(len(servers)))
    lines = [
        f"add table {TABLE}",
        f"delete table {TABLE}",
        f"add table {TABLE}",
        *(f"add chain {TABLE} to{number}" for number in range(len(servers))),
        f"add chain {TABLE} prerouting {{ type nat hook prerouting priority -100 ; }}",
        f"add chain {TABLE} postrouting {{ type nat hook postrouting priority 100 ; }}",
    ]
    for number, (address, port) in enumerate(servers):
        lines.append(f"add rule {TABLE} to{number} meta l4proto tcp dnat to {address}:{port}")
        lines.append(
            f"add rule {TABLE} postrouting ct status dnat ip daddr {address} tcp dport {port} "
            f"ct original proto-dst {settings.listen.port} masquerade"
        )
    # A fixed seed, so that a reload sends clients to the same servers as before.
    lines.append(
        f"add rule {TABLE} prerouting {where}tcp dport {settings.listen.port} "
        f"jhash ip saddr mod {len(servers)} seed 0x6e657469 vmap {{ {chosen} }}"
    )
    return "\n".join(lines) + "\n"


def load(settings: ProxySettings) -> None:
    if _FORWARDING.read_text().strip() != "1":
        raise ConfigError(
            "this host does not forward packets (net.ipv4.ip_forward is 0), so the rules have no "
            "effect: run sysctl -w net.ipv4.ip_forward=1, and keep it in /etc/sysctl.d"
        )
    if other_table.exists("inet", "neti"):
        raise NetiError(
            "an agent's rules are on this host (table inet neti). A proxy must be reachable even "
            "if Neti's rules are wrong, so no agent may run beside it. Run neti down, and stop "
            "the agent"
        )
    other_table.write(rules(settings))


def remove() -> bool:
    """Whether there was a table to remove."""
    return other_table.remove(*TABLE.split())

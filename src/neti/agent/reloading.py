"""Which settings a running agent can take in anew. Pure."""

from dataclasses import fields, replace
from typing import Final

from neti.model.settings import Settings

NEED_RESTART: Final = (
    "identity",
    "site",
    "embedded",
    "zk_hosts",
    "zk_prefix",
    "zk_iptoid_node",
    "zk_idtoip_node",
    "zk_ip_map_node",
    "zk_update_interval_path",
    "zk_max_change_threshold_path",
    "registry_tls",
    "session_seconds",
    "overlay_subnet",
    "table_files_path",
    "log_file",
    "verify_port",
    "metrics_listen",
)


# Of a Settings' fields: where the file says it under another name, or does not say it.
_KEYS: Final = {"embedded": "registry", "sites_configured": "sites"}
_NO_KEYS: Final = frozenset({"path", "warnings"})


def changed(old: Settings, new: Settings) -> list[str]:
    """The keys of neti.yml in which they differ."""
    names = (each.name for each in fields(Settings) if each.name not in _NO_KEYS)
    differ = (name for name in names if getattr(old, name) != getattr(new, name))
    return sorted({_KEYS.get(name, name) for name in differ})


def reloadable(old: Settings, new: Settings) -> tuple[Settings, list[str]]:
    """``new``, but for what only a restart can change; and the keys in which that differs."""
    kept = {
        name: getattr(old, name)
        for name in NEED_RESTART
        if getattr(new, name) != getattr(old, name)
    }
    return replace(new, **kept), sorted(_KEYS.get(name, name) for name in kept)

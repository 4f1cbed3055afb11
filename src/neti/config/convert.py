"""Turns a checked form into Settings. Only the name of a node can be wrong."""

from ipaddress import IPv4Address
from pathlib import Path
from types import MappingProxyType
from typing import Final

from neti.config import member_ports
from neti.config.problems import Place, Unfit
from neti.config.schema import ConfigForm, OpenPortForm, SiteForm, StaticIdentityForm
from neti.config.values import node_name
from neti.model import Encrypt, Reach, Site
from neti.model.settings import (
    CloudWord,
    IdentityFrom,
    LocalIdentity,
    OpenPort,
    RegistryTLS,
    Settings,
    StaticIdentity,
)

# A file without `sites` means the two networks of 2014, without prescribed ranges.
CLASSIC_SITES: Final = ("ec2", "vpc")
LOCAL_IDS: Final = ("hostname", "machine-id")  # in place of an id: what this machine calls itself
_FILE: Final = "file:"
NODE_KEYS: Final = (
    "zk_iptoid_node",
    "zk_idtoip_node",
    "zk_ip_map_node",
    "zk_update_interval_path",
    "zk_max_change_threshold_path",
)


Misnamed = list[tuple[Place, Unfit]]


def settings(form: ConfigForm, path: Path) -> tuple[Settings, Misnamed]:
    """The settings, and problems with the names of znodes (which then get their default)."""
    nodes, misnamed = _nodes(form)
    embedded = form.registry.removeprefix("embedded:") if form.registry else "zookeeper"
    made = Settings(
        path=path,
        site=None if form.site == "auto" else form.site,
        sites=MappingProxyType(_sites(form.sites)),
        sites_configured=bool(form.sites),
        identity=_identity(form.identity),
        addresses=tuple(dict.fromkeys(form.addresses)),
        labels=MappingProxyType(dict(sorted(form.labels.items()))),
        embedded=None if embedded == "zookeeper" else Path(embedded),
        zk_hosts=MappingProxyType(
            {site: tuple(dict.fromkeys(hosts)) for site, hosts in form.zk_hosts.items()}
        ),
        zk_prefix=form.zk_prefix,
        registry_tls=_tls(form),
        session_seconds=form.session_seconds,
        overlay_subnet=form.overlay_subnet,
        nat_overrides=MappingProxyType(dict(form.nat_overrides)),
        tunnel_port=form.tunnel_port,
        open_ports=tuple(dict.fromkeys(_open_port(port) for port in form.open_ports)),
        member_ports=member_ports.lines(form.member_ports),
        ssh_whitelist=tuple(dict.fromkeys(form.ssh_whitelist)),
        ssh_port=form.ssh_port,
        allow_empty_ssh_whitelist=form.allow_empty_ssh_whitelist,
        trusted=tuple(dict.fromkeys(form.trusted)),
        container_interfaces=(
            None
            if form.container_interfaces is None
            else tuple(dict.fromkeys(form.container_interfaces))
        ),
        reject_all=form.reject_all,
        trial_seconds=form.trial_seconds,
        linger_seconds=form.linger_seconds,
        hold_seconds=form.hold_seconds,
        conntrack_max=form.conntrack_max,
        verify_port=form.verify_port,
        metrics_listen=form.metrics_listen,
        log_file=form.log_file,
        table_files_path=form.table_files_path,
        aws_key=form.aws_key,
        aws_secret_key=form.aws_secret_key,
        zk_iptoid_node=nodes["zk_iptoid_node"],
        zk_idtoip_node=nodes["zk_idtoip_node"],
        zk_ip_map_node=nodes["zk_ip_map_node"],
        zk_update_interval_path=nodes["zk_update_interval_path"],
        zk_max_change_threshold_path=nodes["zk_max_change_threshold_path"],
    )
    return made, misnamed


def _nodes(form: ConfigForm) -> tuple[dict[str, str], Misnamed]:
    nodes = {key: str(ConfigForm.model_fields[key].default) for key in NODE_KEYS}
    misnamed: Misnamed = []
    for key in NODE_KEYS:
        try:
            nodes[key] = node_name(getattr(form, key), form.zk_prefix)
        except Unfit as error:
            misnamed.append(((key,), error))
    return nodes, misnamed


def _sites(forms: dict[str, SiteForm]) -> dict[str, Site]:
    if not forms:
        return {name: Site(name=name) for name in CLASSIC_SITES}
    return {
        name: Site(
            name=name,
            private=tuple(dict.fromkeys(form.private)),
            public=tuple(dict.fromkeys(form.public)),
            ipv6=tuple(dict.fromkeys(form.ipv6)),
            vpc_ids=tuple(dict.fromkeys(form.vpc_ids)),
            networks=tuple(dict.fromkeys(form.networks)),
            reached_by=Reach(form.reached_by),
            gateways=tuple(dict.fromkeys(form.gateways)),
            mtu=form.mtu,
            encrypt=Encrypt(form.encrypt),
        )
        for name, form in forms.items()
    }


def _identity(form: CloudWord | StaticIdentityForm) -> IdentityFrom:
    if not isinstance(form, StaticIdentityForm):
        return form
    by_machine = form.id in LOCAL_IDS or form.id.startswith(_FILE)
    private, public = form.private, form.public
    if not by_machine and isinstance(private, IPv4Address) and public != "same":
        return StaticIdentity(id=form.id, private=private, public=public, ipv6=form.ipv6)
    return LocalIdentity(
        id=Path(form.id.removeprefix(_FILE)) if form.id.startswith(_FILE) else form.id,
        id_is_given=not by_machine,
        private=private,
        public=public,
        ipv6=form.ipv6,
    )


def _tls(form: ConfigForm) -> RegistryTLS | None:
    tls = form.registry_tls
    return None if tls is None else RegistryTLS(ca=tls.ca, cert=tls.cert, key=tls.key)


def _open_port(form: OpenPortForm) -> OpenPort:
    first, last = form.port
    return OpenPort(first, last, form.proto, tuple(dict.fromkeys(form.sources)))

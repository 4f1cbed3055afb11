"""The shape of neti.yml as pydantic models: the only module that imports pydantic.

Types and ranges only; ``rules`` checks how keys fit together. Booleans are never coerced from text.
"""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
)
from pydantic.json_schema import WithJsonSchema

from neti.config import labels, member_ports, values
from neti.config.problems import Unfit
from neti.model.groups import GROUP_NAME
from neti.model.settings import DEFAULT_STATE


@dataclass(frozen=True, slots=True)
class OrNull:
    """Shows in the JSON Schema that NullIsEmpty allows null."""

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        return {"anyOf": [handler(core_schema), {"type": "null"}]}


def _null_is_empty_list(value: object) -> object:
    return [] if value is None else value


def _null_is_empty_mapping(value: object) -> object:
    return {} if value is None else value


def _site_or_auto(value: object) -> str:
    try:
        return values.site_name(value)
    except Unfit as error:
        raise Unfit(value, "auto or the name of one of the sites") from error


def _conntrack(value: object) -> int | str:
    if value == "auto":
        return "auto"
    try:
        return values.whole(value, 1024, 2**31 - 1)
    except Unfit as error:
        raise Unfit(value, f"auto, or {error.expected}", write=error.write) from error


def _encrypt(value: object) -> object:
    # `off` without quotes is false in YAML 1.1, and templates write it as such.
    if value is False:
        return "off"
    if value in ("off", "prefer", "require"):
        return value
    write = "prefer" if value is True else None
    if isinstance(value, str):
        close = get_close_matches(value.strip().lower(), ("off", "prefer", "require"), 1)
        write = close[0] if close else None
    raise Unfit(value, "off, prefer or require", write=write)


def _identity_word(value: object) -> object:
    if value in ("auto", "ec2", "gcp", "azure"):
        return value
    raise Unfit(
        value,
        "auto, ec2, gcp, azure, or a mapping such as {id: db-1, private: 10.0.0.5} or "
        "{id: hostname, private: eth0}",
    )


def _identity_form(value: object) -> str:
    return "<static>" if isinstance(value, dict) else "<word>"


def _open_port_form(value: object) -> object:
    if isinstance(value, dict):
        return value
    first, last, proto = values.ports(value)
    return {"port": f"{first}-{last}", "proto": proto}


_EVERYBODY: Final = ("all", "any", "anyone", "everybody", "everyone", "world", "internet", "*")


def _sources(value: object) -> object:
    # An empty list would open the port to everyone. A template that renders no networks did not
    # mean that.
    if value is None or value == []:
        raise Unfit(value, "at least one CIDR (leave `from` out to open the port to everyone)")
    if isinstance(value, str) and value.lower() in _EVERYBODY:
        raise Unfit(value, "a list of CIDRs (leave `from` out to open the port to everyone)")
    return value


def _container_interfaces(value: object) -> object:
    if value == "auto":
        return None
    if isinstance(value, list):
        return [values.interface(one) for one in value]
    raise Unfit(value, "auto, or a list of interfaces such as [docker0, cali*]")


Flag = Annotated[bool, BeforeValidator(values.flag)]
Text = Annotated[str, BeforeValidator(partial(values.text, expected="text"))]
Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(values.network)]
Network4 = Annotated[IPv4Network, BeforeValidator(values.network4)]
Network6 = Annotated[IPv6Network, BeforeValidator(values.network6)]
Address4 = Annotated[IPv4Address, BeforeValidator(values.address4)]
HostAddress = Annotated[IPv4Address | IPv6Address, BeforeValidator(values.host_address)]
HostAddress4 = Annotated[IPv4Address, BeforeValidator(values.host_address4)]
HostAddress6 = Annotated[IPv6Address, BeforeValidator(values.host_address6)]
Port = Annotated[
    int, BeforeValidator(partial(values.whole, least=1, most=65535)), Field(ge=1, le=65535)
]
AbsolutePath = Annotated[Path, BeforeValidator(values.absolute_path)]
SiteName = Annotated[str, BeforeValidator(values.site_name)]
ZookeeperHost = Annotated[
    str, BeforeValidator(partial(values.endpoint, default_port=values.ZOOKEEPER_PORT))
]
NodeName = Annotated[
    str, BeforeValidator(partial(values.text, expected="the name of a znode such as ip-map"))
]
NullIsEmpty = BeforeValidator(_null_is_empty_list)
NullIsEmptyMapping = BeforeValidator(_null_is_empty_mapping)


class _Strict(BaseModel):
    # hide_input_in_errors: a secret must not travel in an exception.
    model_config = ConfigDict(
        extra="forbid", strict=True, hide_input_in_errors=True, populate_by_name=False
    )


class SiteForm(_Strict):
    private: Annotated[list[Network4], NullIsEmpty, OrNull()] = []
    public: Annotated[list[Network4], NullIsEmpty, OrNull()] = []
    ipv6: Annotated[list[Network6], NullIsEmpty, OrNull()] = []
    vpc_ids: Annotated[
        list[Annotated[str, BeforeValidator(values.vpc_id)]], NullIsEmpty, OrNull()
    ] = []
    networks: Annotated[
        list[Annotated[str, BeforeValidator(values.cloud_network)]], NullIsEmpty, OrNull()
    ] = []
    reached_by: Literal["public", "private", "gateway"] = "public"
    gateways: Annotated[
        list[Annotated[str, BeforeValidator(values.host_id)]],
        NullIsEmpty,
        OrNull(),
    ] = []
    mtu: (
        Annotated[
            int,
            BeforeValidator(partial(values.whole, least=576, most=9216)),
            Field(ge=576, le=9216),
        ]
        | None
    ) = None
    encrypt: Annotated[Literal["off", "prefer", "require"], BeforeValidator(_encrypt)] = "off"


class StaticIdentityForm(_Strict):
    id: Annotated[str, BeforeValidator(values.id_source)]
    private: Annotated[
        IPv4Address | IPv4Network | str,
        BeforeValidator(values.private_source),
        WithJsonSchema({"type": "string"}),
    ]
    public: (
        Annotated[
            IPv4Address | Literal["same"] | None,
            BeforeValidator(values.public_source),
            WithJsonSchema({"type": ["string", "null"]}),
        ]
        | None
    ) = None
    ipv6: HostAddress6 | None = None


class TLSForm(_Strict):
    ca: AbsolutePath
    cert: AbsolutePath
    key: AbsolutePath


class OpenPortForm(_Strict):
    port: Annotated[
        tuple[int, int],
        BeforeValidator(values.port_span),
        WithJsonSchema({"type": ["integer", "string"]}),
    ]
    proto: Literal["tcp", "udp"] = "tcp"
    sources: Annotated[list[Network], BeforeValidator(_sources)] = Field(default=[], alias="from")


_SHORT_PORT = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "maximum": 65535},
        {"type": "string", "pattern": r"^[0-9]+([-:][0-9]+)?(/(tcp|udp))?$"},
        {
            "type": "object",
            "additionalProperties": False,
            "required": ["port"],
            "properties": {
                "port": {"type": ["integer", "string"]},
                "proto": {"enum": ["tcp", "udp"], "default": "tcp"},
                "from": {"type": "array", "items": {"type": "string"}, "minItems": 1},
            },
        },
    ]
}
_GROUP = {"type": "string", "pattern": f"^{GROUP_NAME.pattern}$"}
_MEMBER_PORTS = {
    "type": "object",
    "propertyNames": {"pattern": r"^(all|[0-9]+([-:][0-9]+)?(/(tcp|udp))?)$"},
    "additionalProperties": {"type": "array", "items": _GROUP, "minItems": 1},
    "default": {},
}
_INTERFACES = {
    "anyOf": [{"const": "auto"}, {"type": "array", "items": {"type": "string"}}],
    "default": "auto",
}
MemberPortKey = Annotated[str, BeforeValidator(member_ports.port)]
GroupName = Annotated[str, BeforeValidator(member_ports.group)]
MemberPorts = Annotated[
    dict[MemberPortKey, Annotated[list[GroupName], BeforeValidator(member_ports.groups)]],
    WithJsonSchema(_MEMBER_PORTS),
]
Labels = Annotated[
    dict[
        Annotated[str, BeforeValidator(labels.key)],
        Annotated[str, BeforeValidator(labels.text)],
    ],
    BeforeValidator(labels.few),
    WithJsonSchema(labels.SCHEMA),
]
OpenPortItem = Annotated[
    OpenPortForm, BeforeValidator(_open_port_form), WithJsonSchema(_SHORT_PORT)
]
IdentityWord = Annotated[Literal["auto", "ec2", "gcp", "azure"], BeforeValidator(_identity_word)]
Identity = Annotated[
    Annotated[IdentityWord, Tag("<word>")] | Annotated[StaticIdentityForm, Tag("<static>")],
    Discriminator(_identity_form),
]


def _whole(least: int, most: int) -> Any:
    return BeforeValidator(partial(values.whole, least=least, most=most))


class ConfigForm(_Strict):
    """Every key of neti.yml. Unknown keys are refused."""

    site: Annotated[str, BeforeValidator(_site_or_auto)] = "auto"
    sites: Annotated[dict[SiteName, SiteForm], NullIsEmptyMapping, OrNull()] = {}
    identity: Identity = "auto"
    addresses: Annotated[list[HostAddress], NullIsEmpty, OrNull()] = []
    labels: Annotated[Labels, NullIsEmptyMapping, OrNull()] = {}

    registry: Annotated[str, BeforeValidator(values.registry)] | None = None
    registry_tls: TLSForm | None = None
    session_seconds: Annotated[
        float, BeforeValidator(partial(values.seconds, least=1, most=600)), Field(ge=1, le=600)
    ] = 30.0
    zk_hosts: Annotated[
        dict[SiteName, Annotated[list[ZookeeperHost], NullIsEmpty, OrNull()]],
        NullIsEmptyMapping,
        OrNull(),
    ] = {}
    zk_prefix: Annotated[str, BeforeValidator(values.znode_path)] = "/neti"
    zk_iptoid_node: NodeName = "ip-to-id"
    zk_idtoip_node: NodeName = "id-to-ip"
    zk_ip_map_node: NodeName = "ip-map"
    zk_update_interval_path: NodeName = "interval"
    zk_max_change_threshold_path: NodeName = "maxchange"

    overlay_subnet: Network4 = IPv4Network("192.168.0.0/18")
    nat_overrides: Annotated[dict[Address4, Address4], NullIsEmptyMapping, OrNull()] = {}

    open_ports: Annotated[list[OpenPortItem], NullIsEmpty, OrNull()] = []
    member_ports: Annotated[MemberPorts, NullIsEmptyMapping, OrNull()] = {}
    ssh_whitelist: Annotated[list[Network], NullIsEmpty, OrNull()] = []
    ssh_port: Port = 22
    allow_empty_ssh_whitelist: Flag = False
    trusted: Annotated[list[Network], NullIsEmpty, OrNull()] = []
    container_interfaces: Annotated[
        list[str] | None, BeforeValidator(_container_interfaces), WithJsonSchema(_INTERFACES)
    ] = None
    reject_all: Flag = False
    trial_seconds: Annotated[int, _whole(5, 86_400), Field(ge=5, le=86_400)] = 120

    linger_seconds: Annotated[int, _whole(0, 604_800), Field(ge=0, le=604_800)] = 600
    hold_seconds: Annotated[int, _whole(1, 604_800), Field(ge=1, le=604_800)] = 3600
    conntrack_max: Annotated[int | Literal["auto"], BeforeValidator(_conntrack)] = "auto"

    tunnel_port: Port = 51820
    verify_port: Port = 7077
    metrics_listen: Annotated[str, BeforeValidator(values.endpoint)] | None = None
    log_file: AbsolutePath | None = None
    table_files_path: AbsolutePath = DEFAULT_STATE
    aws_key: Text | None = Field(default=None, repr=False)
    aws_secret_key: Text | None = Field(default=None, repr=False)

    # Written by the cookbook of 2014: accepted and ignored, with a warning.
    bin: Any = None
    overlay_ip_cache_file_path: Any = None

"""Turns one value of the file into one of the program. Pure; raises nothing but Unfit."""

import re
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from pathlib import Path
from typing import Final, Literal

from neti.config.problems import Said, Unfit, describe
from neti.model import IPAddress
from neti.model.addresses import embeds_ipv4
from neti.model.entry import HOST_ID, SITE_NAME
from neti.model.settings import IPNetwork

ZOOKEEPER_PORT: Final = 2181

_ADDRESS: Final = "one address such as 10.0.0.5 or 2001:db8::5"
_ADDRESS4: Final = "one IPv4 address such as 10.0.0.5"
_ADDRESS6: Final = 'one IPv6 address such as "2001:db8::5"'

_TRUTHS: Final = {"true": "true", "yes": "true", "on": "true", "1": "true"}
_LIES: Final = {"false": "false", "no": "false", "off": "false", "0": "false"}
_BOOLEAN_WORDS: Final = _TRUTHS | _LIES
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,8}|0", re.ASCII)
_HOST_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?", re.ASCII)
_ENDPOINT: Final = re.compile(r"(\[(?P<v6>[^]]*)\]|(?P<name>[^:]*))(:(?P<port>[0-9]{1,6}))?")
_PORTS: Final = re.compile(r"(?P<first>[0-9]{1,6})([-:](?P<last>[0-9]{1,6}))?(/(?P<proto>\w+))?")
_INTERFACE: Final = re.compile(r"[!#-)+-.0-\[\]-~]{1,15}\*?", re.ASCII)  # nft's limit
_VPC_ID: Final = re.compile(r"vpc-[0-9a-f]{1,32}", re.ASCII)
_CLOUD_NETWORK: Final = re.compile(r"[A-Za-z0-9(][A-Za-z0-9()._/-]{0,199}", re.ASCII)
_DIGITS_AND_DOTS: Final = re.compile(r"[0-9.]+", re.ASCII)
_ZNODE_PART: Final = re.compile(r"[!-.0-~]+", re.ASCII)  # printable ASCII except the slash


def flag(value: object) -> bool:
    """A YAML boolean. The text "false" is refused: in 2014 it counted as true."""
    if isinstance(value, bool):
        return value
    word = _BOOLEAN_WORDS.get(str(value).strip().lower()) if isinstance(value, str | int) else None
    raise Unfit(value, "true or false, without quotes", write=word)


def whole(value: object, least: int, most: int) -> int:
    expected = f"a whole number from {least} to {most}"
    if isinstance(value, int) and not isinstance(value, bool):
        if least <= value <= most:
            return value
    elif isinstance(value, str) and _NUMBER.fullmatch(value) and least <= int(value) <= most:
        raise Unfit(value, f"{expected}, without quotes", write=value)
    raise Unfit(value, expected)


def seconds(value: object, least: float, most: float) -> float:
    expected = f"seconds from {least:g} to {most:g}"
    if isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most:
        return float(value)
    written = value if isinstance(value, str) and _NUMBER.fullmatch(value) else None
    raise Unfit(value, f"{expected}, without quotes" if written else expected, write=written)


def interface(value: object) -> str:
    """A network interface's name, or the beginning of several followed by an asterisk."""
    if isinstance(value, str) and _INTERFACE.fullmatch(value):
        return value
    raise Unfit(value, "an interface name such as docker0, or a prefix such as cali*")


def text(value: object, expected: str) -> str:
    if isinstance(value, str) and value and value.isprintable():
        return value
    written = f'"{value}"' if isinstance(value, int) and not isinstance(value, bool) else None
    raise Unfit(value, expected, write=written)


def network(value: object) -> IPNetwork:
    """A CIDR of either family, or a single address. Host bits that are set are an error."""
    expected = "a CIDR such as 192.0.2.0/24 or 2001:db8::/32"
    if not isinstance(value, str):
        raise Unfit(value, expected)
    _, slash, prefix = value.partition("/")
    try:
        found = ip_network(value, strict=False)
    except ValueError:
        raise Unfit(value, expected) from None
    if "%" in value:
        raise Unfit(value, "a CIDR without a scope (%)")
    if slash and prefix != str(found.prefixlen):
        raise Unfit(value, f"{expected}, with a prefix length", write=str(found))
    _refuse_mapped(value, found)
    one = ip_address(value.partition("/")[0])
    if str(found.network_address) != str(one):
        alone = f"{one}/{one.max_prefixlen}"
        raise Unfit(
            value, f"a CIDR without host bits set, or {alone} for one address", write=str(found)
        )
    return found


def _refuse_mapped(value: str, found: IPNetwork) -> None:
    # The kernel sees IPv4 packets as IPv4, so such a range would never match anything.
    if isinstance(found, IPv6Network) and found.prefixlen >= 96:
        inner = found.network_address.ipv4_mapped
        if inner is not None:
            raise Unfit(value, "IPv4 written as IPv4", write=f"{inner}/{found.prefixlen - 96}")


def network4(value: object) -> IPv4Network:
    found = network(value)
    if isinstance(found, IPv4Network):
        return found
    raise Unfit(value, "an IPv4 CIDR such as 10.0.0.0/16")


def network6(value: object) -> IPv6Network:
    """A range of hosts' IPv6 addresses."""
    expected = "an IPv6 CIDR such as 2001:db8:1::/48"
    found = network(value)
    if not isinstance(found, IPv6Network):
        raise Unfit(value, expected)
    if (scheme := embeds_ipv4(found)) is not None:
        raise Unfit(value, f"{expected}, because no peer lets in an address of {scheme}")
    return found


def address(value: object, expected: str = _ADDRESS) -> IPAddress:
    """One unicast address, without a scope."""
    if not isinstance(value, str) or "%" in value:
        raise Unfit(value, expected)
    try:
        found = ip_address(value)
    except ValueError:
        raise Unfit(value, expected) from None
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        raise Unfit(value, "IPv4 written as IPv4", write=str(found.ipv4_mapped))
    if _not_for_one_host(found):
        raise Unfit(value, f"{expected}, not a multicast, broadcast, link-local or unspecified one")
    return found


def _not_for_one_host(found: IPAddress) -> bool:
    if found.is_multicast or found.is_unspecified or found.is_link_local:
        return True
    # 0.0.0.0/8 and 240.0.0.0/4, of which 255.255.255.255 is the broadcast address.
    return isinstance(found, IPv4Address) and (int(found) >> 24 == 0 or int(found) >> 28 == 15)


def host_address(value: object, expected: str = _ADDRESS) -> IPAddress:
    """An address that peers can reach, so not a loopback one."""
    found = address(value, expected)
    if found.is_loopback:
        raise Unfit(value, "an address that other hosts can reach, not a loopback one")
    return found


def address4(value: object) -> IPv4Address:
    found = address(value, _ADDRESS4)
    if isinstance(found, IPv4Address):
        return found
    raise Unfit(value, _ADDRESS4)


def host_address4(value: object) -> IPv4Address:
    found = host_address(value, _ADDRESS4)
    if isinstance(found, IPv4Address):
        return found
    raise Unfit(value, _ADDRESS4)


def host_address6(value: object) -> IPv6Address:
    found = host_address(value, _ADDRESS6)
    if isinstance(found, IPv6Address):
        return found
    raise Unfit(value, _ADDRESS6)


def endpoint(value: object, default_port: int | None = None) -> str:
    """``host:port``, with an IPv6 address in brackets."""
    like = "10.0.0.5:2181" if default_port else "127.0.0.1:9100"
    expected = f"host:port such as {like} (an IPv6 address in brackets and quotes)"
    if not isinstance(value, str):
        raise Unfit(value, expected)
    match = _ENDPOINT.fullmatch(value)
    if match is None:
        raise Unfit(value, expected, write=_bracketed(value, default_port))
    host, port_text = match["name"], match["port"]
    if match["v6"] is not None:
        host = f"[{_ipv6(match['v6'], value, expected)}]"
    elif not is_host(host):
        raise Unfit(value, expected)
    if port_text is None and default_port is None:
        raise Unfit(value, expected)
    port = int(port_text) if port_text is not None else default_port or 0
    if not 1 <= port <= 65535:
        raise Unfit(value, f"{expected}, with a port from 1 to 65535")
    return f"{host}:{port}"


def _ipv6(inner: str, value: str, expected: str) -> IPv6Address:
    try:
        return IPv6Address(inner)
    except ValueError:
        raise Unfit(value, expected) from None


def _bracketed(value: str, default_port: int | None) -> str | None:
    try:
        return f'"[{IPv6Address(value)}]:{default_port}"' if default_port else None
    except ValueError:
        return None


def is_host(host: str) -> bool:
    """Whether it is a host name or an IPv4 address."""
    if not _HOST_NAME.fullmatch(host) or ".." in host:
        return False
    if not set(host) <= set("0123456789."):
        return True
    try:
        IPv4Address(host)
    except ValueError:
        return False
    return True


def ports(value: object) -> tuple[int, int, Literal["tcp", "udp"]]:
    """First and last port and protocol of the short forms; a bare port is TCP."""
    expected = '80, "443/tcp", "53/udp", "8000-8010", or {port, proto, from}'
    number = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    match = _PORTS.fullmatch(number) if isinstance(number, str) else None
    if match is None:
        raise Unfit(value, expected)
    first, last = int(match["first"]), int(match["last"] or match["first"])
    proto = match["proto"] or "tcp"
    if proto not in {"tcp", "udp"}:
        raise Unfit(value, f"{expected}: the protocol is tcp or udp")
    if match["first"] != str(first) or (match["last"] or str(last)) != str(last):
        raise Unfit(value, "decimal ports without leading zeros")
    if not (1 <= first <= 65535 and 1 <= last <= 65535):
        raise Unfit(value, "ports from 1 to 65535")
    if first > last:
        raise Unfit(value, "the lower port first", write=f'"{last}-{first}/{proto}"')
    return first, last, "udp" if proto == "udp" else "tcp"


def port_span(value: object) -> tuple[int, int]:
    """The ``port`` of the long form, which has its protocol in a key of its own."""
    first, last, proto = ports(value)
    if isinstance(value, str) and "/" in value:
        raise Unfit(value, f'a port or a range such as "8000-8010", with proto: {proto} next to it')
    return first, last


def site_name(value: object) -> str:
    if isinstance(value, str) and SITE_NAME.fullmatch(value):
        return value
    raise Unfit(
        value, "a site name: 1 to 16 of a-z, 0-9, '_', '-', starting with a letter or digit"
    )


def host_id(value: object) -> str:
    expected = (
        "a host id: 1 to 40 of letters, digits, '.', '_', '-', starting with a letter or digit"
    )
    if isinstance(value, str) and HOST_ID.fullmatch(value):
        return value
    number = isinstance(value, int) and not isinstance(value, bool)
    raise Unfit(value, expected, write=f'"{value}"' if number else None)


def vpc_id(value: object) -> str:
    if isinstance(value, str) and _VPC_ID.fullmatch(value):
        return value
    raise Unfit(value, "a VPC id such as vpc-0a1b2c3d")


def cloud_network(value: object) -> str:
    """In lower case: neither Google nor Azure tells names apart by it."""
    if isinstance(value, str) and _CLOUD_NETWORK.fullmatch(value):
        return value.lower()
    raise Unfit(
        value,
        "a network of Google such as prod or projects/1234/networks/prod, or a subscription or "
        "resource group of Azure",
    )


def id_source(value: object) -> str:
    """A host id, ``hostname``, ``machine-id``, or ``file:`` and an absolute path."""
    if isinstance(value, str) and value.startswith("file:"):
        try:
            return f"file:{absolute_path(value.removeprefix('file:'))}"
        except Unfit:
            raise Unfit(value, "file: and an absolute path, such as file:/etc/host-id") from None
    try:
        return host_id(value)
    except Unfit as error:
        expected = f"{error.expected}; or hostname, machine-id, or file:/PATH"
        raise Unfit(value, expected, write=error.write) from None


def private_source(value: object) -> IPv4Address | IPv4Network | str:
    """An address, a CIDR or an interface's name."""
    expected = f"{_ADDRESS4}; or an interface such as eth0, or a CIDR such as 10.8.0.0/16"
    if not isinstance(value, str) or ":" in value or "*" in value:
        raise Unfit(value, expected)
    if "/" in value:
        return network4(value)
    if _DIGITS_AND_DOTS.fullmatch(value):
        return host_address4(value)
    if _INTERFACE.fullmatch(value):
        return value
    raise Unfit(value, expected)


def public_source(value: object) -> IPv4Address | Literal["same"] | None:
    if value is None or value == "none":
        return None
    if value == "same":
        return "same"
    try:
        return host_address4(value)
    except Unfit as error:
        expected = f"{error.expected}; or same, or none"
        raise Unfit(value, expected, write=error.write) from None


def absolute_path(value: object) -> Path:
    if isinstance(value, str) and value.startswith("/") and value.isprintable():
        return Path(value)
    raise Unfit(value, "an absolute path such as /var/lib/neti")


def registry(value: object) -> str:
    """``zookeeper``, or ``embedded:`` and the absolute path of the registry's file."""
    expected = "zookeeper, or embedded:/var/lib/neti/registry.db"
    if value == "zookeeper":
        return "zookeeper"
    if isinstance(value, str) and value.startswith("embedded:"):
        path = value.removeprefix("embedded:")
        if path.startswith("/") and not path.endswith("/") and path.isprintable():
            return value
    raise Unfit(value, expected)


def znode_path(value: object) -> str:
    """An absolute znode path below the root, without a trailing slash."""
    expected = "an absolute znode path such as /neti"
    if not isinstance(value, str):
        raise Unfit(value, expected)
    parts = value.strip("/").split("/")
    if not all(_ZNODE_PART.fullmatch(part) and part not in {".", ".."} for part in parts):
        raise Unfit(value, expected)
    canonical = "/" + "/".join(parts)
    if value != canonical:
        raise Unfit(value, f"{expected}, without a trailing slash", write=canonical)
    if parts[0] == "zookeeper":
        raise Unfit(value, f"{expected}: /zookeeper belongs to ZooKeeper itself")
    return value


def node_name(value: str, prefix: str) -> str:
    """The name of a znode below the prefix. Files of 2014 also have /name or /prefix/name."""
    name = value.removeprefix(f"{prefix}/").removeprefix("/")
    if _ZNODE_PART.fullmatch(name) and name not in {".", ".."}:
        return name
    raise Unfit(Said(describe(value)), f"the name of one znode below {prefix}, without a slash")

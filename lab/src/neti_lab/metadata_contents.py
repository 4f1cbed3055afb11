"""What an instance's metadata service tells, by path, as EC2's lays it out. Pure."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A private address of an interface, and the public one that the gateway turns into it."""

    private: IPv4Address
    public: IPv4Address | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface beside the primary one. ``vpc_id`` None: it lists none."""

    mac: str
    addresses: tuple[Address, ...]
    vpc_id: str | None = None
    ipv6: tuple[IPv6Address, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceMetadata:
    """One instance. ``vpc_id`` None: as in EC2-Classic, the interface lists none; on Google the
    network's name, on Azure SUBSCRIPTION/RESOURCE-GROUP. ``balanced``: on Azure, where the public
    address is the load balancer's.

    ``further``: secondary addresses of the primary interface. ``role``: the instance profile's,
    with made-up keys that no AWS knows. ``tags`` None: they are not to be seen here, which is EC2's
    default. ``hop_limit``: how many hops the answer to a token request may go.
    """

    instance_id: str
    private: IPv4Address
    public: IPv4Address | None = None
    vpc_id: str | None = None
    ipv6: tuple[IPv6Address, ...] = ()
    mac: str = "02:00:00:00:00:01"
    further: tuple[Address, ...] = ()
    interfaces: tuple[Interface, ...] = ()
    region: str = "us-east-1"
    zone: str = "us-east-1a"
    instance_type: str = "m1.large"
    role: str | None = None
    tags: Mapping[str, str] | None = None
    hop_limit: int = 1
    cloud: Literal["ec2", "gcp", "azure"] = "ec2"
    balanced: bool = False


def contents(instance: InstanceMetadata) -> dict[str, str]:
    """Every leaf below /latest/, by its path."""
    primary = Interface(
        mac=instance.mac,
        addresses=(Address(private=instance.private, public=instance.public), *instance.further),
        vpc_id=instance.vpc_id,
        ipv6=instance.ipv6,
    )
    leaves = {
        "meta-data/instance-id": instance.instance_id,
        "meta-data/instance-type": instance.instance_type,
        "meta-data/local-ipv4": str(instance.private),
        "meta-data/mac": instance.mac,
        "meta-data/placement/availability-zone": instance.zone,
        "meta-data/placement/region": instance.region,
        "dynamic/instance-identity/document": json.dumps(_document(instance), indent=2),
    }
    if instance.public is not None:
        leaves["meta-data/public-ipv4"] = str(instance.public)
    for number, interface in enumerate((primary, *instance.interfaces)):
        leaves |= _interface(interface, number)
    leaves |= _role(instance)
    for key, value in (instance.tags or {}).items():
        leaves[f"meta-data/tags/instance/{key}"] = value
    return leaves


def lookup(leaves: Mapping[str, str], path: str) -> str | None:
    """The leaf at the path, or the listing of a directory; None when there is neither."""
    wanted = path.removeprefix("/latest").strip("/")
    if not path.startswith("/latest/"):
        return None
    if wanted in leaves:
        return leaves[wanted]
    below = f"{wanted}/" if wanted else ""
    names: dict[str, None] = {}
    for leaf in sorted(leaves):
        if leaf.startswith(below):
            name, slash, _ = leaf.removeprefix(below).partition("/")
            names[f"{name}{slash}"] = None
    return "\n".join(names) or None


def _interface(interface: Interface, number: int) -> dict[str, str]:
    base = f"meta-data/network/interfaces/macs/{interface.mac}"
    publics = [address for address in interface.addresses if address.public is not None]
    leaves = {
        f"{base}/device-number": str(number),
        f"{base}/local-ipv4s": "\n".join(str(a.private) for a in interface.addresses),
        f"{base}/mac": interface.mac,
    }
    if publics:
        leaves[f"{base}/public-ipv4s"] = "\n".join(str(a.public) for a in publics)
        leaves |= {f"{base}/ipv4-associations/{a.public}": str(a.private) for a in publics}
    if interface.vpc_id is not None:
        leaves[f"{base}/vpc-id"] = interface.vpc_id
    if interface.ipv6:
        leaves[f"{base}/ipv6s"] = "\n".join(map(str, interface.ipv6))
    return leaves


def _role(instance: InstanceMetadata) -> dict[str, str]:
    """What the SDKs read to find credentials."""
    if instance.role is None:
        return {}
    keys = {
        "Code": "Success",
        "LastUpdated": "2026-01-01T00:00:00Z",
        "Type": "AWS-HMAC",
        "AccessKeyId": "ASIALABLABLABLABLAB0",
        "SecretAccessKey": "made-up",
        "Token": "made-up",
        "Expiration": "2099-01-01T00:00:00Z",
    }
    return {f"meta-data/iam/security-credentials/{instance.role}": json.dumps(keys)}


def _document(instance: InstanceMetadata) -> dict[str, Any]:
    return {
        "accountId": "123456789012",
        "availabilityZone": instance.zone,
        "instanceId": instance.instance_id,
        "instanceType": instance.instance_type,
        "privateIp": str(instance.private),
        "region": instance.region,
        "version": "2017-09-30",
    }

"""What each key of neti.yml means, in a sentence, for editors: part of the JSON Schema.

docs/configuration.md says it at length. Must never name a key that the schema does not have, or
leave one out: a test compares the two.
"""

from collections.abc import Mapping
from typing import Any, Final

_FILE: Final = {
    "site": "This host's site: auto (by VPC id or private address), or a name from sites.",
    "sites": "The networks by name. Left out: ec2 and vpc, without ranges. The same on every host.",
    "identity": "Who this host is: auto, ec2, gcp and azure ask the cloud's metadata service; "
    "elsewhere a mapping.",
    "addresses": "Further addresses of this host that peers let in, of both families.",
    "labels": "What this host says of itself, to look and filter by: {tier: db}. Never a right.",
    "registry": "zookeeper (the default), or embedded:/PATH, one file on this machine.",
    "registry_tls": "Speak TLS to ZooKeeper, with these files.",
    "session_seconds": "How long a silent agent keeps its registration. A stock ZooKeeper grants "
    "40 at most.",
    "zk_hosts": "ZooKeeper's servers or proxies: for each site a list of host:port.",
    "zk_prefix": "The root znode of everything that Neti keeps in ZooKeeper.",
    "zk_iptoid_node": "Name of the znode with the leases by overlay address.",
    "zk_idtoip_node": "Name of the znode with the leases by host id.",
    "zk_ip_map_node": "Name of the znode with the registrations.",
    "zk_update_interval_path": "Name of the znode of the live setting interval: seconds over which "
    "changes are gathered.",
    "zk_max_change_threshold_path": "Name of the znode of the live setting maxchange: removals let "
    "through in ten minutes.",
    "overlay_subnet": "Where the members' stable addresses come from. The same on every host.",
    "nat_overrides": "Address to destination: packets from this host to the one go to the other. "
    "Wins over members.",
    "tunnel_port": "The UDP port of WireGuard, where a site encrypts. The same on every host.",
    "open_ports": 'Ports open to everyone, or to some networks: 80, "53/udp", "8000-8010", '
    "{port, proto, from}.",
    "member_ports": "Which groups of members reach which ports of this host: {5432: [app], "
    "53/udp: [members], all: [ops]}. Left out: every member reaches every port.",
    "ssh_whitelist": "Networks from which SSH is always let in.",
    "ssh_port": "The port that ssh_whitelist is about.",
    "allow_empty_ssh_whitelist": "Let reject_all come into force without an ssh_whitelist.",
    "trusted": "Networks that are let in on every port.",
    "container_interfaces": "From which interfaces this host's own containers come: auto, or "
    "names, which may end in *.",
    "reject_all": "Keep out what no rule lets in. false: nothing is dropped (shadow). true: a "
    "trial begins, and the kernel goes back by itself unless it is confirmed.",
    "trial_seconds": "How long a trial of reject_all lasts.",
    "linger_seconds": "How long a member that vanished without a word stays reachable and let in.",
    "hold_seconds": "When removals that are held end by themselves, if few enough are.",
    "conntrack_max": "How many connections the kernel may track: auto, or a number. Only raised.",
    "verify_port": "The port on which the agent answers neti verify. The same on every host.",
    "metrics_listen": "host:port for metrics in Prometheus's format. Left out: none.",
    "log_file": "Where log lines go. Left out: standard error, which is the journal.",
    "table_files_path": "The folder of the agent's state and socket. Never writable by everyone.",
    "aws_key": "Of 2014: give the instance a role instead.",
    "aws_secret_key": "Of 2014: give the instance a role instead.",
    "bin": "Of the 2014 cookbook: has no effect.",
    "overlay_ip_cache_file_path": "Of the 2014 cookbook: has no effect.",
}
_SITE: Final = {
    "private": "Ranges of its members' private addresses. Empty: any.",
    "public": "Ranges of its members' public addresses. Empty: members may claim any public "
    "address.",
    "ipv6": "Ranges of its members' IPv6 addresses. Empty: any global or unique-local one.",
    "vpc_ids": "A host in one of these VPCs is in this site.",
    "networks": "The same for Google's networks, and Azure's subscriptions or resource groups.",
    "reached_by": "Which address of its members other sites use. private: for peered networks. "
    "gateway: for sites with hosts that have no public address of their own.",
    "gateways": "Ids of members with public addresses that pass on, encrypted, what the site's "
    "other hosts and other sites send each other. With reached_by: gateway.",
    "mtu": "The largest packet that the road to this site carries.",
    "encrypt": "Whether WireGuard encrypts what goes between this site and the others: off, prefer "
    "(where a host can), require (nothing in the clear). The stricter of two sites decides.",
}
_IDENTITY: Final = {
    "id": "The host's name in the registry, unique in the fleet. It holds the lease. hostname, "
    "machine-id or file:/PATH: as the machine says.",
    "private": "Its address inside its site; or the interface that has it, or a CIDR that holds "
    "one of the machine's addresses.",
    "public": "Its address as other sites see it; same as the private one, or none.",
    "ipv6": "Its IPv6 address, let in by peers.",
}
_TLS: Final = {
    "ca": "The certificate of the CA that made the servers' certificates, as PEM.",
    "cert": "This host's certificate, then those between it and the CA, as PEM.",
    "key": "Its private key, as PEM without a password.",
}
_PORT: Final = {
    "port": 'A port, or a range such as "8000-8010".',
    "proto": "tcp or udp.",
    "from": "Only these networks. Left out: everyone.",
}
_FORMS: Final[Mapping[str, Mapping[str, str]]] = {
    "SiteForm": _SITE,
    "StaticIdentityForm": _IDENTITY,
    "TLSForm": _TLS,
}


_LIMITS: Final = {"ge": "minimum", "le": "maximum"}


def describe(schema: dict[str, Any]) -> None:
    """Put the sentences into the schema that pydantic made."""
    _into(schema["properties"], _FILE)
    for form, sentences in _FORMS.items():
        _into(schema["$defs"][form]["properties"], sentences)
    for choice in schema["properties"]["open_ports"]["anyOf"][0]["items"]["anyOf"]:
        if "properties" in choice:
            _into(choice["properties"], _PORT)


def limits(part: Any) -> Any:
    """pydantic leaves its own words for limits where a value may also be null."""
    if isinstance(part, dict):
        return {_LIMITS.get(key, key): limits(each) for key, each in part.items()}
    return [limits(each) for each in part] if isinstance(part, list) else part


def _into(properties: dict[str, Any], sentences: Mapping[str, str]) -> None:
    for key, sentence in sentences.items():
        properties[key] = {**properties[key], "description": sentence}

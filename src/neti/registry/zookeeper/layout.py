"""Where things stand in ZooKeeper. Pure.

    PREFIX/ip-to-id/OVERLAY     host id      \\ a lease: both made and deleted in one step
    PREFIX/id-to-ip/HOST-ID     overlay      /
    PREFIX/ip-map/NAME          an entry's data; ephemeral, watched by everybody
    PREFIX/hosts/HOST-ID        the host's record, which the host alone may write: which of the
                                entries is its word. That keeps two agents from one identity.
    PREFIX/keys/PUBLIC-KEY      the host that published this key first: no other may have it
    PREFIX/agents/HOST-ID       what every member may know of it; ephemeral, watched by nobody
    PREFIX/reports/HOST-ID      the whole document, for operators and the host; ephemeral, as above
    PREFIX/interval, maxchange  live settings, as are the next eight
    PREFIX/release              which hosts are gone for good, see ``neti.registry.release``
    PREFIX/strict               whether only entries that records name are believed
    PREFIX/revoked              public keys that operators ended, see ``neti.registry.revoked``
    PREFIX/drained              gateways that operators took out of use
    PREFIX/groups               groups of members, see ``neti.registry.groups``
    PREFIX/names                names of hosts, see ``neti.registry.names``
    PREFIX/asked                when operators last asked every host for its document
    PREFIX/retired              hosts that operators took out of the fleet
    PREFIX/fleet                a random name, made with the tree: after a wipe there is another

Must never do: turn text into a path that could leave its parent.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final, Self
from urllib.parse import quote, unquote
from uuid import uuid4

from neti.model.addresses import dotted
from neti.registry import SettingName
from neti.text import command

# ZooKeeper's own nodes, which a stock server leaves open: beside the tree, and below which quotas
# are set, for paths of the tree as well.
OUTSIDE: Final = ("/", "/zookeeper", "/zookeeper/quota")
_BARE: Final = "/+"  # beside letters, digits and "_.-~": what an agent's own names consist of


@dataclass(frozen=True, slots=True)
class Layout:
    """Full paths."""

    root: str
    ip_to_id: str
    id_to_ip: str
    ip_map: str
    agents: str
    reports: str
    hosts: str
    keys: str
    interval: str
    maxchange: str
    release: str
    strict: str
    revoked: str
    drained: str
    groups: str
    names: str
    asked: str
    retired: str
    fleet: str

    @property
    def no_tree(self) -> str:
        """What is the case where nothing is there and only operators lay it out."""
        return (
            f"ZooKeeper has no {self.ip_map}, and with registry_tls only an operator lays out the "
            "tree\n"
            "→ neti registry import FILE, if the registry was wiped: so every id and every address "
            "is its owner's again\n"
            "→ neti registry init, if this fleet is new"
        )

    @classmethod
    def below(
        cls, prefix: str, *, iptoid: str, idtoip: str, ip_map: str, interval: str, maxchange: str
    ) -> Self:
        root = "/" + prefix.strip("/") if prefix.strip("/") else ""

        def path(node: str) -> str:
            return f"{root}/{node.strip('/')}"

        return cls(
            root=root,
            ip_to_id=path(iptoid),
            id_to_ip=path(idtoip),
            ip_map=path(ip_map),
            agents=path("agents"),
            reports=path("reports"),
            hosts=path("hosts"),
            keys=path("keys"),
            interval=path(interval),
            maxchange=path(maxchange),
            release=path("release"),
            strict=path("strict"),
            revoked=path("revoked"),
            drained=path("drained"),
            groups=path("groups"),
            names=path("names"),
            asked=path("asked"),
            retired=path("retired"),
            fleet=path("fleet"),
        )

    def settings(self) -> dict[str, SettingName]:
        return {
            self.interval: "interval",
            self.maxchange: "maxchange",
            self.release: "release",
            self.strict: "strict",
            self.revoked: "revoked",
            self.drained: "drained",
            self.groups: "groups",
            self.names: "names",
            self.asked: "asked",
            self.retired: "retired",
        }

    def setting(self, setting: SettingName) -> str:
        return next(path for path, name in self.settings().items() if name == setting)

    def tree(self) -> list[tuple[str, bytes]]:
        """What an empty ZooKeeper needs first, with its data, in order."""
        return [*((path, b"") for path in self.parents()), (self.fleet, uuid4().hex.encode())]

    def open_to_members(self) -> tuple[str, ...]:
        """Nodes below which hosts make their own."""
        return (
            self.ip_to_id,
            self.id_to_ip,
            self.ip_map,
            self.agents,
            self.hosts,
            self.keys,
            self.reports,
        )

    def parents(self) -> list[str]:
        """Every persistent node, each after the one it stands in."""
        paths: list[str] = []
        for path in self.open_to_members():
            parts = path.strip("/").split("/")
            paths += ["/" + "/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        return list(dict.fromkeys(paths))

    def name(self, name: str) -> str:
        return child(self.ip_map, name)

    def agent(self, host_id: str) -> str:
        return child(self.agents, host_id)

    def report(self, host_id: str) -> str:
        return child(self.reports, host_id)

    def host(self, host_id: str) -> str:
        return child(self.hosts, host_id)

    def key(self, key: str) -> str:
        return child(self.keys, key)

    def by_id(self, host_id: str) -> str:
        return child(self.id_to_ip, host_id)

    def by_overlay(self, overlay: IPv4Address) -> str:
        return f"{self.ip_to_id}/{dotted(overlay)}"


def child(parent: str, name: str) -> str:
    """A path that ZooKeeper accepts whatever ``name`` is; what cannot exist is only not found."""
    safe = name.encode(errors="replace").decode()
    if not safe or safe in {".", ".."} or "/" in safe or "\0" in safe:
        safe = "…"  # U+2026 stands in no name that anybody can register
    return f"{parent}/{safe}"


def spelled(path: str) -> str:
    """A path as commands print and take it: whatever is in it, one word that is inert in a shell
    and on a terminal."""
    return quote(path, safe=_BARE, errors="replace")


def path_of(spelling: str) -> str:
    """The reverse of ``spelled``."""
    return unquote(spelling, errors="replace")


def removal(*paths: str) -> str:
    """The command by which an operator deletes these nodes."""
    return command("neti registry remove", *map(spelled, paths))

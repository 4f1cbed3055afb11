"""Two hosts and a wire, for each way of getting from one to the other.

    client 10.0.0.5 ── veth ── 10.0.0.9 server

Every way has a pair of namespaces of its own, so that rounds can take turns and nothing is loaded
or unloaded between them.
"""

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

import yaml

from benchmarks import pipeline2014
from benchmarks.fleet import OVERLAY, configuration, member
from benchmarks.talk import PORT
from neti.config import load
from neti.dataplane.nftables import NftablesDataplane
from neti.errors import NetiError
from neti.host.network import set_overlay_route
from neti.model import Host, Member
from neti.model.groups import MemberPort
from neti.model.settings import OpenPort
from neti.ruleset.delta import Elements
from neti.ruleset.enforce import PERMANENT
from neti.ruleset.objects import Structure
from neti.ruleset.openings import Left, Lengths
from neti.ruleset.plan import REVOKE_SECONDS
from neti.ruleset.policy import structure
from neti.ruleset.policy_leftover import AFTER_CONTAINERS, AFTER_OUTPUT
from neti.ruleset.reach import Element, elements_of, own_elements
from neti.ruleset.replace import replacement
from neti.ruleset.set_names import group_sets, opening_set_of
from neti.ruleset.surroundings import Surroundings
from neti_lab import namespaces
from neti_lab.wiring import Node, Wiring

CLIENT: Final = Member(
    id="client",
    site="ec2",
    private=IPv4Address("10.0.0.5"),
    public=IPv4Address("54.0.0.5"),
    overlay=IPv4Address("100.64.0.5"),
)
SERVER: Final = Member(
    id="server",
    site="ec2",
    private=IPv4Address("10.0.0.9"),
    public=IPv4Address("54.0.0.9"),
    overlay=IPv4Address("100.64.0.9"),
)
# Of the prefixes of openings: each has a rule that is looked at.
_LENGTHS: Final[Lengths] = ((4, 24), (4, 32), (6, 64))
_NEBULA: Final = (IPv4Address("192.168.100.1"), IPv4Address("192.168.100.2"))
TRACKED: Final = """
table inet tracked {
    chain input { type filter hook input priority 0; ct state new accept; }
    chain output { type filter hook output priority 0; ct state new accept; }
}
"""
# A chain of this type has connections tracked by itself.
_ONE_RULE: Final = f"""
table ip one_rule {{
    chain output {{
        type nat hook output priority -100;
        ip daddr {SERVER.overlay} dnat to {SERVER.private};
    }}
}}
"""


@dataclass(slots=True)
class Pair:
    """``target``: the server's address on this way. ``carriers``: processes that carry packets."""

    name: str
    client: str
    server: str
    target: str
    carriers: list[int] = field(default_factory=list)

    def inside(self, end: str, words: Sequence[str]) -> list[str]:
        return namespaces.command_inside(self.client if end == "client" else self.server, words)


@contextlib.contextmanager
def pairs(names: Sequence[str]) -> Iterator[dict[str, Pair]]:
    """By name: direct, tracked, dnat (one rule on the client), nebula, neti-SIZE, client-SIZE (Neti
    there alone), groups-SIZExCOUNT (Neti, where each of so many groups has a port), stranger-SIZE
    (Neti on the server, of which the client is no member: by open_ports), opened-SIZExCOUNT (the
    same by the last of so many openings), real-SIZE (Neti, by the real address), unrecorded-SIZE
    (the same without the rules that record such calls), 2014-SIZE."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="neti-bench-")))
        made: dict[str, Pair] = {}
        for number, name in enumerate(names):
            tag = f"neti-bench-{os.getpid()}-{number}"
            pair = Pair(name, f"{tag}-c", f"{tag}-s", str(SERVER.private))
            stack.callback(namespaces.delete, (pair.client, pair.server))
            namespaces.build(_wiring(pair))
            _furnish(stack, folder, pair)
            serve = [sys.executable, "-m", "benchmarks.talk", "server"]
            background(stack, pair.inside("server", serve), ready=b"ready")
            made[name] = pair
        yield made


def background(stack: ExitStack, words: Sequence[str], *, ready: bytes = b"") -> int:
    """A process that ends with ``stack``; its id once it said ``ready``."""
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if ready else subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def end() -> None:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    stack.callback(end)
    if process.stdout is not None and ready not in process.stdout.readline():
        raise NetiError(f"{' '.join(words)} did not start")
    return process.pid


def _furnish(stack: ExitStack, folder: Path, pair: Pair) -> None:
    kind, _, size = pair.name.partition("-")
    if kind == "tracked":
        for end in ("client", "server"):
            _load(pair, end, TRACKED)
    elif kind == "dnat":
        pair.target = str(SERVER.overlay)
        _load(pair, "client", _ONE_RULE)
        _load(pair, "server", TRACKED)
    elif kind == "neti":
        pair.target = str(SERVER.overlay)
        _load_neti(folder, pair, int(size), (pair.client, pair.server))
    elif kind == "groups":
        pair.target = str(SERVER.overlay)
        members, _, count = size.partition("x")
        _load_neti(folder, pair, int(members), (pair.client, pair.server), groups=int(count))
    elif kind in ("stranger", "opened"):  # a stranger calls the real address
        members, _, count = size.partition("x")
        _load_neti(folder, pair, int(members), (pair.server,), opened=int(count or 0))
    elif kind in ("real", "unrecorded"):
        both, recorded = (pair.client, pair.server), kind == "real"
        _load_neti(folder, pair, int(size), both, recorded=recorded)
    elif kind == "client":
        pair.target = str(SERVER.overlay)
        _load_neti(folder, pair, int(size), (pair.client,))
        _load(pair, "server", TRACKED)
    elif kind == "2014":
        pair.target = str(SERVER.overlay)
        _load_2014(pair, int(size))
    elif kind == "nebula":
        pair.target = str(_NEBULA[1])
        _start_nebula(stack, folder, pair)


def _load(pair: Pair, end: str, rules: str) -> None:
    subprocess.run(pair.inside(end, ["nft", "-f", "-"]), input=rules.encode(), check=True)


def _fleet(size: int) -> list[Member]:
    """Client and server in the middle: half of all linear rules come before theirs."""
    others = [member(number) for number in range(size - 2)]
    half = len(others) // 2
    return [*others[:half], CLIENT, SERVER, *others[half:]]


def _load_neti(
    folder: Path,
    pair: Pair,
    size: int,
    ends: Sequence[str],
    *,
    groups: int = 0,
    opened: int | None = None,
    recorded: bool = True,
) -> None:
    """What an agent has written once it is enforced: the strictest. ``groups``: each has a port,
    and members are spread among them; the caller's is the last one. ``opened``: the client is no
    member, and the last of so many openings lets it in; 0: open_ports does. ``recorded`` False:
    without the rules that record calls by real addresses."""
    path = folder / "neti.yml"
    path.write_text(yaml.safe_dump(configuration(str(folder / "state"))))
    ports = [*range(20_000, 20_000 + groups - 1), PORT] if groups else []
    listed = tuple(MemberPort((f"g-{n}",), "tcp", port, port) for n, port in enumerate(ports))
    by_file = (OpenPort(first=PORT, last=PORT, proto="tcp"),) if opened == 0 else ()
    settings = replace(load(path), member_ports=listed, open_ports=by_file)
    around = Surroundings(
        uplinks=("eth0",),
        ssh_untracked=True,
        member_ports=listed,
        openings=_LENGTHS if opened else (),
    )
    for namespace, this in ((pair.client, CLIENT), (pair.server, SERVER)):
        if namespace not in ends:
            continue
        host = Host(id=this.id, site=this.site, private=this.private, public=this.public)
        elements = Elements(revoke_seconds=REVOKE_SECONDS)
        elements.enforce(PERMANENT)
        elements.look_at(where for n in range(groups) for where in group_sets(f"g-{n}"))
        wanted = [*own_elements(host, this.overlay)]
        for number, present in enumerate(_fleet(size)):
            if opened is not None and present is CLIENT:
                continue
            own = list(elements_of(present, host=host, sites=settings.sites))
            wanted += own
            if groups:
                last = present in (CLIENT, SERVER)
                four, _ = group_sets(f"g-{groups - 1 if last else number % groups}")
                wanted += [Element(four, one.key) for one in own if one.where == "peers4"]
        for element in wanted:
            elements.want(element.where, element.key, element.value)
        rules = structure(settings, around)
        if not recorded:
            rules = _unrecorded(rules)

        write = partial(_write_neti, rules, elements, this.private, _openings(opened or 0))
        namespaces.call_inside(namespace, write)


def _openings(count: int) -> Left:
    """So many single addresses, of which the client's is one."""
    others = (f"203.0.{n // 250}.{n % 250 + 1} . tcp . {PORT}" for n in range(count - 1))
    keys = [*others, f"{CLIENT.private} . tcp . {PORT}"] if count else []
    return {opening_set_of(4, 32): dict.fromkeys(keys, 86_400)} if keys else {}


def _unrecorded(rules: Structure) -> Structure:
    after = (AFTER_OUTPUT, AFTER_CONTAINERS)
    return replace(
        rules,
        chains=tuple(
            replace(chain, rules=tuple(rule for rule in chain.rules if rule not in after))
            for chain in rules.chains
            if not chain.name.startswith("leftover")
        ),
    )


def _write_neti(rules: Structure, elements: Elements, private: IPv4Address, openings: Left) -> None:
    dataplane = NftablesDataplane()
    try:
        kernel = dataplane.read()
        dataplane.apply(replacement(rules, elements, kernel, grace_seconds=0, openings=openings))
    finally:
        dataplane.close()
    set_overlay_route(OVERLAY, private, 1500, anew=True)


def _load_2014(pair: Pair, size: int) -> None:
    def write() -> None:
        pipeline2014.prepare()
        pipeline2014.load(_fleet(size), reject_all=True)

    for namespace in (pair.client, pair.server):
        namespaces.call_inside(namespace, write)


def _start_nebula(stack: ExitStack, folder: Path, pair: Pair) -> None:
    def certify(*words: str) -> None:
        subprocess.run(["nebula-cert", *words], cwd=folder, check=True, capture_output=True)

    certify("ca", "-name", "benchmark")
    ends = (("client", CLIENT, _NEBULA[0]), ("server", SERVER, _NEBULA[1]))
    for end, _, address in ends:
        certify("sign", "-name", end, "-ip", f"{address}/24")
    for (end, _, _), (_, peer, there) in zip(ends, reversed(ends), strict=True):
        config = folder / f"{end}.yml"
        allow = [{"port": "any", "proto": "any", "host": "any"}]
        config.write_text(
            yaml.safe_dump(
                {
                    "pki": {
                        "ca": str(folder / "ca.crt"),
                        "cert": str(folder / f"{end}.crt"),
                        "key": str(folder / f"{end}.key"),
                    },
                    "static_host_map": {str(there): [f"{peer.private}:4242"]},
                    "lighthouse": {"am_lighthouse": False, "hosts": []},
                    "listen": {"host": "0.0.0.0", "port": 4242},
                    "tun": {"dev": "neb0", "mtu": 1300},
                    "firewall": {"outbound": allow, "inbound": allow},
                }
            )
        )
        pair.carriers.append(
            background(stack, pair.inside(end, ["nebula", "-config", str(config)]))
        )
    _until(partial(_pings, pair))


def _pings(pair: Pair) -> bool:
    words = pair.inside("client", ["ping", "-c", "1", "-W", "1", pair.target])
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def _until(so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not so():
        if time.monotonic() > deadline:
            raise NetiError("Nebula's two ends do not reach each other")
        time.sleep(0.1)


def _wiring(pair: Pair) -> Wiring:
    link = f"link add eth0 netns {pair.client} type veth peer name eth0 netns {pair.server}"
    ends = ((pair.client, CLIENT, SERVER), (pair.server, SERVER, CLIENT))
    return Wiring(
        create=(pair.client, pair.server),
        links=(link,),
        nodes=tuple(
            Node(
                namespace=namespace,
                sysctls={"ip_forward": "0", "rp_filter": "0"},
                commands=(
                    "link set lo up",
                    f"address add {this.private}/16 dev eth0",
                    "link set eth0 up",
                    f"route add default via {other.private}",
                ),
            )
            for namespace, this, other in ends
        ),
    )


__all__ = ["CLIENT", "PORT", "SERVER", "TRACKED", "Pair", "background", "pairs"]

"""The 2014 pipeline, written anew as the other side:
``python -m benchmarks.pipeline2014 NAMESPACE``.

What it did, without its pause of 30 to 60 seconds and without its faults: a watch on the children
of ``ip-map``; at each change all names are read again; an ipset is restored under a second name,
swapped in and destroyed; ``iptables-restore --test`` and ``iptables-restore`` load one DNAT rule
for each member. Three things flatter it: it reads Neti's short names, it speaks to ZooKeeper by
the raw wire format, and it parses nothing that it does not need.

Must never do: run outside of a network namespace that the benchmark made.
"""

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from typing import Final

from benchmarks.fleet import AGENT_ID, ZOOKEEPER, ZOOKEEPER_PORT
from benchmarks.registry import LAYOUT
from benchmarks.watchers import WatchingSession
from neti.errors import NetiError
from neti.model import Member, entry

SET: Final = "neti"
HOME: Final = "ec2"


def ipset_text(addresses: Iterable[str]) -> str:
    """The whole set under another name, then in its place."""
    new = f"{SET}-new"
    adds = "".join(f"add {new} {address}\n" for address in addresses)
    head = "hash:ip family inet hashsize 4096 maxelem 65536"
    return f"create {new} {head}\n{adds}swap {new} {SET}\ndestroy {new}\n"


def iptables_text(translations: Iterable[tuple[str, str]], *, reject_all: bool = False) -> str:
    """Both tables. One DNAT rule for each member, for what this host itself sends."""
    rules = "".join(
        f"-A OUTPUT -d {overlay}/32 -j DNAT --to-destination {real}\n"
        for overlay, real in translations
    )
    policy = "DROP" if reject_all else "ACCEPT"
    return (
        "*nat\n:PREROUTING ACCEPT\n:INPUT ACCEPT\n:OUTPUT ACCEPT\n:POSTROUTING ACCEPT\n"
        f"{rules}COMMIT\n"
        f"*filter\n:INPUT {policy}\n:FORWARD DROP\n:OUTPUT ACCEPT\n"
        "-A INPUT -i lo -j ACCEPT\n"
        "-A INPUT -m state --state RELATED,ESTABLISHED -j ACCEPT\n"
        "-A INPUT -s 10.0.0.0/24 -p tcp --dport 22 -j ACCEPT\n"
        f"-A INPUT -m set --match-set {SET} src -j ACCEPT\n"
        "-A INPUT -p icmp -j ACCEPT\n"
        "COMMIT\n"
    )


def prepare() -> None:
    """The set that rules name must be there before them; one that an interrupted run left under
    the other name must not."""
    subprocess.run(["ipset", "destroy", f"{SET}-new"], capture_output=True, check=False)
    _run(["ipset", "create", SET, "hash:ip", "family", "inet", "maxelem", "65536", "-exist"], "")


def load(members: Collection[Member], *, reject_all: bool = False) -> None:
    """What the pipeline does at each change, whatever has changed."""
    addresses: dict[str, None] = {}
    translations: list[tuple[str, str]] = []
    for member in members:
        near = member.site == HOME
        real = member.private if near else member.public
        if near:
            addresses[str(member.private)] = None
        if member.public is not None:
            addresses[str(member.public)] = None
        if real is not None:
            translations.append((str(member.overlay), str(real)))
    _run(["ipset", "restore"], ipset_text(addresses))
    rules = iptables_text(translations, reject_all=reject_all)
    _run(["iptables-legacy-restore", "--test"], rules)
    _run(["iptables-legacy-restore"], rules)


def _run(command: Sequence[str], text: str) -> None:
    done = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
    if done.returncode != 0:
        raise NetiError(f"{command[0]}: {done.stderr.decode().strip()}")


def _cpu() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def main() -> int:
    """Until its input ends. One JSON line for each pass: when it was in the kernel, what changed,
    CPU so far. The benchmark reads them."""
    prepare()
    session = WatchingSession(str(ZOOKEEPER), ZOOKEEPER_PORT)
    session.keep_alive()
    before: set[str] = set()
    while True:
        names = set(session.names(LAYOUT.ip_map, watch=True))
        parsed = [m for m in map(entry.parse, names) if isinstance(m, Member) and m.id != AGENT_ID]
        load(parsed)
        told = {
            "at": time.perf_counter(),
            "cpu": _cpu(),
            "bytes": session.received,
            "members": len(parsed),
            "added": sorted(names - before)[:1000],
            "removed": sorted(before - names)[:1000],
        }
        before = names
        print(json.dumps(told), flush=True)
        session.wait_for_event()


if __name__ == "__main__":
    # Only inside the namespace whose name was given: elsewhere these rules would cut a machine off.
    if os.stat("/proc/self/ns/net").st_ino != os.stat(f"/run/netns/{sys.argv[1]}").st_ino:
        sys.exit(f"not inside the network namespace {sys.argv[1]}: nothing was loaded")
    sys.exit(main())

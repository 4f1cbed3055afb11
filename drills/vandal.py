"""What another program can do to ``table inet neti`` and to the route, kind by kind.

Each is inflicted from outside Neti with nft and ip. Nothing here knows how it is repaired.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from drills.drill import DrillError
from drills.host import FieldHost
from drills.plan import OTHERS, OVERLAY
from neti.ruleset.set_names import opening_set_of

_TABLE: Final = "inet neti"
_STRANGER: Final = "192.0.2.99"
_STRANGER6: Final = "2001:db8::99"
_INTRUDER: Final = "192.0.2.98"
_INTRUDER6: Final = "2001:db8::98"
_DEAD_PEER: Final = "10.0.0.99"
_SETS: Final = ("peers4", "revoked6", "seen4", "enforce", "overlay", "opening4_32")
# To whom the drill opens a port for a time, and an element of each of the sets for that.
OPENED: Final = {
    opening_set_of(4, 32): "203.0.113.9 . tcp . 5432",
    opening_set_of(6, 64): "2001:db8:9:: . tcp . 5432",
}
_CHAIN: Final = re.compile(r"\tchain (\S+) \{")


@dataclass(frozen=True, slots=True)
class Damage:
    """``nft``: the transaction that does it; else ``do``. Repair time begins when it is done.

    ``leaves``: what the repair rightly leaves behind, as set and key: who was let in by somebody
    else and is taken out again counts as a removed source, so that its connections end.
    """

    what: str
    nft: str = ""
    do: Callable[[FieldHost], None] | None = None
    leaves: tuple[str, str] | None = None

    def inflict(self, host: FieldHost) -> None:
        if self.do is not None:
            self.do(host)
        else:
            host.nft(self.nft)


def all_kinds(host: FieldHost) -> dict[str, list[Damage]]:
    """Every kind, for a host whose table has all its chains."""
    return {
        "ruleset and table": list(_tables()),
        "rules": list(_rules()),
        "chains": list(_chains(sorted(host.read().chain_names))),
        "sets": list(_sets(host.command("nft", "list", "table", *_TABLE.split()).stdout)),
        "elements": list(_elements()),
        "elements that end by the kernel's clock": list(_timed()),
        "the route": list(_routes()),
    }


def _tables() -> Iterator[Damage]:
    yield Damage("flush ruleset", do=_flush_everything)
    yield Damage("flush table", f"flush table {_TABLE}")
    yield Damage("delete table", f"delete table {_TABLE}")
    yield Damage("table replaced by an empty one", f"delete table {_TABLE}; add table {_TABLE}")
    yield Damage("table made dormant", f"add table {_TABLE} {{ flags dormant; }}")


def _flush_everything(host: FieldHost) -> None:
    # The others put theirs back at once; Neti has to look after its own.
    host.nft(f"flush ruleset\n{OTHERS}")


def _rules() -> Iterator[Damage]:
    yield Damage("rule inserted", f"insert rule {_TABLE} input drop")
    yield Damage("rule added", f"add rule {_TABLE} output accept")
    yield Damage("rule deleted", do=lambda host: _edit_rule(host, "verdict", "delete"))
    yield Damage("rule replaced", do=lambda host: _edit_rule(host, "input", "replace"))


def _edit_rule(host: FieldHost, chain: str, verb: str) -> None:
    listed: list[dict[str, Any]] = json.loads(
        host.command("nft", "-j", "list", "chain", *_TABLE.split(), chain).stdout
    )["nftables"]
    handles = [item["rule"]["handle"] for item in listed if "rule" in item]
    if not handles:
        raise DrillError(f"chain {chain} on {host.name} holds no rule to {verb}")
    rest = " accept" if verb == "replace" else ""
    host.nft(f"{verb} rule {_TABLE} {chain} handle {handles[-1]}{rest}")


def _chains(names: list[str]) -> Iterator[Damage]:
    for chain in names:
        yield Damage(f"chain {chain} flushed", f"flush chain {_TABLE} {chain}")
    yield Damage("chain deleted", f"flush chain {_TABLE} forward; delete chain {_TABLE} forward")
    yield Damage("chain renamed", f"rename chain {_TABLE} published public")
    yield Damage("chain added", f"add chain {_TABLE} intruder")
    hook = "type filter hook input priority -300; policy accept;"
    yield Damage("chain with a hook added", f"add chain {_TABLE} intruder {{ {hook} }}")
    yield Damage(
        "policy changed",
        f"add chain {_TABLE} input {{ type filter hook input priority -10; policy drop; }}",
    )
    for what, hook in {
        "priority of a hook changed": "hook input priority 200",
        "hook changed": "hook forward priority -10",
    }.items():
        again = f"add chain {_TABLE} input {{ type filter {hook}; policy accept; }}"
        gone = f"flush chain {_TABLE} input; delete chain {_TABLE} input"
        yield Damage(what, f"{gone}; {again}")


def _sets(listing: str) -> Iterator[Damage]:
    for name in _SETS:
        kind = "map" if name in {"enforce", "overlay"} else "set"
        flush = "; ".join(f"flush chain {_TABLE} {user}" for user in _users(listing, name))
        yield Damage(f"{kind} {name} deleted", f"{flush}; delete {kind} {_TABLE} {name}")
        if name != "seen4":  # what was recorded is gone then, and nobody can put it back
            yield Damage(f"{kind} {name} flushed", f"flush {kind} {_TABLE} {name}")
    yield Damage("set added", f"add set {_TABLE} intruder {{ type ipv4_addr; }}")


def _users(listing: str, name: str) -> list[str]:
    """The chains that refer to the set: the kernel lets nobody delete it while a rule does."""
    chains, chain = dict[str, None](), ""
    for line in listing.splitlines():
        if begins := _CHAIN.match(line):
            chain = begins[1]
        elif re.search(rf"@{name}\b", line):
            chains[chain] = None
    return list(chains)


def _elements() -> Iterator[Damage]:
    yield Damage("overlay: added", _element("add", "overlay", f"192.168.9.9 : {_DEAD_PEER}"))
    yield Damage("overlay: leads elsewhere", do=_lead_astray)
    for name, revoked, address in (
        ("peers4", "revoked4", _INTRUDER),
        ("peers6", "revoked6", _INTRUDER6),
    ):
        added = _element("add", name, address)
        yield Damage(f"{name}: added", added, leaves=(revoked, address))
    for name in ("overlay", "peers4", "peers6", "enforce"):
        yield Damage(f"{name}: deleted", do=lambda host, name=name: _delete_first(host, name))  # type: ignore[misc]  # a default in a lambda
    yield Damage(
        "enforce: another verdict",
        f"{_element('delete', 'enforce', 'ipv4')}; {_element('add', 'enforce', 'ipv4 : accept')}",
    )


def _lead_astray(host: FieldHost) -> None:
    key = min(host.sets()["overlay"])
    delete = _element("delete", "overlay", key)
    host.nft(f"{delete}; {_element('add', 'overlay', f'{key} : {_DEAD_PEER}')}")


def _delete_first(host: FieldHost, name: str) -> None:
    state = host.read()
    sets = {**state.elements, **state.timed, "enforce": state.enforce}
    held = sets[name]  # type: ignore[index]  # it is there
    if not held:
        raise DrillError(f"{name} on {host.name} holds nothing that could be deleted")
    host.nft(_element("delete", name, min(held)))


def _timed() -> Iterator[Damage]:
    for name in ("revoked4", "revoked6", "grace"):
        yield Damage(f"{name}: deleted", do=lambda host, name=name: _delete_first(host, name))  # type: ignore[misc]  # a default in a lambda
    for where, key in OPENED.items():
        yield Damage(f"{where}: deleted", _element("delete", where, key))
        longer = _element("add", where, f"{key} timeout 9d")
        yield Damage(f"{where}: made longer", f"{_element('delete', where, key)}; {longer}")
        other = key.replace("5432", "5433")
        yield Damage(f"{where}: added", _element("add", where, f"{other} timeout 1h"))
    yield Damage("revoked4: added", _element("add", "revoked4", f"{_STRANGER} timeout 1h"))
    yield Damage("revoked6: added", _element("add", "revoked6", f"{_STRANGER6} timeout 1h"))


def _routes() -> Iterator[Damage]:
    overlay = str(OVERLAY)
    ours = (overlay, "dev", "lo", "proto", "78")
    yield Damage("removed", do=lambda host: _ip(host, "route", "delete", overlay))
    yield Damage("without its source", do=lambda host: _ip(host, "route", "replace", *ours))
    yield Damage("private address flapped", do=_flap)


def _ip(host: FieldHost, *words: str) -> None:
    host.ip(*words)


def _flap(host: FieldHost) -> None:
    """The address goes, and with it every route that needs it; it and others' routes are back at
    once."""
    address = f"{host.plan.private}/16"
    routes = host.ip("route", "show", "default").strip()
    host.ip("address", "delete", address, "dev", "eth0")
    host.ip("address", "replace", address, "dev", "eth0")
    if not host.ip("route", "show", "default").strip():
        host.ip("route", "add", *routes.split())


def _element(verb: str, name: str, element: str) -> str:
    return f"{verb} element {_TABLE} {name} {{ {element} }}"

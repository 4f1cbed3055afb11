"""Other programs' nftables tables out of libnftables' JSON (libnftables-json(5)). Pure."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from neti.dataplane.foreign import Chain, Ports, Rule, Table, Verdict
from neti.ruleset import FAMILY_TABLE

_HOOKS: Final = frozenset({"ingress", "prerouting", "input", "forward"})
_FAMILIES: Final = frozenset({"ip", "ip6", "inet", "netdev", "bridge"})
_VERDICTS: Final[tuple[Verdict, ...]] = ("accept", "drop", "return", "jump", "goto")
# Statements that let every packet on to the next one. Everything else may look at it.
_LOOK_AT_NOTHING: Final = frozenset({"counter", "log", "mangle", "notrack", "comment"})
# Of these states no new connection is; in numbers as well, which are bits (1, 2, 4; new is 8).
_NOT_NEW: Final = frozenset({"established", "related", "invalid", *map(str, range(1, 8))})
_NO_PORTS: Final = frozenset({"icmp", "icmpv6", "ipv6-icmp", "igmp", 1, 2, 58})


def tables_to_read(chains: Iterable[dict[str, Any]]) -> list[tuple[str, str]]:
    """Tables of others that can drop what comes in, by the list of all chains.

    A NAT chain can drop too, but no program is known to use it so, and its rules are many.
    """
    found: dict[tuple[str, str], None] = {}
    for item in chains:
        chain = item.get("chain", {})
        place = (str(chain.get("family")), str(chain.get("table")))
        if (
            chain.get("hook") in _HOOKS
            and chain.get("family") in _FAMILIES
            and (chain.get("type") != "nat" or chain.get("policy") == "drop")
            and " ".join(place) != FAMILY_TABLE
        ):
            found[place] = None
    return list(found)


def parse(
    family: str,
    name: str,
    listed: Iterable[dict[str, Any]],
    elements: Callable[[str], Iterable[Any]],
) -> Table:
    """A table from its JSON. ``elements``: those of a named verdict map."""
    chains: dict[str, Chain] = {}
    for item in listed:
        if "chain" in item:
            held = item["chain"]
            hook = held.get("hook") if held.get("hook") in _HOOKS else None
            drops = hook is not None and held.get("policy") == "drop"
            chains[held["name"]] = Chain(held["name"], hook, drops)
        elif "rule" in item:
            rule = _rule(item["rule"].get("expr", []), elements)
            if rule is not None:
                chains[item["rule"]["chain"]].rules.append(rule)
    return Table(family, name, "nft", chains)


def _rule(statements: list[Any], elements: Callable[[str], Iterable[Any]]) -> Rule | None:
    """A rule's verdict; None when it has none."""
    always = True
    met = _Met()
    for statement in statements:
        kind = next(iter(statement)) if isinstance(statement, dict) else str(statement)
        value: Any = statement[kind] if isinstance(statement, dict) else None
        inner = value if isinstance(value, dict) else {}
        if kind == "vmap":
            found = tuple(_of_map(inner.get("data"), elements))
            met.state_map(inner)
            return Rule(found, always=False, only=met.only) if found else None
        if kind == "reject" or (kind == "xt" and inner.get("name") == "REJECT"):
            return Rule((("drop", ""),), always, met.only)
        verdict = _verdict(kind, value)
        if verdict is not None:
            return Rule((verdict,), always, met.only)
        if kind == "xt":  # iptables-nft's own: a comment, or a target that goes on to the next rule
            neutral = inner.get("type") == "target" or inner.get("name") == "comment"
            always = always and neutral
            met.understood = met.understood and neutral
        elif kind not in _LOOK_AT_NOTHING:
            always = False
            met.statement(kind, inner)
    return None


class _Met:
    """Which new connections a rule meets, as far as its statements are understood. None of those
    asks who sent a packet."""

    def __init__(self) -> None:
        self.understood = True
        self._ports: Ports | None = None  # None: at any port

    @property
    def only(self) -> Ports | None:
        return self._ports if self.understood else None

    def statement(self, kind: str, inner: dict[str, Any]) -> None:
        if kind == "limit":
            return  # makes it fewer at most
        left = inner.get("left")
        if kind != "match" or inner.get("op") not in ("==", "in") or not isinstance(left, dict):
            self.understood = False
            return
        what = next(iter(left.values()), None)
        values = _values(inner.get("right"))
        if not isinstance(what, dict) or not values:
            self.understood = False
            return
        key = str(what.get("key") or what.get("field"))
        if _at_no_port(left, what, key, values):
            self._ports = ()
        elif key in ("l4proto", "protocol", "nexthdr") or (key == "state" and "ct" in left):
            return  # of a protocol with ports, or new ones too
        elif key == "dport" and self._ports is None:
            ports = [_range(value) for value in values]
            self._ports = tuple(one for one in ports if one is not None)
            self.understood = self.understood and None not in ports
        elif key != "dport":
            self.understood = False

    def state_map(self, inner: dict[str, Any]) -> None:
        """``ct state vmap { established : accept, … }``; no other map is understood."""
        key, data = inner.get("key"), inner.get("data")
        pairs = data.get("set") if isinstance(data, dict) else None
        if key != {"ct": {"key": "state"}} or not isinstance(pairs, list):
            self.understood = False
            return
        on = [pair[0] for pair in pairs if "drop" not in pair[1]]
        if _NOT_NEW.issuperset(map(str, on)):
            self._ports = ()


def _at_no_port(left: dict[str, Any], what: dict[str, Any], key: str, values: list[Any]) -> bool:
    """Whether what meets this is no new connection to a port, or this machine's own."""
    words = [value for value in values if isinstance(value, str | int)]
    if len(words) < len(values):
        return False
    if key in ("l4proto", "protocol", "nexthdr"):
        return _NO_PORTS.issuperset(words)
    if key == "state" and "ct" in left:
        return _NOT_NEW.issuperset(map(str, words))
    own = key in ("iif", "iifname") and words == ["lo"]
    return own or what.get("protocol") in ("icmp", "icmpv6")


def _values(right: Any) -> list[Any]:
    """One value, a list, or an anonymous set; empty for a named set."""
    if isinstance(right, dict) and "set" in right:
        return list(right["set"])
    if isinstance(right, str) and right.startswith("@"):
        return []
    return list(right) if isinstance(right, list) else [right]


def _range(value: Any) -> tuple[int, int] | None:
    if isinstance(value, dict) and "range" in value:
        first, last = value["range"]
        return (first, last) if isinstance(first, int) and isinstance(last, int) else None
    return (value, value) if isinstance(value, int) else None


def _of_map(data: Any, elements: Callable[[str], Iterable[Any]]) -> Iterator[tuple[Verdict, str]]:
    pairs: Iterable[Any] = data.get("set", []) if isinstance(data, dict) else ()
    if isinstance(data, str):
        pairs = elements(data.removeprefix("@"))
    seen: dict[tuple[Verdict, str] | None, None] = {}
    for pair in pairs:
        held = pair[1] if isinstance(pair, list) and len(pair) == 2 else None
        if isinstance(held, dict):
            kind = next(iter(held))
            seen[_verdict(kind, held[kind])] = None
    yield from (verdict for verdict in seen if verdict is not None)


def _verdict(kind: str, value: Any) -> tuple[Verdict, str] | None:
    for verdict in _VERDICTS:
        if kind == verdict:
            return verdict, value["target"] if isinstance(value, dict) else ""
    return None


def may_be_dormant(listed: Iterable[dict[str, Any]]) -> bool:
    """The table has flags. nft 1.0.6 shows them, in JSON, as something else altogether."""
    return any("flags" in item["table"] for item in listed if "table" in item)

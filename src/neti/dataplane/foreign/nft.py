"""Other programs' nftables tables out of libnftables' JSON (libnftables-json(5)). Pure."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from neti.dataplane.foreign import Chain, Rule, Table, Verdict
from neti.ruleset import FAMILY_TABLE

_HOOKS: Final = frozenset({"ingress", "prerouting", "input", "forward"})
_FAMILIES: Final = frozenset({"ip", "ip6", "inet", "netdev", "bridge"})
_VERDICTS: Final[tuple[Verdict, ...]] = ("accept", "drop", "return", "jump", "goto")
# Statements that let every packet on to the next one. Everything else may look at it.
_LOOK_AT_NOTHING: Final = frozenset({"counter", "log", "mangle", "notrack", "comment"})


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
    for statement in statements:
        kind = next(iter(statement)) if isinstance(statement, dict) else str(statement)
        value: Any = statement[kind] if isinstance(statement, dict) else None
        inner = value if isinstance(value, dict) else {}
        if kind == "vmap":
            found = tuple(_of_map(inner.get("data"), elements))
            return Rule(found, always=False) if found else None
        if kind == "reject" or (kind == "xt" and inner.get("name") == "REJECT"):
            return Rule((("drop", ""),), always)
        verdict = _verdict(kind, value)
        if verdict is not None:
            return Rule((verdict,), always)
        if kind == "xt":  # iptables-nft's own: a comment, or a target that goes on to the next rule
            always = always and (inner.get("type") == "target" or inner.get("name") == "comment")
        elif kind not in _LOOK_AT_NOTHING:
            always = False
    return None


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

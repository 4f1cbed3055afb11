"""Other programs' packet filters: which of them drop what Neti lets in, and what to do about it.

If another table drops a packet, it does not help that ours accepts it, so such tables must be
named. Pure: it walks chains as data; ``nft`` and ``legacy`` parse them, ``look`` reads them. The
walk finds what can be dropped, not whether a given member's packet is.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import Final, Literal

from neti.model.gateways import PORTS

Verdict = Literal["accept", "drop", "return", "jump", "goto"]  # reject counts as drop
Extent = Literal["all", "some"]  # all: everything that no rule of the chain accepts
Ports = tuple[tuple[int, int], ...]  # from and to, both included

# What nft takes for a name, and what means nothing to a shell.
_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_HOOKS_OF_IPTABLES: Final = frozenset({"INPUT", "FORWARD", "PREROUTING"})
_SHOWN_SOURCES: Final = 8
_CROWDSEC: Final = frozenset({"crowdsec", "crowdsec6"})  # as its bouncer names them


@dataclass(frozen=True, slots=True)
class Rule:
    """``verdicts``: one, or those of a verdict map, each with the chain that it leads to or "".
    ``always``: the rule has no condition on the packet. ``only``: of new connections it matches
    those to these ports, from any source; None: not known, or the source matters."""

    verdicts: tuple[tuple[Verdict, str], ...]
    always: bool
    only: Ports | None = None


@dataclass(slots=True)
class Chain:
    """``hook``, and ``drops`` (the policy): for base chains only."""

    name: str
    hook: str | None = None
    drops: bool = False
    rules: list[Rule] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Table:
    """``kind``: which program keeps it. That decides how to add a line."""

    family: str
    name: str
    kind: Literal["nft", "iptables-legacy"]
    chains: Mapping[str, Chain]

    def __str__(self) -> str:
        if self.kind == "iptables-legacy":
            return f"{_program(self)} table {self.name}"
        return f"table {self.family} {self.name}"


@dataclass(frozen=True, slots=True)
class Dropping:
    """A table that drops: in which base chain, at which hook, and how much. ``advice``: the command
    that lets members through, with SOURCES in place of their addresses. ``lets_in``: of new
    connections only those to these ports get through; None: not known. ``relaying``: at hook
    forward, the command that lets through what a gateway passes on; elsewhere empty."""

    table: str
    chain: str
    hook: str
    extent: Extent
    version: Literal[4, 6]
    advice: str
    lets_in: Ports | None = None
    relaying: str = ""

    def surely_drops_members(self, port: int) -> bool:
        """Whether a new connection of a member to this host, at this port, is dropped for sure."""
        if self.lets_in is None or self.version != 4 or self.hook == "forward":
            return False
        return not any(first <= port <= last for first, last in self.lets_in)


def droppings(table: Table) -> tuple[Dropping, ...]:
    """One for each base chain that drops."""
    found = []
    for chain in table.chains.values():
        if chain.hook is not None:
            extent = _extent(table, chain)
            if extent is not None:
                version: Literal[4, 6] = 6 if table.family == "ip6" else 4
                advice = _advice(table, chain)
                lets_in = _lets_in(table.chains, chain.name) if extent == "all" else None
                relaying = _relaying(table, chain) if chain.hook == "forward" else ""
                found.append(
                    Dropping(
                        *(str(table), chain.name, chain.hook, extent, version, advice, lets_in),
                        relaying,
                    )
                )
    return tuple(found)


def sentences(
    found: Iterable[Dropping], sources: Iterable[IPv4Network | IPv6Network]
) -> tuple[str, ...]:
    """One for each table, about the worst chain first. ``sources``: where members come from."""
    by_table: dict[str, list[Dropping]] = {}
    for dropping in sorted(found, key=_rank):
        by_table.setdefault(dropping.table, []).append(dropping)
    return tuple(_sentence(name, chains, tuple(sources)) for name, chains in by_table.items())


def _rank(one: Dropping) -> tuple[str, str, bool, str]:
    return one.table, one.extent, one.hook != "input", one.chain


def _sentence(
    table: str, chains: list[Dropping], sources: tuple[IPv4Network | IPv6Network, ...]
) -> str:
    worst = chains[0]
    same = [one for one in chains if one.extent == worst.extent]
    where = ", ".join(f"chain {one.chain} at {one.hook}" for one in same)
    command = worst.advice.replace("SOURCES", _listed(sources, worst.version))
    wide = _width(sources, worst.version)
    if worst.extent == "all":
        # Input would be worse and would come first, so this is only about containers.
        what = "everything forwarded" if worst.hook == "forward" else "everything"
        return (
            f"{table} ({where}) drops {what} that no rule of its own accepts, members' packets "
            f"too: let them through there as well{wide}: {command}"
        )
    return (
        f"{table} ({where}) drops some packets from any source: if a member cannot reach this "
        f"host, let members through there as well{wide}: {command}"
    )


def _width(sources: tuple[IPv4Network | IPv6Network, ...], version: Literal[4, 6]) -> str:
    """A warning if the command names the sites' ranges. They do not change as members come and go,
    but they are wider."""
    fitting = [source for source in sources if source.version == version]
    if len(fitting) > _SHOWN_SOURCES or all(one.num_addresses == 1 for one in fitting):
        return ""
    return " (this opens whole ranges: who else is in them gets in too, unless Neti enforces)"


def _listed(sources: tuple[IPv4Network | IPv6Network, ...], version: Literal[4, 6]) -> str:
    fitting = [str(source) for source in sources if source.version == version]
    if not fitting or len(fitting) > _SHOWN_SOURCES:
        return f"IPV{version}-ADDRESSES-OF-MEMBERS"
    return ",".join(fitting)


# --- the walk ---


@dataclass(frozen=True, slots=True)
class _Way:
    """What becomes of packets that enter a chain: what is dropped on the way, and whether any come
    out at its end, to the chain that called or to the policy."""

    dropped: Extent | None
    comes_out: bool


def _extent(table: Table, base: Chain) -> Extent | None:
    way = _Walk(table.chains).way(base.name)
    return "all" if base.drops and way.comes_out else way.dropped


class _Walk:
    def __init__(self, chains: Mapping[str, Chain]) -> None:
        self._chains = chains
        self._known: dict[str, _Way] = {}

    def way(self, name: str) -> _Way:
        if name not in self._known:
            self._known[name] = _Way(None, True)  # for a loop, which the kernel does not allow
            chain = self._chains.get(name)
            if chain is not None:
                self._known[name] = self._through(chain)
        return self._known[name]

    def _through(self, chain: Chain) -> _Way:
        some, returned = False, False  # packets were dropped; packets left the chain early
        for rule in chain.rules:
            if rule.always:
                verdict, target = rule.verdicts[0]
                end = self._end(verdict, target)
                if end is not None and end.dropped == "all" and not returned:
                    return end
                below = end or self.way(target)
                some = some or below.dropped is not None
                if end is not None:
                    return _Way("some" if some else None, end.comes_out or returned)
                continue
            for verdict, target in rule.verdicts:
                if verdict in ("jump", "goto"):
                    below = self.way(target)
                    some = some or below.dropped is not None
                    returned = returned or (verdict == "goto" and below.comes_out)
                some = some or verdict == "drop"
                returned = returned or verdict == "return"
        return _Way("some" if some else None, True)

    def _end(self, verdict: Verdict, target: str) -> _Way | None:
        """The way from a rule that every packet meets; None when they go on to the next rule."""
        match verdict:
            case "drop":
                return _Way("all", False)
            case "accept":
                return _Way(None, False)
            case "return":
                return _Way(None, True)
            case "goto":
                return self.way(target)
            case "jump":
                below = self.way(target)
                return None if below.comes_out else below


def _lets_in(
    chains: Mapping[str, Chain], name: str, above: frozenset[str] = frozenset()
) -> Ports | None:
    """Ports to which new connections may get through, by any rule; None: perhaps to all.

    When in doubt it says more: a rule that is not understood lets everybody in."""
    chain = chains.get(name)
    if chain is None or name in above:
        return None
    ports: dict[tuple[int, int], None] = {}
    for rule in chain.rules:
        for verdict, target in rule.verdicts:
            if verdict == "drop":
                continue
            below: Ports | None = None
            if verdict in ("jump", "goto"):
                below = _lets_in(chains, target, above | {name})
            met = below if below is not None else rule.only
            if met is None:
                return None
            ports.update(dict.fromkeys(met))
        if rule.always and rule.verdicts[0][0] == "drop":
            break
    return tuple(ports)


# --- what to do ---


def _advice(table: Table, chain: Chain) -> str:
    """A command that lets members through, for the program that keeps the table. Whoever may make a
    table chooses its name, and an operator may paste the command as root."""
    if table.name == "firewalld":
        return (
            "firewall-cmd --permanent --zone=trusted --add-source=SOURCES (one at a time), then "
            "firewall-cmd --reload"
        )
    if "ufw-before-input" in table.chains or "ufw6-before-input" in table.chains:
        return "ufw allow from SOURCES (one at a time)"
    if table.name in _CROWDSEC:  # what is inserted there is gone when its bouncer starts again
        return (
            "cscli decisions delete --ip ADDRESS (the member's), and a whitelist of SOURCES, so "
            "that it stays away"
        )
    if table.kind == "iptables-legacy" or (
        table.family in ("ip", "ip6")
        and chain.name in _HOOKS_OF_IPTABLES
        and _PLAIN.fullmatch(table.name)
    ):
        return f"{_program(table)} -t {table.name} -I {chain.name} -s SOURCES -j ACCEPT"
    if not (_PLAIN.fullmatch(table.name) and _PLAIN.fullmatch(chain.name)):
        return "a rule that accepts SOURCES (no command: its names are no plain words)"
    word = "ip6" if table.family == "ip6" else "ip"
    return (
        f"nft insert rule {table.family} {table.name} {chain.name} {word} saddr "
        "'{ SOURCES }' accept"
    )


def _relaying(table: Table, chain: Chain) -> str:
    """The same for what a gateway passes on. Its source ports are those of gateways, and it is not
    tracked."""
    first, last = PORTS.first, PORTS.last
    if table.family == "ip6":
        return ""
    if table.name == "firewalld":
        # Only between interfaces that the zone names: the default zone's need not be.
        permanent = "firewall-cmd --permanent --zone=ZONE"
        return (
            f"{permanent} --add-interface=UPLINK; {permanent} --add-forward; "
            "firewall-cmd --reload (ZONE: the uplink's)"
        )
    if "ufw-before-forward" in table.chains:
        return f"ufw route allow proto udp from any port {first}:{last}"
    if table.kind == "iptables-legacy" or (
        table.family == "ip" and chain.name in _HOOKS_OF_IPTABLES and _PLAIN.fullmatch(table.name)
    ):
        return (
            f"{_program(table)} -t {table.name} -I {chain.name} -p udp --sport {first}:{last} "
            "-m conntrack --ctstate UNTRACKED -j ACCEPT"
        )
    rule = f"meta nfproto ipv4 ct state untracked udp sport {PORTS} accept"
    if not (_PLAIN.fullmatch(table.name) and _PLAIN.fullmatch(chain.name)):
        return f"a rule '{rule}' (no command: its names are no plain words)"
    return f"nft insert rule {table.family} {table.name} {chain.name} {rule}"


def not_relayed(found: Iterable[Dropping]) -> str:
    """Who may drop what a gateway passes on, the worst first; empty: nobody that we can see."""
    every = sorted((one for one in found if one.relaying), key=_rank)
    return "; ".join(f"{one.table} (chain {one.chain}): {one.relaying}" for one in every)


def _program(table: Table) -> str:
    legacy = "-legacy" if table.kind == "iptables-legacy" else ""
    return f"{'ip6tables' if table.family == 'ip6' else 'iptables'}{legacy}"

"""Rules as text, read as if the kernel held them: compiled by libnftables, without any kernel."""

from collections.abc import Callable, Iterator

from neti.dataplane.compiler import compile_rules
from neti.dataplane.foreign import Table
from neti.dataplane.foreign import nft as parser
from neti.dataplane.foreign.nft import BaseChain, SetElement
from neti.dataplane.foreign.read import RulesReader, element
from neti.dataplane.listing import Held, held, is_anonymous
from neti.dataplane.netlink import attributes
from neti.dataplane.nf_tables import (
    LIST_ELEMENTS,
    NEWCHAIN,
    NEWRULE,
    NEWSET,
    NEWSETELEM,
    RULE_CHAIN,
    SET_NAME,
)

_LIST_SET = 2


class CompiledRules(RulesReader):
    """``elements`` of named sets may be given; those of anonymous ones come with the rules."""

    def __init__(self, text: str, elements: dict[str, list[SetElement]] | None = None) -> None:
        super().__init__()
        self._orders = compile_rules(text)
        self._named = elements or {}
        self._anonymous: list[list[SetElement]] = []

    def base_chains(self, *, ours: bool = False) -> list[BaseChain]:
        listed = (
            parser.base_chain(body[0], held(body))
            for kind, _, body in self._orders
            if kind == NEWCHAIN
        )
        return [chain for chain in listed if chain is not None]

    def only_table(self) -> Table:
        """What the first base chain's table comes to."""
        bases = self.base_chains()
        return self.table(bases[0].family, bases[0].table, bases)

    def _rules(self, head: bytes, table: bytes, chain: bytes) -> Iterator[bytes]:
        """Each rule comes after the anonymous sets that it brings along."""
        for kind, _, body in self._orders:
            one = held(body)
            if kind == NEWSETELEM and one[_LIST_SET].startswith(b"__"):
                listed = one.get(LIST_ELEMENTS, b"")
                self._anonymous.append(
                    [element(dict(attributes(e))) for _, e in attributes(listed)]
                )
            elif kind == NEWRULE:
                if one[RULE_CHAIN].rstrip(b"\0") == chain.rstrip(b"\0"):
                    yield body
                self._anonymous.clear()

    def sets(
        self, head: bytes, table: bytes, only: Callable[[bytes], bool]
    ) -> Callable[[bytes], list[SetElement] | None]:
        def elements(which: bytes) -> list[SetElement] | None:
            if which.startswith(b"__"):
                return self._anonymous.pop(0)
            if not self._is_verdict_map(which):
                return None
            named = self._named.get(which.rstrip(b"\0").decode(), [])
            return [one for one in named if only(one[0])]

        return elements

    def _is_verdict_map(self, which: bytes) -> bool:
        defined: list[Held] = [held(b) for kind, _, b in self._orders if kind == NEWSET]
        return any(
            one[SET_NAME] == which and one.get(6) == b"\xff\xff\xff\0"
            for one in defined
            if not is_anonymous(one)
        )

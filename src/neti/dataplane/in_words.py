"""A table as nft prints it, line by line beside our own listing of it: for people. Pure.

Must never do: be what something is decided by. Two rules that nft prints alike need not be alike.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_HEAD: Final = re.compile(r"\t(set|map|chain) (\S+) \{(?: # handle \d+)?")
_RULE: Final = re.compile(r"\t\t(.*) # handle \d+")


@dataclass(frozen=True, slots=True)
class Words:
    """``rules``: by chain, in order. ``heads``: of sets, maps and base chains by name, all that is
    not an element or a rule."""

    rules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    heads: Mapping[str, str] = field(default_factory=dict)

    def of(self, lines: list[str]) -> dict[str, str]:
        """What nft says, by the line of our own listing (``KernelState.structure``). A line of
        which that is not known for certain is left out."""
        said: dict[str, str] = {}
        of_chain: dict[str, list[str]] = {}
        for line in lines:
            kind, name, *_ = f"{line}  ".split(" ")
            if kind == "rule":
                of_chain.setdefault(name, []).append(line)
            elif head := self.heads.get(name) if kind in ("set", "chain") else None:
                said[line] = head
        for chain, listed in of_chain.items():
            words = self.rules.get(chain, ())
            if len(words) == len(listed):
                said.update(zip(listed, words, strict=True))
        return said


def in_words(text: str) -> Words:
    """``text``: what nft says to ``list table``, with handles."""
    rules: dict[str, list[str]] = {}
    heads: dict[str, str] = {}
    inside, body = ("", ""), list[str]()
    for line in text.splitlines():
        if head := _HEAD.fullmatch(line):
            inside, body = (head[1], head[2]), []
            if inside[0] == "chain":
                rules[inside[1]] = []
        elif line == "\t}":
            kind, name = inside
            if name and (body or kind == "chain"):
                heads[name] = f"{kind} {name}" + (f" {{ {'; '.join(body)} }}" if body else "")
            inside = ("", "")
        elif inside[0] == "chain" and (rule := _RULE.fullmatch(line)):
            rules[inside[1]].append(rule[1])
        elif line.strip() and inside[1] and not line.lstrip().startswith("elements = "):
            body.append(line.strip().rstrip(";"))
    return Words({name: tuple(each) for name, each in rules.items()}, heads)

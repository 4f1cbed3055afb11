"""Tables of iptables-legacy: nftables neither lists them nor sends events when they change."""

import re
import shutil
import subprocess
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Final

from neti.dataplane.foreign import Chain, Rule, Table, Verdict

_HOOKS: Final = {"PREROUTING": "prerouting", "INPUT": "input", "FORWARD": "forward"}
_COMMENT: Final = re.compile(r'-m comment --comment ("(?:\\.|[^"\\])*"|\S+) ?')
_VERDICTS: Final[dict[str, Verdict]] = {
    "ACCEPT": "accept",
    "DROP": "drop",
    "REJECT": "drop",
    "RETURN": "return",
}
_PROGRAMS: Final = (
    ("ip", "iptables-legacy-save", Path("/proc/thread-self/net/ip_tables_names")),
    ("ip6", "ip6tables-legacy-save", Path("/proc/thread-self/net/ip6_tables_names")),
)
_TIMEOUT: Final = 10.0


def read() -> tuple[tuple[Table, ...], tuple[str, ...]]:
    """Tables of iptables-legacy, and sentences about those that cannot be read."""
    tables: list[Table] = []
    untold = []
    for family, program, names in _PROGRAMS:
        try:
            used = names.read_text().split()
        except OSError:
            continue
        if not used:
            continue
        text = _saved(program)
        if text is None:
            untold.append(
                f"{program.removesuffix('-save')} has tables here ({', '.join(sorted(used))}), and "
                f"{program} cannot be run: whether they drop what Neti lets in cannot be told"
            )
        else:
            tables += parse(family, text)
    return tuple(tables), tuple(untold)


def _saved(program: str) -> str | None:
    path = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if path is None:
        return None
    try:
        done = subprocess.run([path], capture_output=True, text=True, timeout=_TIMEOUT, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def parse(family: str, text: str) -> Iterator[Table]:
    """What iptables-legacy-save prints. The table nat is left out, because iptables does not allow
    dropping there."""
    name, chains = "", dict[str, Chain]()
    for line in text.splitlines():
        if line.startswith("*"):
            name, chains = line[1:], {}
        elif line.startswith(":"):
            chain, policy = line[1:].split()[:2]
            hook = _HOOKS.get(chain)
            chains[chain] = Chain(chain, hook, hook is not None and policy == "DROP")
        elif line.startswith("-A "):
            chain, _, words = line[3:].partition(" ")
            rule = _rule(words, chains.keys())
            if rule is not None and chain in chains:
                chains[chain].rules.append(rule)
        elif line == "COMMIT" and name != "nat":
            yield Table(family, name, "iptables-legacy", chains)


def _rule(words: str, chains: Container[str]) -> Rule | None:
    before, flag, after = _COMMENT.sub("", words).rpartition("-g ")
    verdict: Verdict | None = "goto"
    if not flag:
        before, flag, after = _COMMENT.sub("", words).rpartition("-j ")
        verdict = "jump"
    target = after.split()[0] if flag and after.split() else ""
    if target not in chains:
        verdict = _VERDICTS.get(target)
    if verdict is None:
        return None
    return Rule(((verdict, target if verdict in ("jump", "goto") else ""),), before.strip() == "")

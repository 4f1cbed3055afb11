"""``neti registry remove``: deletes nodes that no agent made, with all that is below them.

Must never do: delete what ``plan`` did not name, a node that the tree itself consists of, or a
registered host's own node unless that is asked for by name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from kazoo.exceptions import NoAuthError, NoNodeError, NotEmptyError
from kazoo.protocol.serialization import Delete

from neti.errors import EntryError, RegistryError
from neti.model import Member, entry
from neti.registry.record import decode
from neti.registry.untrusted import host_id_text
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt, session_of
from neti.registry.zookeeper.in_groups import groups_naming
from neti.registry.zookeeper.layout import Layout, path_of, spelled
from neti.registry.zookeeper.leases import ANY_VERSION, overlay_named, overlay_of
from neti.registry.zookeeper.requests import ListWholeNames
from neti.text import command, printable
from neti.words import counted

_MOST_BELOW: Final = 100_000
_TURNS: Final = 5  # whoever goes on making nodes below one that is deleted wins after so many


@dataclass(frozen=True, slots=True)
class Doomed:
    """One node that was asked for. ``below``: what goes with it, the deepest first; ``keeps``: why
    it must stay unless it is to go by force; ``super_only``: somebody below has shut everybody out
    who is no super user."""

    path: str
    session: int
    owners: tuple[str, ...]
    below: tuple[str, ...]
    keeps: str | None
    super_only: bool

    def __str__(self) -> str:
        words = [f"session 0x{self.session:x}" if self.session else "no session"]
        if self.owners:
            words.append(f"by its rights of {', '.join(self.owners)}")
        if self.below:
            words.append(f"{counted(len(self.below), 'node')} below it")
        return f"{self.path}: {'; '.join(words)}"


def plan(attempt: Attempt, layout: Layout, spellings: Sequence[str]) -> list[Doomed]:
    """What is to go. Raises RegistryError for what is not there, or is not to be deleted."""
    found = [_whole_path(attempt, layout, spelling) for spelling in dict.fromkeys(spellings)]
    identities = _identities(attempt)
    held = {subject for scheme, subject in identities if scheme == "x509"}
    above = any(scheme == "super" for scheme, _ in identities)
    inherited = groups_naming(attempt, layout)
    return [
        _look(attempt, layout, path, inherited, held=held, above=above)
        for path in dict.fromkeys(found)
    ]


def carry_out(attempt: Attempt, doomed: Sequence[Doomed]) -> int:
    """How many nodes were deleted. May be repeated."""
    count = 0
    for one in doomed:
        below = one.below
        for _ in range(_TURNS):
            attempt.go_on()
            answers = attempt.each([Delete(path, ANY_VERSION) for path in (*below, one.path)])
            refused = [each for each in answers if isinstance(each, Exception)]
            count += len(answers) - len(refused)
            worst = [each for each in refused if not isinstance(each, NoNodeError | NotEmptyError)]
            if worst and below and isinstance(worst[0], NoAuthError):
                raise super_needed([one])
            if worst:
                raise worst[0]
            if not any(isinstance(each, NotEmptyError) for each in refused):
                break
            below, _ = _below(attempt, one.path)
        else:
            raise RegistryError(
                f"{printable(one.path)} gets new nodes below it as fast as they are deleted: keep "
                "the certificate out first that makes them"
            )
    return count


def super_needed(doomed: Sequence[Doomed]) -> RegistryError:
    paths = ", ".join(printable(one.path) for one in doomed)
    return RegistryError(
        f"nothing was deleted: whoever made {paths} lets no operator delete what is below it, so "
        "only ZooKeeper's super user can\n"
        "→ the same command with the super user's certificate in registry_tls: see "
        "docs/security.md"
    )


# --- looking ---


def _whole_path(attempt: Attempt, layout: Layout, spelling: str) -> str:
    """Raises RegistryError for a path that is no node to be deleted here. One that was too long to
    be printed has an ellipsis in its middle."""
    path = path_of(spelling)
    parents = layout.open_to_members()
    parent = next((each for each in parents if path.startswith(each + "/")), None)
    if parent is None and path not in layout.settings():
        places = ", ".join(f"{each}/" for each in parents)
        raise RegistryError(
            f"{printable(path)} is not deleted by this command: expected a node below {places} or "
            f"one of {', '.join(layout.settings())}"
        )
    beginning, cut, end = spelling.partition("…")
    if parent is None or not cut:
        return path
    alike = [
        whole
        for name in attempt.names(parent, whole=True)
        if _is_cut_of(spelled(whole := f"{parent}/{name}"), beginning, end)
    ]
    if len(alike) != 1:
        raise RegistryError(
            f"{counted(len(alike), 'node has', 'nodes have')} a name like {printable(spelling)}, "
            "and it has to be exactly one: give more of it"
        )
    return alike[0]


def _is_cut_of(whole: str, beginning: str, end: str) -> bool:
    short = len(whole) < len(beginning) + len(end)
    return not short and whole.startswith(beginning) and whole.endswith(end)


def _identities(attempt: Attempt) -> list[tuple[str, str]]:
    """As the server knows this session; nothing where it is too old to tell."""
    (answer,) = attempt.each([rights.WhoAmI()])
    return [] if isinstance(answer, Exception) else answer


def _look(
    attempt: Attempt,
    layout: Layout,
    path: str,
    inherited: Callable[[str], str | None],
    *,
    held: set[str],
    above: bool,
) -> Doomed:
    (stat,) = attempt.stats([path])
    if stat is None:
        raise RegistryError(f"there is no node {printable(path)}")
    below, hidden = _below(attempt, path)
    closed: set[str] = set()
    inner = [path, *below]
    acls = attempt.acls(inner, unread=closed)
    nailed = {each.rpartition("/")[0] for each in below} | set(hidden)
    shut = [
        each
        for each, acl in zip(inner, acls, strict=True)
        if each in nailed and not rights.granted(acl, held) & rights.DELETE
    ]
    return Doomed(
        path=path,
        session=session_of(stat),
        owners=tuple(sorted({str(one.id.id) for one in acls[0] if one.id.scheme == "x509"} - held)),
        below=tuple(reversed(below)),
        keeps=_keeps(attempt, layout, path, stat, inherited)
        if path not in closed and _as_agents_do(attempt, path, acls[0])
        else None,
        super_only=bool(shut or hidden) and not above,
    )


def _below(attempt: Attempt, path: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Every node below, each after the one that it stands in; and those that hide theirs."""
    found: list[str] = []
    hidden: list[str] = []
    layer = [path]
    while layer:
        attempt.go_on()
        answers = attempt.each([ListWholeNames(each) for each in layer])
        deeper = []
        for parent, answer in zip(layer, answers, strict=True):
            if isinstance(answer, NoAuthError):
                hidden.append(parent)
            elif isinstance(answer, NoNodeError):
                continue
            elif isinstance(answer, Exception):
                raise answer
            else:
                deeper += [f"{parent}/{name}" for name in answer[0]]
        found += deeper
        if len(found) > _MOST_BELOW:
            raise RegistryError(
                f"{printable(path)} has more than {_MOST_BELOW:,} nodes below it: delete some of "
                "them first"
            )
        layer = deeper
    full = [s is not None and s.numChildren > 0 for s in attempt.stats(hidden)] if hidden else []
    return tuple(found), tuple(each for each, has in zip(hidden, full, strict=True) if has)


def _as_agents_do(attempt: Attempt, path: str, acl: Sequence[Any]) -> bool:
    """Whether its rights are such as agents give: operators may do all, where there are any."""
    (of_parent,) = attempt.acls([path.rpartition("/")[0] or "/"])
    known = set(rights.operators(of_parent))
    return not known or bool(known & set(rights.operators(acl)))


def _keeps(
    attempt: Attempt,
    layout: Layout,
    path: str,
    stat: Any,
    inherited: Callable[[str], str | None],
) -> str | None:
    """Whose it is, if it is what a registered host's agent made, or one half of a whole lease."""
    parent, _, name = path.rpartition("/")
    if parent in (layout.agents, layout.reports):
        own = session_of(stat) and entry.HOST_ID.fullmatch(name)
        if not own or _is_anothers(attempt, layout, name, stat):
            return None
        if parent == layout.reports:
            return f"it is the report of {printable(name)}, which is registered"
        return f"it is the registration of {printable(name)}"
    if parent == layout.hosts:
        return _of_a_record(attempt, layout, name) or inherited(name)
    if parent == layout.keys:
        return _of_a_key(attempt, layout, path, name)
    if parent == layout.ip_map:
        return _of_an_entry(attempt, layout, name, stat)
    if parent == layout.id_to_ip:
        (data,) = attempt.read([path], unread=set())
        return _of_a_lease(attempt, layout, name, overlay_of(data or b""))
    if parent == layout.ip_to_id:
        (data,) = attempt.read([path], unread=set())
        return _of_a_lease(attempt, layout, host_id_text(data or b""), overlay_named(name))
    return None


def _word(attempt: Attempt, layout: Layout, host_id: str) -> str:
    """What the host's record names."""
    (held,) = attempt.nodes([layout.host(host_id)], unread=set())
    record = decode(held[0]) if held is not None else None
    return record.word if record is not None else ""


def _vouched(attempt: Attempt, layout: Layout, host_id: str) -> Any:
    """The stat of the entry that the host's record names, if it was made with the record."""
    (held,) = attempt.nodes([layout.host(host_id)], unread=set())
    record = decode(held[0]) if held is not None else None
    if held is None or record is None or not record.word or record.word.startswith("left."):
        return None
    (stat,) = attempt.stats([layout.name(record.word)])
    return stat if stat is not None and stat.czxid == held[1].mzxid else None


def _is_anothers(attempt: Attempt, layout: Layout, host_id: str, stat: Any) -> bool:
    """Whether the host's own entry is of another session than this node, or is gone: where only the
    host can write its record, that says whether it is registered."""
    own = _vouched(attempt, layout, host_id)
    if own is not None:
        return session_of(own) != session_of(stat)
    (of_hosts,) = attempt.acls([layout.hosts])
    return bool(_word(attempt, layout, host_id)) and not rights.harmful(of_hosts)


def _of_a_record(attempt: Attempt, layout: Layout, host_id: str) -> str | None:
    """An admission, of a host that has no lease any more, is taken back by this."""
    if not entry.HOST_ID.fullmatch(host_id):
        return None
    if _vouched(attempt, layout, host_id) is not None:
        return f"it is the record of {host_id}, which is registered"
    (lease,) = attempt.stats([layout.by_id(host_id)])
    if lease is None:
        return None
    return (
        f"it is the record of {host_id}, which has a lease: "
        f"'{command('neti lease release', host_id)}' gives that up first"
    )


def _of_a_key(attempt: Attempt, layout: Layout, path: str, key: str) -> str | None:
    """A key that no record says any more may go: whose it was then has another."""
    (holder,) = attempt.read([path], unread=set())
    if holder is None or not entry.HOST_ID.fullmatch(host_id := host_id_text(holder)):
        return None
    (data,) = attempt.read([layout.host(host_id)], unread=set())
    record = decode(data) if data is not None else None
    return f"it is the public key of {host_id}" if record and record.key == key else None


def _member(name: str) -> Member | None:
    try:
        parsed = entry.parse(name)
    except EntryError:
        return None
    return parsed if isinstance(parsed, Member) else None


def _of_an_entry(attempt: Attempt, layout: Layout, name: str, stat: Any) -> str | None:
    """A host's own entry is the one that its record names. Where it names none, an agent made its
    entry and its document in one session; whose session it is, no maker of a node can choose."""
    parsed = _member(name)
    if parsed is None or not session_of(stat):
        return None
    own = _vouched(attempt, layout, parsed.id)
    if own is not None:
        # A former one is older. Whoever resumes that session can make others in it.
        named = _member(_word(attempt, layout, parsed.id))
        later = named is None or parsed.generation > named.generation
        if later or session_of(own) != session_of(stat):
            return None
        return f"it is the entry of {parsed.id}, which is registered"
    if _is_anothers(attempt, layout, parsed.id, stat):
        return None
    (agent,) = attempt.stats([layout.agent(parsed.id)])
    same = agent is not None and agent.ephemeralOwner == stat.ephemeralOwner
    return f"it is the entry of {parsed.id}, which is registered" if same else None


def _of_a_lease(attempt: Attempt, layout: Layout, host_id: str, overlay: Any) -> str | None:
    if overlay is None or not entry.HOST_ID.fullmatch(host_id):
        return None
    halves = attempt.read([layout.by_id(host_id), layout.by_overlay(overlay)], unread=set())
    if halves[0] is None or overlay_of(halves[0]) != overlay or halves[1] != host_id.encode():
        return None
    agent, mine, other = attempt.stats(
        [layout.agent(host_id), layout.by_id(host_id), layout.by_overlay(overlay)]
    )
    registered = (
        agent is not None
        and session_of(agent)
        and not _is_anothers(attempt, layout, host_id, agent)
    )
    if registered or _vouched(attempt, layout, host_id) is not None:
        return f"it is the lease of {host_id}, which is registered"
    if any(stat is not None and stat.numChildren for stat in (mine, other)):
        return None  # a lease that 'neti lease release' cannot give up
    return f"it is half of a whole lease: '{command('neti lease release', host_id)}' gives it up"

"""``neti name``: the fleet's suffix and operators' names, in the registry.

Must never do: write a name that would lead agents away from the registry, or one for nobody.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Final

from neti.errors import NetiError
from neti.fleet.names import server_names
from neti.model.entry import HOST_ID
from neti.model.names import MAX_SUFFIX, Names, is_host_name
from neti.model.settings import Settings
from neti.registry import OperatorRegistry
from neti.registry.names import decode, encode
from neti.text import command, printable

_REMOVE: Final = "neti name --remove"
_NOTHING: Final = "nothing was changed"
# RFC 6761, 6762 and 1035: resolvers answer these themselves, or ask the whole network.
_SPECIAL: Final = ("localhost", "local", "arpa", "invalid")


@dataclass(frozen=True, slots=True)
class Named:
    """``leases``: by id the overlay address; ``before``: as it was."""

    names: Names
    before: Names
    leases: Mapping[str, IPv4Address] = field(default_factory=dict)

    @property
    def changed(self) -> bool:
        return self.names != self.before


def look(registry: OperatorRegistry) -> Named:
    """Raises NamesUnreadable."""
    names = decode(registry.setting("names"))
    return Named(names, names, _by_id(registry))


def leading_nowhere(registry: OperatorRegistry) -> list[tuple[str, str]]:
    """A sentence for each name whose host holds no lease, as after an import without it, with the
    command that helps. Raises NamesUnreadable."""
    seen = look(registry)
    return [
        (f"{name} is the name of {host_id}, which holds no lease", command(_REMOVE, name))
        for name, host_id in sorted(seen.names.ids.items())
        if host_id not in seen.leases
    ]


def give(
    settings: Settings, registry: OperatorRegistry, name: str, host_id: str, *, now: float
) -> Named:
    """``now``: Unix seconds. Raises NetiError, and then nothing has been changed."""
    word = _checked(settings, name)
    if not HOST_ID.fullmatch(host_id):
        raise NetiError(f"{printable(host_id)!r} is no host id; {_NOTHING}")
    leases = _by_id(registry)
    if host_id not in leases:
        raise NetiError(
            f"{host_id} holds no lease, so a name would lead nowhere: {_NOTHING}\n"
            "→ 'neti lease list' shows who does"
        )

    def edit(names: Names) -> Names:
        if names.suffix and word.endswith(f".{names.suffix}"):
            short = word.removesuffix(f".{names.suffix}")
            raise NetiError(
                f"{word} is inside the fleet's suffix, where each name stands by itself: "
                f"{_NOTHING}\n→ {command('neti name', short, host_id)}"
            )
        if names.ids.get(word) == host_id:
            return names
        return names.later(ids={**names.ids, word: host_id}, now=now)

    return _edited(registry, edit, leases)


def take(registry: OperatorRegistry, name: str, *, now: float) -> Named:
    """Likewise."""
    word = name.strip().rstrip(".").lower()

    def edit(names: Names) -> Names:
        if word not in names.ids:
            raise NetiError(
                f"nobody is called {printable(word)!r} by an operator: {_NOTHING}\n"
                "→ neti name --list"
            )
        kept = {one: held for one, held in names.ids.items() if one != word}
        return names.later(ids=kept, now=now)

    return _edited(registry, edit)


def set_suffix(settings: Settings, registry: OperatorRegistry, suffix: str, *, now: float) -> Named:
    """Likewise. ``suffix``: empty for none."""
    word = suffix.strip().strip(".").lower()
    if word:
        _check_suffix(settings, word)
    return _edited(
        registry,
        lambda names: names if names.suffix == word else names.later(suffix=word, now=now),
    )


def _edited(
    registry: OperatorRegistry,
    edit: Callable[[Names], Names],
    leases: Mapping[str, IPv4Address] | None = None,
) -> Named:
    done: list[Named] = []

    def replaced(raw: bytes | None) -> bytes | None:
        before = decode(raw)
        after = edit(before)
        done.append(Named(after, done[0].before if done else before, leases or {}))
        return raw if after == before else encode(after, raw)

    registry.edit_setting("names", replaced)
    return done[-1]


def _checked(settings: Settings, name: str) -> str:
    word = name.strip().rstrip(".").lower()
    if not is_host_name(word) or word.rpartition(".")[2] in _SPECIAL:
        raise NetiError(
            f"{printable(name)!r} is no name for a host: expected letters, digits, '-' and '.', "
            f"and no address; {_NOTHING}"
        )
    if word in {server.lower() for server in server_names(settings)}:
        raise NetiError(f"{word} is a server of zk_hosts, which agents look up: {_NOTHING}")
    return word


def _check_suffix(settings: Settings, word: str) -> None:
    labels = word.split(".")
    if len(word) > MAX_SUFFIX or not is_host_name(word) or len(labels) < 2:
        raise NetiError(
            f"--suffix {printable(word)!r}: expected a domain of two labels or more, such as "
            f"neti.internal; {_NOTHING}"
        )
    if labels[-1] in _SPECIAL:
        raise NetiError(
            f"--suffix {word}: resolvers do not look up '.{labels[-1]}' as other names; {_NOTHING}"
        )
    inside = [one for one in server_names(settings) if one.lower().endswith(f".{word}")]
    if inside:
        raise NetiError(
            f"--suffix {word}: {min(inside)} of zk_hosts is inside it, and a host of that id would "
            f"be called so: expected a domain that has nothing else in it; {_NOTHING}"
        )


def _by_id(registry: OperatorRegistry) -> dict[str, IPv4Address]:
    """Of two for one id, of which one is half a lease, the older."""
    return {host_id: overlay for overlay, host_id in reversed(list(registry.leases().items()))}

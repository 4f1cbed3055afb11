"""``neti gateway drain`` and ``undrain``: which gateways no host is to be sent to, in the registry.

Must never do: drain the last gateway of a site that works, as far as the registry tells: agents
would not follow that, and whoever switches it off then would cut the site off.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from neti.errors import NetiError
from neti.model import Member
from neti.model.settings import Settings
from neti.oneshot import registered
from neti.registry import OperatorRegistry
from neti.registry.drained import decode, encode
from neti.ruleset.gateways import usable_gateways
from neti.words import some


@dataclass(frozen=True, slots=True)
class Drained:
    """``changed``: whether this was news; ``others``: gateways of its site that take over, or are
    there beside it; ``every``: all that are drained from now on."""

    site: str
    changed: bool
    others: tuple[str, ...]
    every: tuple[str, ...]


def drain(
    settings: Settings, registry: OperatorRegistry, host_id: str, *, on: bool, dry_run: bool
) -> Drained:
    """``on``: drained from now on; otherwise it is used again. Raises NetiError where that would
    leave its site without one, or nobody calls it a gateway."""
    # As agents judge: an entry alone makes no gateway that they would go by.
    members = registered.read(settings, registry, documents=False).members
    done: list[Drained] = []

    def edit(raw: bytes | None) -> bytes | None:
        """Checked against what is replaced: two who drain at once must not take the last two."""
        done.append(_drained(settings, members, host_id, decode(raw), on=on))
        return encode(done[-1].every) if done[-1].changed else raw

    if dry_run:
        edit(registry.setting("drained"))
    else:
        registry.edit_setting("drained", edit)
    return replace(done[-1], changed=any(one.changed for one in done))


def _drained(
    settings: Settings,
    members: Mapping[str, Member],
    host_id: str,
    before: frozenset[str],
    *,
    on: bool,
) -> Drained:
    site = _site(settings, host_id, before, on=on)
    usable = usable_gateways(members, settings, site)
    others = usable - before - {host_id}
    if on and not others:
        idle = sorted(before & usable - {host_id})
        back = f"'neti gateway undrain {idle[0]}', " if idle else ""
        raise NetiError(
            f"no other gateway of site {site} is registered, has a public address of its own and "
            f"is not drained, so its hosts would go on through {host_id}: nothing was changed\n"
            f"→ {back}start another one, or name one in `gateways`, on all hosts"
        )
    after = before | {host_id} if on else before - {host_id}
    return Drained(site, after != before, tuple(sorted(others)), tuple(sorted(after)))


def _site(settings: Settings, host_id: str, drained: frozenset[str], *, on: bool) -> str:
    """Empty for one that is named nowhere any more, which may still have to be forgotten."""
    for name, site in settings.sites.items():
        if host_id in site.gateways:
            return name
    if host_id in drained and not on:
        return ""
    every = sorted(one for site in settings.sites.values() for one in site.gateways)
    named = f"gateways are {some(every)}" if every else "no site has gateways"
    raise NetiError(
        f"{host_id} is no gateway by {settings.path}, where {named}: nothing was changed"
    )

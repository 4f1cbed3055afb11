"""Who this machine is: a source's answer and a site make a Host. Never a guess.

The metadata service's answer is kept on disk, bound to this machine, and used only while the
service does not answer. A wrong answer is an error.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from neti.clock import Clock, SystemClock, boot_id
from neti.errors import IdentityError
from neti.identity.cache import IdentityCache
from neti.identity.machine import fingerprint
from neti.identity.site import decide_site
from neti.identity.source import Identity, IdentitySource, SourceSilent
from neti.identity.static import StaticSource
from neti.model import Host, IPAddress
from neti.model.entry import MAX_MORE_ADDRESSES
from neti.model.settings import CloudWord, LocalIdentity, Settings, StaticIdentity
from neti.words import some

__all__ = ["discover", "fingerprint", "outside_ranges"]


def discover(
    settings: Settings,
    *,
    cache_dir: Path | None = None,
    clock: Clock | None = None,
    source: IdentitySource | None = None,
    machine: str | None = None,
    notice: Callable[[str], None] = lambda _sentence: None,
) -> Host:
    """This host. Raises IdentityError. ``notice`` is called with what the operator should know.

    ``cache_dir`` None: nothing is written or remembered (for read-only commands).
    """
    configured, cache, is_new = settings.identity, None, False
    if isinstance(configured, StaticIdentity):
        identity = StaticSource(configured).read()
    elif isinstance(configured, LocalIdentity):
        identity = _local(configured)
    else:
        asked = source or _cloud(configured)
        cache = _cache(cache_dir, clock or SystemClock(), machine, notice)
        identity, is_new = _asked(asked, cache, notice)
    if identity.private in settings.overlay_subnet:
        raise IdentityError(
            f"this host's private address {identity.private} is inside overlay_subnet "
            f"{settings.overlay_subnet}, so it is not one of its site's"
        )
    decision = decide_site(settings, identity)
    if is_new and cache is not None:
        cache.remember(identity)  # only now: what this host may not be is no answer for later
    if decision.warning is not None:
        notice(decision.warning)
    if (outside := outside_ranges(settings, decision.site, identity.ipv6)) is not None:
        notice(outside)
    return Host(
        id=identity.id,
        site=decision.site,
        private=identity.private,
        public=identity.public,
        more=_more(settings, identity),
    )


def outside_ranges(
    settings: Settings, site_name: str, addresses: Iterable[IPAddress]
) -> str | None:
    """A sentence about this host's own IPv6 addresses that peers will not let in, because they are
    outside the ranges of its site; None: there are none."""
    site = settings.sites.get(site_name)
    if site is None or not site.ipv6:
        return None
    outside = [
        str(one)
        for one in addresses
        if one.version == 6 and not any(one in network for network in site.ipv6)
    ]
    if not outside:
        return None
    return (
        f"this host's IPv6 addresses {some(outside)} are outside the ipv6 ranges of its site "
        f"{site.name} ({some([*map(str, site.ipv6)])}), so peers do not let them in. Write their "
        f"range there in {settings.path}, on all hosts"
    )


def _local(configured: LocalIdentity) -> Identity:
    from neti.identity.here import LocalSource

    return LocalSource(configured).read()


def _cloud(word: CloudWord) -> IdentitySource:
    from neti.identity.clouds import source_of

    return source_of(word)


def _cache(
    folder: Path | None, clock: Clock, machine: str | None, notice: Callable[[str], None]
) -> IdentityCache | None:
    if folder is None:
        return None
    bound_to = fingerprint() if machine is None else machine
    return IdentityCache(
        folder=folder, machine=bound_to, clock=clock, boot=boot_id(), notice=notice
    )


def _asked(
    source: IdentitySource, cache: IdentityCache | None, notice: Callable[[str], None]
) -> tuple[Identity, bool]:
    """The answer, and whether it is a new one: while the source is silent the last one counts."""
    try:
        return source.read(), True
    except SourceSilent as error:
        remembered = cache.recall() if cache is not None else None
        if remembered is None:
            raise
        notice(f"{error}. Using the answer from {remembered.age_seconds:.0f} s ago")
        return remembered.identity, False


def _more(settings: Settings, identity: Identity) -> tuple[IPAddress, ...]:
    own = (identity.private, identity.public)
    every: tuple[IPAddress, ...] = (*identity.ipv6, *settings.addresses)
    more = tuple(dict.fromkeys(address for address in every if address not in own))
    if len(more) > MAX_MORE_ADDRESSES:
        raise IdentityError(
            f"this host has {len(more)} further addresses ({len(identity.ipv6)} IPv6 from its "
            f"metadata), but its registry entry holds only {MAX_MORE_ADDRESSES}. Shorten "
            "addresses:"
        )
    return more

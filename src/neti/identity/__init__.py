"""Who this machine is: its id, its addresses and its site. Unsure is an error, never a guess.

``source`` says what an answer is; ``ec2`` and ``static`` give it; ``cache`` stands in for a silent
source on the same machine (``machine``); ``site`` decides; ``preflight`` says where not to run.
"""

import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from neti.clock import Clock
from neti.errors import IdentityError
from neti.identity.cache import IdentityCache
from neti.identity.machine import fingerprint
from neti.identity.site import decide_site
from neti.identity.source import Identity, IdentitySource, SourceSilent
from neti.identity.static import StaticSource
from neti.model import Host
from neti.registry.entry import MAX_MORE_ADDRESSES
from neti.settings import Settings, StaticIdentity

__all__ = ["Identity", "IdentitySource", "SourceSilent", "discover"]

_log = logging.getLogger(__name__)


def discover(
    settings: Settings,
    *,
    cache_dir: Path,
    clock: Clock,
    environment: Mapping[str, str] = os.environ,
    sleep: Callable[[float], None] = time.sleep,
    machine: str | None = None,
    notice: Callable[[str], None] = _log.warning,
) -> Host:
    """This host, by its configuration or its metadata service. Raises IdentityError.

    It may take some seconds; call it again to see a changed address. ``machine`` is this machine's
    fingerprint (None: look); ``notice`` is told what an operator should know.
    """
    if isinstance(settings.identity, StaticIdentity):
        identity = StaticSource(settings.identity).read()
    else:
        cache = IdentityCache(
            folder=cache_dir,
            machine=fingerprint() if machine is None else machine,
            clock=clock,
            notice=notice,
        )
        identity = _read(_ec2(environment, sleep), cache, notice)
    decision = decide_site(settings, identity)
    if decision.warning is not None:
        notice(decision.warning)
    more = tuple(dict.fromkeys((*identity.ipv6, *settings.addresses)))
    if len(more) > MAX_MORE_ADDRESSES:
        raise IdentityError(
            f"this host has {len(identity.ipv6)} IPv6 addresses and {len(settings.addresses)} in "
            f"addresses: one registry entry holds {MAX_MORE_ADDRESSES} of both"
        )
    return Host(
        id=identity.id,
        site=decision.site,
        private=identity.private,
        public=identity.public,
        more=more,
    )


def _ec2(environment: Mapping[str, str], sleep: Callable[[float], None]) -> IdentitySource:
    from neti.identity.ec2 import Ec2Source
    from neti.identity.imds import MetadataClient, endpoint

    return Ec2Source(MetadataClient(endpoint=endpoint(environment), sleep=sleep))


def _read(source: IdentitySource, cache: IdentityCache, notice: Callable[[str], None]) -> Identity:
    try:
        identity = source.read()
    except SourceSilent as silence:
        remembered = cache.recall()
        if remembered is None:
            raise
        notice(f"{silence}; using the answer of {remembered.age_seconds:.0f} s ago instead")
        return remembered.identity
    cache.remember(identity)
    return identity

"""An operator's word to the whole fleet about hosts that are gone, written to the registry.

Must never do: name a host that is registered.
"""

import os
import socket
import time
from collections.abc import Collection
from secrets import token_hex

from neti.model.settings import Settings
from neti.oneshot.registered import heard_of, unregistered
from neti.registry import OperatorRegistry, release


def unheard_of(settings: Settings, registry: OperatorRegistry, asked: Collection[str]) -> list[str]:
    """Those of ``asked`` of whom neither a lease, an entry nor this host's agent tells: misspelt,
    most likely, unless the registry was wiped."""
    return sorted(set(asked) - heard_of(settings, registry, asked))


def tell_everybody(
    settings: Settings,
    registry: OperatorRegistry,
    asked: Collection[str] = (),
    *,
    site: str | None = None,
) -> list[str]:
    """Every agent lets go of these hosts (none named: of all that are not registered), once.
    Returns their ids, sorted; nothing is written when there are none."""
    ids = sorted(unregistered(settings, registry, asked))
    if ids:
        by = f"uid {os.getuid()} on {socket.gethostname()}"
        word = release.said(ids, id=token_hex(8), site=site, by=by, at=time.time())
        registry.edit_setting("release", lambda raw: release.added(raw, word))
    return ids

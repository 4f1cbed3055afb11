"""What other hosts wrote, in a form that is safe to carry, compare and print. Pure.

Must never do: raise, whatever the text, or let a long one through.
"""

import hashlib
import json
from typing import Final

from neti.errors import IdentityHeld
from neti.registry.entry import MAX_DATA_BYTES, MAX_NAME_BYTES
from neti.text import printable

MAX_HOST_ID_CHARS: Final = 64
MAX_SETTING_BYTES: Final = 64
MAX_DETAIL_BYTES: Final = 16_384


def bounded_name(name: str) -> str:
    """``name``, or for one that is too long for an entry a short stand-in.

    The stand-in differs for different names (so that one's vanishing does not seem to be
    another's) and never is an entry, because of its ellipsis.
    """
    if len(name) <= MAX_NAME_BYTES:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()
    return f"{name[:40]}…{digest[:12]}"


def bounded_data(data: bytes) -> bytes:
    """An entry's data, cut so that too long data are still seen to be too long."""
    return data[: MAX_DATA_BYTES + 1]


def host_id_text(data: bytes) -> str:
    """The host id that a lease names; possibly not one, but short and printable."""
    text = data[: 4 * MAX_HOST_ID_CHARS].decode(errors="replace")[:MAX_HOST_ID_CHARS]
    return printable(text, MAX_HOST_ID_CHARS)


def identity_held(host_id: str, session_id: int, detail: bytes) -> IdentityHeld:
    """The error for the second agent with one identity: it names the first."""
    return IdentityHeld(
        f"host id {host_id} is registered by {_holder(session_id, detail)}: "
        "two hosts must not share one identity. If that is this host before a restart, "
        "it ends with its session by itself; if this is a clone, give it an id of its own"
    )


def _holder(session_id: int, detail: bytes) -> str:
    session = f"session 0x{session_id & 0xFFFFFFFFFFFFFFFF:x}"
    try:
        document = json.loads(detail[:MAX_DETAIL_BYTES])
    except (ValueError, RecursionError):
        return session
    if not isinstance(document, dict):
        return session
    hostname, pid = document.get("hostname"), document.get("pid")
    words = []
    if isinstance(hostname, str) and hostname:
        words.append(f"host {printable(hostname, MAX_HOST_ID_CHARS)}")
    if isinstance(pid, int) and 0 < pid < 1 << 32:
        words.append(f"pid {pid}")
    return f"{', '.join(words)} ({session})" if words else session

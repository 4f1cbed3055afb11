"""WireGuard's keys: 32 bytes each, of X25519 (RFC 7748).

Must never do: show a private key, be it in a message, a log or a traceback's ``repr``.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

KEY_BYTES: Final = 32
_TEXT: Final = re.compile(r"[A-Za-z0-9_+/-]{43}=?", re.ASCII)


@dataclass(frozen=True, slots=True, order=True)
class PublicKey:
    """Written as the registry has it: base64url (RFC 4648, section 5) without padding."""

    raw: bytes

    def __post_init__(self) -> None:
        _check(self.raw)

    @classmethod
    def parse(cls, text: str) -> "PublicKey":
        """Of base64 in either alphabet, padded or not. Raises ValueError, also for the three other
        texts that decode to the same bytes: a key must have one name only."""
        return cls(_decoded(text))

    @classmethod
    def of_record(cls, text: str) -> "PublicKey":
        """Of a text that ``registry.record`` took for a key, in a quarter of ``parse``'s time:
        an agent that starts among thousands reads one of each. Raises ValueError."""
        return cls(base64.urlsafe_b64decode(f"{text}="))

    def __str__(self) -> str:
        return base64.urlsafe_b64encode(self.raw).decode().rstrip("=")

    def __repr__(self) -> str:
        return f"PublicKey({self})"


@dataclass(frozen=True, slots=True, repr=False)
class PrivateKey:
    """``str`` and ``repr`` say nothing of it; ``text`` is for the one file that holds it."""

    raw: bytes

    def __post_init__(self) -> None:
        _check(self.raw)

    @classmethod
    def parse(cls, text: str) -> "PrivateKey":
        """As ``PublicKey.parse``; the error does not repeat the text."""
        return cls(_decoded(text))

    def text(self) -> str:
        """In base64 as 'wg genkey' prints it."""
        return base64.b64encode(self.raw).decode()

    def __repr__(self) -> str:
        return "PrivateKey(hidden)"


def _check(raw: bytes) -> None:
    if len(raw) != KEY_BYTES:
        raise ValueError(f"a WireGuard key has {KEY_BYTES} bytes, not {len(raw)}")


def _decoded(text: str) -> bytes:
    if not _TEXT.fullmatch(text):
        raise ValueError("a WireGuard key is 43 characters of base64")
    plain = text.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        raw = base64.b64decode(plain + "=", validate=True)
    except binascii.Error as error:
        raise ValueError("a WireGuard key is 43 characters of base64") from error
    if base64.b64encode(raw).decode() != plain + "=":
        raise ValueError("a WireGuard key's last character has bits that belong to no byte")
    return raw

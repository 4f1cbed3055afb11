"""The word by which operators ask every host to say anew how it is: the setting ``asked``. Pure.

A host answers each word once. What stands behind the number says what is asked for besides; an
agent that does not know it answers all the same.

Must never do: take anything but such a word for a wish to verify: each costs every host traffic.
"""

import re
from typing import Final

_TO_VERIFY: Final = re.compile(rb"([0-9]{1,20}) verify")


def encode(number: int, *, verify: bool = False) -> bytes:
    """``number``: another one than before, such as nanoseconds since the epoch. ``verify``: each
    host is to reach others, and to say whom it did not."""
    return b"%d verify" % number if verify else b"%d" % number


def to_verify(word: bytes) -> str:
    """The number of a word that asks for that; empty: it does not."""
    found = _TO_VERIFY.fullmatch(word)
    return found[1].decode() if found is not None else ""

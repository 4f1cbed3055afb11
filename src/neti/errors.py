"""Every error that Neti raises on purpose, sorted by what the caller can do about it.

The message is written for the operator: what was seen, where, and what to do.
The command line prints it as one line and exits with ``exit_code``.
"""

from typing import ClassVar


class NetiError(Exception):
    """Something that Neti explains in one sentence. Anything else is a bug."""

    exit_code: ClassVar[int] = 1


class ConfigError(NetiError):
    """The configuration is wrong: the operator edits the file. Nothing was changed."""

    exit_code = 2


class IdentityError(NetiError):
    """Who this host is could not be found out for sure; try again or configure it."""


class Unexpected(NetiError):
    """Something that nobody thought of: a bug, or nonsense from outside. The log has its traceback;
    what was being done has failed, and the rest goes on."""


class EntryError(NetiError):
    """One registry entry is malformed or hostile; it is skipped, all others are not affected."""


class RegistryError(NetiError):
    """The registry said no, for a reason that retrying does not change."""


class RegistryUnavailable(RegistryError):
    """The registry could not be reached or did not answer in time; retry."""


class OverlayExhausted(RegistryError):
    """No overlay address is free in the subnet; only this host is affected."""


class LeaseConflict(RegistryError):
    """The two halves of a lease contradict each other, or it lies outside the subnet."""


class IdentityHeld(RegistryError):
    """Another live session holds this host id; the message says who. Wait, or mend the clone."""


class DataplaneError(NetiError):
    """The kernel refused a transaction; nothing of it took effect."""


class DataplaneUnavailable(DataplaneError):
    """libnftables is missing or this process may not administer the network."""


class KernelRefused(DataplaneError):
    """The kernel's own word: ``number`` is its errno."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class KernelMoved(DataplaneError):
    """What was read of the kernel is not so any more, and nothing took effect: read it again."""


class StructureRefused(DataplaneError):
    """Rules or sets cannot be brought into the kernel. Members and stage were, where it could."""


class AwsRefused(NetiError):
    """AWS understood the call and refused it: nothing of it took effect. ``code`` is AWS's own."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class AwsUnavailable(NetiError):
    """AWS did not answer in time, or only that it is too busy; whether a change took effect is not
    known. Run it again."""

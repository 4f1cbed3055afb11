"""Every error that Neti raises on purpose, by what the caller can do about it.

The message is for the operator: what was seen, where, and what to do. The command line prints it
and exits with ``exit_code``.
"""

from typing import ClassVar, Literal


class NetiError(Exception):
    """An error that Neti explains to the operator. Any other exception is a bug."""

    exit_code: ClassVar[int] = 1


class ConfigError(NetiError):
    """The configuration is wrong: the operator must edit the file. Nothing was changed."""

    exit_code = 2


class IdentityError(NetiError):
    """This host's identity could not be determined for certain: try again, or configure it."""


class Unexpected(NetiError):
    """An unexpected error: a bug, or nonsense from outside. The log has its traceback. The current
    action has failed; the rest goes on."""


class EntryError(NetiError):
    """One registry entry is malformed or hostile. It is skipped; all others are unaffected."""


class RegistryError(NetiError):
    """The registry refused, and a retry would not help."""


class RegistryUnavailable(RegistryError):
    """The registry could not be reached or did not answer in time; retry."""


class NoTree(RegistryUnavailable):
    """The registry is there and holds nothing of Neti's: it was wiped, or nobody has set it up."""


class OverlayExhausted(RegistryError):
    """No overlay address is free in the subnet. Only this host is affected."""


class LeaseConflict(RegistryError):
    """The two halves of a lease contradict each other, or it lies outside the subnet."""


class IdentityHeld(RegistryError):
    """Another live session holds this host id; the message says whose. Wait, or fix the clone."""


class OtherOwner(IdentityHeld):
    """This host id belongs to another certificate, whether or not its holder is there."""


class NameTaken(RegistryError):
    """The name that this host wants for its entry is there, by somebody else or by an earlier run:
    take another one."""


class KeyTaken(RegistryError):
    """The public key that this host wants to publish is another host's already: make another."""


class KeyRevoked(KeyTaken):
    """An operator has said that nobody may have this key any more."""


class NotAdmitted(RegistryError):
    """Only operators may begin a host in this registry, and none has admitted this id."""


class DataplaneError(NetiError):
    """The kernel refused a transaction; nothing of it took effect."""


class DataplaneUnavailable(DataplaneError):
    """libnftables is missing or this process may not administer the network."""


class KernelRefused(DataplaneError):
    """The kernel's answer: ``number`` is its errno."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class KernelMoved(DataplaneError):
    """What was read from the kernel is out of date, and nothing took effect: read it again."""


class ToldOtherwise(DataplaneError):
    """The kernel has an operator's word, ``neti down`` or ``neti relax``, that was given while this
    process stood still: nothing is written against it. ``word``: "down" or "relaxed"."""

    def __init__(self, word: Literal["down", "relaxed"]) -> None:
        super().__init__(f"the kernel says that this host is {word}, since a moment ago")
        self.word = word


class DeviceMissing(DataplaneError):
    """There is no such WireGuard device, or no program that answers for it: make it, or start
    wireguard-go."""


class DeviceSilent(DataplaneError):
    """wireguard-go has not answered in time: it hangs, or it does not start."""


class DeviceRefused(DataplaneError):
    """The WireGuard device's answer: ``number`` is its errno. What it was told before that took
    effect: read the device again."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


class RulesRefused(DataplaneError):
    """nft's compiler does not take these rules, today or tomorrow."""


class StructureRefused(DataplaneError):
    """Rules or sets could not be loaded into the kernel. Members and stage were, where possible."""


class AwsRefused(NetiError):
    """AWS understood the call and refused it: nothing of it took effect. ``code`` is AWS's own."""

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class AwsUnavailable(NetiError):
    """AWS did not answer in time, or was too busy. It is not known whether a change took effect:
    run it again."""

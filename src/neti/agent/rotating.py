"""``neti key rotate``: a new WireGuard key in place of the present one.

The device keeps the former key until this host is registered with the new one. Peers that read the
new entry take the new key over, and drop the former one with its session. Then this host's device
takes it too, and shakes hands with all of them (``Roads``). What is on its way meanwhile is lost:
TCP repeats it. Killed anywhere, the next start registers with the key that is on disk.

Must never do: make a new key that nobody can be told of, or one that is not on disk: the former one
would be back with the next start.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from neti import log
from neti.control.server import Request

if TYPE_CHECKING:
    from neti.agent.core import Core


class Rotating:
    """Not thread-safe: the loop's thread owns it. ``registered``: whether this host is."""

    def __init__(self, core: "Core", registered: Callable[[], bool]) -> None:
        self._core = core
        self._registered = registered
        self._asked: tuple[Request, str] | None = None  # and the former public key

    def rotate(self, request: Request) -> None:
        core = self._core
        if not core.own_key.wanted:
            request.fail(
                "this host's site encrypts with no other, so this host has no key: nothing was "
                "changed"
            )
            return
        if self._asked is not None:
            request.fail("another 'neti key rotate' is under way: nothing was changed")
            return
        if not core.in_step.fresh or not self._registered():
            why = core.in_step.reason if not core.in_step.fresh else "this host is not registered"
            request.fail(
                f"peers cannot be told of a new key now ({why}), so the present one stays: nothing "
                "was changed\n→ neti status; if somebody else may know the key, 'neti key revoke "
                f"{core.host.id}' on an operator's machine"
            )
            return
        former = core.own_key.text
        if unsaved := core.own_key.another_if_kept():
            request.fail(
                "the new key could not be kept, so the next start would publish the present one "
                f"again ({unsaved}): nothing was changed\n→ make the state folder writable first"
            )
            return
        self._asked = request, former
        log.warning("key_rotated", former=former, by=request.caller)
        core.soon("register")

    def told(self) -> None:
        """This host is registered with its present key."""
        if self._asked is None:
            return
        request, former = self._asked
        if self._core.own_key.text == former:
            return
        self._asked = None
        request.succeed({"public_key": self._core.own_key.text, "former": former})

    def failed(self, said: str) -> None:
        """This host could not be registered; the agent tries again."""
        if self._asked is None:
            return
        request, _ = self._asked
        self._asked = None
        request.fail(
            "this host has made a new key and could not be registered with it yet, so peers still "
            f"believe the former one: {said}\n→ neti status: the agent tries again by itself"
        )

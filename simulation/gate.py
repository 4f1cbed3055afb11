"""What every effect of one host passes: a disk write, a call of the registry, a change of the
kernel. Between any two of them the host may be killed, be stopped, or have something happen to it.
It may also be stopped before a look at the kernel.

A ``Killed`` host does nothing any more: whatever still runs on the way out is stopped as well.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


class Killed(BaseException):
    """The process ends here. No code of Neti's catches it: none would run."""


@dataclass(slots=True)
class Gate:
    """``fuse``: after so many more effects ``act`` is done, before the next one. 0: never.
    ``look_fuse``, ``look_act``: the same of looks at the kernel."""

    fuse: int = 0
    act: Callable[[str], None] | None = None
    look_fuse: int = 0
    look_act: Callable[[str], None] | None = None
    dead: bool = False
    seen: Counter[str] = field(default_factory=Counter)
    count: int = 0
    cut_at: str = ""  # the kind of effect before which the fuse went off last
    kills: Counter[str] = field(default_factory=Counter)  # by the effect that did not come about

    def arm(self, effects: int, act: Callable[[str], None]) -> None:
        self.fuse, self.act = effects, act

    def arm_look(self, looks: int, act: Callable[[str], None]) -> None:
        self.look_fuse, self.look_act = looks, act

    def disarm(self) -> None:
        self.fuse, self.act = 0, None
        self.look_fuse, self.look_act = 0, None

    def look(self, kind: str) -> None:
        """Before each look."""
        if self.look_fuse:
            self.look_fuse -= 1
            if not self.look_fuse and self.look_act is not None:
                act, self.look_act = self.look_act, None
                act(kind)

    def effect(self, kind: str) -> None:
        """Before each effect."""
        if self.dead:
            raise Killed
        self.seen[kind] += 1
        self.count += 1
        if self.fuse:
            self.fuse -= 1
            if not self.fuse and self.act is not None:
                act, self.act = self.act, None
                self.cut_at = kind
                act(kind)

    def kill(self, kind: str) -> None:
        self.dead = True
        self.kills[kind] += 1
        raise Killed(kind)

"""Carries out changes, one call at a time, and always knows what has been done.

The only place in this package that changes anything at AWS, except for the agent's tags. It stops
at the first failure, because later changes (removals above all) may rely on earlier ones. To finish
the work, the caller reads AWS and plans again.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from neti.aws.calls import Calls, Place
from neti.aws.changes import Change
from neti.errors import AwsRefused, AwsUnavailable, NetiError

_LIST_READY_SECONDS: Final = 120.0
_LIST_LOOK_SECONDS: Final = 1.0
_LINES_A_CALL: Final = 3
_MAKES_A_LIST: Final = frozenset({"create_managed_prefix_list", "modify_managed_prefix_list"})


@dataclass(slots=True, kw_only=True)
class Outcome:
    """``failed`` is the change at which it stopped; ``unknown``: it may have taken effect."""

    done: list[Change] = field(default_factory=list)
    already: list[Change] = field(default_factory=list)
    failed: Change | None = None
    error: NetiError | None = None
    unknown: bool = False
    interrupted: bool = False
    left: list[Change] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Applier:
    """``pause``: seconds between calls. ``told`` is called with each change when it is done."""

    places: Mapping[Place, Calls]
    pause: float = 0.0
    sleep: Callable[[float], None] = time.sleep
    told: Callable[[Change], None] = lambda _change: None
    _made: dict[str, str] = field(default_factory=dict)
    _versions: dict[str, int] = field(default_factory=dict)  # of lists, last reported
    _called: bool = False

    def apply(self, changes: Sequence[Change]) -> Outcome:
        outcome = Outcome()
        for index, change in enumerate(changes):
            if not self._one(change, outcome):
                outcome.left += changes[index + 1 :]
                break
        return outcome

    def _one(self, change: Change, outcome: Outcome) -> bool:
        try:
            self._call(change)
        except AwsRefused as error:
            if error.code not in change.already:
                outcome.failed, outcome.error = change, error
                return False
            if change.parts:
                return self._parts(change, outcome)
            outcome.already.append(change)
        except AwsUnavailable as error:
            outcome.failed, outcome.error, outcome.unknown = change, error, True
            return False
        except KeyboardInterrupt:
            outcome.failed, outcome.unknown, outcome.interrupted = change, True, True
            outcome.error = NetiError("interrupted")
            return False
        else:
            outcome.done.append(change)
            self.told(change)
        return True

    def _parts(self, change: Change, outcome: Outcome) -> bool:
        for index, part in enumerate(change.parts):
            if not self._one(part, outcome):
                outcome.left += change.parts[index + 1 :]
                return False
        return True

    def _call(self, change: Change) -> None:
        if self._called and self.pause:
            self.sleep(self.pause)
        self._called = True
        calls = self.places[change.place]
        parameters = _named(change.parameters, self._made)
        if "CurrentVersion" in parameters:  # the planned version may be out of date
            own = self._versions.get(parameters["PrefixListId"], parameters["CurrentVersion"])
            parameters["CurrentVersion"] = own
        answer = calls.call(change.operation, parameters)
        if change.operation in _MAKES_A_LIST:
            made = answer["PrefixList"]
            if change.makes is not None:
                self._made[change.makes] = made["PrefixListId"]
            made = self._await_list(calls, made)
            if made.get("Version"):
                self._versions[made["PrefixListId"]] = int(made["Version"])

    def _await_list(self, calls: Calls, made: Mapping[str, Any]) -> Mapping[str, Any]:
        """Waits until AWS has finished changing a prefix list: it refuses the next change
        before."""
        waited = 0.0
        while not made["State"].endswith("-complete"):
            if made["State"].endswith("-failed"):
                raise AwsRefused(
                    f"AWS, {calls.place}: prefix list {made['PrefixListId']} is {made['State']}: "
                    f"{made.get('StateMessage') or 'AWS says no more'}",
                    code=made["State"],
                )
            if waited >= _LIST_READY_SECONDS:
                raise AwsUnavailable(
                    f"AWS, {calls.place}: prefix list {made['PrefixListId']} is still "
                    f"{made['State']} after {waited:.0f} s: run this again later"
                )
            self.sleep(_LIST_LOOK_SECONDS)
            waited += _LIST_LOOK_SECONDS
            ids = {"PrefixListIds": [made["PrefixListId"]]}
            made = next(iter(calls.pages("describe_managed_prefix_lists", ids, "PrefixLists")))
        return made


def _named(value: Any, made: Mapping[str, str]) -> Any:
    """The parameters, with the real ids of what earlier changes created."""
    if isinstance(value, Mapping):
        return {key: _named(inner, made) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_named(inner, made) for inner in value]
    return made.get(value, value) if isinstance(value, str) else value


def summary(outcome: Outcome) -> list[str]:
    """What was changed and what was not, for the operator. The reason comes first, because the list
    may be long. Each call shows a few lines only: all of them were printed before."""
    done = f"{_count(outcome.done)} done" + _elsewhere(outcome.already)
    if outcome.failed is None:
        return [done]
    word = "perhaps done" if outcome.unknown else "not done"
    left = sum(len(change.means) for change in outcome.left)
    lines = [*f"stopped: {outcome.error}".splitlines(), f"{done}, {left} not started"]
    lines += [line for change in outcome.done for line in _told("done", change)]
    lines += _told(word, outcome.failed)
    lines += [line for change in outcome.left for line in _told("not done", change)]
    lines.append("run the same command again: it reads AWS again and does the rest")
    return lines


def _told(word: str, change: Change) -> list[str]:
    shown = [f"{word + ':':<13} {line}" for line in change.means[:_LINES_A_CALL]]
    more = len(change.means) - len(shown)
    return [*shown, f"{'':<13} and {more} more by the same call"] if more else shown


def _count(changes: Sequence[Change]) -> str:
    number = sum(len(change.means) for change in changes)
    return f"{number} change{'' if number == 1 else 's'}"


def _elsewhere(already: Sequence[Change]) -> str:
    if not already:
        return ""
    return f", {_count(already)} already done by somebody else"

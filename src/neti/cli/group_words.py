"""What ``neti group list`` and ``show`` say of a group's lines, in words and for programs."""

import time
from collections.abc import Iterable, Sequence, Set
from typing import Any

from neti.fleet.attendance import moment
from neti.model.groups import GroupLine
from neti.oneshot.grouping import Seen
from neti.text import command
from neti.words import counted, some


def doubtful(seen: Seen, name: str) -> str:
    lines = seen.groups.lines[name]
    fits = zip(lines, seen.taken_in[name], strict=True)
    vain = sum(not (line.is_id or ids) for line, ids in fits if not _is_over(line))
    unheard = len(_nobodys(seen, name, seen.unheard_of | seen.released))
    said = [f"{counted(unheard, 'id')} that nobody has"] if unheard else []
    said += (
        [f"{counted(vain, 'pattern')} that {'fits' if vain == 1 else 'fit'} nobody"] if vain else []
    )
    missing, wrong = seen.stale.get(name, ((), ()))
    if number := len(missing) + len(wrong):
        said.append(f"{counted(number, 'id')} whose subject says otherwise")
    return f"  {', '.join(said)}" if said else ""


def shown(lines: Iterable[GroupLine]) -> list[GroupLine]:
    """Without those that stand for a subject's."""
    return [line for line in lines if not line.by]


def of_stale(seen: Seen, name: str) -> list[str]:
    """What is not as the subjects of the group say, and the step."""
    missing, wrong = seen.stale.get(name, ((), ()))
    subject = next((line.pattern for line in seen.groups.lines[name] if line.is_subject), "")
    said = [f"not in it yet, though a subject fits: {some(missing)}"] if missing else []
    said += [f"in it, though the subject fits no more: {some(wrong)}"] if wrong else []
    return [*said, f"→ {command('neti group add', name, subject)}"] if said else []


def of_line(seen: Seen, line: GroupLine, taken: Sequence[str]) -> str:
    """``taken``: whom it takes in."""
    text = f"  {line.pattern}"
    if line.site:
        text += f"  of site {line.site}"
    if line.until:
        text += f"  {'ended' if _is_over(line) else 'until'} {moment(line.until)}"
    return text + _taken_in(seen, line, taken)


def _taken_in(seen: Seen, line: GroupLine, taken: Sequence[str]) -> str:
    if _is_over(line):
        return ""
    if not line.is_id:
        return f"  {counted(len(taken), 'member')}: {some(taken)}" if taken else "  fits nobody"
    if taken:
        return "  registered"
    if line.pattern in seen.sites:
        return f"  nobody: it is of site {seen.sites[line.pattern]}"
    if line.pattern in seen.released:
        return "  released: nobody has this id any more"
    return "  nobody has this id" if line.pattern in seen.unheard_of else "  not registered now"


def _is_over(line: GroupLine) -> bool:
    return line.has_ended(time.time())


def _nobodys(seen: Seen, name: str, ids: Set[str]) -> list[str]:
    """Of ``ids`` those that the group's lines name."""
    of = (line for line in seen.groups.lines.get(name, ()) if not _is_over(line))
    return sorted({line.pattern for line in of if line.is_id and not line.by} & ids)


def document(seen: Seen, name: str) -> dict[str, Any]:
    """Whom lines take in only where they were looked at."""
    lines = seen.groups.lines.get(name)
    told: dict[str, Any] = {
        "group": name,
        "lines": None
        if lines is None
        else [
            {
                "id": None if line.is_subject else line.pattern,
                "subject": line.pattern if line.is_subject else line.by or None,
                "site": line.site or None,
                "until": line.until,
            }
            for line in lines
        ],
        "members": list(seen.who.get(name, ())),
    }
    if lines is not None and name in seen.taken_in:
        for line, ids in zip(told["lines"], seen.taken_in[name], strict=True):
            line["members"] = list(ids)
        told["unheard_of"] = _nobodys(seen, name, seen.unheard_of)
        told["released"] = _nobodys(seen, name, seen.released)
        told["missing"], told["not_fitting"] = map(list, seen.stale.get(name, ((), ())))
    return told

"""What ``neti status`` says where no agent answers, in words.

Must never do: pass for what an agent would say.
"""

from typing import Any

from neti.oneshot.known import Known
from neti.words import counted


def document(known: Known | None) -> dict[str, Any]:
    """Nested, so that none of it is taken for an agent's answer. None: nothing is known here."""
    if known is None:
        return {"on_disk": None, "in_kernel": None}
    return {
        "on_disk": {
            "id": known.member.id if known.member else None,
            "site": known.member.site if known.member else None,
            "overlay": known.overlay,
            "members": known.members,
            "stage": known.stage,
            "down": known.down,
            "relaxed": known.relaxed,
            "left": known.left,
            "faults": known.faults,
        },
        "in_kernel": {"table": known.table, "drops": known.drops},
    }


def lines(known: Known) -> list[str]:
    who = f"{known.member.id} in site {known.member.site}" if known.member else "not known"
    said = ", but 'neti relax' was run since" if known.relaxed else ""
    said += ", but 'neti down' was run since" if known.down else ""
    return [
        "Without the agent, this is what disk and kernel say:",
        f"host      {who}",
        f"overlay   {known.overlay or 'none yet'}",
        f"members   {counted(known.members, 'member')}, as last written to disk",
        f"stage     {known.stage or 'none'}, as last written to disk{said}",
        f"kernel    {_kernel(known)}",
        *([f"note      {known.off}"] if known.off else []),
        *(f"problem   {fault}" for fault in known.faults),
    ]


def _kernel(known: Known) -> str:
    if known.unseen is not None:
        return f"cannot be read: {known.unseen}"
    if known.kernel is None:
        return "table inet neti is not there: nothing is dropped"
    if not known.kernel.drops:
        return "nothing is dropped"
    end = "until the trial ends by itself" if known.kernel.trial else "permanently"
    return f"what no rule lets in is dropped, {end}"

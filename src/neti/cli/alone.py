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
            "requires": known.requires,
            "left": known.left,
            "faults": known.faults,
        },
        "in_kernel": {"table": known.table, "drops": known.drops, "requires": _refuses(known)},
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
        *_encryption(known, said),
        f"kernel    {_kernel(known)}",
        *([f"note      {known.off}"] if known.off else []),
        *(f"problem   {fault}" for fault in known.faults),
    ]


def _encryption(known: Known, said: str) -> list[str]:
    if known.requires is None:
        return []
    how = "required" if known.requires == "enforced" else "required on trial"
    return [f"encrypted {how} between sites, as last written to disk{said}"]


def _refuses(known: Known) -> bool | None:
    if known.unseen is not None:
        return None
    return known.kernel is not None and known.kernel.requires


def _kernel(known: Known) -> str:
    if known.unseen is not None:
        return f"cannot be read: {known.unseen}"
    if known.kernel is None:
        return "table inet neti is not there: nothing is dropped"
    held, said = known.kernel, []
    if held.drops:
        said.append(f"what no rule lets in is dropped, {_until(held.trial)}")
    if held.requires:
        clear = "what goes in the clear to and from members that must be encrypted is refused"
        said.append(f"{clear}, {_until(held.requires_on_trial)}")
    return "; ".join(said) or "nothing is dropped"


def _until(trial: bool) -> str:
    return "until the trial ends by itself" if trial else "permanently"

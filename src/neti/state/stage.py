"""What the disk and the kernel say of this host's stage, side by side."""

from neti.ruleset.objects import KernelState
from neti.ruleset.policy_members import kept_out_by
from neti.stage.taking_up import Found
from neti.state.folder import StateFolder
from neti.state.loaded import Loaded


def stage_found(folder: StateFolder, loaded: Loaded, kernel: KernelState) -> Found:
    return Found(
        record=loaded.record,
        lost=loaded.record_lost,
        relaxed=folder.relaxed_by() if folder.is_relaxed else None,
        relaxed_in_kernel=kernel.relaxed_by_hand,
        armed=kernel.armed_for_good,
        requires=kernel.requires_for_good,
        narrows=kernel.narrows,
        narrowed=kept_out_by(kernel.chain_names),
    )

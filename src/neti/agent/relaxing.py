"""``neti relax`` without an agent: on disk, so that none arms the kernel again, then in the kernel.

Each step may be repeated. Must never do: let anybody in or keep anybody out but by map ``enforce``.
"""

from neti import stage
from neti.agent.state import StateFolder
from neti.dataplane import Dataplane
from neti.enforcement import OFF, enforce_commands
from neti.ruleset import Transaction
from neti.settings import Settings
from neti.stage import Record


def relax_alone(
    settings: Settings, folder: StateFolder, machine: str, dataplane: Dataplane
) -> None:
    """Raises StateError, DataplaneError. Killed in between, the next start or turn of the agent
    finds ``relaxed`` and does the rest."""
    folder.set_relaxed(True)  # first: an agent that hangs has its own record in memory
    record = stage.configured(folder.load(machine).record or Record(), settings.reject_all)
    folder.save_record(stage.commanded(record, False))
    kernel = dataplane.read()
    if kernel.structure is not None:
        dataplane.apply(Transaction(enforce_commands(OFF, kernel.enforce)))

"""``neti lab demo``: what Neti does, shown on a lab of its own, with a finding for every claim.

Must never do: leave anything of the lab behind, however it ends (unless it was asked to), or
call something well that was not seen to be.
"""

import time

from neti.errors import NetiError
from neti_lab import encrypted, lifecycle, registries, scenes
from neti_lab.play import Play
from neti_lab.stage import Stage, one_line
from neti_lab.state import LabState
from neti_lab.topology import LabPlan, lab_command


def run(state: LabState, plan: LabPlan, stage: Stage, *, keep: bool = False) -> bool:
    """The whole demo; True when everything was as it should be.

    The caller holds the lab (``lifecycle.commanding``), and had better close the stage.
    """
    if lifecycle.is_up(state):
        raise lifecycle.already_up(plan.name)
    try:
        _perform(state, plan, stage)
    except NetiError as error:
        stage.find("the demo ran to its end", False, one_line(error))
    finally:
        if keep and state.exists:
            state.declare_complete()
        else:
            _take_down(state, stage)
    well = stage.close()
    if not well and not keep:
        again = lab_command(plan.name, "demo", "--keep")
        stage.say(f"To read the agents' logs, run it again: '{again}' leaves the lab up.")
    if well:
        stage.say("To see a fleet in a browser: 'neti lab up --dashboard'.")
    return well


def _perform(state: LabState, plan: LabPlan, stage: Stage) -> None:
    with stage.scene("Networks"):
        began = time.monotonic()
        lifecycle.bring_up(state, plan, with_agents=False, provisional=True, tell=stage.say)
        scenes.networks(plan, stage, time.monotonic() - began)
    registry = registries.open_registry(plan, state)
    try:
        _play(Play(plan=plan, state=state, stage=stage, opened=registry, hosts=[*plan.hosts]))
    finally:
        registry.close()


def _take_down(state: LabState, stage: Stage) -> None:
    with stage.scene("Teardown"):
        began = time.monotonic()
        gone = lifecycle.take_down(state)
        figure = (
            f"{gone.namespaces} namespaces, {gone.processes} processes, "
            f"{time.monotonic() - began:.1f} s"
        )
        stage.find("everything taken down", not lifecycle.anything_left(state), figure)


def _play(play: Play) -> None:
    if play.plan.encrypt:
        encrypted.perform(play)
        return
    stage = play.stage
    with stage.scene("Agents start"):
        scenes.agents_start(play)
    with stage.scene("The fleet"):
        scenes.fleet(play)
    with stage.scene("All to all, by overlay address"):
        scenes.verified(play)
    with stage.scene("A host joins"):
        joined = scenes.a_host_joins(play)
    with stage.scene("A host leaves"):
        scenes.a_host_leaves(play, joined)
    with stage.scene("An agent is killed while traffic goes on"):
        scenes.an_agent_dies(play)
    with stage.scene("reject_all, and a stranger"):
        scenes.strangers_are_kept_out(play, joined)

"""``--fresh``: every host says anew how it is, before it is read."""

import sys

from neti.cli.common import registry_of
from neti.cli.output import is_terminal, progress, say
from neti.fleet.attendance import lasting
from neti.model.settings import Settings
from neti.oneshot.asking_anew import ask_anew
from neti.words import some


def say_anew(settings: Settings) -> None:
    """Returns when all have, or when their time is over: who has not is told on stderr."""
    answered = None
    with registry_of(settings) as registry:
        for answered in ask_anew(settings, registry):
            if is_terminal(sys.stderr):
                there = answered.asked - len(answered.silent)
                progress(
                    f"{there} of {answered.asked} hosts have answered "
                    f"(it takes {lasting(answered.within)} at most)"
                )
    if is_terminal(sys.stderr):
        progress()
    if answered is not None and answered.silent:
        say(f"neti: not answered: {some(answered.silent)}", err=True)
    if answered is not None and answered.unseen:
        said = "do not say when they wrote, so nobody sees whether they answer"
        say(f"neti: {said}: {some(answered.unseen)}", err=True)

"""``python -m drills [--short | --long] [--seed N] [--list] [DRILL …]``, as root."""

import argparse
import random
import signal
import sys
import time
from types import FrameType
from typing import NoReturn

from drills import leftovers, runner
from drills.drill import Scale
from drills.runner import Table
from neti.errors import NetiError
from neti_lab.namespaces import require


def main() -> int:
    arguments = _arguments()
    if arguments.list:
        for name in runner.names():
            print(f"{runner.number_of(name):2}  {name[4:]:12} {runner.load(name).TITLE}")
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        require()
        leftovers.clear()
        return _run(arguments)
    except NetiError as error:
        print(f"drills: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("drills: stopped by Ctrl-C; everything that was built is gone", file=sys.stderr)
        return 130


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m drills", description="Each promise of Neti, put to the test."
    )
    parser.add_argument("drills", nargs="*", metavar="DRILL", help="a number or part of a name")
    scale = parser.add_mutually_exclusive_group()
    scale.add_argument("--short", action="store_true", help="the short form, as in make test")
    scale.add_argument("--long", action="store_true", help="for half an hour, where one has that")
    parser.add_argument("--seed", type=int, help="repeat the random choices of an earlier run")
    parser.add_argument("--list", action="store_true", help="list the drills and run none")
    return parser.parse_args()


def _run(arguments: argparse.Namespace) -> int:
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().getrandbits(32)
    scale: Scale = "short" if arguments.short else "long" if arguments.long else "full"
    table, began, outcomes = Table(), time.monotonic(), []
    print(f"seed {seed}")
    for name in runner.chosen(arguments.drills):
        table.begin(name, runner.load(name).TITLE)
        outcomes.append(
            runner.run_one(name, scale=scale, seed=seed, say=table.say, found=table.found)
        )
    table.close(outcomes, time.monotonic() - began)
    failed = [outcome for outcome in outcomes if not outcome.ok]
    for outcome in failed:
        option = "" if scale == "full" else f" --{scale}"
        number = runner.number_of(outcome.name)
        print(f"To repeat: python -m drills{option} --seed {seed} {number}")
    return 1 if failed else 0


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """SIGTERM and a lost terminal end a run like Ctrl-C: by way of its teardown."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())

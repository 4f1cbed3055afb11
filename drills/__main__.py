"""``python -m drills [--short | --long] [--lanes N] [--seed N] [--list] [DRILL …]``, as root."""

import argparse
import contextlib
import random
import signal
import sys
import time
from collections.abc import Sequence

from drills import lanes, leftovers, runner
from drills.drill import Scale
from drills.runner import Outcome, Table
from neti.errors import NetiError
from neti_lab.namespaces import require


def main() -> int:
    arguments = _arguments()
    if arguments.list:
        for name in runner.names():
            print(f"{runner.number_of(name):2}  {name[4:]:12} {runner.load(name).TITLE}")
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, runner.interrupt)
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
    parser.add_argument(
        "--lanes", type=_lanes, default=1, metavar="N", help="so many at once; each has its table"
    )
    parser.add_argument("--seed", type=int, help="repeat the random choices of an earlier run")
    parser.add_argument("--list", action="store_true", help="list the drills and run none")
    return parser.parse_args()


def _run(arguments: argparse.Namespace) -> int:
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().getrandbits(32)
    scale: Scale = "short" if arguments.short else "long" if arguments.long else "full"
    table, began, names = Table(), time.monotonic(), runner.chosen(arguments.drills)
    print(f"seed {seed}", flush=True)
    if arguments.lanes == 1:
        outcomes = [_in_turn(name, table, scale=scale, seed=seed) for name in names]
    else:
        outcomes = _at_once(names, arguments.lanes, table, scale=scale, seed=seed)
    table.close(outcomes, time.monotonic() - began)
    failed = [outcome for outcome in outcomes if not outcome.ok]
    for outcome in failed:
        option = "" if scale == "full" else f" --{scale}"
        number = runner.number_of(outcome.name)
        print(f"To repeat: python -m drills{option} --seed {seed} {number}")
    return 1 if failed else 0


def _in_turn(name: str, table: Table, *, scale: Scale, seed: int) -> Outcome:
    """Its rows as they are found."""
    table.begin(name, runner.load(name).TITLE)
    return runner.run_one(name, scale=scale, seed=seed, say=table.say, found=table.found)


def _at_once(
    names: Sequence[str], count: int, table: Table, *, scale: Scale, seed: int
) -> list[Outcome]:
    """Each table when its drill has ended; the outcomes in the order of the names."""
    outcomes = []
    playing = lanes.play(names, count, scale=scale, seed=seed, say=table.say)
    with contextlib.closing(playing):
        for outcome in playing:
            table.whole(outcome)
            outcomes.append(outcome)
    return sorted(outcomes, key=lambda outcome: outcome.name)


def _lanes(word: str) -> int:
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"{word!r} is not a number from 1 on")
    return int(word)


if __name__ == "__main__":
    sys.exit(main())

"""The program ``neti``, and ``python -m neti``.

Must never: end in a traceback because somebody types Ctrl-C while Python still imports.
"""

import os
import sys


def main() -> None:
    try:
        from neti.cli import main as command

        command()
    except KeyboardInterrupt:
        os.write(2, b"neti: stopped by Ctrl-C\n")
        sys.exit(130)


if __name__ == "__main__":
    main()

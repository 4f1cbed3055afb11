"""Prints the operator's session that it finds around itself, as JSON. For tests, behind ssh.

python tests/support/say_session.py: without the package of tests, because sudo starts it elsewhere.
"""

import json

from neti.host.ssh_session import find


def main() -> None:
    session = find()
    print(json.dumps(session.document() if session is not None else None))


if __name__ == "__main__":
    main()

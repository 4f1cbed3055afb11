"""``python -m neti`` is the ``neti`` command."""

from neti.cli import main

main()

"""Neti: firewall and address sync for fleets that live on two networks at once."""

from neti import build

RELEASE = "0.1.0"  # the next one, as CHANGELOG.md has it: raised right after each release
__version__ = RELEASE + build.suffix()

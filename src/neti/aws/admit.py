"""Which instances an operator admits: those that would be hosts of the fleet. Pure.

Must never do: name an instance that is in none of the fleet's sites.
"""

from collections.abc import Iterable

from neti.aws.instances import Instance, machine
from neti.model.settings import Settings
from neti.oneshot.coverage import own_site
from neti.registry.admitted import Asked

STATES = ("pending", "running")


def asked(instances: Iterable[Instance], settings: Settings) -> list[Asked]:
    """By instance id, which is their host id."""
    return [
        Asked(one.id)
        for one in sorted(instances, key=lambda each: each.id)
        if one.state in STATES and own_site(machine(one), settings) in settings.sites
    ]

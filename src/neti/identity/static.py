"""Identity from the configuration: for data centres, other clouds and tests. No I/O."""

from dataclasses import dataclass

from neti.identity.source import Identity
from neti.model.settings import StaticIdentity


@dataclass(frozen=True, slots=True)
class StaticSource:
    configured: StaticIdentity

    def read(self) -> Identity:
        own = self.configured
        ipv6 = () if own.ipv6 is None else (own.ipv6,)
        return Identity(id=own.id, private=own.private, public=own.public, ipv6=ipv6)

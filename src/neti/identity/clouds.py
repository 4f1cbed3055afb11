"""Which cloud's metadata service is asked; ``auto`` finds out which one answers.

All three answer at one address, each to its own questions. So whoever is asked for another cloud's
answers that it knows nothing of it, which is told from silence.
"""

from dataclasses import dataclass
from typing import Final

from neti.errors import IdentityError
from neti.identity import gcp
from neti.identity.azure import AzureSource
from neti.identity.ec2 import Ec2Source
from neti.identity.gcp import GcpSource
from neti.identity.here import default_mac
from neti.identity.imds import MetadataClient
from neti.identity.metadata import DEFAULT_ENDPOINT, MetadataHttp
from neti.identity.source import Identity, IdentitySource, NotThisCloud
from neti.model.settings import CloudWord

CLOUDS: Final = ("ec2", "gcp", "azure")  # in the order in which ``auto`` asks


@dataclass(frozen=True, slots=True)
class FirstThatKnows:
    """Asks one after the other. Silence ends it: all are at the same address."""

    sources: tuple[IdentitySource, ...]

    def read(self) -> Identity:
        said: list[str] = []
        for source in self.sources:
            try:
                return source.read()
            except NotThisCloud as error:
                said.append(str(error))
        raise IdentityError(
            "this is no machine of EC2, Google or Azure, as far as its metadata service tells: "
            f"{'; '.join(said)}\n→ elsewhere, write identity: {{id: …, private: …}}"
        )


def source_of(word: CloudWord, *, timeout: float = 2.0, patience: float = 30.0) -> IdentitySource:
    """``timeout``, ``patience``: seconds, as of MetadataHttp."""

    def service(endpoint: str, named: str = "the endpoint") -> MetadataHttp:
        return MetadataHttp(endpoint, timeout=timeout, patience=patience, named=named)

    def made(cloud: str) -> IdentitySource:
        if cloud == "ec2":
            return Ec2Source(MetadataClient(timeout=timeout, patience=patience))
        if cloud == "gcp":
            return GcpSource(service(gcp.endpoint(), gcp.HOST_VARIABLE))
        return AzureSource(service(DEFAULT_ENDPOINT), default_mac)

    return FirstThatKnows(tuple(map(made, CLOUDS))) if word == "auto" else made(word)

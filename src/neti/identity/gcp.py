"""Identity from Google's metadata server. An error is never read as "there is none".

One request tells all, so nothing can change between two answers. It is Google's server if the
answer carries the header ``Metadata-Flavor: Google``, as its documentation demands of clients.
"""

import os
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Final

from neti.errors import IdentityError
from neti.identity.json_answer import Fields, document
from neti.identity.metadata import DEFAULT_ENDPOINT, MetadataHttp
from neti.identity.source import Identity, NotThisCloud
from neti.model.entry import HOST_ID

HOST_VARIABLE: Final = "GCE_METADATA_HOST"  # HOST[:PORT], as Google's libraries name it
_PATH: Final = "/computeMetadata/v1/instance/?recursive=true"
_FLAVOR: Final = "metadata-flavor"


@dataclass(frozen=True, slots=True)
class GcpSource:
    service: MetadataHttp

    def read(self) -> Identity:
        answer = self.service.ask("GET", _PATH, {"Metadata-Flavor": "Google"})
        if answer.headers.get(_FLAVOR) != "Google":
            raise NotThisCloud(
                f"{self.service.where(_PATH)} answered {answer.status} without "
                "'Metadata-Flavor: Google', so it is not Google's"
            )
        if answer.status != 200:
            raise IdentityError(self.service.said(_PATH, answer.status))
        said = document(self.service.where(_PATH), answer.body)
        return _identity(said)


def _identity(said: Fields) -> Identity:
    host_id = str(said.whole("id"))
    if not HOST_ID.fullmatch(host_id):
        raise said.wrong("id", host_id, "an instance's number")
    # nic0 comes first, and has the default route.
    nic = said.first("networkInterfaces")
    network = nic.text("network")
    return Identity(
        id=host_id,
        private=nic.ipv4("ip"),
        public=_public(nic),
        ipv6=tuple(nic.ipv6s("ipv6s")),
        networks=tuple(dict.fromkeys((network.rpartition("/")[2], network))),
        cloud="gcp",
    )


def _public(nic: Fields) -> IPv4Address | None:
    """Of the first configuration that has one. Without a public address the list is empty, or its
    address is."""
    for config in nic.every("accessConfigs"):
        if config.text("externalIp", missing=""):
            return config.ipv4("externalIp")
    return None


def endpoint() -> str:
    host = os.environ.get(HOST_VARIABLE, "").strip()
    return f"http://{host}" if host else DEFAULT_ENDPOINT

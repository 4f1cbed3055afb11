"""Which authorities this host trusts to sign certificates of servers in the world.

Each distribution has them elsewhere, and OpenSSL knows one place: that of whoever built it. A
company's own, such as that of a proxy which inspects TLS, are in the host's file only. The registry
has its own (``registry_tls``) and asks nothing of this.
"""

import functools
import os
import ssl
from pathlib import Path
from typing import Final

from neti.errors import NetiError
from neti.words import why

FILES: Final = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian, Ubuntu, Arch, Alpine
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # Red Hat's
    Path("/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"),  # Red Hat's, of later releases
    Path("/etc/ssl/ca-bundle.pem"),  # SUSE
    Path("/etc/ssl/cert.pem"),  # Alpine, without ca-certificates
)
_FILE: Final = "SSL_CERT_FILE"


def of_host() -> Path | None:
    """The file that SSL_CERT_FILE names, or else the host's own; None: it has none. Raises
    NetiError where the file cannot be used."""
    named = os.environ.get(_FILE)
    found = Path(named) if named else next((one for one in FILES if one.is_file()), None)
    if found is not None and (fault := _fault(found)):
        what = f"{_FILE}: " if named else ""
        raise NetiError(f"{what}{found}: no certificate authorities can be read there: {fault}")
    return found


def instead(told: str | None) -> str | None:
    """The file for a library of the requests family, which would believe those that it brings
    along. ``told``: the file that it was told. None: the library's own, or REQUESTS_CA_BUNDLE.
    Raises NetiError as ``of_host``."""
    if told or os.environ.get("REQUESTS_CA_BUNDLE"):
        return told
    found = of_host()
    return None if found is None else str(found)


def context() -> ssl.SSLContext:
    """For a client: checks names and certificates, by the authorities of the host, of SSL_CERT_FILE
    and of SSL_CERT_DIR. Raises NetiError where there are none."""
    made = ssl.create_default_context()
    # From Python 3.13 on it asks for more than other programs of this host do, and than many a
    # company's authority has.
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    found = of_host()
    if found is not None:
        made.load_verify_locations(found)
    elif not _in_folder() and not made.cert_store_stats()["x509_ca"]:
        looked = ", ".join(map(str, FILES))
        raise NetiError(
            f"this host has no certificate authorities, so no server can be trusted ({looked} "
            f"are not there). Install ca-certificates, or name a file in {_FILE}"
        )
    return made


def _in_folder() -> bool:
    """OpenSSL reads a folder only when it needs something there."""
    folder = ssl.get_default_verify_paths().capath
    try:
        return folder is not None and any(Path(folder).iterdir())
    except OSError:
        return False


@functools.cache  # each client of the SDK asks, and there may be a hundred authorities
def _fault(file: Path) -> str:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(file)
    except (OSError, ssl.SSLError) as error:
        return why(error)
    return ""

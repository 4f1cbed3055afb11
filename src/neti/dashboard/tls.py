"""With which certificate the page is served beyond loopback.

Must never do: serve by one that no browser takes for a server's.
"""

import contextlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from neti.errors import NetiError
from neti.model.settings import Settings
from neti.words import why

_TURNS: Final = 10  # a handshake takes three


@dataclass(frozen=True, slots=True)
class Certificate:
    cert: Path
    key: Path


def chosen(settings: Settings, cert: Path | None, key: Path | None) -> Certificate:
    """The one that is asked for, or else that of ``registry_tls``. Raises NetiError."""
    if cert is not None and key is not None:
        _load(ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), Certificate(cert, key))
        return Certificate(cert, key)
    tls = settings.registry_tls
    if tls is None:
        raise NetiError(
            "beyond loopback the page is served by TLS only, and neti.yml has no registry_tls, "
            "whose certificate would be used\n→ --cert FILE --key FILE, or without --listen, and "
            "'ssh -L 8642:127.0.0.1:8642 HOST' from your machine"
        )
    found = Certificate(tls.cert, tls.key)
    if refused := _refused(found, tls.ca):
        raise NetiError(
            f"{found.cert}: no browser would take it for a server's ({refused})\n→ --cert FILE "
            "--key FILE, or without --listen, and 'ssh -L 8642:127.0.0.1:8642 HOST' from your "
            "machine"
        )
    return found


def _refused(certificate: Certificate, ca: Path) -> str:
    """Why a client that trusts ``ca`` does not go on; empty: it does. An operator's certificate is
    often a client's alone (RFC 5280, 4.2.1.12). Both ends are here: nothing is sent anywhere."""
    served, asks = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    asks.check_hostname = False  # by which name it is called, only a browser knows
    _load(served, certificate)
    try:
        asks.load_verify_locations(ca)
    except (OSError, ssl.SSLError) as error:
        raise NetiError(f"registry_tls: ca: {ca}: cannot be used: {why(error)}") from error
    to, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = served.wrap_bio(to, back, server_side=True)
    client = asks.wrap_bio(back, to)
    for _ in range(_TURNS):
        try:
            with contextlib.suppress(ssl.SSLWantReadError):
                client.do_handshake()
                return ""
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        with contextlib.suppress(ssl.SSLWantReadError):
            server.do_handshake()
    return "the handshake does not end"


def _load(context: ssl.SSLContext, certificate: Certificate) -> None:
    try:
        context.load_cert_chain(certificate.cert, certificate.key)
    except (OSError, ssl.SSLError) as error:
        files = f"{certificate.cert}, {certificate.key}"
        raise NetiError(f"{files}: cannot be used for TLS: {why(error)}") from error

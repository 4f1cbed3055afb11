"""From when until when certificates are valid.

The agent asks this for as long as it runs, so nothing is imported for it: Python's own OpenSSL
reads the dates, and the cryptography package, 10 MB in memory, only where that is not to be had.

Must never do: wait for a pipe that stands in a certificate's place.
"""

import _ssl
import contextlib
import datetime
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from neti import files as contents
from neti.errors import NetiError
from neti.model.settings import RegistryTLS
from neti.registry.zookeeper.tls import MAX_BYTES

WARN_DAYS: Final = 14
_DAY: Final = datetime.timedelta(days=1)
# Not in ssl's documentation, but in every CPython from 2.6 to 3.14. It takes a path only.
_decode: Final[Callable[[str], dict[str, Any]] | None] = getattr(_ssl, "_test_decode_cert", None)

Dates = tuple[datetime.datetime, datetime.datetime]


def expiry_problems(files: RegistryTLS, now: float) -> list[str]:
    """Sentences about our own files that have expired, begin later, or end within 14 days."""
    at = datetime.datetime.fromtimestamp(now, datetime.UTC)
    sentences = []
    for key, path in (("cert", files.cert), ("ca", files.ca)):
        try:
            begins, ends = valid(path)
        except NetiError as error:
            sentences.append(f"registry_tls.{key}: {error}")
            continue
        when = f"{ends:%Y-%m-%d %H:%M} UTC"
        if at >= ends:
            sentences.append(f"registry_tls.{key}: {path} expired at {when}: renew it")
        elif at < begins:
            sentences.append(
                f"registry_tls.{key}: {path} is valid only from {begins:%Y-%m-%d %H:%M} UTC: "
                "is this host's clock right?"
            )
        elif ends - at < WARN_DAYS * _DAY:
            sentences.append(
                f"registry_tls.{key}: {path} expires in {(ends - at) / _DAY:.1f} days ({when}): "
                "renew it; the agent takes the new file by itself"
            )
    return sentences


def valid(path: Path) -> Dates:
    """From when until when the first certificate in a PEM file is valid (UTC). Raises NetiError."""
    try:
        pem = contents.read(path.resolve(), MAX_BYTES)
    except OSError as error:
        raise NetiError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return _by_openssl(pem) or _by_library(pem)
    except ValueError as error:
        raise NetiError(f"{path} holds no certificate as PEM") from error


def _by_openssl(pem: bytes) -> Dates | None:
    """None: it cannot be asked, or finds none. Whether there is one, the package says."""
    if _decode is None:
        return None
    try:
        with _as_a_path(pem) as place:
            told = _decode(place)
        begins, ends = (ssl.cert_time_to_seconds(told[key]) for key in ("notBefore", "notAfter"))
    except (OSError, KeyError, ValueError):  # ssl.SSLError is an OSError
        return None
    return (
        datetime.datetime.fromtimestamp(begins, datetime.UTC),
        datetime.datetime.fromtimestamp(ends, datetime.UTC),
    )


def _by_library(pem: bytes) -> Dates:
    """Raises ValueError."""
    from cryptography import x509

    certificate = x509.load_pem_x509_certificate(pem)
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


@contextlib.contextmanager
def _as_a_path(content: bytes) -> Iterator[str]:
    """A file in memory (memfd_create(2)) that holds this."""
    file = os.memfd_create("certificate")
    try:
        os.write(file, content)
        yield f"/proc/self/fd/{file}"
    finally:
        os.close(file)

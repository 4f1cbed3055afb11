"""TLS to ZooKeeper: the fleet's own CA and no other, names checked, this host's certificate shown.

The files are read at every connection, so that a renewed certificate needs no restart. Standard
library only: a certificate's dates are read in ``expiry``.

Must never do: connect without checking, ask for a password on a terminal, or name a file's content.
"""

import os
import socket
import ssl
import time
from pathlib import Path
from typing import Final

from neti import files as contents
from neti.errors import RegistryError
from neti.model.settings import RegistryTLS

MAX_BYTES: Final = 4 * 1024 * 1024  # of a file with certificates; a bundle of many CAs has 0.3
_RENEW: Final = "renew it, or set the wrong clock"
# OpenSSL's X509_V_ERR_…
_NOT_YET_VALID: Final = 9
_EXPIRED: Final = 10
_WRONG_NAMES: Final = (62, 63, 64)


class TLSError(RegistryError):
    """No secure connection is possible until an operator mends a file or a server."""


class TLSFailure(OSError):
    """The same within a connection attempt, where the caller expects an OSError."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence

    def __str__(self) -> str:
        return self.sentence


def context(files: RegistryTLS) -> ssl.SSLContext:
    """For a client. Raises TLSError with the file that is at fault."""
    for key, path in (("ca", files.ca), ("cert", files.cert), ("key", files.key)):
        _readable(key, path)
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # checks host names, requires a certificate
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        made.load_verify_locations(cafile=files.ca)
    except ssl.SSLError as error:
        raise TLSError(
            f"registry_tls.ca: {files.ca} holds no certificate that can be read "
            f"({_reason(error)}): expected the CA's certificate as PEM"
        ) from error
    try:
        made.load_cert_chain(files.cert, files.key, password=_no_password)
    except _Encrypted as error:
        raise TLSError(
            f"registry_tls.key: {files.key} is encrypted, and an agent can ask nobody for its "
            "password: keep it in plain with mode 0600 (openssl pkey -in … -out …)"
        ) from error
    except ssl.SSLError as error:
        raise TLSError(_pair_fault(files, error)) from error
    return made


def connect(
    files: RegistryTLS, address: tuple[str, int], *, name: str, seconds: float
) -> ssl.SSLSocket:
    """A connection to the server that the configuration calls ``name``, or TLSFailure (or another
    OSError, where it is not about TLS)."""
    try:
        secure = context(files)
    except TLSError as error:
        raise TLSFailure(str(error)) from error
    plain = socket.create_connection(address, seconds)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return secure.wrap_socket(plain, server_hostname=name)
    except (ssl.SSLError, ConnectionError) as error:
        plain.close()
        raise TLSFailure(explained(error, name, files)) from error
    except BaseException:
        plain.close()
        raise


def explained(error: OSError, name: str, files: RegistryTLS | None = None) -> str:
    """What a failed handshake means and what to do; ``name`` as the configuration has it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _distrust(error, name)
    reason = _reason(error)
    if "ALERT" in reason and "VERSION" not in reason:
        return (
            f"the server refuses this host's certificate ({reason}): registry_tls.cert must be "
            "valid now and come from a CA that the server trusts (its ssl.trustStore)"
            f"{_dates(files)}"
        )
    if "VERSION" in reason:
        return (
            f"it does not speak TLS 1.2 or later ({reason}): "
            "does zk_hosts name the plain port instead of secureClientPort?"
        )
    return (
        f"the connection ended in the TLS handshake ({reason}): does zk_hosts name the plain port "
        "instead of secureClientPort, or does the server refuse this host's certificate?"
        f"{_dates(files)}"
    )


def refusal(error: BaseException | None, files: RegistryTLS) -> str | None:
    """What lies behind a connection's failure, where that was TLS; the server speaks of our
    certificate only after the handshake (TLS 1.3)."""
    seen = 0
    while error is not None and seen < 5:
        if isinstance(error, TLSFailure):
            return error.sentence
        if isinstance(error, ssl.SSLError) and not isinstance(
            error, ssl.SSLWantReadError | ssl.SSLWantWriteError
        ):
            return explained(error, "the server", files)
        error, seen = error.__cause__ or error.__context__, seen + 1
    return None


def _distrust(error: ssl.SSLCertVerificationError, name: str) -> str:
    if error.verify_code == _EXPIRED:
        return f"the certificate of {name}, or of its CA, has expired: {_RENEW}"
    if error.verify_code == _NOT_YET_VALID:
        return f"the certificate of {name}, or of its CA, is not valid yet: {_RENEW}"
    if error.verify_code in _WRONG_NAMES:
        return (
            f"its certificate is not for {name} ({error.verify_message}): give the server one with "
            "that name as subjectAltName (for an address an IP one), or write its name in zk_hosts"
        )
    return (
        f"its certificate does not come from registry_tls.ca ({error.verify_message}): "
        "this is another server, or the fleet's CA is another one"
    )


def _pair_fault(files: RegistryTLS, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return (
            f"registry_tls: {files.key} is not the key of {files.cert}: "
            "the two must have been made for each other"
        )
    return (
        f"registry_tls: {files.cert} and {files.key} cannot be used ({_reason(error)}): expected a "
        "certificate (with what stands between it and the CA) and its private key, both as PEM"
    )


def _dates(files: RegistryTLS | None) -> str:
    """What is wrong with the dates of our own files."""
    if files is None:
        return ""
    from neti.registry.zookeeper.expiry import expiry_problems

    return "".join(f"; {sentence}" for sentence in expiry_problems(files, time.time()))


class _Encrypted(Exception):
    pass


def _no_password() -> str:
    raise _Encrypted


def _readable(key: str, path: Path) -> None:
    try:
        contents.read(path.resolve(), MAX_BYTES)  # which never waits for a pipe
    except FileNotFoundError as error:
        raise TLSError(
            f"registry_tls.{key}: there is no file {path}: put it there, or correct the path"
        ) from error
    except OSError as error:
        raise TLSError(
            f"registry_tls.{key}: {path} cannot be read by user {os.geteuid()}: {error.strerror}"
        ) from error


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    return str(reason or error.strerror or error)

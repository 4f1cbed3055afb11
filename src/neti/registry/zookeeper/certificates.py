"""Certificates made, and their subjects read, by the cryptography package.

Must never do: overwrite a file, or leave a private key readable by others.
"""

import datetime
import ipaddress
import os
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from neti import files as contents
from neti.errors import NetiError
from neti.registry.zookeeper.tls import MAX_BYTES

_CA_FILES: Final = ("ca.pem", "ca.key")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One certificate: ``unit`` is servers, hosts, operators or supers; names are
    subjectAltNames."""

    name: str
    unit: str
    names: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        return f"{self.unit.removesuffix('s')}-{self.name}"


# --- reading ---


def subject(path: Path) -> str:
    """The subject of a certificate file as ZooKeeper spells it (RFC 2253)."""
    return _read(path).subject.rfc4514_string()


def _read(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(contents.read(path.resolve(), MAX_BYTES))
    except OSError as error:
        raise NetiError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise NetiError(f"{path} holds no certificate as PEM") from error


# --- making ---


def make(folder: Path, wanted: Sequence[Wanted], *, days: int, now: float) -> list[Path]:
    """A CA (or the one that is in ``folder`` already) and these certificates with their keys.

    A server gets a third file, key and certificate in one, which is what ZooKeeper's PEM key
    stores are. Raises NetiError before anything is written when a file is there already, or when
    others could have put the CA there.
    """
    stems = [one.stem for one in wanted]
    if doubled := sorted({stem for stem in stems if stems.count(stem) > 1}):
        raise NetiError(f"asked for twice: {', '.join(doubled)}")
    given = [folder / name for name in _CA_FILES if (folder / name).exists()]
    if len(given) == 1:
        raise NetiError(f"{given[0]} is there without its other half: remove it, or bring that")
    files = [folder / f"{stem}{end}" for stem in stems for end in (".pem", ".key", ".store.pem")]
    if there := [path for path in files if path.exists()]:
        raise NetiError(f"{there[0]} is there already, and nothing is overwritten: remove it first")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for path in (folder, *given):
            _nobody_elses(path)
        authority = _Authority.of(folder, days=days, now=now, new=not given)
        made = [] if given else [folder / name for name in _CA_FILES]
        for one in wanted:
            made += authority.issue(folder, one, days=days, now=now)
    except OSError as error:
        raise NetiError(f"{folder}: {error.strerror}: name a folder that you may write") from error
    return made


def _nobody_elses(path: Path) -> None:
    """Whoever may write to a CA's files, or put them there, decides who is an operator. Raises
    NetiError, or OSError."""
    seen = path.stat()
    if seen.st_uid not in (0, os.geteuid()):
        raise NetiError(
            f"{path} belongs to another user, who could make certificates too: name a new folder"
        )
    if seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise NetiError(
            f"{path} is writable for others: run 'chmod go-w' on it if all in it is yours"
        )


@dataclass(frozen=True, slots=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def of(cls, folder: Path, *, days: int, now: float, new: bool) -> "_Authority":
        certificate_file, key_file = (folder / name for name in _CA_FILES)
        if not new:
            try:
                pem = contents.read(key_file.resolve(), MAX_BYTES)
                key = serialization.load_pem_private_key(pem, None)
            except (ValueError, TypeError) as error:
                raise NetiError(f"{key_file} is no private key in plain PEM") from error
            if not isinstance(key, ec.EllipticCurvePrivateKey):
                raise NetiError(f"{key_file} was not made by 'neti registry dev-ca'")
            return cls(_read(certificate_file), key)
        key = ec.generate_private_key(ec.SECP256R1())
        # By chance, so that two of them are told apart in errors.
        name = _name(f"Neti development CA {os.urandom(4).hex()}", None)
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            _builder(name, name, key, key, days=days, now=now)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        _write(key_file, _key_bytes(key), 0o600)
        _write(certificate_file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
        return cls(certificate, key)

    def issue(self, folder: Path, one: Wanted, *, days: int, now: float) -> list[Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
        if one.unit == "servers":
            purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
        builder = (
            _builder(
                *(_name(one.name, one.unit), self.certificate.subject, key, self.key),
                days=days,
                now=now,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        )
        if one.names:
            names = x509.SubjectAlternativeName(_alternatives(one.names))
            builder = builder.add_extension(names, critical=False)
        text = builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        made = [folder / f"{one.stem}.key", folder / f"{one.stem}.pem"]
        _write(made[0], _key_bytes(key), 0o600)
        _write(made[1], text, 0o644)
        if one.unit == "servers":
            made.append(folder / f"{one.stem}.store.pem")
            _write(made[2], _key_bytes(key) + text, 0o600)
        return made


def _builder(
    name: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuers: ec.EllipticCurvePrivateKey,
    *,
    days: int,
    now: float,
) -> x509.CertificateBuilder:
    """With both keys' identifiers (RFC 5280, 4.2.1): Python 3.13 trusts nothing without them."""
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    by = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuers.public_key())
    at = datetime.datetime.fromtimestamp(now, datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(at - datetime.timedelta(minutes=10))  # others' clocks may lag
        .not_valid_after(at + datetime.timedelta(days=days))
        .add_extension(own, critical=False)
        .add_extension(by, critical=False)
    )


def _name(common: str, unit: str | None) -> x509.Name:
    parts = [] if unit is None else [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit)]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _alternatives(names: Iterable[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _key_bytes(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)
        file.write(content)

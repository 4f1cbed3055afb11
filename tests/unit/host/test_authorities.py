"""Whom this host trusts to sign certificates of servers in the world, wherever it has them."""

import datetime
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from neti.aws import access
from neti.aws.troubles import of_authority
from neti.errors import NetiError
from neti.host import authorities


@pytest.fixture(name="pem", scope="module")
def _pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A company's own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Proxy of Example Inc.")])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=9999))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    path.write_bytes(made.public_bytes(Encoding.PEM))
    return path


@pytest.fixture(autouse=True, name="hosts_file")
def _hosts_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The second place where a host may have its own; nothing is anywhere yet."""
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    places = (tmp_path / "nowhere.pem", tmp_path / "second.pem")
    monkeypatch.setattr(authorities, "FILES", places)
    return places[1]


def believed(context: ssl.SSLContext) -> set[str]:
    subjects: list[Any] = [one["subject"] for one in context.get_ca_certs()]
    return {value for subject in subjects for part in subject for _, value in part}


def test_the_hosts_own_file_is_believed_wherever_it_is(hosts_file: Path, pem: Path) -> None:
    assert authorities.of_host() is None
    hosts_file.write_bytes(pem.read_bytes())
    assert authorities.of_host() == hosts_file
    assert authorities.instead(None) == str(hosts_file)
    made = authorities.context()
    assert "Proxy of Example Inc." in believed(made)
    assert made.check_hostname
    assert made.verify_mode == ssl.CERT_REQUIRED
    assert not made.verify_flags & ssl.VERIFY_X509_STRICT


def test_the_file_that_a_variable_names_is_believed_before_the_hosts(
    hosts_file: Path, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hosts_file.write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    assert authorities.of_host() == pem
    assert believed(authorities.context()) == {"Proxy of Example Inc."}


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_a_file_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    file = tmp_path / "named.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    for asked in (authorities.context, lambda: authorities.instead(None)):
        with pytest.raises(NetiError, match=r"SSL_CERT_FILE: .*named\.pem: no certificate auth"):
            asked()


def test_a_host_without_any_says_where_they_would_be(
    hosts_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenSSL's own places are empty too."""
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "no-folder"))
    monkeypatch.setattr(
        ssl, "create_default_context", lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    )
    with pytest.raises(NetiError, match=r"second\.pem are not there.*SSL_CERT_FILE"):
        authorities.context()
    assert authorities.instead(None) is None


def test_who_has_told_the_sdk_another_file_is_heard(
    hosts_file: Path, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By AWS_CA_BUNDLE or the profile's ca_bundle; by REQUESTS_CA_BUNDLE, which it reads itself."""
    hosts_file.write_bytes(pem.read_bytes())

    def verified() -> object:
        session = access._session_class()()
        client: Any = session.create_client(
            "sts", "eu-west-1", aws_access_key_id="x", aws_secret_access_key="y", verify=None
        )
        return client._endpoint.http_session._verify

    assert verified() == str(hosts_file)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/requests.pem")
    assert verified() == "/requests.pem"
    monkeypatch.setenv("AWS_CA_BUNDLE", "/told.pem")
    assert verified() == "/told.pem"


@pytest.mark.parametrize(
    ("said", "hinted"),
    [
        ("self-signed certificate in certificate chain", True),
        ("self signed certificate", True),
        ("unable to get local issuer certificate", True),
        ("unable to verify the first certificate", True),
        ("certificate has expired", False),
        ("Hostname mismatch, certificate is not valid for 'localhost'.", False),
    ],
)
def test_a_hint_only_for_an_authority_that_is_not_known(said: str, hinted: bool) -> None:
    assert ("update-ca-certificates" in of_authority(said)) is hinted

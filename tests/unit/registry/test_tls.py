"""A TLS client that trusts one CA, checks names, and says what is wrong in one sentence."""

import datetime
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from neti.cli import cli
from neti.errors import NetiError
from neti.model.settings import RegistryTLS, Settings
from neti.registry import opening
from neti.registry.zookeeper import expiry, tls
from neti.registry.zookeeper.certificates import Wanted, make, subject
from neti.registry.zookeeper.expiry import expiry_problems
from neti.registry.zookeeper.tls import TLSError, TLSFailure
from neti_lab.zookeeper import ServerTLS

DAY = 86400.0


def authority(folder: Path, *, now: float | None = None, names: str = "127.0.0.1") -> Path:
    """A CA with a server and a host, as if made at ``now``."""
    wanted = [Wanted("zk1", "servers", (names,)), Wanted("a", "hosts"), Wanted("b", "hosts")]
    make(folder, wanted, days=30, now=time.time() if now is None else now)
    return folder


def files(folder: Path, stem: str = "host-a", *, ca: Path | None = None) -> RegistryTLS:
    return RegistryTLS(
        ca=(ca or folder) / "ca.pem", cert=folder / f"{stem}.pem", key=folder / f"{stem}.key"
    )


@contextmanager
def server(folder: Path | None, *, trusts: Path | None = None) -> Iterator[int]:
    """A server that greets whoever gets in; without ``folder`` it knows no TLS and hangs up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            try:
                if folder is not None:
                    secure = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                    secure.load_cert_chain(folder / "server-zk1.pem", folder / "server-zk1.key")
                    secure.load_verify_locations((trusts or folder) / "ca.pem")
                    secure.verify_mode = ssl.CERT_REQUIRED
                    connection = secure.wrap_socket(connection, server_side=True)
                connection.sendall(b"hello")
            except OSError:
                pass
            finally:
                connection.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


def greeting(given: RegistryTLS, port: int, name: str = "127.0.0.1") -> bytes:
    with tls.connect(given, ("127.0.0.1", port), name=name, seconds=5) as connection:
        return connection.recv(5)


def failure(given: RegistryTLS, port: int, name: str = "127.0.0.1") -> str:
    """What the operator reads, whenever in the connection's life the failure comes."""
    with pytest.raises(OSError) as refused:  # noqa: PT011 -- which one is looked at below
        greeting(given, port, name)
    sentence = tls.refusal(refused.value, given)
    assert sentence is not None
    return sentence


def test_a_member_gets_in(tmp_path: Path) -> None:
    folder = authority(tmp_path / "ca")
    with server(folder) as port:
        assert greeting(files(folder), port) == b"hello"


def test_another_ca_is_not_trusted_either_way(tmp_path: Path) -> None:
    """Not the server's by us, and not ours by the server; the machine's own CAs do not matter."""
    ours, other = authority(tmp_path / "ours"), authority(tmp_path / "other")
    with server(other, trusts=ours) as port:
        assert "does not come from registry_tls.ca" in failure(files(ours), port)
    with server(ours) as port:
        given = files(other, ca=ours)
        assert "refuses this host's certificate" in failure(given, port)


@pytest.mark.parametrize("name", ["localhost", "127.0.0.2"])
def test_a_name_that_the_certificate_does_not_have_is_refused(tmp_path: Path, name: str) -> None:
    """A server that is listed by its address needs that address in its certificate."""
    folder = authority(tmp_path / "ca")
    with server(folder) as port:
        sentence = failure(files(folder), port, name)
    assert f"not for {name}" in sentence
    assert "subjectAltName" in sentence


def test_a_server_by_name(tmp_path: Path) -> None:
    folder = authority(tmp_path / "ca", names="zk.example")
    with server(folder) as port:
        assert greeting(files(folder), port, "zk.example") == b"hello"
        assert "not for 127.0.0.1" in failure(files(folder), port)


@pytest.mark.parametrize(
    ("made_days_ago", "word"), [(40, "has expired"), (-40, "is not valid yet")]
)
def test_a_servers_dates_are_checked(tmp_path: Path, made_days_ago: int, word: str) -> None:
    folder = authority(tmp_path / "ca", now=time.time() - made_days_ago * DAY)
    with server(folder) as port:
        assert word in failure(files(folder), port)


def test_our_own_expired_certificate_is_named_with_its_date(tmp_path: Path) -> None:
    """The server only refuses; the reason is in our own file."""
    folder = authority(tmp_path / "ca")
    old = authority(tmp_path / "old", now=time.time() - 40 * DAY)
    with server(folder) as port:
        sentence = failure(files(old, ca=folder), port)
    assert f"{old / 'host-a.pem'} expired at 20" in sentence


def test_a_port_that_speaks_no_tls_is_named(tmp_path: Path) -> None:
    folder = authority(tmp_path / "ca")
    with server(None) as port:
        assert "plain port" in failure(files(folder), port)


def test_old_tls_is_not_spoken(tmp_path: Path) -> None:
    assert tls.context(files(authority(tmp_path / "ca"))).minimum_version == ssl.TLSVersion.TLSv1_2


def test_a_renewed_certificate_is_used_at_the_next_connection(tmp_path: Path) -> None:
    folder = authority(tmp_path / "ca")
    given = files(authority(tmp_path / "old", now=time.time() - 40 * DAY), ca=folder)
    with server(folder) as port:
        failure(given, port)
        given.cert.write_bytes((folder / "host-a.pem").read_bytes())
        given.key.write_bytes((folder / "host-a.key").read_bytes())
        assert greeting(given, port) == b"hello"


@pytest.mark.parametrize("key", ["ca", "cert", "key"])
def test_a_missing_file_is_named_by_key_and_path(tmp_path: Path, key: str) -> None:
    folder = authority(tmp_path / "ca")
    given = files(folder)
    path: Path = getattr(given, key)
    path.unlink()
    with pytest.raises(TLSError, match=rf"registry_tls\.{key}: there is no file {path}"):
        tls.context(given)
    with pytest.raises(TLSFailure, match="there is no file"):
        tls.connect(given, ("127.0.0.1", 1), name="x", seconds=1)


def test_a_folder_instead_of_a_file_is_named(tmp_path: Path) -> None:
    folder = authority(tmp_path / "ca")
    given = RegistryTLS(ca=folder, cert=folder / "host-a.pem", key=folder / "host-a.key")
    with pytest.raises(TLSError, match="cannot be read by user"):
        tls.context(given)


@pytest.mark.parametrize("key", ["ca", "cert", "key"])
def test_a_pipe_instead_of_a_file_is_named_and_not_waited_for(tmp_path: Path, key: str) -> None:
    """A connection attempt must not hang for ever because of what lies where a file should be."""
    given = files(authority(tmp_path / "ca"))
    path: Path = getattr(given, key)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(TLSError, match=rf"registry_tls\.{key}: {path} .*not a regular file"):
        tls.context(given)


@pytest.mark.parametrize("name", ["a b", "999.1.1.1", "zk1..com", "-", "zk1:2281", "zk_1/x"])
def test_a_server_gets_no_name_by_which_nobody_can_call_it(tmp_path: Path, name: str) -> None:
    """Nothing is made then, so the command can be given again as it should have been."""
    words = ["registry", "dev-ca", str(tmp_path / "ca"), "--server", f"zk1=10.21.0.4,{name}"]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 1
    assert f"'{name}' is neither an address nor a host name" in done.stderr
    assert not (tmp_path / "ca").exists()


def test_a_key_of_another_certificate_is_named(tmp_path: Path) -> None:
    folder = authority(tmp_path / "ca")
    given = RegistryTLS(ca=folder / "ca.pem", cert=folder / "host-a.pem", key=folder / "host-b.key")
    with pytest.raises(TLSError, match=r"host-b\.key is not the key of .*host-a\.pem"):
        tls.context(given)


def test_what_is_no_pem_is_named(tmp_path: Path) -> None:
    folder = authority(tmp_path / "ca")
    given = files(folder)
    given.ca.write_text("nothing")
    with pytest.raises(TLSError, match=r"ca\.pem holds no certificate"):
        tls.context(given)


def test_an_encrypted_key_asks_nobody(tmp_path: Path) -> None:
    """OpenSSL would ask on the terminal, and the agent would hang."""
    folder = authority(tmp_path / "ca")
    given = files(folder)
    plain = given.key.with_name("plain.key")
    given.key.rename(plain)
    command = ["openssl", "pkey", "-in", str(plain), "-aes256", "-passout", "pass:x"]
    command += ["-out", str(given.key)]
    subprocess.run(command, check=True)
    with pytest.raises(TLSError, match=r"host-a\.key is encrypted"):
        tls.context(given)


def test_an_expiry_within_14_days_is_a_problem_and_none_before(tmp_path: Path) -> None:
    now = time.time()
    given = files(authority(tmp_path / "ca", now=now))
    assert expiry_problems(given, now + 15 * DAY) == []
    near = expiry_problems(given, now + 17 * DAY)
    assert [" ".join(s.split()[2:5]) for s in near] == ["expires in 13.0"] * 2
    assert "expired at" in expiry_problems(given, now + 31 * DAY)[0]
    assert "valid only from" in expiry_problems(given, now - DAY)[0]
    given.cert.write_text("nothing")
    assert "holds no certificate" in expiry_problems(given, now)[0]


@pytest.mark.parametrize("days", [1, 30, 9000])
def test_dates_are_the_same_by_openssl_and_by_the_package(
    tmp_path: Path, days: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Years from 2050 on are written in another form (RFC 5280, section 4.1.2.5)."""
    make(tmp_path, [Wanted("a", "hosts")], days=days, now=time.time())
    by_openssl = expiry.valid(tmp_path / "host-a.pem")
    monkeypatch.setattr(expiry, "_decode", None)
    assert by_openssl == expiry.valid(tmp_path / "host-a.pem")
    assert (by_openssl[1] - by_openssl[0]).days >= days


DATES_WITHOUT_THE_PACKAGE = """
import pathlib, sys
from neti.registry.zookeeper.expiry import valid
valid(pathlib.Path(sys.argv[1]))
print("cryptography" in sys.modules)
"""


def test_no_package_is_loaded_for_dates(tmp_path: Path) -> None:
    """It would stay in an agent's memory, with 10 MB, for as long as the agent runs."""
    make(tmp_path, [Wanted("a", "hosts")], days=30, now=time.time())
    command = [sys.executable, "-c", DATES_WITHOUT_THE_PACKAGE, str(tmp_path / "host-a.pem")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_status_names_a_certificate_that_ends_and_a_registry_in_plain(tmp_path: Path) -> None:
    """What opening.expiring and notes_of say is what ``neti status`` shows."""
    now = time.time()
    given = files(authority(tmp_path / "ca", now=now))
    secure = Settings(path=tmp_path, registry_tls=given)
    assert opening.expiring(secure, now) == []
    assert "expires in 2.0 days" in opening.expiring(secure, now + 28 * DAY)[0]
    assert opening.notes_of(secure) == []
    other = files(authority(tmp_path / "other", now=now)).key
    given.key.write_bytes(other.read_bytes())
    (said,) = opening.expiring(secure, now)
    assert "no new connection to the registry can be made" in said
    assert f"{given.key} is not the key of {given.cert}" in said
    plain = Settings(path=tmp_path)
    assert opening.expiring(plain, now) == []
    assert "spoken to in plain" in opening.notes_of(plain)[0]
    assert opening.notes_of(Settings(path=tmp_path, embedded=tmp_path / "r.db")) == []


# --- the CA for a first trial ---


def test_keys_are_for_their_owner_only_and_nothing_is_overwritten(tmp_path: Path) -> None:
    folder = authority(tmp_path / "ca")
    keys = [*folder.glob("*.key"), *folder.glob("*.store.pem")]
    assert len(keys) == 5
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(NetiError, match=r"host-b\.pem is there already"):
        make(folder, [Wanted("c", "hosts"), Wanted("b", "hosts")], days=30, now=time.time())
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_later_call_uses_the_same_ca(tmp_path: Path) -> None:
    folder = authority(tmp_path / "ca")
    make(folder, [Wanted("late", "hosts")], days=30, now=time.time())
    assert subject(folder / "host-late.pem") == "CN=late,OU=hosts"
    with server(folder) as port:
        assert greeting(files(folder, "host-late"), port) == b"hello"


def test_half_a_ca_is_an_error(tmp_path: Path) -> None:
    folder = authority(tmp_path / "ca")
    (folder / "ca.key").unlink()
    with pytest.raises(NetiError, match="without its other half"):
        make(folder, [Wanted("late", "hosts")], days=30, now=time.time())


def test_a_certificate_ends_when_it_was_asked_to(tmp_path: Path) -> None:
    folder = tmp_path / "ca"
    made_at = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).timestamp()
    make(folder, [Wanted("a", "hosts")], days=10, now=made_at)
    assert "2026-01-11 00:00 UTC" in expiry_problems(files(folder), made_at + 5 * DAY)[0]


@pytest.mark.parametrize("planted", ["folder", "ca.key", "ca.pem"])
@pytest.mark.parametrize("how", ["owner", "mode"])
def test_a_ca_that_others_could_have_put_there_is_not_used(
    tmp_path: Path, planted: str, how: str
) -> None:
    """Whoever was first in a shared folder would be the fleet's operator."""
    if how == "owner" and os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    folder = tmp_path / "ca"
    make(folder, [], days=1, now=time.time())
    path = folder if planted == "folder" else folder / planted
    if how == "owner":
        os.chown(path, 65534, 65534)
    else:
        path.chmod(0o777)
    with pytest.raises(NetiError, match=re.escape(str(path))):
        make(folder, [Wanted("ann", "operators")], days=1, now=time.time())
    assert {one.name for one in folder.iterdir()} == {"ca.key", "ca.pem"}


def test_a_super_user_is_named_as_zoo_cfg_wants_it(tmp_path: Path) -> None:
    """Its subject is nobody else's, and servers that use the folder get the line."""
    folder = tmp_path / "ca"
    words = ["registry", "dev-ca", str(folder), "--server", "zk1=127.0.0.1", "--super", "root"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 0, result.output
    assert "X509AuthenticationProvider.superUser=CN=root,OU=supers" in result.stderr
    assert ServerTLS.of(folder, "zk1").super_user == "CN=root,OU=supers"
    assert (folder / "super-root.key").stat().st_mode & 0o777 == 0o600

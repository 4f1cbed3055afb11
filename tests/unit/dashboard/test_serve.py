"""Where it listens, as whom it runs, how it ends."""

import http.client
import json
import os
import pwd
import signal
import ssl
import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from tests.support import shown_fleet
from tests.support.dashboards import running

from neti.cli import cli
from neti.dashboard import serve, tls
from neti.dashboard.user import other_user
from neti.errors import NetiError
from neti.model.settings import RegistryTLS, Settings


def served(where: serve.Where) -> serve.Served:
    settings = shown_fleet.settings()
    watched = shown_fleet.MadeUp(settings, shown_fleet.made(3))
    return serve.Served(settings, watched, where, token="t", version="0.1.0")


def test_where_is_an_address_and_a_port() -> None:
    assert serve.where("127.0.0.1:0").local
    assert serve.where("[::1]:8642").local
    assert not serve.where("0.0.0.0:8642").local
    for wrong in (
        "8642",
        "localhost:1",
        "127.0.0.1",
        "127.0.0.1:x",
        "127.0.0.1:70000",
        "::1:8642x",
    ):
        with pytest.raises(ValueError, match="expected"):
            serve.where(wrong)


@pytest.fixture(name="ca", scope="module")
def _ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates") / "ca"
    words = ["registry", "dev-ca", str(folder), "--operator", "ann", "--server", "zk=localhost"]
    made = CliRunner().invoke(cli, words)
    assert made.exit_code == 0, made.output
    return folder


def with_tls(ca: Path, stem: str) -> Settings:
    tls = RegistryTLS(ca=ca / "ca.pem", cert=ca / f"{stem}.pem", key=ca / f"{stem}.key")
    return replace(shown_fleet.settings(), registry_tls=tls)


def test_beyond_loopback_only_by_tls(tmp_path: Path, ca: Path) -> None:
    with pytest.raises(NetiError, match="registry_tls"):
        tls.chosen(shown_fleet.settings(), None, None)
    with pytest.raises(ValueError, match="certificate"):
        served(serve.where("0.0.0.0:0"))
    torn = tmp_path / "cert.pem"
    torn.write_text("no certificate")
    with pytest.raises(NetiError, match="cannot be used"):
        tls.chosen(with_tls(ca, "operator-ann"), torn, torn)
    assert tls.chosen(with_tls(ca, "server-zk"), None, None).cert == ca / "server-zk.pem"


def test_a_certificate_that_no_browser_would_take_is_refused(ca: Path) -> None:
    """An operator's is a client's."""
    settings = with_tls(ca, "operator-ann")
    with pytest.raises(NetiError, match="unsuitable certificate purpose"):
        tls.chosen(settings, None, None)
    cert, key = ca / "server-zk.pem", ca / "server-zk.key"
    assert tls.chosen(settings, cert, key) == tls.Certificate(cert, key)


def test_beyond_loopback_a_browser_that_trusts_it_is_answered(ca: Path) -> None:
    with running("3", "0.0.0.0:0", f"tls={ca / 'server-zk'}") as there:
        assert there.link.startswith(f"https://localhost:{there.port}/#token=")
        trusts = ssl.create_default_context(cafile=ca / "ca.pem")
        trusts.verify_flags |= ssl.VERIFY_X509_STRICT  # as Python has it from 3.13 on
        asked = http.client.HTTPSConnection("localhost", there.port, timeout=20, context=trusts)
        said = {"Host": f"localhost:{there.port}", "Authorization": f"Bearer {there.token}"}
        with closing(asked):
            asked.request("GET", "/data/fleet", headers=said)
            assert len(json.loads(asked.getresponse().read())["hosts"]) == 3
        plain = http.client.HTTPConnection("localhost", there.port, timeout=20)
        with closing(plain):
            plain.request("GET", "/data/fleet", headers=said)
            with pytest.raises((http.client.BadStatusLine, ConnectionError)):
                plain.getresponse()


def test_a_port_that_is_taken_is_said() -> None:
    with running("3") as there, pytest.raises(NetiError, match="Address already in use"):
        served(serve.where(f"127.0.0.1:{there.port}"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_when_it_is_told_to_though_a_page_is_open(number: signal.Signals) -> None:
    with running("30") as there:
        changes = there.changes(1)
        next(changes)
        there.process.send_signal(number)
        assert there.process.wait(10) == 0


def test_it_ends_when_nobody_reads_any_more_what_it_says() -> None:
    """ssh without a terminal, after Ctrl-C."""
    with running("3") as there:
        assert there.process.stdout is not None
        there.process.stdout.close()
        assert there.process.wait(20) == 0


def test_as_root_it_goes_on_as_somebody_who_may_read_what_it_needs() -> None:
    if os.geteuid() != 0:
        assert other_user([Path("/etc/passwd")]) is None
        return
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        open_, closed = Path(folder, "neti.yml"), Path(folder, "key.pem")
        for path, mode in ((open_, 0o644), (closed, 0o600)):
            path.write_text("")
            path.chmod(mode)
        found = other_user([open_, Path(folder, "not there")])
        assert found is not None
        assert found.pw_uid in [pwd.getpwnam("nobody").pw_uid, *_uid("neti")]
        with pytest.raises(NetiError, match=r"key\.pem"):
            other_user([open_, closed])
        nobody = pwd.getpwnam("nobody")
        os.chown(closed, nobody.pw_uid, nobody.pw_gid)
        found = other_user([open_, closed])
        assert found is not None
        assert found.pw_name == "nobody"
    assert os.geteuid() == 0


def _uid(name: str) -> list[int]:
    try:
        return [pwd.getpwnam(name).pw_uid]
    except KeyError:
        return []

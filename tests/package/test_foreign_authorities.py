"""Whom a host's Neti believes that it speaks to, where the registry's own authority is not asked:
AWS and its file of ranges. A company's proxy that inspects TLS has an authority of the company's,
which is in the host's own file, and that is somewhere else in each distribution."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.package.conftest import ROOTS, newest
from tests.support.foreign_host import NETI, PYTHON, machine_with, python, run_with
from tests.support.machine import CONFIG, Machine, wait
from tests.support.netns import require_root

from neti.host import authorities

pytestmark = pytest.mark.package

URL: Final = "https://127.0.0.1:8443/ip-ranges.json"
AWS: Final = {
    "AWS_ENDPOINT_URL": "https://127.0.0.1:8443",
    "AWS_ACCESS_KEY_ID": "AKIA",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "eu-west-1",
    "AWS_CONFIG_FILE": "/dev/null",
}
# Answers everything alike.
SERVER: Final = """\
import http.server, ssl, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b"<DescribeRegionsResponse/>"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    do_POST = do_GET
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server = http.server.HTTPServer(("127.0.0.1", 8443), Answer)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
FETCH: Final = f"""\
from neti.aws.published import fetch
from neti.errors import NetiError
try: print(fetch({URL!r}).decode())
except NetiError as error: print(error)
"""
CALL: Final = """\
from neti.aws.access import open_places
from neti.errors import NetiError
try: print(open_places(regions=["eu-west-1"], tries=1)[0].call("describe_regions", {}))
except NetiError as error: print(error)
"""


@pytest.fixture(scope="module", name="host")
def _host(debs: list[Path]) -> Iterator[Machine]:
    require_root()
    with machine_with(newest("neti-*.tar.gz"), ROOTS / "bookworm") as booted:
        booted.run("ln", "-s", "/mnt/files/neti/opt/neti", "/opt/neti")
        booted.run(NETI, "registry", "dev-ca", "/srv/ca", "--server", "aws=127.0.0.1")
        (booted.files / "server.py").write_text(SERVER)
        pair = ("/srv/ca/server-aws.pem", "/srv/ca/server-aws.key")
        program = (PYTHON, "-I", "/mnt/files/server.py", *pair)
        booted.run("systemd-run", "--collect", "--unit=https", *program)
        wait(lambda: "certificate" in fetched(booted, SSL_CERT_FILE="/srv/ca/ca.key"), "it answers")
        yield booted


def fetched(host: Machine, **environment: str) -> str:
    return python(host, FETCH, **environment)


def called(host: Machine, **environment: str) -> str:
    """By AWS's SDK."""
    return python(host, CALL, **AWS, **environment)


def test_a_host_without_authorities_says_so(host: Machine) -> None:
    said = fetched(host)
    assert "this host has no certificate authorities" in said
    assert "Install ca-certificates, or name a file in SSL_CERT_FILE" in said
    # The SDK brings some of its own, in which this one is not.
    assert "This host does not know its authority" in called(host)


@pytest.mark.parametrize("place", authorities.FILES, ids=str)
def test_the_hosts_own_file_is_believed(host: Machine, place: Path) -> None:
    file = host.path(str(place))
    host.run("mkdir", "-p", str(place.parent))
    host.run("cp", "/srv/ca/ca.pem", str(place))
    try:
        assert fetched(host) == "<DescribeRegionsResponse/>"
        assert called(host).startswith("{")
        if place != authorities.FILES[0]:
            return
        # Others' authorities are there, and not this one.
        host.run("cp", "/opt/neti/lib/python3.13/dist-packages/botocore/cacert.pem", str(place))
        for said in (fetched(host), called(host)):
            assert "This host does not know its authority" in said
            assert "SSL_CERT_FILE" in said
        file.write_text("no certificate")
        for said in (fetched(host), called(host)):
            assert f"{place}: no certificate authorities can be read there" in said
    finally:
        file.unlink()


def test_what_variables_name_is_believed(host: Machine, tmp_path: Path) -> None:
    for name in ("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        assert called(host, **{name: "/srv/ca/ca.pem"}).startswith("{"), name
    assert fetched(host, SSL_CERT_FILE="/srv/ca/ca.pem") == "<DescribeRegionsResponse/>"
    missing = "SSL_CERT_FILE: /nonexistent.pem: no certificate authorities can be read there"
    assert fetched(host, SSL_CERT_FILE="/nonexistent.pem").startswith(missing)
    assert missing in called(host, SSL_CERT_FILE="/nonexistent.pem")
    # As c_rehash(1) names them.
    hashed = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(host.path("/srv/ca/ca.pem"))]
    name = subprocess.run(hashed, capture_output=True, text=True, check=True).stdout.strip()
    host.run("mkdir", "/srv/hashed")
    host.run("cp", "/srv/ca/ca.pem", f"/srv/hashed/{name}.0")
    assert fetched(host, SSL_CERT_DIR="/srv/hashed") == "<DescribeRegionsResponse/>"
    # Through bin/neti, which drops other variables.
    host.path("/srv/neti.yml").write_text(CONFIG)
    tag = [NETI, "aws", "tag", "-c", "/srv/neti.yml", "--overlay", "192.168.0.1"]
    tag += ["--instance", "i-0123456789abcdef0"]
    refused = run_with(host, AWS, *tag, check=False).stderr
    assert "CERTIFICATE_VERIFY_FAILED" in refused
    asked = {**AWS, "SSL_CERT_FILE": "/srv/ca/ca.pem", "SSLKEYLOGFILE": "/nonexistent/keys"}
    assert "CERTIFICATE" not in run_with(host, asked, *tag, check=False).stderr
    assert "nonexistent" not in run_with(host, asked, *tag, check=False).stderr

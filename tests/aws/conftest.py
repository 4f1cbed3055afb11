"""AWS as moto plays it, made stricter; the commands as they are typed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.aws import Account, MotoServer, environment, shared_server

from neti.cli import cli

Neti = Callable[..., Result]


@pytest.fixture(name="server")
def _server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MotoServer]:
    server = shared_server()
    server.reset()
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_REGION", "NETI_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment(server.url).items():
        monkeypatch.setenv(name, value)
    yield server
    server.reset()


@pytest.fixture(name="account")
def _account(server: MotoServer) -> Account:
    return Account.of(server.url)


@pytest.fixture(name="config")
def _config(tmp_path: Path, account: Account) -> Path:
    path = tmp_path / "neti.yml"
    path.write_text(
        f"""registry: embedded:{tmp_path}/registry.db
table_files_path: {tmp_path}/state
zk_hosts: {{ec2: ["10.9.9.1:2181"], vpc: ["10.9.9.2:2181"]}}
sites:
  ec2: {{vpc_ids: [{account.vpc_id}]}}
  vpc: {{vpc_ids: [vpc-0bb2]}}
ssh_whitelist: [203.0.113.0/24]
"""
    )
    return path


@pytest.fixture(name="neti")
def _neti(config: Path) -> Neti:
    """Runs a command; the configuration is given where the command takes one."""

    def run(*words: str, input: str | None = None) -> Result:
        return CliRunner().invoke(cli, words, input=input, env={"NETI_CONFIG": str(config)})

    return run

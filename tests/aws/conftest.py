"""AWS as moto plays it, made stricter; the commands as they are typed."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.support.aws import Account, MotoServer, shared_server, use_sdk

from neti.cli import cli
from neti.model import Member, entry
from neti.registry.embedded.registry import EmbeddedRegistry

Neti = Callable[..., Result]


@pytest.fixture(name="server")
def _server(monkeypatch: pytest.MonkeyPatch) -> Iterator[MotoServer]:
    server = shared_server()
    server.reset()
    use_sdk(monkeypatch, server.url)
    yield server
    server.reset()


@pytest.fixture(name="account")
def _account(server: MotoServer) -> Account:
    return Account.of(server.url)


@pytest.fixture(name="config")
def _config(tmp_path: Path, account: Account) -> Path:
    path = tmp_path / "neti.yml"
    with closing(EmbeddedRegistry(tmp_path / "registry.db")) as made:
        made.names()  # some agent was here once
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


class Members:
    """Fills the embedded registry of the configuration with hosts, as their agents would."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._open: dict[str, EmbeddedRegistry] = {}

    def join(
        self,
        host_id: str,
        private: str,
        public: str | None,
        *,
        site: str = "ec2",
        version: str = "0.1.0",
    ) -> IPv4Address:
        registry = EmbeddedRegistry(self._path, session_seconds=600)
        self._open[host_id] = registry
        overlay = registry.acquire(host_id, IPv4Network("192.168.0.0/18"))
        member = Member(
            id=host_id,
            site=site,
            private=IPv4Address(private),
            public=IPv4Address(public) if public else None,
            overlay=overlay,
        )
        told = {"name": host_id, "version": version, "stage": "shadow"}
        registry.register(
            host_id=host_id,
            name=entry.encode(member),
            data=b"",
            detail=json.dumps(told).encode(),
        )
        return overlay

    def vanish(self, host_id: str) -> None:
        """The session ends without a word; the lease stays."""
        self._open.pop(host_id).close()

    def release(self, host_id: str) -> None:
        registry = EmbeddedRegistry(self._path)
        registry.release(host_id)
        registry.close()

    def leases(self) -> dict[str, IPv4Address]:
        registry = EmbeddedRegistry(self._path)
        held = {host_id: overlay for overlay, host_id in registry.leases().items()}
        registry.close()
        return held

    def close(self) -> None:
        for registry in self._open.values():
            registry.close()


@pytest.fixture(name="members")
def _members(tmp_path: Path) -> Iterator[Members]:
    members = Members(tmp_path / "registry.db")
    yield members
    members.close()

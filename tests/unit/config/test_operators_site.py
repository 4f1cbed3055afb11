"""A command on a machine of nobody's: no site is configured, and no metadata service answers."""

import socket
from pathlib import Path

import pytest

from neti.cli.common import site_of
from neti.config import load


def test_a_silent_metadata_service_costs_a_second_and_a_word(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It accepts and says nothing, as a filtered address does."""
    path = tmp_path / "neti.yml"
    path.write_text('zk_hosts: {ec2: ["10.9.9.1:2181"]}\nsites: {ec2: {private: [10.0.0.0/8]}}\n')
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", endpoint)
        silent.setblocking(False)
        assert site_of(load(path)) is None
        silent.accept()[0].close()
        with pytest.raises(BlockingIOError):  # it was asked once
            silent.accept()
    said = capsys.readouterr().err
    assert "this machine's site is not known" in said
    assert "'site: NAME' into the configuration" in said

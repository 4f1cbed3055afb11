"""Agents on Google, on Azure, and on a machine that says itself who it is: from boot to in step."""

import contextlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from tests.support.netns import PRIVATE, Net

from neti.control import client
from neti.errors import NetiError
from neti.identity.here import machine_digits
from neti_lab.metadata import Address, Fault, InstanceMetadata, Interface, MetadataService

pytestmark = pytest.mark.kernel

METADATA = "169.254.169.254"
PUBLIC = IPv4Address("198.51.100.5")
MOVED = IPv4Address("198.51.100.6")
PATIENCE = 60.0  # seconds: only what hangs takes as long
SECOND = Interface(
    mac="02:00:00:00:00:99",
    addresses=(Address(private=IPv4Address("10.9.0.7"), public=IPv4Address("198.51.100.99")),),
    vpc_id="staging",
)
GOOGLE = InstanceMetadata(
    cloud="gcp",
    instance_id="4513456781234567890",
    private=IPv4Address(PRIVATE),
    public=PUBLIC,
    vpc_id="prod",
    interfaces=(SECOND,),
)
AZURE = replace(
    GOOGLE, cloud="azure", instance_id="5c08b38e-4d57-4c23-ac45-aca61037f084", vpc_id="sub-1/prod"
)
IDS = {"gcp": "4513456781234567890", "azure": "5g5fif7efz72vq47k51r039tw"}
CONFIG = """\
registry: embedded:{folder}/registry.db
identity: {identity}
sites:
  new: {{private: [10.0.0.0/8], public: [198.51.100.0/24], networks: [prod]}}
  old: {{private: [10.0.0.0/8], public: [203.0.113.0/24], networks: [staging]}}
ssh_whitelist: [10.0.0.77/32]
table_files_path: {folder}/state
"""


class Agent:
    """One in the host's namespace; what it says goes to a file."""

    def __init__(self, net: Net, folder: Path, identity: str, text: str = CONFIG) -> None:
        self._net = net
        self._folder = folder
        self._config = folder / "neti.yml"
        self._config.write_text(text.format(folder=folder, identity=identity))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        words = [sys.executable, "-m", "neti", "agent", "-c", str(self._config)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["ip", "netns", "exec", self._net.host, *words], stderr=log
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def look_again(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def status(self) -> dict[str, Any]:
        with contextlib.suppress(NetiError):
            return dict(client.call(self._folder / "state", "status"))
        return {}

    def until(self, true: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            said = self.status()
            if said and true(said):
                return said
            assert self._process is not None
            assert self._process.poll() is None, self.log()
            time.sleep(0.1)
        raise AssertionError(f"{self.status()}\n{self.log()}")

    def log(self) -> str:
        return (self._folder / "log").read_text()


def in_step(said: dict[str, Any]) -> bool:
    return bool(said["registered"])


@pytest.fixture
def served(net: Net) -> Iterator[Callable[[InstanceMetadata], MetadataService]]:
    """A cloud's metadata service at its real address."""
    lines = [f"addr add {METADATA}/32 dev lo", "route replace default via 10.0.0.66 dev eth0"]
    for line in lines:
        subprocess.run(["ip", "-n", net.host, *line.split()], check=True)
    started: list[MetadataService] = []

    def serve(instance: InstanceMetadata) -> MetadataService:
        listener = net.inside(net.host, lambda: socket.create_server((METADATA, 80)))
        mac = net.inside(net.host, lambda: mac_of("eth0"))
        service = MetadataService(replace(instance, mac=mac), listener)
        service.start()
        started.append(service)
        return service

    yield serve
    for service in started:
        service.close()


def mac_of(interface: str) -> str:
    """Of this thread's namespace, which /sys does not follow."""
    said = subprocess.run(
        ["ip", "-o", "link", "show", interface], capture_output=True, text=True, check=True
    ).stdout
    return said.partition("link/ether ")[2].split()[0]


@pytest.fixture
def agent(net: Net, tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    made: list[Agent] = []

    def make(identity: str, text: str = CONFIG) -> Agent:
        made.append(Agent(net, tmp_path, identity, text))
        return made[-1]

    yield make
    for one in made:
        one.kill()


@pytest.mark.parametrize("instance", [GOOGLE, AZURE], ids=["google", "azure"])
def test_an_agent_follows_its_cloud(
    served: Callable[[InstanceMetadata], MetadataService],
    agent: Callable[..., Agent],
    instance: InstanceMetadata,
) -> None:
    """By ``auto``, with two cards: id, site and addresses are this machine's. An address that
    changes is followed, and one that is gone is asked for twice. With the service away a restart
    goes by the last answer."""
    service, one = served(instance), agent("auto")
    one.start()
    said = one.until(in_step)
    assert (said["id"], said["site"]) == (IDS[instance.cloud], "new")
    assert (said["private"], said["public"]) == (PRIVATE, str(PUBLIC))

    service.change(public=MOVED)
    one.look_again()
    one.until(lambda now: now["public"] == str(MOVED))

    service.change(public=None)
    one.look_again()
    one.until(lambda now: now["public"] is None)

    service.fail(Fault.UNAVAILABLE)
    one.kill()
    one.start()
    assert one.until(in_step)["id"] == IDS[instance.cloud]
    assert "Using the answer from" in one.log()


def test_a_machine_says_who_it_is(net: Net, agent: Callable[..., Agent]) -> None:
    """One file for a whole data centre: the machine's id, and the interface's address, which is
    followed when it is another one."""
    one = agent("{id: machine-id, private: eth0}", CONFIG + "site: new\n")
    one.start()
    said = one.until(in_step)
    assert said["id"] == machine_digits(Path("/etc/machine-id").read_text().strip())
    assert (said["private"], said["public"]) == (PRIVATE, None)
    for line in (f"addr del {PRIVATE}/24 dev eth0", "addr add 10.0.0.50/24 dev eth0"):
        subprocess.run(["ip", "-n", net.host, *line.split()], check=True)
    one.look_again()
    one.until(lambda now: now["private"] == "10.0.0.50")

"""The roles zookeeper and zk_proxy, run by ansible-core."""

import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.deploy.conftest import NETI, PYTHON, Site
from tests.support.netns import require_root
from tests.support.playbooks import Controller
from tests.support.zookeeper import need_zookeeper

from neti.registry.zookeeper.probe import Place, takes
from neti_lab import namespaces
from neti_lab.zookeeper import ZooKeeperServer

pytestmark = pytest.mark.lab

ENSEMBLE: list[dict[str, Any]] = [
    {
        "name": "Ensemble",
        "hosts": "neti_zookeeper",
        "gather_facts": False,
        "any_errors_fatal": True,
        "roles": ["neti.fleet.zookeeper"],
    }
]
PROXY: list[dict[str, Any]] = [
    {
        "name": "Proxies",
        "hosts": "neti_zk_proxies",
        "gather_facts": False,
        "roles": ["neti.fleet.zk_proxy"],
    }
]
JAVA = (
    "/usr/bin/java -- $JAVA_OPTS -Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData"
    " -Dzookeeper.jmx.log4j.disable=true -cp /usr/share/java/zookeeper.jar:"
    "/usr/share/java/slf4j-simple.jar org.apache.zookeeper.server.quorum.QuorumPeerMain"
)


def _ensemble(site: Site, names: list[str], **changed: Any) -> None:
    servers = [
        {"id": number, "address": str(site.plan.host(name).private)}
        for number, name in enumerate(names, 1)
    ]
    hosts = {}
    for number, name in enumerate(names, 1):
        disk, order = site.disk(name), site.disks / "order"
        daemon = f"/sbin/start-stop-daemon --pidfile {disk}/zookeeper.pid"
        hosts[name] = {
            "ansible_connection": "neti.fleet.lab",
            "neti_lab": site.plan.name,
            "ansible_python_interpreter": PYTHON,
            "zookeeper_id": number,
            "zookeeper_servers": servers,
            "zookeeper_install": False,
            "zookeeper_config_folder": str(disk / "conf"),
            "zookeeper_data_folder": str(disk / "data"),
            "zookeeper_java_file": str(disk / "java"),
            "zookeeper_owner": "root",
            "zookeeper_group": "root",
            "zookeeper_service_manager": "command",
            "zookeeper_service_commands": {
                "status": f"{daemon} --status",
                "start": f". {disk}/java; echo start {name} >> {order};"
                f" {daemon} --start --background --make-pidfile --output {disk}/log"
                f" --startas {JAVA} {disk}/conf/zoo.cfg",
                "stop": f"echo stop {name} >> {order}; {daemon} --stop --retry 20",
            },
            **changed,
        }
    site.controller.inventory({"neti_zookeeper": hosts})


def _mode(site: Site, name: str) -> str:
    server = ZooKeeperServer(
        address=str(site.plan.host(name).private),
        port=2181,
        namespace=site.plan.namespace(name),
        folder=site.disk(name),
    )
    return server.metrics().get("zk_server_state", "none")


def _takes(site: Site, name: str, length: int) -> bool | None:
    """Whether that server would read a request of so many bytes."""
    place = Place(str(site.plan.host(name).private), 2181)
    return namespaces.call_inside(site.plan.namespace(name), lambda: takes(place, None, length))


def test_an_ensemble_is_made_and_restarted_one_server_at_a_time(
    lab_site: Callable[..., Site],
) -> None:
    """Three servers with a quorum; a changed setting takes them in turn; no number is guessed."""
    need_zookeeper()
    site, names = lab_site(3), ["ec2-1", "ec2-2", "ec2-3"]
    quick = {"tickTime": 300}
    _ensemble(site, names, zookeeper_settings=quick)
    first = site.controller.play(ENSEMBLE)
    assert first.code == 0, first.output
    assert not {task for _, task in first.changed if task == "Restart ZooKeeper"}

    _ensemble(site, names, zookeeper_settings={**quick, "snapCount": 50000})
    (site.disks / "order").write_text("")
    changed = site.controller.play(ENSEMBLE)
    assert changed.code == 0, changed.output
    assert changed.changed == {
        (name, task) for name in names for task in ("The configuration", "Restart ZooKeeper")
    }
    order = (site.disks / "order").read_text().splitlines()
    turns = [order[place : place + 2] for place in range(0, 6, 2)]
    assert sorted(turns) == [[f"stop {name}", f"start {name}"] for name in names]
    assert sorted(_mode(site, name) for name in names) == ["follower", "follower", "leader"]
    assert {_takes(site, name, 65537) for name in names} == {False}
    assert {_takes(site, name, 65536) for name in names} == {True}

    _ensemble(site, names[::-1], zookeeper_settings={**quick, "snapCount": 50000})
    confused = site.controller.play(ENSEMBLE)
    assert {done.host for done in confused.failed} == {"ec2-1", "ec2-3"}
    assert "holds the data of server 1, and this host is to be server 3" in confused.output
    assert confused.changed == set()


@pytest.fixture
def proxy_hosts(tmp_path: Path) -> Iterator[tuple[Controller, dict[str, Path]]]:
    """Two hosts without a network of their own, on which a stand-in is the program."""
    require_root()
    program = tmp_path / "neti"
    program.write_text(STAND_IN.format(python=sys.executable, neti=NETI))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    folders = {name: tmp_path / name for name in ("zk-proxy-1", "zk-proxy-10")}
    for folder in folders.values():
        folder.mkdir()
    yield Controller(tmp_path / "controller"), folders
    for folder in folders.values():
        if (folder / "pid").exists():
            os.kill(int((folder / "pid").read_text()), signal.SIGKILL)


# Notes its words and stays; what a proxy relays is not this test's matter.
STAND_IN = """\
#!{python}
import os, signal, sys
if sys.argv[1] != "zk-proxy":
    os.execv("{neti}", ["{neti}", *sys.argv[1:]])
with open(os.environ["SEEN"], "w") as seen:
    seen.write(" ".join(sys.argv[1:]))
signal.pause()
"""


def _proxies(controller: Controller, folders: dict[str, Path], servers: list[str]) -> None:
    hosts = {}
    for name, folder in folders.items():
        daemon = f"/sbin/start-stop-daemon --pidfile {folder}/pid"
        program, file = folder.parent / "neti", folder / "default/neti-zk-proxy"
        hosts[name] = {
            "ansible_connection": "local",
            "ansible_python_interpreter": PYTHON,
            "neti_install_from": "none",
            "neti_command": str(program),
            "neti_zk_proxy_servers": servers,
            "neti_zk_proxy_options": ["--drain", "10"],
            "neti_zk_proxy_file": str(file),
            "neti_service_manager": "command",
            "neti_zk_proxy_service_commands": {
                "status": f"{daemon} --status",
                "start": f". {file} && SEEN={folder}/seen {daemon} --start --background"
                f" --make-pidfile --startas {program} -- zk-proxy $ARGUMENTS",
                "stop": f"{daemon} --stop --retry 20",
            },
        }
    controller.inventory({"neti_zk_proxies": hosts})


def test_proxies_are_alike_whatever_their_names_are(
    proxy_hosts: tuple[Controller, dict[str, Path]],
) -> None:
    """Host 10 gets what host 1 gets; a change restarts, and nonsense is refused."""
    controller, folders = proxy_hosts
    servers = ["10.21.0.4:2181", "10.21.0.5:2181"]
    _proxies(controller, folders, servers)
    first = controller.play(PROXY)
    assert first.code == 0, first.output
    line = "zk-proxy --listen 0.0.0.0:2181 --server {} --server {} --drain 10"
    _wait_for(folders, line.format(*servers))

    _proxies(controller, folders, servers[::-1])
    second = controller.play(PROXY)
    tasks = ("The options", "Restart the proxy by commands")
    assert second.changed == {(name, task) for name in folders for task in tasks}
    _wait_for(folders, line.format(*servers[::-1]))

    _proxies(controller, folders, ["10.21.0.4"])
    refused = controller.play(PROXY)
    assert {done.host for done in refused.failed} == set(folders)
    assert "must be a list of HOST:PORT" in refused.output
    assert refused.changed == set()


def _wait_for(folders: dict[str, Path], line: str) -> None:
    deadline = time.monotonic() + 30
    while {_seen(folder) for folder in folders.values()} != {line}:
        assert time.monotonic() < deadline, [_seen(folder) for folder in folders.values()]
        time.sleep(0.05)


def _seen(folder: Path) -> str:
    path = folder / "seen"
    return path.read_text() if path.exists() else ""

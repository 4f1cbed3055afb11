"""The role agent where systemd keeps services, with a stand-in for systemctl that notes its calls.

No systemd runs where tests do. The module that drives it is ansible-core's own.
"""

from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.deploy.conftest import NETI, PYTHON
from tests.support.netns import require_root
from tests.support.playbooks import ROOT, Controller, Run

pytestmark = pytest.mark.lab

# Units are known once there is a file 'known'. What is started is active, what is enabled enabled.
SYSTEMCTL = """\
#!/bin/sh
here=$(dirname "$0")
verb=$1 unit=$(echo "$2" | tr -d "'")
case "$verb" in
    show)
        state=inactive
        [ -e "$here/active-$unit" ] && state=active
        printf 'Id=%s\\nLoadState=loaded\\nActiveState=%s\\n' "$unit" $state
        exit 0 ;;
    is-enabled)
        if [ -e "$here/enabled-$unit" ]; then echo enabled; exit 0; fi
        echo disabled
        exit 1 ;;
    cat) [ -e "$here/known" ]; exit $? ;;
    is-active) [ -e "$here/active-$unit" ]; exit $? ;;
    start) touch "$here/active-$unit" ;;
    enable) touch "$here/enabled-$unit" ;;
esac
echo "$*" >> "$here/calls"
"""


class Host:
    def __init__(self, folder: Path) -> None:
        self.folder, self.controller = folder, Controller(folder / "controller")
        self.programs = folder / "bin"
        self.programs.mkdir()
        systemctl = self.programs / "systemctl"
        systemctl.write_text(SYSTEMCTL)
        systemctl.chmod(0o755)

    def play(
        self, config: dict[str, Any], *, check: bool = False, tls: dict[str, str] | None = None
    ) -> Run:
        state = {"table_files_path": str(self.folder / "state")}
        self.controller.inventory(
            {
                "neti_agents": {
                    "host": {
                        "ansible_connection": "local",
                        "ansible_python_interpreter": PYTHON,
                        "neti_install_from": "none",
                        "neti_command": NETI,
                        "neti_agent_config": {**config, **state},
                        "neti_agent_config_file": str(self.folder / "etc/neti.yml"),
                        "neti_agent_group": "root",
                        "neti_agent_tls": tls or {},
                        "neti_agent_write_units": False,
                    }
                }
            }
        )
        path = f"{self.programs}:/usr/sbin:/usr/bin:/sbin:/bin"
        agents = {
            "name": "Agents",
            "hosts": "neti_agents",
            "gather_facts": False,
            "environment": {"PATH": path},
            "roles": ["neti.fleet.agent"],
        }
        (self.programs / "calls").write_text("")
        return self.controller.play([agents], check=check)

    def calls(self) -> list[str]:
        return (self.programs / "calls").read_text().replace("'", "").splitlines()


def test_systemd_is_told_to_reload_and_only_for_some_keys_to_restart(tmp_path: Path) -> None:
    """Started and enabled once; in check mode nothing is asked of it but how things are."""
    require_root()
    host = Host(tmp_path)
    config = yaml.safe_load((ROOT / "deploy/neti.yml.example").read_text())

    bare = host.play(config, check=True)
    assert (bare.code, host.calls()) == (0, []), bare.output
    started = {("host", "The agent would be started")}
    assert started <= bare.changed
    (host.programs / "known").touch()
    first = host.play(config)
    assert first.code == 0, first.output
    told = {("host", "The agent runs or does not"), ("host", "The rules are loaded at boot")}
    assert first.changed - told == bare.changed - started
    units = ("neti.service", "neti-restore.service", "neti-leave.service")
    assert sorted(host.calls()) == sorted([*(f"enable {u}" for u in units), "start neti.service"])

    second = host.play({**config, "open_ports": [8080]})
    assert second.changed == {("host", "The configuration"), ("host", "Reload the agent")}
    assert host.calls() == ["reload neti.service"]

    third = host.play({**config, "open_ports": [8080], "session_seconds": 20})
    assert third.changed == {("host", "The configuration"), ("host", "Restart the agent")}
    assert host.calls() == ["restart neti.service"]


def test_tls_files_are_there_before_the_configuration_and_in_no_log(tmp_path: Path) -> None:
    """Where registry_tls says that they are, the key for the agent's group; renewed by a reload."""
    require_root()
    host = Host(tmp_path)
    (host.programs / "known").touch()
    config = yaml.safe_load((ROOT / "deploy/neti.yml.example").read_text())
    for name in ("etc", "tls"):
        (tmp_path / name).mkdir()
    places = {key: str(tmp_path / "tls" / key) for key in ("ca", "cert", "key")}
    config["registry_tls"] = places
    contents = {key: f"{key} of SECRET\n" for key in places}
    first = host.play(config, tls=contents)
    assert first.code == 0, first.output
    assert "SECRET" not in first.output
    held = {key: Path(place) for key, place in places.items()}
    assert {key: path.read_text() for key, path in held.items()} == contents
    modes = {key: path.stat().st_mode & 0o777 for key, path in held.items()}
    assert modes == {"ca": 0o644, "cert": 0o644, "key": 0o640}

    second = host.play(config, tls={**contents, "cert": "renewed\n"})
    assert second.changed == {("host", "TLS files"), ("host", "Reload the agent")}
    assert host.calls() == ["reload neti.service"]
    refused = host.play({**config, "registry_tls": {"ca": places["ca"]}}, tls=contents)
    assert refused.code != 0
    assert "SECRET" not in refused.output

#!/usr/bin/python
"""A service that commands drive, where systemd does not. Check mode asks and starts nothing."""

from __future__ import annotations

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: command_service
short_description: Start, stop, reload or restart a service by commands
version_added: 0.1.0
description:
  - For hosts on which something else than systemd keeps services, such as runit, supervisord,
    start-stop-daemon, or a container's own supervisor.
  - Each command is a line for C(/bin/sh -c).
options:
  name:
    description: The service's name, for messages.
    type: str
    required: true
  state:
    description: As in M(ansible.builtin.systemd_service).
    type: str
    choices: [started, stopped, reloaded, restarted]
    required: true
  status:
    description:
      - Says by exit code 0 that the service runs, and by another that it does not. Must change
        nothing, because check mode runs it too.
    type: str
    required: true
  start:
    description: Starts it, and returns when it runs.
    type: str
    required: true
  stop:
    description: Stops it, and returns when it has ended.
    type: str
    required: true
  reload:
    description: Makes it read its configuration anew; a restart if left out.
    type: str
  restart:
    description: Stops and starts it; C(stop), then C(start) if left out.
    type: str
  ready:
    description: Says by exit code 0 that the service serves; asked again and again after a change.
    type: str
  ready_seconds:
    description: How long it may take to serve.
    type: int
    default: 60
author:
  - The Neti authors
"""

EXAMPLES = r"""
- name: The agent, by start-stop-daemon
  neti.fleet.command_service:
    name: neti
    state: started
    status: start-stop-daemon --status --pidfile /run/neti.pid
    start: >-
      start-stop-daemon --start --background --make-pidfile --pidfile /run/neti.pid
      --startas /usr/bin/neti -- agent
    stop: start-stop-daemon --stop --retry 30 --pidfile /run/neti.pid
    reload: start-stop-daemon --stop --signal HUP --pidfile /run/neti.pid
"""

RETURN = r"""
commands:
  description: What was run, and in check mode what would be.
  returned: always
  type: list
  elements: str
"""


def commands(parameters: dict[str, str], *, running: bool) -> list[str]:
    """What leads to the state. Pure."""
    start, stop = parameters["start"], parameters["stop"]
    restart = [parameters["restart"]] if parameters["restart"] else [stop, start]
    reload = [parameters["reload"]] if parameters["reload"] else restart
    if not running:
        return [] if parameters["state"] == "stopped" else [start]
    return {"started": [], "stopped": [stop], "reloaded": reload, "restarted": restart}[
        parameters["state"]
    ]


def main() -> None:
    spec: dict[str, Any] = {name: {"type": "str"} for name in ("reload", "restart", "ready")}
    spec |= {name: {"type": "str", "required": True} for name in ("name", "status")}
    spec |= {name: {"type": "str", "required": True} for name in ("start", "stop")}
    states = ["started", "stopped", "reloaded", "restarted"]
    module = AnsibleModule(
        argument_spec={
            **spec,
            "state": {"type": "str", "choices": states, "required": True},
            "ready_seconds": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    running = shell(module, module.params["status"])[0] == 0
    wanted = commands(module.params, running=running)
    if wanted and not module.check_mode:
        run(module, wanted)
    module.exit_json(changed=bool(wanted), commands=wanted)


def run(module: AnsibleModule, wanted: list[str]) -> None:
    for command in wanted:
        code, out, err = shell(module, command)
        if code != 0:
            said = err.strip() or out.strip() or "it printed nothing"
            module.fail_json(
                msg=f"{module.params['name']}: '{command}' ended with {code}: {said}",
                commands=wanted,
            )
    if module.params["ready"] and module.params["state"] != "stopped":
        wait_until_ready(module, wanted)


def wait_until_ready(module: AnsibleModule, wanted: list[str]) -> None:
    seconds, asked = module.params["ready_seconds"], module.params["ready"]
    deadline = time.monotonic() + seconds
    while shell(module, asked)[0] != 0:
        if time.monotonic() > deadline:
            module.fail_json(
                msg=f"{module.params['name']} does not serve after {seconds} s: '{asked}' fails",
                commands=wanted,
            )
        time.sleep(0.5)


def shell(module: AnsibleModule, command: str) -> tuple[int, str, str]:
    done: tuple[int, str, str] = module.run_command(["/bin/sh", "-c", command])
    return done


if __name__ == "__main__":
    main()

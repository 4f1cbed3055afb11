#!/usr/bin/python
"""The host's overlay address as a fact. Changes nothing, and waits only when it is told to."""

from __future__ import annotations

import json
import subprocess

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: neti_overlay
short_description: The host's overlay address as a fact
version_added: 0.1.0
description:
  - Asks C(neti overlay-ip), which asks the agent, and reads what the agent kept on disk when it
    does not answer. A lease outlives its agent.
  - Does not wait for an address unless I(wait) says so, and never fails a run. Without an address
    the fact is null, and a warning says why.
  - With a fact cache, templates read other hosts' addresses without asking them again.
options:
  wait:
    description: Seconds to wait for the agent to have an address.
    type: float
    default: 0
  config:
    description: The agent's configuration file.
    type: path
    default: /etc/neti/neti.yml
  command:
    description: The neti program.
    type: str
    default: neti
author:
  - The Neti authors
"""

EXAMPLES = r"""
- name: The overlay address
  neti.fleet.neti_overlay:

# To connect to or to advertise, never to listen on: no interface has it.
- name: The broker tells its clients its overlay address
  ansible.builtin.template:
    src: server.properties.j2 # advertised.listeners=PLAINTEXT://{{ neti_overlay_ip }}:9092
    dest: /etc/kafka/server.properties
    mode: "0644"
  when: neti_overlay_ip is not none
"""

RETURN = r"""
ansible_facts:
  description: The fact.
  returned: always
  type: dict
  contains:
    neti_overlay_ip:
      description: The overlay address, or null when the host has none yet.
      type: str
"""

GRACE = 10.0  # seconds for the program itself, beside what it was told to wait


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "wait": {"type": "float", "default": 0},
            "config": {"type": "path", "default": "/etc/neti/neti.yml"},
            "command": {"type": "str", "default": "neti"},
        },
        supports_check_mode=True,
    )
    overlay, why = overlay_of(module)
    if overlay is None:
        module.warn(f"no overlay address is known: {why}")
    module.exit_json(changed=False, ansible_facts={"neti_overlay_ip": overlay})


def overlay_of(module: AnsibleModule) -> tuple[str | None, str]:
    """The address, or why there is none."""
    wait = module.params["wait"]
    line = [module.params["command"], "overlay-ip", "--json", "-c", module.params["config"]]
    line += ["--wait", str(wait)]
    try:
        done = subprocess.run(
            line, capture_output=True, text=True, timeout=wait + GRACE, check=False
        )
    except subprocess.TimeoutExpired:
        return None, f"'{' '.join(line)}' did not end within {wait + GRACE:.0f} s"
    except OSError as error:
        return None, f"{line[0]} cannot be run: {error.strerror}"
    if done.returncode != 0:
        return None, reason(done.stderr) or f"exit code {done.returncode}"
    try:
        return str(json.loads(done.stdout)["overlay"]), ""
    except (ValueError, KeyError):
        return None, f"{line[0]} printed what is no answer: {done.stdout.strip()!r}"


def reason(stderr: str) -> str:
    """The sentence in it: with C(--json) its last line is an error's document."""
    try:
        error = json.loads(stderr.strip().splitlines()[-1])["error"]
    except (IndexError, ValueError, KeyError, TypeError):
        return stderr.strip()
    hint = error.get("hint")
    return f"{error['message']}; {hint}" if hint else str(error["message"])


if __name__ == "__main__":
    main()

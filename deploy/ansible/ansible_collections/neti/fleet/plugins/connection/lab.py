"""Runs tasks on a host of ``neti lab``: this machine's files, the host's own network."""

from __future__ import annotations

import shlex
from typing import Any

from ansible.plugins.connection.local import Connection as LocalConnection

DOCUMENTATION = r"""
name: lab
short_description: Hosts of neti lab, on this machine
version_added: 0.1.0
description:
  - For rehearsing a playbook against C(neti lab up). Every command runs inside the host's network
    namespace.
  - The hosts share this machine's files. Give each its own paths by the roles' variables.
  - Needs root on this machine.
options:
  lab:
    description: The lab's name, as in C(neti lab up --name).
    type: str
    default: lab
    vars:
      - name: neti_lab
  host:
    description: The lab's host.
    type: str
    default: inventory_hostname
    vars:
      - name: inventory_hostname
      - name: ansible_host
"""


class Connection(LocalConnection):  # type: ignore[misc]  # Ansible has no types
    transport = "neti.fleet.lab"

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> Any:
        namespace = f"neti-{self.get_option('lab')}-{self.get_option('host')}"
        inside = f"ip netns exec {shlex.quote(namespace)} {cmd}"
        return super().exec_command(inside, in_data=in_data, sudoable=sudoable)

"""Which keys of a service's configuration changed so that only a restart takes them in. Pure."""

from __future__ import annotations

from typing import Any

import yaml

DOCUMENTATION = r"""
name: restart_keys
short_description: Keys that a reload does not take in, and that differ between two configurations
version_added: 0.1.0
description:
  - Compares the file that a host has with the settings that it is to get.
  - A file that cannot be read as a mapping gives all the keys, since nobody knows what runs by it.
  - A host without a file gives none, since nothing runs by it.
positional: keys
options:
  _input:
    description: The settings that the host is to get.
    type: dict
    required: true
  keys:
    description: The keys that need a restart.
    type: list
    elements: str
    required: true
  before:
    description: The text of the file that the host has; empty when there is none.
    type: str
    default: ""
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ wanted | neti.fleet.restart_keys(['zk_hosts', 'site'], before=file_text) }}"
"""

RETURN = r"""
_value:
  description: Those of the keys that differ, in their order.
  type: list
  elements: str
"""


def restart_keys(wanted: dict[str, Any], keys: list[str], before: str = "") -> list[str]:
    if not before.strip():
        return []
    try:
        found = yaml.safe_load(before)
    except yaml.YAMLError:
        return list(keys)
    if not isinstance(found, dict):
        return list(keys)
    return [key for key in keys if found.get(key) != wanted.get(key)]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"restart_keys": restart_keys}

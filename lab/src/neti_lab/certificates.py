"""Certificates of a lab whose registry speaks TLS, and what an operator types with one of them.

All of it is what an operator types: ``neti registry dev-ca``, ``neti registry init`` and so on.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import yaml

from neti_lab import agents
from neti_lab.state import LabState
from neti_lab.topology import LabHost, LabPlan

OPERATOR: Final = "ann"
SUPER: Final = "root"
SUBJECTS: Final = "CN={id},OU=hosts"  # as dev-ca makes them


def make(plan: LabPlan, state: LabState, servers: Mapping[str, Sequence[str]]) -> None:
    """One for each server (by its names and addresses), host and operator, and a super user's."""
    words = ["registry", "dev-ca", str(state.ca)]
    for server, names in servers.items():
        words += ["--server", f"{server}={','.join(names)}"]
    for host in plan.hosts:
        words += ["--host", host.name]
    words += ["--operator", OPERATOR, "--super", SUPER]
    agents.checked(agents.neti_command(*words))
    document = agents.configuration(plan, plan.hosts[0], state=state)
    document["registry_tls"] = agents.tls_files(state, f"operator-{OPERATOR}")
    state.operator_config.write_text(yaml.safe_dump(document, sort_keys=False))


def certify(host: LabHost, state: LabState) -> None:
    """A certificate for a host that joins later."""
    agents.checked(agents.neti_command("registry", "dev-ca", str(state.ca), "--host", host.name))


def close(plan: LabPlan, state: LabState, *, inside: str) -> None:
    """Only hosts of the plan can register from here on, and only what their own records name is
    believed."""
    admit(plan, state, *plan.hosts, inside=inside)
    for word in ("admission", "strict"):
        operator_says(plan, state, "registry", word, "on", inside=inside)


def admit(plan: LabPlan, state: LabState, *hosts: LabHost, inside: str) -> None:
    """An operator's word that these may register, each by its own certificate."""
    ids = [host.name for host in hosts]
    words = ["registry", "admit", *ids, "--subject", SUBJECTS, "--yes"]
    operator_says(plan, state, *words, inside=inside)


def operator_says(plan: LabPlan, state: LabState, *words: str, inside: str) -> str:
    """``neti WORDS`` by the operator, on this node; returns what the command said."""
    line = agents.neti_command(*words, "-c", str(state.operator_config))
    return agents.checked(line, inside=plan.namespace(inside))

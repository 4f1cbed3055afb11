#!/usr/bin/python
"""Takes a host from shadow to enforced through a trial, or back. Fails when a trial does."""

from __future__ import annotations

import json
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: neti_stage
short_description: Enforce reject_all on a host, or relax it
version_added: 0.1.0
description:
  - C(enforced) runs C(neti enforce) and follows the trial to its end. A trial that is not
    confirmed leaves the host in shadow, and fails the task with the evidence that is missing.
  - C(shadow) runs C(neti relax), whether an agent answers or not. A host that is in shadow only
    until its next trial is relaxed too.
  - Where neti.yml requires encryption, a host that is enforced without it gets a trial of that.
    Likewise of C(member_ports) that are waiting.
  - Does nothing on a host that is there already. In check mode the agent is only asked.
options:
  stage:
    description: Where the host is to be.
    type: str
    choices: [enforced, shadow]
    required: true
  trial:
    description: How many seconds the trial lasts; by default C(trial_seconds) of neti.yml.
    type: int
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
- name: Keep out what no rule lets in
  neti.fleet.neti_stage:
    stage: enforced
    trial: 120
"""

RETURN = r"""
stage:
  description: Where the host is now; in check mode, where it was.
  returned: always
  type: str
evidence:
  description: What spoke for and against the trial's confirmation.
  returned: after a trial
  type: list
  elements: dict
"""


class Neti:
    def __init__(self, module: AnsibleModule) -> None:
        self._module = module

    def ask(self, *words: str) -> tuple[int, dict[str, Any], str]:
        """Exit code, the JSON that was printed, and the error if none was."""
        line = [self._module.params["command"], *words, "--json"]
        line += ["-c", self._module.params["config"]]
        code, out, err = self._module.run_command(line)
        try:
            document = json.loads(out)
        except ValueError:
            document = {}
        return code, document, reason(err) or f"exit code {code}"

    def status(self) -> tuple[dict[str, Any], str]:
        """What the agent says; nothing, and the error, where none answers."""
        _, status, error = self.ask("status")
        return (status, "") if "stage" in status else ({}, error)


def reason(stderr: str) -> str:
    """The sentence in it: with C(--json) its last line is an error's document."""
    try:
        error = json.loads(stderr.strip().splitlines()[-1])["error"]
    except (IndexError, ValueError, KeyError, TypeError):
        return stderr.strip()
    hint = error.get("hint")
    return f"{error['message']}; {hint}" if hint else str(error["message"])


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "stage": {"type": "str", "choices": ["enforced", "shadow"], "required": True},
            "trial": {"type": "int"},
            "config": {"type": "path", "default": "/etc/neti/neti.yml"},
            "command": {"type": "str", "default": "neti"},
        },
        supports_check_mode=True,
    )
    neti = Neti(module)
    wanted = module.params["stage"]
    status, error = neti.status()
    before = status.get("stage")
    if wanted == "enforced" and not status:
        module.fail_json(msg=f"the agent does not say which stage it is in: {error}")
    unfinished = next_trial if wanted == "shadow" else not_encrypted
    if before == wanted and not unfinished(status):
        module.exit_json(changed=False, stage=before)
    if module.check_mode:
        module.exit_json(changed=True, stage=before)
    if wanted == "enforced":
        enforce(module, neti)
    # Also where no agent answers: this is the way back, and it works without one.
    code, answer, error = neti.ask("relax")
    if code != 0:
        done = "relaxed, but" if answer.get("stage") == "shadow" else "not relaxed:"
        module.fail_json(msg=f"the host is {done} {error}", stage=answer.get("stage", before))
    module.exit_json(changed=True, stage=wanted)


def next_trial(status: dict[str, Any]) -> bool:
    """Whether a host in shadow begins a trial by itself, now or later: that is not the way back."""
    wished = status.get("wished") or {}
    return bool(wished.get("reject_all", True)) or wished.get("relaxed_until") is not None


def not_encrypted(status: dict[str, Any]) -> bool:
    """Whether an enforced host is to require encryption, or keep members out by C(member_ports),
    and does not yet: that is a trial too."""
    if status.get("member_ports") == "waiting":
        return True
    encryption = status.get("encryption") or {}
    return bool(encryption.get("require_configured")) and not encryption.get("requires")


def enforce(module: AnsibleModule, neti: Neti) -> None:
    trial = module.params["trial"]
    code, answer, error = neti.ask("enforce", *(["--trial", str(trial)] if trial else []))
    evidence = answer.get("evidence", [])
    if code == 0:
        module.exit_json(changed=True, stage=answer["stage"], evidence=evidence)
    if "stage" in answer:
        now = "enforced as before" if answer["stage"] == "enforced" else "in shadow again"
        error = f"the trial was not confirmed, the host is {now}: {reasons(answer)}"
    module.fail_json(msg=error, stage=answer.get("stage", "shadow"), evidence=evidence)


def reasons(answer: dict[str, Any]) -> str:
    """Why a trial ended unconfirmed, as the agent says it."""
    trial = answer.get("trial")
    return "; ".join(trial["why"]) if trial else "somebody relaxed it"


if __name__ == "__main__":
    main()

"""``neti lab list``, and commands about one host of a lab: exec, shell, stop, start, kill. Thin."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import click

from neti.cli.output import json_option, print_json, say
from neti_lab.topology import DEFAULT_NAME, lab_command

F = TypeVar("F", bound=Callable[..., Any])

_name: Callable[[F], F] = click.option(
    "--name", default=DEFAULT_NAME, show_default=True, help="Which lab: several can be up at once."
)
_hosts: Callable[[F], F] = click.argument("hosts", metavar="HOST...", nargs=-1, required=True)


def name_option(command: F) -> F:
    return _name(command)


@click.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the labs on this machine, and what is left of some."""
    from neti_lab import hands

    found = hands.labs()
    if as_json:
        print_json(found)
        return
    for one in found:
        state = "up" if one["up"] else "in use" if one["held"] else "not complete"
        size = f"{one['agents']} of {one['hosts']} agents run" if one["hosts"] else "no plan"
        say(f"{one['name']:<12}  {state:<12}  {one['registry'] or '-':<9}  {size}")
        if state == "not complete":
            say(f"→ '{lab_command(one['name'], 'down')}' removes what is left of it")
    if not found:
        say("No lab is up.", "→ 'neti lab up' builds one")


@click.command(
    "exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False}
)
@name_option
@click.argument("node", metavar="HOST")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def exec_(name: str, node: str, command: tuple[str, ...]) -> None:
    """Run a command on a host of the lab and exit with its exit code.

    HOST is a host (ec2-1), a site gateway (vpc-gateway), the stranger or the internet. NETI_CONFIG
    is set to the host's own configuration; 'neti lab status' says where its files are.

    \b
    Examples:
      neti lab exec ec2-1 ip route
      neti lab exec vpc-2 neti status
      neti lab exec stranger ping -c 3 203.0.113.11
    """
    _become(name, node, command)


@click.command()
@name_option
@click.argument("node", metavar="HOST")
def shell(name: str, node: str) -> None:
    """Open a shell on a host of the lab, as 'exec' runs a command.

    \b
    Example:
      neti lab shell vpc-1
    """
    os.environ["PS1"] = f"{node} (lab {name})# "
    bash = Path("/bin/bash")
    _become(name, node, [str(bash), "--norc"] if bash.exists() else ["/bin/sh"])


def _become(name: str, node: str, command: Sequence[str]) -> NoReturn:
    from neti_lab import LabError, namespaces, wireguard
    from neti_lab.state import open_state

    namespaces.require()
    state = open_state(name)
    plan = state.plan()
    if node not in plan.nodes:
        raise LabError(f"the lab {name!r} has no {node!r}: it has {', '.join(plan.nodes)}")
    if state.config(node).exists():
        os.environ["NETI_CONFIG"] = str(state.config(node))
    # So that "neti" means this one, also where its folder is not on the PATH.
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}"
    namespaces.rename(node)
    if node in {host.name for host in plan.hosts}:
        line = wireguard.command_on(plan, plan.host(node), command, state=state)
    else:
        line = namespaces.command_inside(plan.namespace(node), command)
    os.execv(line[0], line)


@click.command()
@name_option
@_hosts
def stop(name: str, hosts: tuple[str, ...]) -> None:
    """Stop the agents of hosts, as 'systemctl stop neti' does.

    Their rules stay in the kernel, and their peers count them as lost when their sessions have
    ended. HOST may also be a server of the ensemble or a proxy.

    \b
    Example:
      neti lab stop ec2-1
    """
    _act(name, hosts, "stop")


@click.command()
@name_option
@_hosts
def start(name: str, hosts: tuple[str, ...]) -> None:
    """Start the agents of hosts that do not run.

    After 'stop', 'kill' or 'neti leave'. HOST may also be a server of the ensemble or a proxy.

    \b
    Example:
      neti lab start ec2-1
    """
    _act(name, hosts, "start")


@click.command()
@name_option
@_hosts
def kill(name: str, hosts: tuple[str, ...]) -> None:
    """Kill the agents of hosts with -9, as if memory had run out.

    Nothing starts them again, because the lab has no systemd. HOST may also be a server of the
    ensemble or a proxy.

    \b
    Example:
      neti lab kill vpc-zk-1
    """
    _act(name, hosts, "kill")


def _act(name: str, hosts: Sequence[str], what: str) -> None:
    from neti_lab import hands, lifecycle
    from neti_lab.state import open_state

    state = open_state(name)
    with lifecycle.commanding(state):
        for host in hands.chosen(state, hosts):
            say(hands.ACTS[what](state, host))
    if what != "start":
        them = "it" if len(hosts) == 1 else "them"
        say(f"→ '{lab_command(name, 'start', *hosts)}' starts {them} again")
    say(f"→ '{lab_command(name, 'status')}' shows who runs")


COMMANDS: Final = (list_, exec_, shell, stop, start, kill)

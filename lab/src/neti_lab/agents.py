"""The hosts' agents: real ``neti agent`` processes, each inside its host's namespace.

Each has its own configuration and state folder; nothing is taken from the machine's /etc/neti.
"""

import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final

import yaml

from neti.model import Encrypt
from neti_lab import LabError, namespaces, processes, wireguard
from neti_lab.processes import Process
from neti_lab.state import LabState
from neti_lab.topology import (
    INTERNET_ADDRESS,
    OPERATOR_NETWORK,
    REGISTRY_PORT,
    TUNNEL_PORT,
    LabHost,
    LabPlan,
    LabSite,
)

ZOOKEEPER_PORT: Final = 2181
SESSION_SECONDS: Final = 6  # short, so that what follows a session's end can be watched
_COMMAND_SECONDS: Final = 60


def neti_command(*arguments: str) -> list[str]:
    """The command line of this very installation of Neti."""
    return [sys.executable, "-m", "neti", *arguments]


def configuration(
    plan: LabPlan,
    host: LabHost,
    *,
    state: LabState,
    reject_all: bool = False,
    encrypt: Encrypt = Encrypt.PREFER,
) -> dict[str, Any]:
    """The host's neti.yml as a document; pure. ``encrypt`` counts where hosts can."""
    encrypts = {"encrypt": encrypt.value} if plan.encrypt else {}
    tunnel = {"tunnel_port": TUNNEL_PORT} if plan.encrypt else {}
    if plan.registry == "embedded":
        registry: dict[str, Any] = {"registry": f"embedded:{state.registry_file}"}
    elif plan.registry == "ensemble":
        registry = {
            "zk_hosts": {
                site.name: [f"{keeper.private}:{REGISTRY_PORT}" for keeper in site.keepers]
                for site in plan.sites
            },
            "registry_tls": tls_files(state, f"host-{host.name}"),
        }
    else:
        port = REGISTRY_PORT if plan.registry == "closed" else ZOOKEEPER_PORT
        server = f"{INTERNET_ADDRESS}:{port}"
        registry = {"zk_hosts": {site.name: [server] for site in plan.sites}}
        if plan.registry == "closed":
            registry["registry_tls"] = tls_files(state, f"host-{host.name}")
    return {
        "site": "auto",
        "sites": {
            site.name: {
                "private": [str(site.private)],
                "public": [str(site.public)],
                "vpc_ids": [site.vpc_id],
                **_reached_by(site),
                **encrypts,
            }
            for site in plan.sites
        },
        **registry,
        **tunnel,
        "session_seconds": SESSION_SECONDS,
        "identity": "ec2",
        "ssh_whitelist": [str(OPERATOR_NETWORK)],
        "open_ports": [],
        "reject_all": reject_all,
        "table_files_path": str(state.host_folder(host.name) / "state"),
    }


def _reached_by(site: LabSite) -> dict[str, Any]:
    if not site.private_only:
        return {"reached_by": "public"}
    return {"reached_by": "gateway", "gateways": [gateway.name for gateway in site.gateways]}


def tls_files(state: LabState, stem: str) -> dict[str, str]:
    """``registry_tls``; ``stem`` is host-ID or operator-NAME."""
    return {
        "ca": str(state.ca / "ca.pem"),
        "cert": str(state.ca / f"{stem}.pem"),
        "key": str(state.ca / f"{stem}.key"),
    }


def write_configuration(
    plan: LabPlan,
    host: LabHost,
    *,
    state: LabState,
    reject_all: bool = False,
    encrypt: Encrypt = Encrypt.PREFER,
) -> None:
    document = configuration(plan, host, state=state, reject_all=reject_all, encrypt=encrypt)
    path = state.config(host.name)
    (path.parent / "state").mkdir(parents=True, exist_ok=True, mode=0o700)
    scratch = path.with_suffix(".new")
    scratch.write_text(
        f"# The configuration of {host.name} in the lab.\n"
        + yaml.safe_dump(document, sort_keys=False)
    )
    scratch.replace(path)


def start(plan: LabPlan, hosts: Iterable[LabHost], *, state: LabState) -> None:
    """Start the agents of these hosts, all at once; returns before they are ready."""
    for host in hosts:
        if not state.config(host.name).exists():
            write_configuration(plan, host, state=state)
        start_agent = partial(
            processes.start,
            _inside(plan, host, "agent", state=state),
            log=state.log(host.name),
            record=state.record(f"agent-{host.name}"),
        )
        namespaces.call_as(host.name, start_agent)


def agent_of(host: LabHost, *, state: LabState) -> Process | None:
    """The host's agent, if it runs."""
    return state.process(f"agent-{host.name}")


def check_running(hosts: Iterable[LabHost], *, state: LabState) -> None:
    """LabError with the last word of the first agent that does not run."""
    for host in hosts:
        if agent_of(host, state=state) is None:
            reason = processes.last_line(state.log(host.name))
            raise LabError(f"the agent of {host.name} does not run: {reason}")


def send(host: LabHost, number: signal.Signals, *, state: LabState) -> None:
    """Send the host's agent a signal; LabError when it does not run."""
    agent = agent_of(host, state=state)
    if agent is None or not agent.signal(number):
        check_running([host], state=state)


def reload(host: LabHost, *, state: LabState) -> None:
    """As ``systemctl reload neti``. An agent that does not run, or has only just been started,
    reads its configuration anyway: it listens for this before it reads."""
    agent = agent_of(host, state=state)
    if agent is not None and agent.catches(signal.SIGHUP):
        agent.signal(signal.SIGHUP)


def neti(
    plan: LabPlan, host: LabHost, *arguments: str, state: LabState
) -> subprocess.CompletedProcess[str]:
    """Run ``neti ARGUMENTS`` on the host, with its configuration, and wait for it."""
    line = _inside(plan, host, *arguments, state=state)
    return _completed(line, f"'neti {' '.join(arguments)}' on {host.name}")


def checked(
    command: Sequence[str], *, inside: str | None = None, well: Sequence[int] = (0,)
) -> str:
    """What a command printed; LabError with its last word when it ends otherwise than ``well``."""
    line = command if inside is None else namespaces.command_inside(inside, command)
    done = _completed(line, _shown(command))
    if done.returncode not in well:
        reason = (done.stderr + done.stdout).strip().splitlines() or ["no word"]
        raise LabError(f"{_shown(command)} failed: {reason[-1]}")
    return done.stdout


def _completed(line: Sequence[str], named: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            line,
            capture_output=True,
            text=True,
            timeout=_COMMAND_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"{named} did not end within {_COMMAND_SECONDS} s") from None


def _shown(command: Sequence[str]) -> str:
    words = command[2:] if list(command[:2]) == neti_command()[:2] else command
    return f"'{' '.join(words[: words.index('-c')] if '-c' in words else words)}'"


def _inside(plan: LabPlan, host: LabHost, *arguments: str, state: LabState) -> Sequence[str]:
    command = neti_command(*arguments, "-c", str(state.config(host.name)))
    return wireguard.command_on(plan, host, command, state=state)

"""``neti lab``: thin; everything it does is in ``neti_lab``."""

import sys

import click

from neti.cli.menu import Group
from neti.cli.output import explain, json_option, print_json, say
from neti_lab import cli_hosts
from neti_lab.cli_hosts import name_option
from neti_lab.topology import MAX_HOSTS, RegistryKind, lab_command

_hosts = click.option(
    "--hosts",
    type=click.IntRange(1, MAX_HOSTS),
    default=4,
    show_default=True,
    help="Hosts in each site.",
)
# One host more joins, and the site must have room for it.
_hosts_of_a_demo = click.option(
    "--hosts",
    type=click.IntRange(1, MAX_HOSTS - 1),
    help="Hosts in each site: 4, or 2 with --encrypt.",
)
_registry = click.option(
    "--registry",
    type=click.Choice(["embedded", "zookeeper", "closed", "ensemble"]),
    help="embedded, the default: a file that all agents share; zookeeper: one real server "
    "(Debian's package); closed, the default with --encrypt and --private-only: the same with "
    "mutual TLS, access rights, admission and strict; ensemble: three servers in vpc, proxies in "
    "ec2, mutual TLS and access rights, and with --encrypt and --private-only the rest too.",
)

_dashboard = click.option(
    "--dashboard",
    "with_dashboard",
    is_flag=True,
    help="Show the fleet in a browser of this machine: prints a link.",
)


@click.group("lab", cls=Group)
def lab_group() -> None:
    """A whole fleet on this machine, in network namespaces of its own.

    A lab is an internet and two sites, ec2 and vpc, with the same private addresses, each behind a
    site gateway with one-to-one NAT. Its hosts run real agents. The machine's own network is not
    touched. Needs root.

    \b
    Examples:
      neti lab demo             shows everything in half a minute, then cleans up
      neti lab up               a lab to play with
      neti lab exec ec2-1 ip route
                              runs a command on a host
      neti lab exec stranger curl -m 2 http://198.51.100.11:8080/
      neti lab down
    """


for _each in cli_hosts.COMMANDS:
    lab_group.add_command(_each)


@lab_group.command()
@_hosts
@_registry
@click.option("--encrypt", is_flag=True, help="With WireGuard: both sites have 'encrypt: prefer'.")
@click.option(
    "--private-only",
    is_flag=True,
    help="Two gateways more in each site, and no other host has a public address; with WireGuard.",
)
@click.option("--no-agents", is_flag=True, help="Networks and services only.")
@_dashboard
@name_option
def up(
    hosts: int,
    registry: RegistryKind | None,
    encrypt: bool,
    private_only: bool,
    no_agents: bool,
    with_dashboard: bool,
    name: str,
) -> None:
    """Build a lab and leave it up.

    \b
    Examples:
      neti lab up
      neti lab up --hosts 2 --encrypt && neti lab sniff
      neti lab up --hosts 2 --private-only
      neti lab up --dashboard
      neti lab up --hosts 50 --registry zookeeper --name big
    """
    from neti_lab import dashboard, lifecycle
    from neti_lab.state import open_state
    from neti_lab.topology import SITES, plan_lab

    encrypt = encrypt or private_only
    kind = _registry_kind(registry, encrypt=encrypt)
    if with_dashboard and registry is None:
        kind = "closed"
    if with_dashboard and kind == "embedded":
        raise click.UsageError(
            "--dashboard takes another registry than embedded: a dashboard is not served as "
            "root, and nobody else may open that file"
        )
    plan = plan_lab(
        name=name,
        hosts=hosts,
        registry=kind,
        encrypt=encrypt,
        gateways=private_only,
        private_only=SITES if private_only else (),
    )
    state = open_state(name)
    with lifecycle.commanding(state):
        lifecycle.bring_up(state, plan, with_agents=not no_agents, tell=say)
        link = dashboard.start(plan, state) if with_dashboard else None
    say(
        f"The lab {name!r} is up.",
        *([f"→ {link} shows it in a browser"] if link is not None else []),
        f"→ '{lab_command(name, 'status')}' shows it",
        f"→ '{lab_command(name, 'down')}' takes it down",
        f"→ '{lab_command(name, 'exec')} {plan.hosts[0].name} neti status' asks one of its hosts",
        *(
            [f"→ '{lab_command(name, 'sniff')}' shows what is read between the sites"]
            if encrypt and not no_agents
            else []
        ),
    )


def _registry_kind(asked: RegistryKind | None, *, encrypt: bool) -> RegistryKind:
    if encrypt and asked not in (None, "closed", "ensemble"):
        raise click.UsageError(
            f"to encrypt takes --registry closed or ensemble, not {asked}: encryption can only be "
            "required where nobody can replace another host's key"
        )
    return asked or ("closed" if encrypt else "embedded")


@lab_group.command()
@name_option
def down(name: str) -> None:
    """Take a lab down, even one that a killed command has left behind."""
    from neti_lab import lifecycle
    from neti_lab.state import open_state

    state = open_state(name)
    with lifecycle.commanding(state):
        found = lifecycle.take_down(state)
    if found.namespaces or found.processes:
        say(f"Taken down: {found.namespaces} namespaces, {found.processes} processes.")
    else:
        say(f"The lab {name!r} was not up.")


@lab_group.command()
@json_option
@name_option
def status(as_json: bool, name: str) -> None:
    """Show a lab's hosts, addresses and agents. Exit code 1 if it is not up."""
    from neti_lab import lifecycle
    from neti_lab.report import status_lines
    from neti_lab.state import open_state

    document = lifecycle.describe(open_state(name))
    if as_json:
        print_json(document)
    else:
        for line in status_lines(document):
            say(line)
    if not document["up"]:
        sys.exit(1)


@lab_group.command()
@click.option(
    "--seconds", type=click.FloatRange(min=0.1), default=5.0, show_default=True, help="How long."
)
@name_option
def sniff(seconds: float, name: str) -> None:
    """Show what an eavesdropper between the sites reads.

    Meanwhile two hosts of each site talk to each other by overlay address, by TCP and UDP. Whatever
    the lab's clients and servers send has words in it that the sniffer knows.

    \b
    Examples:
      neti lab up --hosts 2 --encrypt
      neti lab sniff
    """
    from neti_lab import encrypted
    from neti_lab.state import open_state

    for line in encrypted.sniff(open_state(name), seconds):
        say(line)


@lab_group.command()
@_hosts_of_a_demo
@_registry
@click.option("--encrypt", is_flag=True, help="Show how traffic between the sites is encrypted.")
@click.option("--keep", is_flag=True, help="Leave the lab up at the end.")
@name_option
def demo(
    hosts: int | None, registry: RegistryKind | None, encrypt: bool, keep: bool, name: str
) -> None:
    """Show what Neti does, on a lab of its own, in half a minute.

    Two sites come up; every host reaches every other by overlay address; one joins, one leaves,
    an agent is killed, a stranger is kept out. Then everything is taken down, also after Ctrl-C.
    Exit code 0 if every check passed, otherwise 1.

    With --encrypt the story is another one: traffic between the sites goes in the clear, then
    through WireGuard where it can, then through WireGuard or not at all. A sniffer on the internet
    between them shows what it can read.

    \b
    Examples:
      neti lab demo
      neti lab demo --encrypt
      neti lab demo --registry zookeeper
      neti lab demo --keep && neti lab status
    """
    from neti_lab import demo as story
    from neti_lab import lifecycle
    from neti_lab.stage import Stage
    from neti_lab.state import open_state
    from neti_lab.topology import plan_lab

    kind = _registry_kind(registry, encrypt=encrypt)
    hosts = hosts or (2 if encrypt else 4)
    plan = plan_lab(name=name, hosts=hosts, registry=kind, encrypt=encrypt)
    state = open_state(name)
    try:
        with lifecycle.commanding(state):
            well = story.run(state, plan, Stage(), keep=keep)
    except KeyboardInterrupt:
        _say_interrupted(name, keep=keep and state.exists)
        sys.exit(130)
    sys.exit(0 if well else 1)


@lab_group.command()
@click.option("--chaos", is_flag=True, help="Break things all the while, chosen by a seed.")
@click.option("--seed", type=int, help="With --chaos: repeat the troubles of this seed.")
@click.option(
    "--private-only",
    is_flag=True,
    help="No host but two gateways in each site has a public address.",
)
@click.option("--groups", is_flag=True, help="Each tier reaches only the ports that it needs.")
@click.option("--keep", is_flag=True, help="Leave the lab up at the end.")
@_dashboard
@name_option
def migrate(
    chaos: bool,
    seed: int | None,
    private_only: bool,
    groups: bool,
    keep: bool,
    with_dashboard: bool,
    name: str,
) -> None:
    """Move a whole fleet from one site to the other while people use it.

    Twelve hosts with an application, an ensemble of three with proxies, mutual TLS, users, and a
    scanner that never stops. Every step is a command of docs/runbook.md, with its check. A table
    at the end shows each phase's requests, failures and latency, and how often the scanner got in.
    Exit code 0 if no request failed and the scanner never got in, otherwise 1.

    With --private-only the sites encrypt, users come by a load balancer, and so do the proxies to
    the ensemble; whatever hosts of the two sites say to each other goes by gateways.

    With --groups operators say from the first day which members are in which group, and
    member_ports of each tier go from record to trial to force, and move with the fleet. From then
    on a member that is in no group tries every other's ports.

    --chaos kills agents, the ensemble's leader and proxies, and flushes whole rulesets. While a
    host has no rules, requests may fail: they are counted apart.

    \b
    Examples:
      neti lab migrate
      neti lab migrate --private-only
      neti lab migrate --groups
      neti lab migrate --dashboard --keep
      neti lab migrate --chaos --seed 7
    """
    import random

    from neti_lab import lifecycle
    from neti_lab.migrate import story
    from neti_lab.stage import Stage
    from neti_lab.state import open_state

    if seed is not None and not chaos:
        raise click.UsageError("--seed works only with --chaos")
    if chaos and seed is None:
        seed = random.SystemRandom().randrange(10_000)
    plan = story.plan(name, private_only=private_only)
    state = open_state(name)
    if seed is not None:
        say(f"seed {seed}")
    try:
        with lifecycle.commanding(state):
            well = story.run(
                state, plan, Stage(), seed=seed, groups=groups, keep=keep, shown=with_dashboard
            )
    except KeyboardInterrupt:
        _say_interrupted(name, keep=keep and state.exists)
        sys.exit(130)
    sys.exit(0 if well else 1)


def _say_interrupted(name: str, *, keep: bool) -> None:
    if keep:
        left = f"the lab {name!r} is still up\n→ '{lab_command(name, 'down')}' takes it down"
    else:
        left = "everything has been taken down"
    explain(f"stopped by Ctrl-C: {left}")


@lab_group.command(hidden=True)
@name_option
def serve(name: str) -> None:
    """The process behind all hosts' metadata and web services; 'up' starts it."""
    from neti_lab import services
    from neti_lab.state import open_state

    services.serve(open_state(name))

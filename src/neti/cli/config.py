"""``neti config``: looks at a configuration file and says what it means. Changes nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import click

from neti.cli.common import config_option, json_option
from neti.cli.menu import Group
from neti.cli.output import print_json, say
from neti.errors import ConfigError, IdentityError
from neti.model import Encrypt
from neti.model.gateways import PORTS
from neti.model.groups import spelled
from neti.model.labels import in_words
from neti.model.settings import OpenPort, Settings
from neti.oneshot.site_roads import site_roads

_PAIRS: Final = 10  # of sites that are named
_CLOUDS: Final = {
    "auto": "from the metadata service of EC2, Google or Azure, whichever answers",
    "ec2": "from EC2's metadata service",
    "gcp": "from Google's metadata server",
    "azure": "from Azure's metadata service",
}


@click.group("config", cls=Group)
def config_group() -> None:
    """Check a configuration file, or print the schema of one."""


@config_group.command()
@config_option
@json_option
@click.pass_context
def check(ctx: click.Context, config: Path, as_json: bool) -> None:
    """Check the file and say what it means. Changes nothing.

    Each mistake is one line on stderr: FILE:LINE, the key, what was found, what was expected.
    Exit code 0: the file is valid, perhaps with warnings. 2: it is not.
    """
    from neti.config import load
    from neti.identity.site import site_by_file
    from neti.oneshot.encrypting import by_this_machine

    try:
        settings = load(config)
        site = site_by_file(settings)
    except (ConfigError, IdentityError) as error:
        lines = str(error).splitlines()
        if as_json:
            print_json({"file": str(config), "valid": False, "errors": lines})
        else:
            for line in lines:
                say(line, err=True)
        ctx.exit(ConfigError.exit_code)
    machine = by_this_machine(settings)
    warnings = [*settings.warnings]
    if machine is not None and machine.warning:
        warnings.append(machine.warning)
    if as_json:
        document = {"file": str(config), "valid": True, **summary(settings)}
        wireguard = machine.found if machine is not None else None
        print_json({**document, "wireguard": wireguard, "warnings": warnings})
        return
    for line in describe(
        replace(settings, site=site), machine.sentence if machine is not None else ""
    ):
        say(line)
    for warning in warnings:
        say(f"warning: {warning}", err=True)


@config_group.command()
def schema() -> None:
    """Print the JSON Schema of neti.yml, for editors and other tools."""
    from neti.config import json_schema

    print_json(json_schema())


def summary(settings: Settings) -> dict[str, Any]:
    """The file's meaning as JSON values; no secret is in it."""
    identity = settings.identity
    return {
        "site": settings.site or "auto",
        "sites": {
            site.name: {
                "private": [str(network) for network in site.private],
                "public": [str(network) for network in site.public],
                "ipv6": [str(network) for network in site.ipv6],
                "vpc_ids": list(site.vpc_ids),
                "networks": list(site.networks),
                "reached_by": site.reached_by.value,
                "gateways": list(site.gateways),
                "encrypt": site.encrypt.value,
            }
            for site in settings.sites.values()
        },
        "identity": identity if isinstance(identity, str) else str(identity.id),
        "labels": dict(settings.labels),
        "registry": _registry(settings),
        "overlay_subnet": str(settings.overlay_subnet),
        "tunnel_port": settings.tunnel_port if settings.encrypts else None,
        "reject_all": settings.reject_all,
        "open_ports": [_port(port) for port in settings.open_ports],
        "member_ports": _member_ports(settings),
        "ssh_whitelist": [str(network) for network in settings.ssh_whitelist],
        "trusted": [str(network) for network in settings.trusted],
        "warnings": list(settings.warnings),
    }


def describe(settings: Settings, wireguard: str = "") -> list[str]:
    """The same for people, a line for each subject. ``wireguard``: what would encrypt here."""
    identity = settings.identity
    who = _CLOUDS[identity] if isinstance(identity, str) else f"{identity.id}, {identity.private}"
    drops = "everything else is to be kept out"
    stage = drops if settings.reject_all else "nothing is to be kept out (shadow)"
    sites = [
        f"{site.name} ({', '.join(map(str, site.private)) or 'any range'})"
        for site in settings.sites.values()
    ]
    ssh = ", ".join(map(str, settings.ssh_whitelist)) or "nobody (ssh_whitelist is empty)"
    here = settings.site or "detected at start"
    members = _member_ports(settings) or {"all": ["every member"]}
    return [
        f"{settings.path}: valid",
        f"  sites       {', '.join(sites)}; this host's site: {here}",
        f"  identity    {who}",
        *([f"  labels      {in_words(settings.labels)}"] if settings.labels else []),
        f"  registry    {_registry(settings)}",
        f"  overlay     {settings.overlay_subnet}, {len(settings.nat_overrides)} overrides",
        *_encryption(settings, wireguard),
        *_gateways(settings),
        *_under("between", _first(site_roads(settings))),
        f"  open        {', '.join(map(_port, settings.open_ports)) or 'no ports'}",
        *_under("members", [f"{ports}: {', '.join(of)}" for ports, of in members.items()]),
        f"  SSH from    {ssh}",
        f"  trusted     {', '.join(map(str, settings.trusted)) or 'nobody but members'}",
        f"  reject_all  {'true' if settings.reject_all else 'false'}: {stage}",
    ]


def _member_ports(settings: Settings) -> dict[str, list[str]]:
    """Ports as they are written, and the groups that reach them."""
    found: dict[str, list[str]] = {}
    for line in settings.member_ports or ():
        of = found.setdefault(spelled(line), [])
        of += [group for group in line.groups if group not in of]
    return found


def _encryption(settings: Settings, wireguard: str) -> list[str]:
    sites = [f"{s.name} {s.encrypt.value}" for s in settings.sites.values() if s.encrypt.encrypts]
    if not sites:
        return []
    by = f", by {wireguard}" if wireguard else ""
    first = f"{', '.join(sites)}; WireGuard on UDP port {settings.tunnel_port}{by}"
    pairs = list(_pairs(settings))
    lines = [first, *_first(pairs)]
    if any(site.encrypt is Encrypt.REQUIRE for site in settings.sites.values()):
        lines.append("require acts as prefer until 'neti enforce' has put it in force on the host")
    return _under("encrypt", lines)


def _under(word: str, lines: Sequence[str]) -> list[str]:
    return [f"  {word if number == 0 else '':<10}  {line}" for number, line in enumerate(lines)]


def _first(pairs: Sequence[str]) -> list[str]:
    more = len(pairs) - _PAIRS
    return [*pairs[:_PAIRS], *([f"and {more} more pairs of sites"] if more > 0 else [])]


def _gateways(settings: Settings) -> list[str]:
    sites = [
        f"{site.name} by {', '.join(site.gateways)}"
        for site in settings.sites.values()
        if site.gateways
    ]
    if not sites:
        return []
    clear = "between such a site and another one that no link joins nothing goes in the clear"
    return [f"  gateways    {'; '.join(sites)}; UDP ports {PORTS}; {clear}"]


def _pairs(settings: Settings) -> Iterator[str]:
    """What is between two sites, where it is not what both of them say."""
    for one, other in combinations(settings.sites.values(), 2):
        between = one.encrypt.stricter(other.encrypt)
        for strict, lax in ((one, other), (other, one)):
            if lax.encrypt is not between:
                yield f"{one.name} and {other.name}: {between.value}, because {strict.name} says so"


def _registry(settings: Settings) -> str:
    if settings.embedded is not None:
        return f"embedded:{settings.embedded}"
    sites = [f"{site} {', '.join(hosts)}" for site, hosts in settings.zk_hosts.items() if hosts]
    tls = "" if settings.registry_tls is None else ", TLS"
    return f"ZooKeeper {settings.zk_prefix} ({'; '.join(sites)}{tls})"


def _port(port: OpenPort) -> str:
    span = str(port.first) if port.first == port.last else f"{port.first}-{port.last}"
    sources = f" from {' '.join(map(str, port.sources))}" if port.sources else ""
    return f"{span}/{port.proto}{sources}"

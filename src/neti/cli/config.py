"""``neti config``: check a file, print its schema."""

from pathlib import Path

import click

from neti.cli.common import config_option, json_option, print_json
from neti.config import json_schema, load


@click.group("config")
def config_group() -> None:
    """Check the configuration, or print its JSON Schema."""


@config_group.command()
@config_option
@json_option
def check(config: Path, as_json: bool) -> None:
    """Read the whole file and say what is wrong with it. Touches nothing.

    Exit code 0 when it is valid, 2 when not: then every fault is named, with file, line and key.
    """
    settings = load(config)
    registry = f"embedded ({settings.embedded})" if settings.embedded else "zookeeper"
    if as_json:
        print_json(
            {
                "file": str(config),
                "valid": True,
                "sites": sorted(settings.sites),
                "registry": registry,
                "reject_all": settings.reject_all,
                "warnings": list(settings.warnings),
            }
        )
        return
    ports = ", ".join(
        f"{p.first}{f'-{p.last}' if p.last != p.first else ''}/{p.proto}"
        for p in settings.open_ports
    )
    click.echo(f"{config}: valid")
    click.echo(f"sites       {', '.join(sorted(settings.sites))}")
    click.echo(f"registry    {registry}")
    click.echo(f"overlay     {settings.overlay_subnet}")
    click.echo(f"reject_all  {'true' if settings.reject_all else 'false (shadow)'}")
    click.echo(f"open to all {ports or 'nothing'}")
    click.echo(f"ssh always  {', '.join(map(str, settings.ssh_whitelist)) or 'from nowhere'}")
    for warning in settings.warnings:
        click.echo(f"warning     {warning}")


@config_group.command()
def schema() -> None:
    """Print the JSON Schema of neti.yml, for editors and configuration management."""
    print_json(json_schema())

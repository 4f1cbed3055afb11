"""``neti metrics``: the agent's metrics, for Prometheus."""

from pathlib import Path

import click

from neti.agent import control
from neti.cli.common import config_option, json_option, print_json, settings_in_force


@click.command()
@config_option
@json_option
@click.option(
    "--textfile",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Write them there for node_exporter's textfile collector; PATH ends in .prom.",
)
def metrics(config: Path, as_json: bool, textfile: Path | None) -> None:
    """Print the agent's metrics in the text format of Prometheus.

    With metrics_listen in the configuration the agent serves the same over HTTP.

    \b
    Examples:
      neti metrics
      neti metrics --textfile /var/lib/prometheus/node-exporter/neti.prom
    """
    seen = control.call(settings_in_force(config).table_files_path, "metrics")
    if as_json:
        print_json(seen)
        return
    from neti import exposition

    if textfile is not None:
        exposition.textfile(textfile, seen)
    else:
        click.echo(exposition.text(seen), nl=False)

"""``neti metrics``: the agent's metrics, for Prometheus."""

from pathlib import Path

import click

from neti.cli.asking import ask
from neti.cli.common import agent_folder, config_option, json_option
from neti.cli.output import hand_over, print_json
from neti.errors import NetiError
from neti.model.document import DocumentError, read
from neti.monitoring.figures import Figures


def _read_by_node_exporter(
    context: click.Context, parameter: click.Parameter, path: Path | None
) -> Path | None:
    if path is not None and path.suffix != ".prom":
        raise click.BadParameter(f"{path} does not end in .prom: node_exporter would not read it")
    return path


@click.command()
@config_option
@json_option
@click.option(
    "--textfile",
    type=click.Path(path_type=Path),
    metavar="PATH",
    callback=_read_by_node_exporter,
    help="Write them to this file for node_exporter's textfile collector; PATH ends in .prom. If "
    "no agent answers, the file says neti_agent_up 0 and nothing else.",
)
def metrics(config: Path, as_json: bool, textfile: Path | None) -> None:
    """Print the agent's metrics in the text format of Prometheus.

    With metrics_listen in the configuration the agent serves the same over HTTP.

    \b
    Examples:
      neti metrics
      neti metrics --textfile /var/lib/prometheus/node-exporter/neti.prom
    """
    from neti.monitoring import exposition

    try:
        answer = ask(agent_folder(config), "metrics")
        seen = read(Figures, answer)
    except (NetiError, DocumentError) as error:
        if textfile is not None:
            exposition.textfile(textfile, None)
        if isinstance(error, DocumentError):
            raise NetiError(
                f"the agent's metrics cannot be read ({error}), because the agent is of another "
                "version\n→ systemctl restart neti"
            ) from error
        raise
    if textfile is not None:
        exposition.textfile(textfile, seen)
    if as_json:
        print_json(answer)
    elif textfile is None:
        hand_over(exposition.text(seen))

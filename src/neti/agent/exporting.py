"""``metrics_listen``: an HTTP thread that asks the loop as a command would."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from neti import log
from neti.agent.control import Request
from neti.errors import NetiError

if TYPE_CHECKING:
    from neti.agent.loop import Agent


class Closing(Protocol):
    def close(self) -> None: ...


def exporter(agent: "Agent") -> Closing | None:
    """None where no metrics are wanted, or the address cannot be had: that is named, and no reason
    to go without rules."""
    listen = agent.core.settings.metrics_listen
    if listen is None:
        return None
    from neti.exposition import Exporter  # 4 MiB that nobody else has to pay for

    def ask() -> Mapping[str, Any]:
        request = Request("metrics", {})
        agent.tell(request)
        answer = request.wait()
        if "error" in answer:
            raise NetiError(str(answer["error"]))
        figures: Mapping[str, Any] = answer["result"]
        return figures

    try:
        return Exporter(listen, ask)
    except NetiError as error:
        agent.core.problems.set("metrics", str(error))
        log.warning("no_metrics", what=str(error))
        return None

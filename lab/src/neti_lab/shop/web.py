"""The shop's web server: passes each request to an app over a new connection, as a proxy does.

When an app cannot be reached, or hangs up before the first byte of an answer, the next one is
tried, which orders allow because they are the same however often they are made. Such a fail-over
is counted and told in the answer: a repetition must never be hidden from whoever measures.
"""

import time
from typing import Final

from neti import log
from neti_lab.busy import stretched
from neti_lab.shop import http1
from neti_lab.shop.configuration import Document, Endpoint, Endpoints, WebConfiguration
from neti_lab.shop.lines import AnswerLate, NotReached, ask_once
from neti_lab.shop.program import write_document
from neti_lab.shop.serving import Connection, Service
from neti_lab.shop.tally import LastErrors

_CONNECT_SECONDS: Final = stretched(1.0)
_ANSWER_SECONDS: Final = stretched(6.0)  # an app gives up after five
_LONGEST_ID: Final = 64


class Web:
    def __init__(self, configuration: WebConfiguration) -> None:
        self._configuration = configuration
        self._apps = configuration.apps
        self._service = Service(self._talk)
        self._turn = 0
        self._requests = 0
        self._failovers = 0
        self._failures = 0
        self._errors = LastErrors()

    async def start(self) -> None:
        await self._service.start(self._configuration.port)

    def take(self, configuration: WebConfiguration) -> None:
        self._apps = configuration.apps

    def report(self) -> None:
        if self._configuration.stats is not None:
            document = {
                "at": time.monotonic(),
                "host": self._configuration.host,
                "requests": self._requests,
                "failures": self._failures,
                "failovers": self._failovers,
                "errors": self._errors.document(),
            }
            write_document(self._configuration.stats, document)

    async def stop(self) -> None:
        await self._service.stop()

    async def _talk(self, connection: Connection) -> None:
        while (message := await http1.read(connection.reader)) is not None:
            with connection.request():
                status, document = await self._answer(message, connection.peer)
                stays = message.stays and not self._service.stopping
                connection.send(http1.answer(status, document, stays=stays))
                await connection.writer.drain()
            if not stays:
                return

    async def _answer(self, message: http1.Message, peer: str) -> tuple[int, Document]:
        this = {"host": self._configuration.host, "seen_from": peer}
        method, path, _ = message.first
        if (method, path) == ("GET", "/healthz"):
            return 200, {"ok": True, **this}
        request: Document
        try:
            if (method, path) == ("POST", "/order"):
                request = {"op": "order", "id": _order_id(message.document()["id"])}
            elif method == "GET" and path.startswith("/order/"):
                request = {"op": "find", "id": _order_id(path.removeprefix("/order/"))}
            else:
                return 404, {"error": f"there is no {method} {path}"}
        except (ValueError, KeyError):
            return 400, {"error": "an order has an id"}
        self._requests += 1
        status, document = await self._pass_on(request)
        document.setdefault("served_by", {})["web"] = this
        return status, document

    async def _pass_on(self, request: Document) -> tuple[int, Document]:
        """The answer of the first app that can be reached, beginning with the next in turn."""
        problem = "no app is configured"
        failovers = 0
        for app in self._in_turn():
            try:
                answer = await ask_once(
                    app, request, connect_seconds=_CONNECT_SECONDS, answer_seconds=_ANSWER_SECONDS
                )
            except NotReached as error:
                problem = str(error)
                failovers += 1
                self._failovers += 1
                log.info("shop-failover", app=app, problem=problem)
                continue
            except AnswerLate as error:
                return self._failed(504, str(error), failovers)
            return self._translated(app, answer, failovers)
        return self._failed(502, problem, failovers)

    def _translated(self, app: Endpoint, answer: Document, failovers: int) -> tuple[int, Document]:
        document = {
            "served_by": {
                **answer.get("served_by", {}),
                "app": {"host": answer["host"], "seen_from": answer["seen_from"]},
            },
            "retries": {"web": failovers, "app": answer.get("repeats", 0)},
            "cache": answer.get("cache"),
        }
        if answer.get("ok"):
            return 200, {"sequence": answer["sequence"], **document}
        if answer.get("error") == "not_found":
            return 404, {"error": "there is no such order", **document}
        status, failed = self._failed(502, f"{app}: {answer.get('error')}", failovers)
        return status, {**document, **failed}

    def _failed(self, status: int, problem: str, failovers: int) -> tuple[int, Document]:
        self._failures += 1
        self._errors.add(problem)
        return status, {"error": problem, "retries": {"web": failovers, "app": 0}}

    def _in_turn(self) -> Endpoints:
        if not self._apps:
            return ()
        self._turn = (self._turn + 1) % len(self._apps)
        return self._apps[self._turn :] + self._apps[: self._turn]


def _order_id(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_ID:
        raise ValueError("no order id")
    return value

"""The shop's application: orders go to the database, and the cache spares the database questions.

It reconnects to the database and repeats for five seconds, as a driver does, and counts it. A
cache that is gone, or slow, must never fail a request: it is left alone for a moment and counted.
"""

import time
from dataclasses import asdict
from typing import Final

from neti_lab.busy import stretched
from neti_lab.shop import lines
from neti_lab.shop.configuration import AppConfiguration, Document, Endpoint
from neti_lab.shop.link import Link, Unanswered
from neti_lab.shop.program import write_document
from neti_lab.shop.tally import LastErrors

_DATABASE_PATIENCE: Final = stretched(5.0)
_CACHE_PATIENCE: Final = stretched(0.5)
_CACHE_REST: Final = 0.5


class App:
    def __init__(self, configuration: AppConfiguration) -> None:
        self._configuration = configuration
        self._service = lines.service(self._answer, host=configuration.host)
        self._database = Link(configuration.database, patience=_DATABASE_PATIENCE)
        self._cache = _CacheDoor(configuration.cache)
        self._requests = 0
        self._failures = 0
        self._errors = LastErrors()

    async def start(self) -> None:
        await self._service.start(self._configuration.port)

    def take(self, configuration: AppConfiguration) -> None:
        self._database.point_to(configuration.database)
        self._cache.point_to(configuration.cache)

    def report(self) -> None:
        if self._configuration.stats is not None:
            document = {
                "at": time.monotonic(),
                "host": self._configuration.host,
                "requests": self._requests,
                "failures": self._failures,
                "database": asdict(self._database.figures),
                "cache": self._cache.document(),
                "errors": self._errors.document(),
            }
            write_document(self._configuration.stats, document)

    async def stop(self) -> None:
        await self._service.stop()
        self._database.close()
        self._cache.close()

    async def _answer(self, request: Document) -> Document:
        operation = request["op"]
        if operation == "health":
            return {"ok": True}
        if operation not in ("order", "find"):
            raise ValueError(operation)
        self._requests += 1
        key = str(request["id"])
        asked: Document | None = None
        if operation == "find":
            asked = await self._cache.ask({"op": "get", "key": key})
            if asked is not None and asked["value"] is not None:
                served_by = {"cache": _signature(asked)}
                sequence = asked["value"]
                return {"ok": True, "sequence": sequence, "served_by": served_by, "cache": "hit"}
        try:
            found, repeats = await self._database.ask({"op": operation, "id": key})
        except Unanswered as error:
            return self._failed(f"database: {error}")
        served_by = {"database": _signature(found)}
        if found.get("ok"):
            asked = await self._cache.ask({"op": "put", "key": key, "value": found["sequence"]})
        elif found.get("error") != "not_found":
            return self._failed(f"database: {found.get('error')}")
        if asked is not None:
            served_by["cache"] = _signature(asked)
        cache = "failed" if asked is None else "miss" if operation == "find" else "put"
        return {
            "ok": bool(found.get("ok")),
            "error": found.get("error"),
            "sequence": found.get("sequence"),
            "served_by": served_by,
            "cache": cache,
            "repeats": repeats,
        }

    def _failed(self, problem: str) -> Document:
        self._failures += 1
        self._errors.add(problem)
        return {"ok": False, "error": problem}


class _CacheDoor:
    """The way to the cache, which is shut for a moment after it did not answer."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._link = Link(endpoint, patience=_CACHE_PATIENCE)
        self._shut_until = 0.0
        self._hits = 0
        self._misses = 0
        self._failures = 0

    def point_to(self, endpoint: Endpoint) -> None:
        self._link.point_to(endpoint)
        self._shut_until = 0.0

    async def ask(self, request: Document) -> Document | None:
        """None when it does not answer; that is counted and nothing else."""
        if time.monotonic() >= self._shut_until:
            try:
                answer, _ = await self._link.ask(request)
            except Unanswered:
                self._shut_until = time.monotonic() + _CACHE_REST
            else:
                if request["op"] == "get":
                    found = answer["value"] is not None
                    self._hits += found
                    self._misses += not found
                return answer
        self._failures += 1
        return None

    def document(self) -> Document:
        counts = {"hits": self._hits, "misses": self._misses, "failures": self._failures}
        return {**counts, **asdict(self._link.figures)}

    def close(self) -> None:
        self._link.close()


def _signature(answer: Document) -> Document:
    return {"host": answer["host"], "seen_from": answer["seen_from"]}

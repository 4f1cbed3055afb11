"""The shop's cache: keys and values in memory, gone when it ends. Must never be the only copy."""

import time

from neti_lab.shop import lines
from neti_lab.shop.configuration import CacheConfiguration, Document
from neti_lab.shop.program import write_document


class Cache:
    def __init__(self, configuration: CacheConfiguration) -> None:
        self._configuration = configuration
        self._service = lines.service(self._answer, host=configuration.host)
        self._values: dict[str, object] = {}

    async def start(self) -> None:
        await self._service.start(self._configuration.port)

    def take(self, configuration: CacheConfiguration) -> None:
        """There is nothing in it that may change."""

    def report(self) -> None:
        if self._configuration.stats is not None:
            document = {
                "at": time.monotonic(),
                "host": self._configuration.host,
                "keys": len(self._values),
            }
            write_document(self._configuration.stats, document)

    async def stop(self) -> None:
        await self._service.stop()

    async def _answer(self, request: Document) -> Document:
        match request["op"]:
            case "put":
                self._values[str(request["key"])] = request["value"]
                return {"ok": True}
            case "get":
                # null is not there: nothing in the shop is null
                return {"ok": True, "value": self._values.get(str(request["key"]))}
            case "health":
                return {"ok": True, "keys": len(self._values)}
        raise ValueError(request["op"])

"""The one door to libnftables: run commands in process, get the answer as text or JSON.

In process because a change then costs 0.1 ms, where starting ``nft`` costs 3 to 19 ms. The library
uses the network namespace of the thread that makes the context; a context is not thread-safe.
Flags are those of nftables/libnftables.h.
"""

import ctypes
import ctypes.util
import json
from pathlib import Path
from typing import Any, Final

from neti import memory
from neti.errors import DataplaneError, DataplaneUnavailable

_OUTPUT_JSON: Final = 1 << 4
_OUTPUT_STATELESS: Final = 1 << 2
_OUTPUT_NUMERIC: Final = (1 << 7) | (1 << 8) | (1 << 9) | (1 << 10)  # proto, prio, symbol, time
_OUTPUT_TERSE: Final = 1 << 11

_LIBRARY: Final = "libnftables.so.1"
_SHOWN_OF_AN_ERROR: Final = 600
_LARGE: Final = 100_000  # bytes of commands or answer
_CAP_NET_ADMIN: Final = 12  # linux/capability.h
_NOT_PERMITTED: Final = (
    "this process may not administer the network: run it as root or with CAP_NET_ADMIN"
)


def _load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(_LIBRARY)
    except OSError as error:
        raise DataplaneUnavailable(
            f"{_LIBRARY} cannot be loaded: install the package libnftables1 (Debian, Ubuntu)"
        ) from error
    context = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_new.restype = context
    library.nft_ctx_free.argtypes = [context]
    library.nft_ctx_free.restype = None
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [context]
        getattr(library, name).restype = ctypes.c_int
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).argtypes = [context]
        getattr(library, name).restype = ctypes.c_char_p
    library.nft_ctx_output_set_flags.argtypes = [context, ctypes.c_uint]
    library.nft_ctx_output_set_flags.restype = None
    library.nft_run_cmd_from_buffer.argtypes = [context, ctypes.c_char_p]
    library.nft_run_cmd_from_buffer.restype = ctypes.c_int
    return library


class Nftables:
    """A libnftables context in the calling thread's network namespace."""

    def __init__(self) -> None:
        self._library = _load()
        if not _may_administer():
            # libnftables would say so itself, on stderr and in other words.
            raise DataplaneUnavailable(_NOT_PERMITTED)
        self._context = self._library.nft_ctx_new(0)
        if not self._context:
            raise DataplaneUnavailable("libnftables could not make a context: out of memory?")
        self._library.nft_ctx_buffer_output(self._context)
        self._library.nft_ctx_buffer_error(self._context)

    def close(self) -> None:
        if self._context:
            self._library.nft_ctx_free(self._context)
            self._context = None

    def run(self, commands: str) -> str:
        """Run nft commands as one transaction and return what they print."""
        return self._run(commands, _OUTPUT_NUMERIC)

    def listing(self, commands: str) -> str:
        """As ``run``, without elements of sets and without counters."""
        return self._run(commands, _OUTPUT_NUMERIC | _OUTPUT_STATELESS | _OUTPUT_TERSE)

    def listing_with_state(self, commands: str) -> str:
        """As ``listing``, with the counters as they stand."""
        return self._run(commands, _OUTPUT_NUMERIC | _OUTPUT_TERSE)

    def query(self, commands: str, *, terse: bool = False) -> list[dict[str, Any]]:
        """As ``run``, answered in libnftables' JSON (libnftables-json(5)); ``terse``: without
        elements of sets."""
        flags = _OUTPUT_NUMERIC | _OUTPUT_JSON | (_OUTPUT_TERSE if terse else 0)
        text = self._run(commands, flags)
        try:
            document: list[dict[str, Any]] = json.loads(text)["nftables"] if text else []
        except ValueError as error:  # torn: what was asked for changed meanwhile, or no memory
            raise DataplaneError(
                f"libnftables' answer to {_first_line(commands)!r} is no JSON: {error}"
            ) from error
        return document

    def _run(self, commands: str, flags: int) -> str:
        self._library.nft_ctx_output_set_flags(self._context, flags)
        code = self._library.nft_run_cmd_from_buffer(self._context, commands.encode())
        # Both buffers are emptied by being fetched, so both are, every time.
        output: bytes = self._library.nft_ctx_get_output_buffer(self._context)
        said: bytes = self._library.nft_ctx_get_error_buffer(self._context)
        if len(commands) > _LARGE or (output and len(output) > _LARGE):
            memory.give_back()
        if code != 0:
            raise _explained(said.decode(errors="replace").strip(), commands)
        return output.decode()


def _may_administer() -> bool:
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> _CAP_NET_ADMIN & 1)
    return True  # no such line: let the kernel say


def _explained(said: str, commands: str) -> DataplaneError:
    if "Operation not permitted" in said or "Permission denied" in said:
        return DataplaneUnavailable(_NOT_PERMITTED)
    if "Protocol not supported" in said or "Operation not supported" in said:
        return DataplaneError(f"this kernel lacks a part of nftables that Neti needs: {said}")
    return DataplaneError(
        f"nftables refused {_first_line(commands)!r}: {said[:_SHOWN_OF_AN_ERROR]}"
    )


def _first_line(commands: str) -> str:
    return commands.lstrip().partition("\n")[0][:120]

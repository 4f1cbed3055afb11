"""Lists of a set that the kernel is spreading over a larger table, as it sends them."""

from collections.abc import Iterator
from contextlib import closing
from itertools import chain, repeat

import pytest

from neti.dataplane import nf_tables as nf
from neti.dataplane.nftables import NftablesDataplane

WHOLE = {"10.0.0.1": 60, "10.0.0.2": 61, "10.0.0.3": 62}
TORN = ({"10.0.0.1": 60, "10.0.0.2": 61}, {"10.0.0.2": 61})  # two parts; the third is missing


def parts(*listed: dict[str, int]) -> list[bytes]:
    """As the kernel sends them, with the seconds left in place of the time-out."""
    timeouts = [{key: left * 1000 for key, left in part.items()} for part in listed]
    orders = chain.from_iterable(nf.add_timed("revoked4", part) for part in timeouts)
    return [body.replace(b"\x0c\0\x04\0", b"\x0c\0\x05\0") for _, _, body in orders]


def read(monkeypatch: pytest.MonkeyPatch, lists: Iterator[list[bytes]]) -> dict[str, int]:
    with closing(NftablesDataplane()) as dataplane:
        monkeypatch.setattr(dataplane._kernel, "listed", lambda *_, **__: next(lists))
        return dataplane.timed("revoked4")


def test_a_list_with_a_repetition_is_requested_again(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = chain([parts(*TORN), parts(*TORN)], repeat(parts(WHOLE)))
    assert read(monkeypatch, lists) == WHOLE


def test_a_list_without_one_is_believed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, iter([parts(WHOLE)])) == WHOLE


def test_what_repeats_for_ever_is_believed_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two adjoining ranges name an address twice. The set is not ours, and is replaced."""
    assert read(monkeypatch, repeat(parts(*TORN))) == {"10.0.0.1": 60, "10.0.0.2": 61}

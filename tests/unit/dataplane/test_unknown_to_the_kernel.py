"""A kernel that is too old, or lacks a module, is named as that, not as one that has changed."""

import errno
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import pytest

from neti.dataplane import nf_tables as nf
from neti.dataplane.listing import held
from neti.dataplane.netlink import Order
from neti.dataplane.nftables import NftablesDataplane
from neti.errors import DataplaneError, KernelMoved
from neti.model.settings import Settings
from neti.ruleset.objects import AddElements, Command, CreateTable, RewriteChains, Transaction
from neti.ruleset.policy import structure
from neti.ruleset.surroundings import Surroundings

STRUCTURE = structure(
    Settings(path=Path("neti.yml")), Surroundings(uplinks=("eth0",), ssh_untracked=True)
)


def refused(monkeypatch: pytest.MonkeyPatch, command: Command, kind: int, number: int) -> Exception:
    """What comes of it when the kernel says so to the first message of this kind about chain
    translate_output, or to the first of the kind at all."""

    def place(_subsystem: int, orders: Sequence[Order]) -> tuple[int, int]:
        of_kind = [n for n, order in enumerate(orders) if order[0] == kind]
        named = [n for n in of_kind if b"translate_output\0" in held(orders[n][2]).values()]
        return (named or of_kind)[0], number

    with closing(NftablesDataplane()) as dataplane:
        monkeypatch.setattr(dataplane._kernel, "batch", place)
        with pytest.raises(DataplaneError) as raised:
            dataplane.apply(Transaction((AddElements("peers4", {"10.0.0.9": ""}), command)))
    return raised.value


@pytest.mark.parametrize(
    ("kind", "number", "words"),
    [
        (nf.NEWCHAIN, errno.ENOENT, "chain translate_output: type nat hook output"),
        (nf.NEWRULE, errno.ENOENT, "chain translate_output: dnat ip to ip daddr map @overlay"),
        (nf.NEWRULE, errno.EOPNOTSUPP, "chain translate_output: dnat ip to ip daddr map @overlay"),
    ],
)
def test_what_the_kernel_does_not_know_is_named(
    monkeypatch: pytest.MonkeyPatch, kind: int, number: int, words: str
) -> None:
    error = refused(monkeypatch, CreateTable(STRUCTURE), kind, number)
    assert not isinstance(error, KernelMoved)
    assert words in str(error)
    assert "Neti needs Linux 5.4 or later" in str(error)


def test_a_set_that_somebody_took_out_is_no_old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a new table brings along all that its rules name."""
    command = RewriteChains(STRUCTURE, ())
    assert isinstance(refused(monkeypatch, command, nf.NEWRULE, errno.ENOENT), KernelMoved)

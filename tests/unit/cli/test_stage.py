"""``neti enforce``: how a trial that was not confirmed is told."""

import pytest

from neti.cli.registry_strict import _OFF_MEANS
from neti.cli.stage import _clear, _say_enforced


@pytest.mark.parametrize(
    ("of", "says"),
    [
        (["reject_all"], ""),
        (["encryption"], ", and encryption is not required"),
        (["reject_all", "encryption"], ", and encryption is not required"),
    ],
)
def test_that_encryption_is_not_required_is_said(of: list[str], says: str) -> None:
    assert _clear(of) == says


def test_strict_off_says_what_becomes_of_encryption() -> None:
    """Keys of members are only as good as the records that say them."""
    assert "another WireGuard key" in _OFF_MEANS
    assert "does not begin to require it until strict is on again" in _OFF_MEANS


def test_required_encryption_is_not_said_to_refuse_what_the_file_lets_through(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _say_enforced({"stage": "enforced", "requires": True}, as_json=False)
    assert "refused too, but for SSH, ICMP, and what trusted and" in capsys.readouterr().out
    _say_enforced({"stage": "enforced"}, as_json=False)
    assert "encrypted" not in capsys.readouterr().out

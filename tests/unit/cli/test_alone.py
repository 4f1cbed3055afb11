"""What ``neti status`` says of encryption where no agent answers."""

from dataclasses import replace

import pytest

from neti.cli.alone import document, lines
from neti.dataplane.way_out import Held
from neti.oneshot.known import Known

KNOWN = Known(
    member=None,
    overlay="192.168.0.1",
    members=3,
    stage="enforced",
    down=False,
    relaxed=False,
    kernel=Held(drops=True, requires=True),
    unseen=None,
    requires="enforced",
)


def test_required_encryption_is_said_without_an_agent() -> None:
    said = lines(KNOWN)
    assert "encrypted required between sites, as last written to disk" in said
    (kernel,) = [line for line in said if line.startswith("kernel")]
    assert "members that must be encrypted is refused, permanently" in kernel
    assert document(KNOWN)["on_disk"]["requires"] == "enforced"
    assert document(KNOWN)["in_kernel"]["requires"] is True


def test_so_is_a_trial_of_it() -> None:
    on_trial = Held(drops=True, requires=True, requires_on_trial=True)
    said = lines(replace(KNOWN, requires="trial", kernel=on_trial))
    assert "encrypted required on trial between sites, as last written to disk" in said
    (kernel,) = [line for line in said if line.startswith("kernel")]
    assert "dropped, permanently; " in kernel
    assert "is refused, until the trial ends by itself" in kernel


@pytest.mark.parametrize("kernel", [None, Held(), Held(drops=True)])
def test_where_nothing_is_required_nothing_is_said_of_it(kernel: Held | None) -> None:
    assert "encrypt" not in "\n".join(lines(replace(KNOWN, requires=None, kernel=kernel)))

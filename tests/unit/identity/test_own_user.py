"""The agent under its own user, and root's commands beside it: one state, one machine."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.support.netns import require_root

from neti import files
from neti.errors import IdentityError
from neti.identity.machine import fingerprint

NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that other users may look into, unlike pytest's."""
    require_root()
    made = Path(tempfile.mkdtemp(prefix="neti-user-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@contextmanager
def as_nobody() -> Iterator[None]:
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def secret_id(folder: Path) -> Path:
    product = folder / "product_uuid"
    product.write_text("EC2F1E0A-0000-0000-0000-000000000001\n")
    product.chmod(0o400)
    return product


def test_root_and_the_agents_user_see_one_machine(folder: Path) -> None:
    """What only root may read comes to the agent as a credential, and means the same."""
    product = secret_id(folder)
    credentials = folder / "credentials"
    credentials.mkdir()
    (credentials / "product_uuid").write_text("ec2f1e0a-0000-0000-0000-000000000001\n")
    by_root = fingerprint([product], {})
    with as_nobody():
        by_agent = fingerprint([product], {"CREDENTIALS_DIRECTORY": str(credentials)})
    assert by_agent == by_root != ""


def test_no_fingerprint_by_less_than_root_sees(folder: Path) -> None:
    """Without the credential there is an error that says what to do, not another machine."""
    product = secret_id(folder)
    with as_nobody(), pytest.raises(IdentityError, match="Run this as root, or in a unit with"):
        fingerprint([product], {})


def test_an_id_that_nobody_here_can_read_does_not_count(folder: Path) -> None:
    """In an unprivileged container the machine's ids belong to no user of the container."""
    product = secret_id(folder)
    os.chown(product, NOBODY - 1, NOBODY - 1)
    with as_nobody():
        assert fingerprint([product], {}) == ""


def test_what_root_makes_is_the_folders_owners(folder: Path) -> None:
    """The agent can read, replace and lock what a command of root's left behind."""
    os.chown(folder, NOBODY, NOBODY)
    os.close(files.create(folder / "down", os.O_WRONLY, 0o640))
    os.close(files.open_or_create(folder / "agent.lock", os.O_RDWR, 0o600))
    for name, mode in (("down", 0o640), ("agent.lock", 0o600)):
        status = (folder / name).stat()
        assert (status.st_uid, status.st_gid) == (NOBODY, NOBODY)
        assert status.st_mode & 0o777 == mode


def test_root_follows_no_link_of_the_owners(folder: Path) -> None:
    """A link that was planted under the name of a file is not written through."""
    target = folder / "precious"
    target.write_text("as it was")
    (folder / "agent.lock").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        files.open_or_create(folder / "agent.lock", os.O_RDWR | os.O_TRUNC, 0o600)
    with pytest.raises(FileExistsError):
        files.create(folder / "agent.lock", os.O_WRONLY, 0o600)
    assert target.read_text() == "as it was"

"""The SDK's sessions are not made for several threads, and Neti asks many places at once."""

import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from tests.support.aws import Account, MotoServer

from neti.aws import instances
from neti.aws.access import open_places

REGIONS = ["us-east-1", "us-east-2", "us-west-2", "eu-west-1"]
ROLES = [f"arn:aws:iam::{number * 12}:role/neti" for number in ("1", "2")]


@pytest.fixture(name="profiles")
def _profiles(server: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Profile "old" is a role that profile "base" assumes."""
    assert server.url
    path = tmp_path / "config"
    path.write_text(
        "[profile base]\naws_access_key_id = testing\naws_secret_access_key = testing\n"
        f"[profile old]\nrole_arn = {ROLES[0]}\nsource_profile = base\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")


class _Crowd:
    """How many threads are inside one session at the same time, at most."""

    def __init__(self) -> None:
        self.most = 0
        self._threads: dict[int, Counter[int]] = {}
        self._lock = threading.Lock()

    def watch(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        real = getattr(botocore.session.Session, name)

        def slow(session: Any, *arguments: Any, **more: Any) -> Any:
            own = threading.get_ident()
            with self._lock:
                inside = self._threads.setdefault(id(session), Counter())
                inside[own] += 1
                self.most = max(self.most, sum(count > 0 for count in inside.values()))
            try:
                time.sleep(0.02)  # the others are here in the meantime, unless they are kept out
                return real(session, *arguments, **more)
            finally:
                with self._lock:
                    inside[own] -= 1

        monkeypatch.setattr(botocore.session.Session, name, slow)


@pytest.mark.parametrize(
    ("profiles_given", "roles"), [(["old"], []), (["base"], ROLES), (["old"], [ROLES[1]])]
)
def test_a_session_is_used_by_one_thread_at_a_time(
    server: MotoServer,
    profiles: None,
    monkeypatch: pytest.MonkeyPatch,
    profiles_given: list[str],
    roles: list[str],
) -> None:
    """By its own regions, and by the roles that it is asked to assume from within their calls."""
    Account.of(server.url).instances(1, Account.of(server.url).group("web"))
    crowd = _Crowd()
    for name in ("create_client", "get_credentials"):
        crowd.watch(monkeypatch, name)
    places = open_places(profiles=profiles_given, roles=roles, regions=REGIONS)
    instances.read(places)
    assert crowd.most == 1


def test_credentials_that_run_out_in_the_middle_are_renewed(
    server: MotoServer, profiles: None
) -> None:
    """A refresh makes a client from within a call, in all threads: none waits for ever."""
    places = open_places(profiles=["old"], regions=REGIONS)
    instances.read(places)
    done: list[int] = []

    def again() -> None:
        for calls in places:
            # What the SDK does when they are about to end.
            calls._session.get_credentials()._frozen_credentials = None  # type: ignore[attr-defined]  # boto3's private parts
            calls._clients.clear()  # type: ignore[attr-defined]  # boto3's private parts
        done.append(len(instances.read(places)))

    threads = [threading.Thread(target=again, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) == 3

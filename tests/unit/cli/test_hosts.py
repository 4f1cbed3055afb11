"""``neti hosts``, ``lookup``, ``overlay-ip``: what resolvers, people and scripts go by."""

import json
import os
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from neti.cli import cli
from neti.control.client import AgentForbidden
from neti.errors import ConfigError, RegistryUnavailable
from neti.fleet.hosts_file import BEGIN, END, MarkersBroken, merged
from neti.identity.machine import fingerprint
from neti.model import Member
from neti.oneshot import seen as registry_seen
from neti.oneshot.seen import Seen
from neti.registry.detail import Document
from neti.state import public
from neti.state.folder import StateFolder
from neti.state.loaded import StateError
from neti.state.records import Self

CONFIG = """
registry: embedded:{folder}/registry.db
site: ec2
sites: {{ec2: {{private: [10.0.0.0/16]}}, vpc: {{private: [10.0.0.0/16]}}}}
identity: {{id: a, private: 10.0.0.1}}
ssh_whitelist: [10.0.0.0/8]
table_files_path: {folder}/state
"""


def member(host_id: str, site: str, private: str, overlay: str) -> Member:
    return Member(
        id=host_id,
        site=site,
        private=IPv4Address(private),
        public=None,
        overlay=IPv4Address(overlay),
    )


A = member("a", "ec2", "10.0.0.1", "192.168.0.1")
B = member("b", "vpc", "10.0.0.1", "192.168.0.2")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "neti.yml"
    path.write_text(CONFIG.format(folder=tmp_path))
    return path


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the registry says; tests may change it."""
    held: dict[str, object] = {"members": {"a": A, "b": B}, "unanswered": None, "away": []}

    def look(*_: object) -> Seen:
        return Seen(
            members=held["members"],  # type: ignore[arg-type]  # as the test put it there
            told={"b": Document(name="db-1")},
            taken=frozenset(),
            skipped={},
            skipped_count=0,
            away=held["away"],  # type: ignore[arg-type]  # likewise
            leases=held.get("leases", {}),  # type: ignore[arg-type]  # likewise
            unanswered=held["unanswered"],  # type: ignore[arg-type]  # likewise
        )

    monkeypatch.setattr(registry_seen, "seen", look)
    return held


def neti(config: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, [*words, "-c", str(config)])


# --- the hosts file ---


@given(st.lists(st.text("ab#\t 1.", max_size=5)), st.lists(st.text("xyz", min_size=1, max_size=5)))
def test_twice_is_once_and_all_else_stays(others: list[str], lines: list[str]) -> None:
    text = "\n".join(others)
    once = merged(text, lines)
    assert merged(once, lines) == once
    assert merged(once, []).rstrip("\n") == text.rstrip("\n")
    assert merged(merged(once, ["other"]), lines).rstrip("\n") == once.rstrip("\n")


@pytest.mark.parametrize("text", [BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}\n{BEGIN}\n{END}"])
def test_broken_markers_are_not_guessed_at(text: str) -> None:
    with pytest.raises(MarkersBroken, match="line"):
        merged(f"127.0.0.1 localhost\n{text}\n", ["x"])


def test_the_file_keeps_its_mode_and_owner_and_the_rest(
    config: Path, seen: dict[str, object], tmp_path: Path
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"127.0.0.1\tlocalhost\n\xff no UTF-8\n")
    hosts.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(hosts, 12, 34)
    before = hosts.stat()
    assert neti(config, "hosts", "--write", str(hosts)).exit_code == 0
    after = hosts.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    written = hosts.read_bytes()
    assert written.startswith(b"127.0.0.1\tlocalhost\n\xff no UTF-8\n")
    assert b"192.168.0.2\tdb-1" in written
    assert "nothing to change" in neti(config, "hosts", "--write", str(hosts)).stdout
    assert hosts.stat().st_ino == after.st_ino
    assert neti(config, "hosts", "--remove", str(hosts)).exit_code == 0
    assert hosts.read_bytes() == b"127.0.0.1\tlocalhost\n\xff no UTF-8\n"
    assert [path.name for path in tmp_path.iterdir() if "hosts" in path.name] == ["hosts"]


def away(state: str, overlay: str = "192.168.0.2") -> dict[str, object]:
    return {"id": "b", "name": "b", "overlay": overlay, "state": state, "site": None}


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ("lost", "192.168.0.2\tdb-1\n"),
        ("held", "192.168.0.2\tdb-1\n"),
        ("missing", "192.168.0.2\tdb-1\n"),
        ("left", ""),
        ("gone", ""),
        ("not believed", ""),
    ],
)
def test_who_is_lost_and_reachable_keeps_its_name(
    state: str, line: str, config: Path, seen: dict[str, object], tmp_path: Path
) -> None:
    """A name that goes with a session would take a host away that serves, on every host that
    writes the file by cron. The registry knows its name no more; the file does."""
    hosts = tmp_path / "hosts"
    hosts.write_text("")
    neti(config, "hosts", "--write", str(hosts))
    seen.update(members={"a": A}, away=[away(state)])
    assert neti(config, "hosts", "--write", str(hosts)).exit_code == 0
    assert hosts.read_text() == f"{BEGIN}\n192.168.0.1\ta\n{line}{END}\n"
    # Of who only holds a lease nobody knows whether there ever was such a host.
    known = line.replace("db-1", "b") if state != "missing" else ""
    assert neti(config, "hosts").stdout == f"192.168.0.1\ta\n{known}"


@pytest.mark.parametrize(
    ("state", "lines"),
    [
        ("lost", "192.168.0.2\tb\n192.168.0.9\tDB-1\n"),
        ("held", "192.168.0.2\tb\n192.168.0.9\tDB-1\n"),
        ("missing", "192.168.0.2\tdb-1\n"),  # it may have been replaced long ago
        ("gone", "192.168.0.2\tdb-1\n"),
    ],
)
def test_who_is_lost_is_not_robbed_of_its_name(
    state: str, lines: str, config: Path, seen: dict[str, object], tmp_path: Path
) -> None:
    """For as long as peers reach it: whoever says that it is called so has to wait."""
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{BEGIN}\n192.168.0.9\tDB-1\n{END}\n")
    seen.update(away=[{**away(state, "192.168.0.9"), "id": "c", "name": "c"}])
    neti(config, "hosts", "--write", str(hosts))
    assert hosts.read_text() == f"{BEGIN}\n192.168.0.1\ta\n{lines}{END}\n"


@pytest.mark.parametrize("state", ["missing", "gone", "left"])
def test_who_replaces_a_host_that_is_not_there_has_the_younger_lease(
    state: str, config: Path, seen: dict[str, object], tmp_path: Path
) -> None:
    """A member may be away for a second because somebody ended its session to get its name."""
    hosts = tmp_path / "hosts"
    gone = IPv4Address("192.168.0.9")
    seen.update(away=[{**away(state, str(gone)), "id": "c", "name": "c"}])
    for leases, line in (
        ({gone: "c", B.overlay: "b"}, "192.168.0.2\tdb-1\n"),
        ({B.overlay: "b", gone: "c"}, "192.168.0.2\tb\n"),
    ):
        hosts.write_text(f"{BEGIN}\n{gone}\tdb-1\n{END}\n")
        seen.update(leases=leases)
        neti(config, "hosts", "--write", str(hosts))
        assert line in hosts.read_text()


def test_who_took_a_name_meanwhile_does_not_keep_it(
    config: Path, seen: dict[str, object], tmp_path: Path
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text(f"{BEGIN}\n192.168.0.9\tdb-1\n{END}\n")
    two_want(seen)  # the host with the younger lease has it
    neti(config, "hosts", "--write", str(hosts))
    assert "db-1" not in hosts.read_text()


def two_want(seen: dict[str, object]) -> None:
    """``b`` says that it is called db-1; somebody came and leased the id db-1."""
    seen.update(
        members={"a": A, "b": B, "db-1": member("db-1", "ec2", "10.0.0.9", "192.168.0.9")},
        leases={B.overlay: "b", IPv4Address("192.168.0.9"): "db-1"},
    )


def test_a_name_that_several_want_stays_where_the_file_has_it(
    config: Path, seen: dict[str, object], tmp_path: Path
) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("")
    neti(config, "hosts", "--write", str(hosts))
    before = hosts.read_text()
    assert "192.168.0.2\tdb-1\n" in before
    two_want(seen)
    done = neti(config, "hosts", "--write", str(hosts))
    assert hosts.read_text() == before
    assert "db-1 is claimed by 2 hosts" in done.stderr
    hosts.write_text("")  # where nobody has it, nobody gets it
    neti(config, "hosts", "--write", str(hosts))
    assert hosts.read_text() == f"{BEGIN}\n192.168.0.1\ta\n192.168.0.2\tb\n{END}\n"


def test_the_operator_says_whose_a_name_is(config: Path, seen: dict[str, object]) -> None:
    two_want(seen)
    done = neti(config, "hosts", "--name", "db-1=b")
    assert done.stdout == "192.168.0.1\ta\n192.168.0.2\tdb-1\n"
    assert "db-1 is the name of b (192.168.0.2); db-1 cannot be called so too" in done.stderr
    assert "puppet" not in neti(config, "hosts", "--name", "puppet=nobody").stdout
    assert "192.168.0.1\tpuppet\n" in neti(config, "hosts", "--name", "puppet=a").stdout
    for wrong in ("db-1", "db 1=b", "db-1=", "=b", "10.0.0.1=b"):
        assert neti(config, "hosts", "--name", wrong).exit_code == 2
    assert neti(config, "hosts", "--name", "x=a", "--name", "X=b").exit_code == 2


def test_a_name_that_is_not_written_is_named(config: Path, seen: dict[str, object]) -> None:
    seen.update(members={"b": B, "Puppet": member("Puppet", "ec2", "10.0.0.9", "192.168.0.9")})
    done = neti(config, "hosts")
    assert done.stdout == "192.168.0.2\tdb-1\n"
    assert "Puppet is not called Puppet in a hosts file: agents take orders from it" in done.stderr
    assert "→ --name puppet=Puppet" in done.stderr
    done = neti(config, "hosts", "--name", "puppet=Puppet")
    assert "192.168.0.9\tpuppet\n" in done.stdout
    assert "Puppet is not called" not in done.stderr


def test_a_lookup_tells_of_everybody_who_wants_the_name(
    config: Path, seen: dict[str, object]
) -> None:
    two_want(seen)
    told = neti(config, "lookup", "db-1")
    assert [word for word in ("id b ", "id db-1 ") if word in told.stdout] == ["id b ", "id db-1 "]
    assert "db-1 is claimed by 2 hosts" in told.stderr


@pytest.mark.parametrize("what", [{"unanswered": RegistryUnavailable("away")}, {"members": {}}])
def test_a_file_is_not_emptied_because_nobody_is_known(
    what: dict[str, object], config: Path, seen: dict[str, object], tmp_path: Path
) -> None:
    hosts = tmp_path / "hosts"
    assert neti(config, "hosts", "--write", str(hosts)).exit_code == 1  # there is no such file
    hosts.write_text("")
    assert neti(config, "hosts", "--write", str(hosts)).exit_code == 0
    before = hosts.read_bytes()
    seen.update(what)
    done = neti(config, "hosts", "--write", str(hosts))
    assert done.exit_code == 1
    assert "is not changed" in done.stderr
    assert hosts.read_bytes() == before


def test_without_a_file_the_lines_are_printed(config: Path, seen: dict[str, object]) -> None:
    assert neti(config, "hosts").stdout == "192.168.0.1\ta\n192.168.0.2\tdb-1\n"


# --- lookup ---


@pytest.mark.parametrize(
    ("what", "ids"),
    [
        ("db-1", ["b"]),
        ("DB-1", ["b"]),
        ("a", ["a"]),
        ("192.168.0.2", ["b"]),
        ("10.0.0.1", ["a", "b"]),
    ],
)
def test_lookup_goes_both_ways(
    what: str, ids: list[str], config: Path, seen: dict[str, object]
) -> None:
    found = json.loads(neti(config, "lookup", what, "--json").stdout)
    assert [row["id"] for row in found] == ids
    text = neti(config, "lookup", what)
    assert (text.exit_code, len(text.stdout.splitlines())) == (0, len(ids))


WAYS: dict[str, dict[str, object]] = {
    "encrypted, by gw-1, gw-2, key AAEC": {
        "road": "required",
        "reached_at": "10.0.0.9",
        "gateways": ["gw-1", "gw-2"],
        "key": "AAEC",
    },
    "encrypted, by public address 203.0.113.7, key AAEC": {
        "road": "preferred",
        "reached_at": "203.0.113.7",
        "gateways": [],
        "key": "AAEC",
    },
    "in the clear, by private address 10.0.0.1": {
        "road": "plain",
        "reached_at": "10.0.0.1",
        "gateways": [],
        "key": None,
    },
    "cut off, it must be encrypted and has no key that is believed here": {
        "road": "none",
        "reached_at": "203.0.113.7",
        "gateways": [],
        "key": None,
    },
    # That host is not to blame.
    "cut off, it must be encrypted and this host has no WireGuard peer for it: see 'neti status'; "
    "key AAEC": {
        "road": "none",
        "reached_at": "203.0.113.7",
        "gateways": ["gw-1"],
        "key": "AAEC",
    },
    # Of an agent of an earlier version.
    "in the clear, by public address 203.0.113.7 ": {"reached_at": "203.0.113.7"},
}


@pytest.mark.parametrize("way", WAYS)
def test_lookup_says_how_it_is_reached_from_here(
    way: str, config: Path, seen: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def call(_folder: Path, command: str, **_: object) -> list[dict[str, object]]:
        assert command == "members"
        return [{"id": "a"}, {"id": "b", "private": "10.0.0.1", **WAYS[way]}]

    monkeypatch.setattr("neti.control.client.call", call)
    _, here = neti(config, "lookup", "db-1").stdout.splitlines()
    assert here == f"  from here: {way.strip()}"
    (row,) = json.loads(neti(config, "lookup", "db-1", "--json").stdout)
    assert row["here"]["key"] == WAYS[way].get("key")


def test_an_address_is_looked_up_among_addresses_alone(
    config: Path, seen: dict[str, object]
) -> None:
    """A host chooses its id itself, and this one chose another host's address."""
    posing = member("10.0.0.1", "vpc", "10.0.0.66", "192.168.0.2")
    seen["members"] = {"a": A, "10.0.0.1": posing}
    found = json.loads(neti(config, "lookup", "10.0.0.1", "--json").stdout)
    assert [row["id"] for row in found] == ["a"]
    found = json.loads(neti(config, "lookup", "10.0.0.66", "--json").stdout)
    assert [row["id"] for row in found] == ["10.0.0.1"]


def test_lookup_of_nobody(config: Path, seen: dict[str, object]) -> None:
    done = neti(config, "lookup", "10.9.9.9")
    assert done.exit_code == 1
    assert "no host has the name, id or address '10.9.9.9'" in done.stderr


# --- overlay-ip ---


def test_the_own_address_is_for_everybody_and_nothing_else_is(tmp_path: Path) -> None:
    state = tmp_path / "state"
    before = os.umask(0o027)
    try:
        folder = StateFolder(state)
        folder.load(fingerprint())
        folder.save_self(Self(overlay="192.168.7.9"))
    finally:
        os.umask(before)
    assert state.stat().st_mode & 0o777 == 0o751
    readable = [path.name for path in state.iterdir() if path.stat().st_mode & 0o004]
    assert readable == [public.OVERLAY_FILE]
    assert public.read_overlay(state) == IPv4Address("192.168.7.9")
    folder.save_self(Self(overlay=None))
    assert public.read_overlay(state) is None


def test_a_clone_does_not_read_the_originals_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / public.OVERLAY_FILE).write_bytes(public.content("192.168.7.9"))
    assert public.read_overlay(tmp_path) is not None
    monkeypatch.setattr(public, "_machine", lambda: "another")
    assert public.read_overlay(tmp_path) is None


def test_overlay_ip_without_root(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the socket nor the agent's own files nor the configuration may be read."""

    def forbidden(*_: object, **__: object) -> None:
        raise AgentForbidden("permission denied")

    def closed(*_: object) -> None:
        raise StateError("permission denied")

    def unreadable(_path: Path) -> None:
        try:
            raise PermissionError
        except PermissionError:
            raise ConfigError("permission denied")  # noqa: B904  # as the reader raises it

    folder = StateFolder(tmp_path / "state")
    folder.load(fingerprint())
    folder.save_self(Self(overlay="192.168.7.9"))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr("neti.control.client.call", forbidden)
    monkeypatch.setattr(StateFolder, "load", closed)
    monkeypatch.setattr("neti.cli.host.settings_in_force", unreadable)
    done = neti(config, "overlay-ip")
    assert (done.stdout, done.stderr) == ("192.168.7.9\n", "")
    (tmp_path / "state" / public.OVERLAY_FILE).unlink()
    done = neti(config, "overlay-ip")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "no overlay address yet" in done.stderr

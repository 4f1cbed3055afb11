"""``neti name``, and what ``neti hosts`` and ``lookup`` make of it."""

import json
import stat
from collections.abc import Iterator
from contextlib import closing
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from neti.cli import cli
from neti.cli import hosts as hosts_command
from neti.control.client import AgentForbidden
from neti.errors import ConfigError, NetiError
from neti.fleet.hosts_file import BEGIN, END
from neti.model import Member, entry
from neti.model.names import Names
from neti.oneshot.down import name_nobody
from neti.oneshot.naming import leading_nowhere
from neti.registry.embedded.registry import EmbeddedRegistry
from neti.registry.legible import illegible
from neti.registry.names import decode
from neti.state import hosts_file
from neti.state.hosts_file import HostsFile
from neti.state.location import DEFAULT_STATE

SUBNET = IPv4Network("192.168.0.0/18")


@pytest.fixture(name="config")
def _config(tmp_path: Path) -> Path:
    path = tmp_path / "neti.yml"
    path.write_text(
        f"registry: embedded:{tmp_path}/registry.db\ntable_files_path: {tmp_path}/state\n"
        "site: dc\nidentity: {id: a, private: 10.0.0.5}\nsites:\n  dc: {private: [10.0.0.0/16]}\n"
    )
    return path


@pytest.fixture(name="registry")
def _registry(tmp_path: Path) -> Iterator[EmbeddedRegistry]:
    """db-1, and a member with an id that looks like somebody else's name."""
    with (
        closing(EmbeddedRegistry(tmp_path / "registry.db")) as one,
        closing(EmbeddedRegistry(tmp_path / "registry.db")) as two,
    ):
        for number, (made, host_id) in enumerate([(one, "db-1"), (two, "vault.corp")]):
            member = Member(
                id=host_id,
                site="dc",
                private=IPv4Address(f"10.0.0.{number + 1}"),
                public=None,
                overlay=made.acquire(host_id, SUBNET, prefer=SUBNET[number + 1]),
            )
            made.register(
                host_id=host_id,
                name=entry.encode(member),
                data=b"",
                detail=json.dumps({"name": "mirror"}).encode(),
                overlay=member.overlay,
            )
        yield one


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, [*words, "-c", str(config)])


def done(config: Path, *words: str) -> str:
    found = run(config, *words)
    assert found.exit_code == 0, found.output
    return found.stdout


def refused(config: Path, *words: str) -> str:
    found = run(config, *words)
    assert found.exit_code != 0
    return found.output


def told(config: Path, *words: str) -> Any:
    return json.loads(done(config, *words, "--json"))


def held(registry: EmbeddedRegistry) -> Names:
    return decode(registry.setting("names"))


def test_names_are_given_listed_and_taken_away(config: Path, registry: EmbeddedRegistry) -> None:
    assert "DB" not in done(config, "name", "DB", "db-1")
    assert held(registry).ids == {"db": "db-1"}
    assert "nothing to change" in done(config, "name", "db", "db-1")
    assert "was db-1 before" in done(config, "name", "db", "vault.corp")
    done(config, "name", "--suffix", "Neti.Internal.")
    listed = done(config, "name", "--list")
    assert "suffix neti.internal" in listed
    assert "192.168.0.2" in listed
    assert told(config, "name", "--list")["names"] == {"db": "vault.corp"}
    done(config, "name", "--remove", "db")
    done(config, "name", "--no-suffix")
    assert held(registry).ids == {}
    assert held(registry).suffix == ""


def test_each_change_is_a_later_edition(config: Path, registry: EmbeddedRegistry) -> None:
    done(config, "name", "db", "db-1")
    first = held(registry).edition
    assert first > 1_700_000_000  # later than all that stood in a registry that lost everything
    done(config, "name", "mail", "db-1")
    assert held(registry).edition > first


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("db", "nobody"), "holds no lease"),
        (("db", "-x"), "No such option"),
        (("d b", "db-1"), "is no name for a host"),
        (("10.0.0.1", "db-1"), "is no name for a host"),
        (("localhost", "db-1"), "is no name for a host"),
        (("x.local", "db-1"), "is no name for a host"),
        (("db",), "expected NAME and ID"),
        ((), "expected NAME and ID"),
        (("db", "db-1", "--list"), "expected NAME and ID"),
        (("--remove", "db"), "nobody is called"),
        (("--suffix", "internal"), "two labels"),
        (("--suffix", "x.local"), "resolvers do not look up"),
        (("--suffix", "a b.c"), "two labels"),
        (("--suffix", ""), "expected NAME and ID"),
    ],
)
def test_what_would_lead_astray_is_refused(
    config: Path, registry: EmbeddedRegistry, words: tuple[str, ...], said: str
) -> None:
    assert said in refused(config, "name", *words)
    assert registry.setting("names") is None


def test_a_name_inside_the_suffix_stands_by_itself(
    config: Path, registry: EmbeddedRegistry
) -> None:
    done(config, "name", "--suffix", "neti.internal")
    said = refused(config, "name", "db.neti.internal", "db-1")
    assert "neti name db db-1" in said


def test_nobody_takes_the_name_of_a_server_of_zookeepers(
    tmp_path: Path, config: Path, registry: EmbeddedRegistry
) -> None:
    """An agent would look it up in the file that it keeps."""
    from neti.config import load
    from neti.oneshot import naming

    path = tmp_path / "zk.yml"
    path.write_text(
        "zk_hosts: {dc: ['zk-1.neti.internal:2181']}\nsites: {dc: {private: [10.0.0.0/16]}}\n"
    )
    settings = load(path)
    with pytest.raises(NetiError, match="which agents look up"):
        naming.give(settings, registry, "zk-1.neti.internal", "db-1", now=0.0)
    with pytest.raises(NetiError, match="is inside it"):
        naming.set_suffix(settings, registry, "neti.internal", now=0.0)


def test_hosts_with_a_suffix_has_no_name_that_a_host_chose(
    config: Path, registry: EmbeddedRegistry, tmp_path: Path
) -> None:
    assert "names that hosts give themselves" in run(config, "hosts").stderr
    done(config, "name", "--suffix", "neti.internal")
    done(config, "name", "db", "db-1")
    whole = (
        "192.168.0.1\tdb-1.neti.internal db db.neti.internal\n"
        "192.168.0.2\tvault.corp.neti.internal\n"
    )
    found = run(config, "hosts")
    assert found.stdout == whole
    assert found.stderr == ""
    file = tmp_path / "hosts"
    file.write_text("127.0.0.1\tlocalhost\n")
    done(config, "hosts", "--write", str(file))
    assert file.read_text() == f"127.0.0.1\tlocalhost\n{BEGIN}\n{whole}{END}\n"
    assert "the fleet's suffix is" in refused(config, "hosts", "--domain", "x.org")


def test_hosts_without_a_suffix_has_operators_names_besides(
    config: Path, registry: EmbeddedRegistry
) -> None:
    done(config, "name", "db", "db-1")
    done(config, "name", "db.corp.example", "db-1")
    assert "192.168.0.1\tdb db.corp.example" in done(config, "hosts").splitlines()


@pytest.mark.parametrize("suffix", [(), ("--suffix", "neti.internal")])
def test_hosts_has_no_name_that_has_become_a_server_of_zookeepers(
    config: Path, registry: EmbeddedRegistry, suffix: tuple[str, ...]
) -> None:
    for word in ("zk.corp.example", "db", "mail"):
        done(config, "name", word, "db-1")
    if suffix:
        done(config, "name", *suffix)
    with config.open("a") as file:
        file.write("zk_hosts: {dc: ['ZK.corp.example:2181', 'db:2181']}\n")
    words = done(config, "hosts").split()
    assert "mail" in words
    assert not {"zk.corp.example", "db"} & set(words)


def test_names_that_cannot_be_read_do_not_make_hosts_go_by_hosts_own_word(
    config: Path, registry: EmbeddedRegistry
) -> None:
    registry.change_setting("names", b"{")
    assert "cannot be read" in refused(config, "hosts")
    assert "is not JSON" in refused(config, "name", "db", "db-1")
    ((setting, why),) = illegible(registry.setting)
    what, _, then = why.partition("\n→ ")
    assert setting == "names"
    assert "is not JSON" in what
    assert "neti registry remove PREFIX/names" in then
    assert "\n" not in what + then


def test_a_name_goes_with_the_lease_and_one_that_leads_nowhere_is_named(
    config: Path, registry: EmbeddedRegistry
) -> None:
    done(config, "name", "db", "db-1")
    assert leading_nowhere(registry) == []
    registry.move("db-1", "db-2", force=True)
    assert held(registry).ids == {"db": "db-2"}
    registry.edit_setting("names", lambda raw: (raw or b"").replace(b"db-2", b"db-9"))
    assert [then for _, then in leading_nowhere(registry)] == ["neti name --remove db"]


def test_lookup_finds_by_operators_names(config: Path, registry: EmbeddedRegistry) -> None:
    done(config, "name", "--suffix", "neti.internal")
    done(config, "name", "db", "db-1")
    for word in ("db", "DB", "db.neti.internal", "db-1.neti.internal", "192.168.0.1"):
        (found,) = told(config, "lookup", word)
        assert found["id"] == "db-1"
        assert found["names"] == ["db-1.neti.internal", "db", "db.neti.internal"]


def test_lookup_without_the_right_to_read_anything_secret(
    config: Path, registry: EmbeddedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(_: Path) -> None:
        try:
            raise PermissionError
        except PermissionError as error:
            raise ConfigError("neti.yml: permission denied") from error

    monkeypatch.setattr(hosts_command, "settings_in_force", closed)
    monkeypatch.setattr(hosts_command, "state_folder", lambda _: config.parent)
    assert "run this as root" in refused(config, "lookup", "db")
    HostsFile(config.parent / "hosts").keep(b"# x\n192.168.0.1\tdb-1.x.org db\n")
    expected = [{"overlay": "192.168.0.1", "names": ["db-1.x.org", "db"]}]
    assert told(config, "lookup", "db") == told(config, "lookup", "192.168.0.1") == expected
    assert "overlay 192.168.0.1  names db-1.x.org db" in done(config, "lookup", "DB")
    assert "no host has" in refused(config, "lookup", "web")


def test_the_agents_file_is_everybodys_and_a_link_in_its_place_is_not_followed(
    tmp_path: Path,
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("x")
    file = HostsFile(tmp_path / "run" / "hosts")
    file.path.parent.mkdir()
    file.path.symlink_to(victim)
    file.keep(b"y")
    assert victim.read_text() == "x"
    assert file.path.read_bytes() == b"y"
    assert stat.S_IMODE(file.path.lstat().st_mode) == 0o644
    assert not file.altered()
    inode = file.path.stat().st_ino
    file.keep(b"y")
    assert file.path.stat().st_ino == inode
    file.path.unlink()
    assert file.altered()


def test_without_an_agent_down_takes_the_names_away(tmp_path: Path) -> None:
    name_nobody(tmp_path)
    assert not (tmp_path / "hosts").exists()
    HostsFile(tmp_path / "hosts").keep(b"192.168.0.1\tdb\n")
    name_nobody(tmp_path)
    assert hosts_file.read(tmp_path / "hosts") == []


def test_status_tells_every_user_what_is_no_secret(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise AgentForbidden("permission denied: run this as root")

    monkeypatch.setattr("neti.cli.status.ask", forbidden)
    HostsFile(config.parent / "state" / "hosts").keep(b"192.168.0.1\tdb\n")
    found = run(config, "status")
    assert found.exit_code == 1
    assert "1 host in " in found.stdout
    assert "run this as root" in found.stderr
    assert run(config, "status", "--json").stdout == ""


def test_an_agent_that_starts_leaves_a_file_that_is_right(tmp_path: Path) -> None:
    HostsFile(tmp_path / "hosts").keep(b"y")
    inode = (tmp_path / "hosts").stat().st_ino
    HostsFile(tmp_path / "hosts").keep(b"y")
    assert (tmp_path / "hosts").stat().st_ino == inode


def test_agents_with_folders_of_their_own_have_files_of_their_own(tmp_path: Path) -> None:
    run_folder = tmp_path / "run"
    assert hosts_file.place(DEFAULT_STATE, run_folder) == run_folder / "hosts"
    assert hosts_file.place(tmp_path, run_folder) == tmp_path / "hosts"

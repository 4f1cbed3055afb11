"""``neti report --inventory``: machines of a file against the registry, and its exit code."""

import json
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from neti.cli import cli
from neti.model import Member, entry
from neti.registry.embedded.registry import EmbeddedRegistry

CONFIG = """\
registry: embedded:{folder}/registry.db
sites:
  new: {{private: [10.0.0.0/8], public: [198.51.100.0/24], networks: [prod]}}
  old: {{private: [10.0.0.0/8], public: [203.0.113.0/24], reached_by: private}}
site: new
identity: gcp
"""
Neti = Callable[..., Result]


def listed(number: int, **more: object) -> dict[str, object]:
    card = {"networkIP": f"10.0.0.{number}", "network": "projects/p/global/networks/prod"}
    public = {"accessConfigs": [{"natIP": f"198.51.100.{number}"}]}
    return {
        "id": str(4513456781234567890 + number),
        "name": f"web-{number}",
        "status": "RUNNING",
        "networkInterfaces": [{**card, **public}],
        **more,
    }


@pytest.fixture(name="neti")
def _neti(tmp_path: Path) -> Iterator[Neti]:
    """web-1 is registered; web-2 and db-1 are not, and something else is."""
    registry = EmbeddedRegistry(tmp_path / "registry.db", session_seconds=600)
    _join(registry, str(listed(1)["id"]), "10.0.0.1", "198.51.100.1")
    other = EmbeddedRegistry(tmp_path / "registry.db", session_seconds=600)
    _join(other, "by-hand", "10.7.0.1", "198.51.100.77")
    (tmp_path / "neti.yml").write_text(CONFIG.format(folder=tmp_path))
    every = [listed(1, labels={"tier": "web"}), listed(2, labels={"tier": "web"})]
    every.append(listed(3, name="db-1", labels={"tier": "db"}))
    (tmp_path / "machines.json").write_text(json.dumps(every))

    def run(*words: str) -> Result:
        files = ["-c", str(tmp_path / "neti.yml"), "--inventory", str(tmp_path / "machines.json")]
        return CliRunner().invoke(cli, ["report", *files, *words])

    yield run
    registry.close()
    other.close()


def _join(registry: EmbeddedRegistry, host_id: str, private: str, public: str) -> None:
    member = Member(
        id=host_id,
        site="new",
        private=IPv4Address(private),
        public=IPv4Address(public),
        overlay=registry.acquire(host_id, IPv4Network("192.168.0.0/18")),
    )
    detail = json.dumps({"name": host_id, "version": "0.1.0", "stage": "shadow"}).encode()
    registry.register(host_id=host_id, name=entry.encode(member), data=b"", detail=detail)


def test_who_is_in_neti_and_who_is_not(neti: Neti) -> None:
    """By the id that Google gives, in the site that its network is in."""
    told = json.loads(neti("--json").stdout)
    assert {row["name"]: row["why"] for row in told["instances"]} == {
        "web-1": None,
        "web-2": "no agent",
        "db-1": "no agent",
    }
    assert {row["site"] for row in told["instances"]} == {"new"}
    assert told["totals"]["new"] == {
        "instances": 3,
        "in_neti": 1,
        "excluded": 0,
        "percent": 33.33,
    }
    assert [one["id"] for one in told["registered_elsewhere"]] == ["by-hand"]


def test_a_tag_narrows_the_list_and_the_totals(neti: Neti) -> None:
    """Members with another tag are in the file all the same, so they are not elsewhere."""
    told = json.loads(neti("--json", "--tag", "tier=db").stdout)
    assert [row["name"] for row in told["instances"]] == ["db-1"]
    assert told["totals"]["all"]["instances"] == 1
    assert [one["id"] for one in told["registered_elsewhere"]] == ["by-hand"]
    assert neti("--names-only", "--tag", "tier").stdout.split() == ["db-1", "web-1", "web-2"]
    assert not neti("--names-only", "--tag", "tier=db", "--tag", "owner").stdout


def test_ids_to_pipe_on(neti: Neti) -> None:
    found = neti("--not-in-neti", "--ids-only", "--tag", "tier=web").stdout.split()
    assert found == [listed(2)["id"]]


@pytest.mark.parametrize("option", ["--names-only", "--ids-only"])
def test_hostile_names_and_ids_do_not_get_into_a_pipe(
    neti: Neti, tmp_path: Path, option: str
) -> None:
    """A file without ids has the name for one. What is left out is counted."""
    lines = ["-rf,10.0.0.7", "web 1,10.0.0.8", "$(reboot),10.0.0.9", "web-9,10.0.0.10"]
    (tmp_path / "machines.json").write_text("\n".join(["name,private", *lines, "10.0.0.11,"]))
    result = neti(option)
    assert result.stdout.split("\n") == ["10.0.0.11", "web-9", ""]
    assert "3 of 5 machines have no name or id that is safe in a pipe" in result.stderr


def test_kinds_that_are_not_read_are_named_beside_the_report(neti: Neti, tmp_path: Path) -> None:
    group = {"type": "aws_autoscaling_group", "name": "web", "instances": [{}]}
    state = {"version": 4, "resources": [group]}
    (tmp_path / "machines.json").write_text(json.dumps(state))
    result = neti("--ids-only")
    assert not result.stdout
    assert result.stderr.endswith("are without them: aws_autoscaling_group\n")


def test_a_share_that_is_too_small_is_exit_code_1(neti: Neti) -> None:
    assert neti("--fail-below", "30").exit_code == 0
    result = neti("--fail-below", "100")
    assert result.exit_code == 1
    assert "new: 1 of 3 in Neti (33.3 %), but --fail-below wants 100 %" in result.stderr


def test_options_that_would_be_ignored_are_refused(neti: Neti) -> None:
    result = neti("--ids-only", "--json")
    assert result.exit_code == 2
    assert "--json and --ids-only cannot be used together" in result.stderr

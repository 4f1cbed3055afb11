"""The fleet as programs read it: what a member writes of itself is nobody's command there."""

import csv
import io
import json
import re
import subprocess
import sys
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from neti.cli import cli
from neti.fleet import listing
from neti.model import Member, entry
from neti.registry import detail
from neti.registry.embedded.registry import EmbeddedRegistry

HOSTILE = [
    "{{ lookup('pipe', 'touch OWNED') }}",
    "{% for x in [1] %}owned{% endfor %}",
    "all",
    "ungrouped",
    "localhost",
    "127.0.0.1",
    "vpc",
    "i-0",
    "web-0",
    "-e@/etc/shadow",
    "a b",
    "x\n10.9.9.9\tbank",
    "=1+1",
    "\x1b[2J",
    "\u202egnp",
    "mirror.example.org",
    "x" * 64,
    "",
]


def member(number: int, host_id: str | None = None, site: str = "vpc") -> Member:
    return Member(
        id=host_id or f"i-{number}",
        site=site,
        private=IPv4Address(0x0A150001 + number),
        public=None,
        overlay=IPv4Address(0xC0A80001 + number),
    )


def fleet_of(names: list[object], **fields: Any) -> list[listing.Row]:
    members = [member(number, **fields) for number in range(len(names))]
    told = {
        one.id: detail.decode(json.dumps({"name": name}).encode())
        for one, name in zip(members, names, strict=True)
    }
    return listing.rows({one.id: one for one in members}, told, {"vpc", "ec2"})


@given(st.lists(st.sampled_from(HOSTILE) | st.text() | st.integers() | st.none(), max_size=12))
def test_a_name_is_ones_own_or_the_id(names: list[object]) -> None:
    rows = fleet_of(names)
    shown = [row["name"].lower() for row in rows]
    assert len(set(shown)) == len(rows)
    for row in rows:
        assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", row["name"])
        assert row["name"] == row["id"] or row["name"] == names[int(row["id"][2:])]
        others = {other["id"] for other in rows} - {row["id"]} | {"vpc", "ec2", "all", "ungrouped"}
        assert row["name"] not in others


def test_a_name_that_two_claim_is_neithers() -> None:
    assert {row["name"] for row in fleet_of(["db-1", "DB-1", "web"])} == {"i-0", "i-1", "web"}


@given(st.binary() | st.sampled_from([b"[]", b"5", b"[" * 5000, b'{"name": {}, "stage": 5}']))
def test_a_document_says_only_what_has_its_form(document: bytes) -> None:
    told = detail.decode(document)
    assert told == detail.Document(name=told.name)
    assert told.name.isprintable()


def test_version_and_stage_are_no_free_text() -> None:
    document = {"name": "web", "version": "0.2\x1b[31m", "stage": "enforced; rm -rf"}
    assert detail.decode(json.dumps(document).encode()) == detail.Document(name="web")
    document = {"version": "0.2.1rc1", "stage": "enforced"}
    told = detail.decode(json.dumps(document).encode())
    assert (told.version, told.stage) == ("0.2.1rc1", "enforced")


def test_a_site_does_not_take_the_place_of_ansibles_groups() -> None:
    rows = [*fleet_of(["a"]), *listing.rows({"z": member(9, "z", "all")}, {})]
    document, left_out = listing.inventory(rows)
    assert document["all"] == {"children": ["site_all", "vpc"]}
    assert document["site_all"] == {"hosts": ["z"]}
    assert left_out == []


@pytest.mark.parametrize("host_id", ["all", "ungrouped", "localhost", "vpc", "10.0.0.1"])
def test_a_host_with_the_name_of_a_group_is_left_out_of_the_inventory(host_id: str) -> None:
    rows = listing.rows({host_id: member(1, host_id), "b": member(2, "b")}, {})
    document, left_out = listing.inventory(rows)
    assert left_out == [host_id]
    assert document["vpc"] == {"hosts": ["b"]}
    assert set(document["_meta"]["hostvars"]) == {"b"}


def test_a_hosts_file_gets_no_name_of_the_world() -> None:
    """It would win over DNS: with a dot only inside the domain that the operator names."""
    rows = fleet_of(["mirror.example.org", "web.example.com", "db"])
    lines, left_out = listing.hosts_lines(rows, "example.com")
    assert sorted(lines) == [
        "192.168.0.1\ti-0",
        "192.168.0.2\tweb.example.com",
        "192.168.0.3\tdb",
    ]
    assert left_out == []
    assert "192.168.0.2\ti-1" in listing.hosts_lines(rows)[0]


def test_ids_that_differ_in_case_only_are_no_names_in_a_hosts_file() -> None:
    """Resolvers do not tell them apart, so the first would be both."""
    rows = listing.rows({i: member(n, i) for n, i in enumerate(["DB-1", "db-1", "c"])}, {})
    assert listing.hosts_lines(rows) == (["192.168.0.3\tc"], ["DB-1", "db-1"])


# --- the command, over a registry into which anybody wrote ---


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "neti.yml"
    path.write_text(
        f"registry: embedded:{tmp_path}/registry.db\n"
        f"table_files_path: {tmp_path}/state\n"
        "site: ec2\n"
        "sites: {ec2: {private: [10.0.0.0/8]}, vpc: {private: [10.21.0.0/16]}}\n"
        "identity: {id: a, private: 10.0.0.5}\n"
    )
    for number, name in enumerate(["web-0", *HOSTILE]):
        registry = EmbeddedRegistry(tmp_path / "registry.db")
        one = member(number)
        overlay = registry.acquire(one.id, IPv4Network("192.168.0.0/18"), prefer=one.overlay)
        assert overlay == one.overlay
        registry.register(
            host_id=one.id,
            name=entry.encode(one),
            data=b"",
            detail=json.dumps({"name": name, "version": "1", "stage": name}).encode(),
        )
        registry.detach()
    stranger = EmbeddedRegistry(tmp_path / "registry.db")
    for host_id, site, claimed in (
        ("liar", "aaa", "1.2.3.4"),
        ("thief", "ec2", "192.168.0.1"),
        ("-rf", "ec2", "192.168.9.9"),
    ):
        name = f"1.0a0000070000000{0}{int(IPv4Address(claimed)):08x}.0.{site}.{host_id}"
        stranger.register(host_id=host_id, name=name, data=b"", detail=b'{"name": "db-1"}')
    stranger.detach()
    return path


def fleet(config: Path, *more: str) -> Result:
    return CliRunner().invoke(cli, ["fleet", "-c", str(config), *more])


def test_only_who_is_believed_is_listed(config: Path) -> None:
    """In every format; the others are counted, and named on request."""
    for style in ("table", "json", "csv", "hosts", "ansible", "prometheus"):
        told = fleet(config, "--format", style)
        assert told.exit_code == 0, told.output
        for word in ("1.2.3.4", "liar", "thief", "-rf", "db-1", "aaa"):
            assert word not in told.stdout
        assert "3 registry entries are not believed" in told.stderr
        assert "\x1b" not in told.output
    named = fleet(config, "--skipped")
    assert "site 'aaa' is not configured here" in named.stdout
    assert "3 entries are not believed" in named.stdout


def test_each_line_of_a_hosts_file_is_one_believed_host(config: Path) -> None:
    for line in fleet(config, "--format", "hosts").stdout.splitlines():
        assert re.fullmatch(r"192\.168\.0\.\d+\t[A-Za-z0-9-]+", line)


def test_leases_without_a_host_do_not_drown_the_table(config: Path, tmp_path: Path) -> None:
    registry = EmbeddedRegistry(tmp_path / "registry.db")
    for number in range(300):
        registry.acquire(f"squat-{number}", IPv4Network("192.168.0.0/18"))
    registry.close()
    told = fleet(config)
    assert len([line for line in told.stdout.splitlines() if line.startswith("squat-")]) == 50
    assert "250 more leases of hosts that are not registered" in told.stdout
    assert len(json.loads(fleet(config, "--json").stdout)["away"]) == 300


def test_the_targets_of_prometheus_have_a_port(config: Path) -> None:
    """That which was asked for, or that on which this host's agent has its metrics."""

    def ports(*more: str) -> set[str]:
        told = json.loads(fleet(config, "--format", "prometheus", *more).stdout)
        return {target.partition(":")[2] for one in told for target in one["targets"]}

    assert ports() == {""}
    assert ports("--port", "9177") == {"9177"}
    config.write_text(config.read_text() + "metrics_listen: '[::]:9100'\n")
    assert ports() == {"9100"}
    refused = fleet(config, "--port", "9177")
    assert refused.exit_code == 2
    assert "--format prometheus" in refused.stderr


def test_no_cell_of_the_csv_is_a_formula(config: Path) -> None:
    rows = list(csv.reader(io.StringIO(fleet(config, "--format", "csv").stdout)))
    assert len(rows) == 2 + len(HOSTILE)
    assert not [cell for row in rows for cell in row if cell[:1] in tuple("=+-@\t")]


def test_ansible_renders_nothing_of_what_members_wrote(config: Path, tmp_path: Path) -> None:
    """With the installed ansible-core: the inventory as a script, and a play that prints names."""
    ansible = Path(sys.executable).parent / "ansible-playbook"
    if not ansible.exists():
        pytest.skip("ansible-core is not installed")
    (tmp_path / "inventory.json").write_text(fleet(config, "--format", "ansible").stdout)
    script = tmp_path / "inventory.sh"
    script.write_text(f'#!/bin/sh\ncat "{tmp_path}/inventory.json"\n')
    script.chmod(0o755)
    play = tmp_path / "play.yml"
    play.write_text(
        "- hosts: all\n  gather_facts: false\n  connection: local\n  tasks:\n"
        "    - ansible.builtin.debug:\n"
        "        msg: '{{ inventory_hostname }} {{ neti_id }} {{ ansible_host }} {{ neti_site }}'\n"
    )
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "LC_ALL": "C.UTF-8",
        "ANSIBLE_NOCOLOR": "1",
    }
    told = subprocess.run(
        [ansible, "-i", script, play],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not list(tmp_path.rglob("OWNED"))
    assert "{{" not in told.stdout
    for number in range(1 + len(HOSTILE)):
        assert f" i-{number} 192.168.0.{1 + number} vpc" in told.stdout


def test_a_lost_host_does_not_take_the_place_of_one_that_is_there() -> None:
    """It is called by its id, which may be what a host that is there is called."""
    there = {**fleet_of(["web"])[0], "name": "i-1"}
    lost = {**there, "id": "i-1", "overlay": "192.168.0.99", "state": "lost"}
    document, left_out = listing.inventory([there, lost])
    assert document["_meta"]["hostvars"]["i-1"]["ansible_host"] == there["overlay"]
    assert left_out == ["i-1"]


def test_labels_that_would_get_one_name_keep_their_own() -> None:
    """In an inventory and in targets, and the same on all hosts, whichever labels each has."""
    listed = [
        {**row, "name": row["id"], "labels": labels}
        for row, labels in zip(
            fleet_of(["one", "two"]),
            ({"a-b": "dash", "a_b": "line", "a_b_": "longer"}, {"a-b": "dash"}),
            strict=True,
        )
    ]
    document, _ = listing.inventory(listed)
    of_inventory = [document["_meta"]["hostvars"][row["name"]] for row in listed]
    of_targets = [one["labels"] for one in listing.targets(listed)]
    for start, (first, second) in (("neti_label_", of_inventory), ("label_", of_targets)):
        assert first[f"{start}a_b"] == "line"
        assert first[f"{start}a_b_"] == "longer"
        assert first[f"{start}a_b__"] == second[f"{start}a_b__"] == "dash"
        assert f"{start}a_b" not in second

"""``neti fleet preview``: tier by tier, and nobody is passed over."""

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.told_fleet import Neti, told_fleet

from neti.cli.fleet_preview import _lines
from neti.oneshot.fleet_preview import Tier
from neti.registry.detail import Document
from neti.registry.hurts import Hurt, Hurts
from neti.stage.hurting import Lost


@pytest.fixture(name="neti")
def _neti(tmp_path: Path) -> Iterator[Neti]:
    now = int(time.time())
    postgres = Hurt(port="5432/tcp", sources=3, networks=("10.0.9.0/24",))
    documents = {
        "db-1": Document(hurts=Hurts(ports=1, sources=3, at=(postgres,)), written=now),
        "db-2": Document(hurts=Hurts(ports=4, sources=7, at=(postgres,)), written=now),
        "db-3": Document(hurts=Hurts(ports=1, sources=3, at=(postgres,)), written=now - 3600),
        "web-1": Document(hurts=Hurts(ports=0, sources=0, since=now - 3600), written=now),
    }
    said = {
        host_id: replace(one, stage="shadow", labels={"tier": host_id.partition("-")[0]})
        for host_id, one in documents.items()
    }
    with told_fleet(tmp_path, said) as neti:
        yield neti


def test_each_tier_has_its_ports_and_one_thing_to_paste(neti: Neti) -> None:
    assert neti("preview", "--by", "tier").output.splitlines() == [
        "tier=db  3 hosts: 3 shadow",
        "  5432/tcp    on 2 hosts, from 6 sources: db-1, db-2",
        "  open_ports:",
        "    - {port: 5432, from: [10.0.9.0/24]}",
        "  more than came is let in by the lines for 5432/tcp",
        "  3 more ports on db-2: 'neti preview' there",
        "  1 host does not say: db-3",
        "tier=web  1 host: 1 shadow",
        "  nothing that is in use would be shut",
        "  1 host has watched for less than a day: web-1",
    ]


def test_many_hosts_with_more_ports_bury_nothing_and_no_label_poses_as_counts() -> None:
    cut = {f"h{number}": number for number in range(1, 14)}
    lost = Lost(hosts=13, ports=(), cut=cut, silent=(), young=())
    value = "db  3 hosts: 3 enforced"
    first, *lines = _lines(Tier(value=value, stages={"shadow": 13}, lost=lost), "tier")
    assert first == f'tier="{value}"  13 hosts: 13 shadow'
    assert len(lines) == 11
    assert lines[0] == "  13 more ports on h13: 'neti preview' there"
    assert lines[-1] == "  more ports on 3 more hosts: --json has all of them"


def test_a_program_reads_the_same(neti: Neti) -> None:
    told = json.loads(neti("preview", "--where", "tier=db", "--json").stdout)
    (part,) = told["parts"]
    assert part["lost"]["silent"] == ["db-3"]
    assert part["lost"]["cut"] == {"db-2": 3}
    assert [one["hosts"] for one in part["lost"]["ports"]] == [["db-1", "db-2"]]


def test_an_option_before_the_word_is_not_dropped(neti: Neti) -> None:
    done = neti("--where", "tier=db", "preview")
    assert done.exit_code == 2
    assert "--where: expected behind 'preview'" in done.output

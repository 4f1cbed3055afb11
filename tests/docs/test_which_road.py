"""docs/which-road.md says what the program says: roads, keys, sizes; its sums are right."""

import re
from pathlib import Path

import pytest

from neti.agent.verify import _AROUND
from neti.cli.verify import _BY
from neti.config import json_schema, load
from neti.model.settings import Settings
from neti.ruleset.reach import PUBLIC_ROAD_MTU
from neti.ruleset.roads import _OVERHEAD

PAGE = (Path(__file__).parents[2] / "docs/which-road.md").read_text()
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def _row(first: str) -> str:
    (row,) = re.findall(rf"^\| {re.escape(first)} \| (.*) \|$", PAGE, re.MULTILINE)
    return str(row)


@pytest.mark.parametrize("example", EXAMPLES)
def test_each_example_loads_without_a_warning(example: str, tmp_path: Path) -> None:
    config = tmp_path / "neti.yml"
    config.write_text(
        f"registry: embedded:{tmp_path}/r.db\nsite: ec2\nssh_whitelist: [192.0.2.0/24]\n"
        f"identity: {{id: a, private: 10.0.0.5, public: 198.51.100.5}}\n{example}"
    )
    said = [line for line in load(config).warnings if "public" not in line]
    assert said == []


def test_the_roads_are_those_of_verify() -> None:
    said = [cell.strip('" ') for cell in _row("`neti verify` says").split("|")]
    assert said == [words for road, words in _BY.items() if road != "inside"]
    values = re.findall(r"`([a-z]+)`", _row("`reached_by`"))
    assert values == [*_BY, "null"]


def test_keys_are_keys() -> None:
    schema = json_schema()
    site = next(form for form in schema["$defs"].values() if "reached_by" in form["properties"])
    known = {*schema["properties"], *site["properties"]}
    for key in ("mtu", "reached_by", "encrypt", "tunnel_port", "verify_port", "trusted"):
        assert f"`{key}" in PAGE
        assert key in known
    settings = Settings(path=Path("neti.yml"))
    assert f"`tunnel_port` ({settings.tunnel_port})" in PAGE
    assert f"`verify_port` ({settings.verify_port}/tcp)" in PAGE


def test_sizes_are_those_of_the_program() -> None:
    packets = _row("packets")
    assert f"{PUBLIC_ROAD_MTU} bytes, or `mtu`" in packets
    assert f"{_OVERHEAD} bytes less" in packets
    assert f"never more than {PUBLIC_ROAD_MTU - _OVERHEAD}" in packets
    assert f"the largest is {_AROUND} bytes more" in PAGE


def test_the_sums_are_right() -> None:
    hours, address, link = 730, 0.005, 0.05
    assert f"({hours} hours)" in PAGE
    assert f"${hours * address:.2f}: " in PAGE
    assert PAGE.count(f"${hours * link:.2f} for each") == 2
    assert f"100 hosts with public addresses cost ${hours * address * 100:.0f} a month" in PAGE

"""How a node is spelled in a command: whatever it is called, and back."""

import re

from hypothesis import given
from hypothesis import strategies as st

from neti.registry.zookeeper.layout import path_of, removal, spelled


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_every_path_is_one_inert_word_and_the_same_path_again(path: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._~/+%-]*", spelled(path))
    assert path_of(spelled(path)) == path


def test_an_agents_own_names_are_spelled_as_they_are() -> None:
    for path in (
        "/neti/ip-map/1+0a000001c6336401c0a80001.5.ec2.db-1",
        "/neti/ip-to-id/192.168.0.1",
    ):
        assert removal(path) == f"neti registry remove {path}"
    assert removal("/neti/id-to-ip/x';reboot;'") == (
        "neti registry remove /neti/id-to-ip/x%27%3Breboot%3B%27"
    )

"""What a page asks for only when somebody looks at it."""

import time
from collections.abc import Mapping
from ipaddress import IPv4Address

from neti.dashboard.details import would_break
from neti.model import Member
from neti.oneshot.seen import Seen
from neti.registry.detail import Document, Left


def seen(told: Mapping[str, Document]) -> Seen:
    members = {
        host_id: Member(
            id=host_id,
            site="ec2",
            private=IPv4Address(f"10.0.0.{number}"),
            public=None,
            overlay=IPv4Address(f"192.168.0.{number}"),
        )
        for number, host_id in enumerate(told, 1)
    }
    return Seen(members=members, told=told, taken=frozenset(), skipped={}, skipped_count=0, away=[])


def test_whom_a_host_called_long_ago_is_listed_and_it_does_not_say_whom_it_calls_now() -> None:
    now = int(time.time())
    call = Left(to="a", port="80/tcp", calls=3, last=now - 7200)
    told = {
        "a": Document(left=(), written=now),
        "b": Document(left=(call,), written=now - 3600),
        "c": Document(left=(), written=now - 3600),
        "d": Document(written=now),
    }
    shown = would_break(seen(told), "")
    assert [one["from"] for one in shown["leftovers"]] == ["b"]
    assert shown["leftovers_silent"] == ["b", "c", "d"]

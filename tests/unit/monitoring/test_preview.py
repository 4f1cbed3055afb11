"""The document of ``neti preview``: what is written is read, by this version and its neighbours."""

import json
from typing import Any

import pytest
from tests.unit.monitoring.test_status import newer

from neti.errors import NetiError
from neti.model.document import plain
from neti.monitoring.preview import (
    KeptMember,
    KeptOut,
    KeptPort,
    Preview,
    Socket,
    Source,
    Wanted,
    preview_of,
)
from neti.stage.preview import Noise

FULL = Preview(
    agent=True,
    stage="shadow",
    faults=("f",),
    notes=("n",),
    since=1.0,
    now=9.0,
    ports=(
        Wanted(
            protocol="tcp",
            port=80,
            rank="used",
            listeners=(Socket(address="0.0.0.0", port=80, inode=7, pid=3, process="nginx"),),
            packets=5,
            sources=1,
            first=2.0,
            last=8.0,
            top=(
                Source(
                    address="10.0.0.9",
                    member="web-1",
                    admitted=None,
                    former_member="web-0",
                    former_until=1.5,
                    near="site",
                    packets=5,
                    first=2.0,
                    last=8.0,
                ),
            ),
            open_ports="{port: 80}",
        ),
    ),
    noise=Noise(1, 2, 3),
    accepted={"53/udp": 4.0},
    let_in=("22/tcp",),
    open_ports=("80",),
    kept_out=KeptOut(
        state="waiting",
        ports=(
            KeptPort(
                protocol="tcp",
                port=5432,
                waits=True,
                members=1,
                packets=4,
                first=1.0,
                last=2.0,
                top=(
                    KeptMember(
                        id="ec2-3",
                        groups=("web",),
                        address="10.0.0.3",
                        packets=4,
                        first=1.0,
                        last=2.0,
                    ),
                ),
                line="5432/tcp: [web]",
            ),
        ),
        suggestion=("member_ports:", "  5432/tcp: [web]"),
    ),
)
# Programs read this.
DOCUMENT: dict[str, Any] = {
    "agent": True,
    "stage": "shadow",
    "faults": ["f"],
    "notes": ["n"],
    "since": 1.0,
    "now": 9.0,
    "ports": [
        {
            "protocol": "tcp",
            "port": 80,
            "rank": "used",
            "listeners": [
                {
                    "address": "0.0.0.0",
                    "port": 80,
                    "inode": 7,
                    "pid": 3,
                    "process": "nginx",
                    "unit": None,
                }
            ],
            "forwarded": False,
            "redirected": None,
            "packets": 5,
            "sources": 1,
            "first": 2.0,
            "last": 8.0,
            "top": [
                {
                    "address": "10.0.0.9",
                    "name": None,
                    "member": "web-1",
                    "admitted": None,
                    "former_member": "web-0",
                    "former_until": 1.5,
                    "near": "site",
                    "packets": 5,
                    "first": 2.0,
                    "last": 8.0,
                    "refused": None,
                }
            ],
            "accepted": False,
            "open_ports": "{port: 80}",
        }
    ],
    "noise": {"ports": 1, "sources": 2, "packets": 3},
    "noise_listed": False,
    "accepted": {"53/udp": 4.0},
    "let_in": ["22/tcp"],
    "open_ports": ["80"],
    "clear": None,
    "kept_out": {
        "state": "waiting",
        "ports": [
            {
                "protocol": "tcp",
                "port": 5432,
                "waits": True,
                "listeners": [],
                "answered": False,
                "accepted": False,
                "members": 1,
                "packets": 4,
                "first": 1.0,
                "last": 2.0,
                "top": [
                    {
                        "id": "ec2-3",
                        "groups": ["web"],
                        "address": "10.0.0.3",
                        "packets": 4,
                        "first": 1.0,
                        "last": 2.0,
                    }
                ],
                "line": "5432/tcp: [web]",
                "commands": [],
            }
        ],
        "more": 0,
        "groups_known": True,
        "suggestion": ["member_ports:", "  5432/tcp: [web]"],
        "commands": [],
    },
}


def test_the_document_is_what_programs_read() -> None:
    """Key by key, in this order, and back."""
    assert json.dumps(plain(FULL)) == json.dumps(DOCUMENT)
    assert preview_of(DOCUMENT) == FULL


def test_the_next_version_is_read() -> None:
    """What it says besides is passed over."""
    told = newer({key: value for key, value in DOCUMENT.items() if key != "accepted"})
    assert preview_of({**told, "accepted": DOCUMENT["accepted"]}) == FULL


@pytest.mark.parametrize(
    "missing", ["stage", "notes", "noise", "accepted", "let_in", "open_ports", "ports"]
)
def test_the_version_before_is_read(missing: str) -> None:
    """Each key that it may not have had has a value for when it is not said."""
    preview_of({key: value for key, value in DOCUMENT.items() if key != missing})


@pytest.mark.parametrize("wrong", [None, 5, [], {}, {**DOCUMENT, "ports": [{}]}])
def test_what_is_no_preview_is_refused(wrong: Any) -> None:
    with pytest.raises(NetiError, match="of another version"):
        preview_of(wrong)

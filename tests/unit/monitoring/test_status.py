"""The status document: what is written is read, by this version and by its neighbours."""

import json
from dataclasses import replace
from typing import Any

import pytest

from neti.errors import NetiError
from neti.model.problems import Problem, Severity
from neti.monitoring.encryption import Crossing, Encryption, Unheard
from neti.monitoring.opened import Opened
from neti.monitoring.status import (
    Expired,
    Held,
    Live,
    Lost,
    Members,
    Registry,
    Removed,
    Running,
    Shared,
    Skipped,
    Status,
    Tracking,
    Wish,
    status_of,
)
from neti.stage.evidence import Finding
from neti.stage.excepted import Excepted

FULL = Status(
    version="1.2",
    id="web-1",
    site="ec2",
    private="10.0.0.1",
    more=("2001:db8::1",),
    overlay="192.168.0.1",
    entry="1.web-1",
    registered=True,
    stage="trial",
    wished=Wish(reject_all=True, by="command", configured=False, said_at=5.0, said_by="root"),
    trial=Running(seconds_left=41.5, seconds=60, confirms="operator", why=("kernel: no",)),
    evidence=(Finding("kernel", False, "no"),),
    registry=Registry(kind="embedded", fresh=False, reason="away", stale_seconds=3.0),
    members=Members(total=3, lost=1, held=1, sites={"ec2": 3}, unreachable=1),
    peers=2,
    lost=(Lost(id="web-2", overlay="192.168.0.2", since=1.0, seconds=2.0),),
    holds=(Held(id="web-3", overlay="192.168.0.3", since=1.0, seconds=2.0, reason="many"),),
    skipped=Skipped(count=1, entries={"x": "no entry"}),
    encryption=Encryption(
        implementation="module",
        port=51820,
        mtu=1420,
        public_key="AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        peers=3,
        shaken=2,
        oldest_handshake=3.0,
        last_handshake=4.0,
        received=148,
        sent=92,
        keyless=1,
        keyless_ids=("old-1",),
        keyless_cut_off=0,
        unheard_count=1,
        unheard=(Unheard(id="db-2", overlay="192.168.0.9"),),
        require_configured=True,
        sites={"vpc": Crossing(asked="require", plain=1, trying=1, preferred=2)},
        excepted=(Excepted("trusted", "203.0.113.0/24", 2), Excepted("open_ports", "443/tcp")),
    ),
    member_ports="trial",
    openings=(Opened(port="53/udp", source="203.0.113.9/32", until=5.0, seconds_left=4.0, at=1.0),),
    shared_private=(Shared(site="ec2", address="10.0.0.9", ids=("a", "b")),),
    removed=Removed(count=1, addresses=("10.0.0.8",)),
    containers=("docker0",),
    lacks=("control_groups",),
    settings=Live(interval=0.2, maxchange=20),
    conntrack=Tracking(tracked=1, limit=4, percent=25.0),
    problems=(
        Problem("disk", Severity.WARNING, "full", "stage.json"),
        Problem("fight", Severity.CRITICAL, "ufw"),
    ),
    notes=("n",),
    warnings=("w",),
    applies=7,
)
# Programs read this: a key that changes or goes away is a new format.
DOCUMENT: dict[str, Any] = {
    "format": 2,
    "version": "1.2",
    "id": "web-1",
    "site": "ec2",
    "private": "10.0.0.1",
    "public": None,
    "gateway": None,
    "more": ["2001:db8::1"],
    "overlay": "192.168.0.1",
    "entry": "1.web-1",
    "registered": True,
    "down": False,
    "stage": "trial",
    "wished": {
        "reject_all": True,
        "by": "command",
        "configured": False,
        "said_at": 5.0,
        "said_by": "root",
        "relaxed_until": None,
    },
    "trial": {
        "state": "running",
        "seconds_left": 41.5,
        "seconds": 60,
        "confirms": "operator",
        "why": ["kernel: no"],
        "of": ["reject_all"],
    },
    "evidence": [{"what": "kernel", "holds": False, "sentence": "no"}],
    "registry": {
        "kind": "embedded",
        "fresh": False,
        "reason": "away",
        "fresh_since": None,
        "stale_seconds": 3.0,
    },
    "members": {"total": 3, "lost": 1, "held": 1, "sites": {"ec2": 3}, "unreachable": 1},
    "peers": 2,
    "lost": [{"id": "web-2", "overlay": "192.168.0.2", "since": 1.0, "seconds": 2.0}],
    "holds": [
        {"id": "web-3", "overlay": "192.168.0.3", "since": 1.0, "seconds": 2.0, "reason": "many"}
    ],
    "skipped": {"count": 1, "entries": {"x": "no entry"}},
    "records": "off",
    "encryption": {
        "implementation": "module",
        "port": 51820,
        "mtu": 1420,
        "public_key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8",
        "peers": 3,
        "shaken": 2,
        "oldest_handshake": 3.0,
        "last_handshake": 4.0,
        "received": 148,
        "sent": 92,
        "keyless": 1,
        "keyless_ids": ["old-1"],
        "keyless_cut_off": 0,
        "keyless_cut_off_ids": [],
        "unheard_count": 1,
        "unheard": [{"id": "db-2", "overlay": "192.168.0.9", "since": None}],
        "require_configured": True,
        "requires": False,
        "on_trial": False,
        "sites": {
            "vpc": {
                "asked": "require",
                "plain": 1,
                "trying": 1,
                "preferred": 2,
                "required": 0,
                "none": 0,
            }
        },
        "excepted": [
            {"by": "trusted", "what": "203.0.113.0/24", "members": 2},
            {"by": "open_ports", "what": "443/tcp", "members": None},
        ],
    },
    "member_ports": "trial",
    "openings": [
        {
            "port": "53/udp",
            "source": "203.0.113.9/32",
            "member": "",
            "until": 5.0,
            "seconds_left": 4.0,
            "at": 1.0,
            "by": "",
        }
    ],
    "shared_private": [{"site": "ec2", "address": "10.0.0.9", "ids": ["a", "b"]}],
    "removed": {"count": 1, "addresses": ["10.0.0.8"]},
    "containers": ["docker0"],
    "lacks": ["control_groups"],
    "settings": {"interval": 0.2, "maxchange": 20},
    "drift": {"repairs": 0, "fight": None},
    "conntrack": {"tracked": 1, "limit": 4, "percent": 25.0},
    "ssh": "untracked",
    "problems": [
        {"code": "disk", "severity": "warning", "sentence": "full", "subject": "stage.json"},
        {"code": "fight", "severity": "critical", "sentence": "ufw"},
    ],
    "notes": ["n"],
    "warnings": ["w"],
    "applies": 7,
}


def test_the_document_is_what_programs_read() -> None:
    """Key by key, in this order, and back."""
    assert json.dumps(FULL.document()) == json.dumps(DOCUMENT)
    assert status_of(DOCUMENT) == FULL


def test_an_expired_trial_has_keys_of_its_own() -> None:
    expired = replace(FULL, trial=Expired(failures=2, retry_at=9.0, why=("nobody",)))
    told = {"state": "expired", "seconds_left": 0, "failures": 2, "retry_at": 9.0}
    assert expired.document()["trial"] == {**told, "why": ["nobody"], "of": ["reject_all"]}
    assert status_of(expired.document()) == expired


def newer(value: Any) -> Any:
    """A key more in each object, wherever one stands whose keys are not names."""
    if isinstance(value, list):
        return [newer(each) for each in value]
    if isinstance(value, dict):
        grown = {
            key: each if key in ("sites", "entries") else newer(each) for key, each in value.items()
        }
        return {**grown, "of the next version": [1]}
    return value


def test_the_next_version_is_read() -> None:
    """What it says besides is passed over."""
    assert status_of(newer(DOCUMENT)) == FULL


@pytest.mark.parametrize(
    "missing", sorted(DOCUMENT.keys() - {"version", "id", "site", "private", "registry"})
)
def test_the_version_before_is_read(missing: str) -> None:
    """Each key that it may not have had has a value for when it is not said, or said as null."""
    without = {key: value for key, value in DOCUMENT.items() if key != missing}
    assert status_of(without) == status_of({**DOCUMENT, missing: None})


def test_sentences_as_problems_are_read() -> None:
    """As format 1 had them: nothing is known but that they are problems."""
    told = status_of({**DOCUMENT, "format": 1, "problems": ["the disk is full"]})
    assert told.problems == (Problem("untyped", Severity.WARNING, "the disk is full"),)


@pytest.mark.parametrize("wrong", [None, 5, [], {}, {**DOCUMENT, "id": 5}, {**DOCUMENT, "lost": 1}])
def test_what_is_no_status_is_refused(wrong: Any) -> None:
    with pytest.raises(NetiError, match="of another version"):
        status_of(wrong)

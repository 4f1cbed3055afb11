"""``neti group``: what it changes, whom it concerns, and what it says."""

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from neti.cli import cli
from neti.cli.group_words import doubtful, of_line
from neti.config import load
from neti.fleet.followed_groups import FollowedGroups, judged, objection
from neti.model import Member, entry
from neti.model.groups import GroupLine, Groups
from neti.oneshot import grouping
from neti.registry.embedded.registry import EmbeddedRegistry
from neti.registry.groups import decode, encode
from neti.registry.memory import MemoryRegistry, MemoryServer
from neti.registry.record import HostRecord


@pytest.fixture(name="config")
def _config(tmp_path: Path) -> Path:
    path = tmp_path / "neti.yml"
    path.write_text(
        f"registry: embedded:{tmp_path}/registry.db\ntable_files_path: {tmp_path}/state\n"
        "site: dc\nidentity: {id: a, private: 10.0.0.5}\nsites:\n"
        "  dc: {private: [10.0.0.0/16]}\n  vpc: {private: [10.0.0.0/16]}\n"
    )
    return path


@pytest.fixture(name="registry")
def _registry(tmp_path: Path) -> Iterator[EmbeddedRegistry]:
    """Six hosts: db-1 to db-5 in dc, db-6 in vpc."""
    with ExitStack() as stack:
        for number in range(1, 7):
            made = stack.enter_context(closing(EmbeddedRegistry(tmp_path / "registry.db")))
            member = Member(
                id=f"db-{number}",
                site="vpc" if number == 6 else "dc",
                private=IPv4Address(f"10.0.0.{number}"),
                public=None,
                overlay=made.acquire(f"db-{number}", IPv4Network("192.168.0.0/18")),
            )
            made.register(
                host_id=member.id,
                name=entry.encode(member),
                data=b"",
                detail=b"{}",
                overlay=member.overlay,
            )
        yield made


def run(config: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["group", *words, "-c", str(config)])


def told(config: Path, *words: str) -> dict[str, Any]:
    done = run(config, *words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def held(registry: EmbeddedRegistry) -> Groups:
    return decode(registry.setting("groups"))


def test_it_says_whom_a_change_takes_in_and_puts_out(
    config: Path, registry: EmbeddedRegistry
) -> None:
    dry = run(config, "set", "db", "db-[12]", "--dry-run")
    assert dry.exit_code == 1
    assert "'db-[12]' is no host id and no pattern" in dry.stderr
    dry = run(config, "set", "db", "db-?", "--site", "dc", "--dry-run")
    assert "nothing was changed; this would be:" in dry.stdout
    assert registry.setting("groups") is None
    done = run(config, "set", "db", "db-?", "--site", "dc")
    assert done.stdout.splitlines() == [
        "group db: 5 members of those registered",
        "in it from now on: db-1, db-2, db-3, db-4, db-5",
    ]
    assert "without registry_tls a group rests on what hosts say" in done.stderr
    assert held(registry).lines == {"db": (GroupLine("db-?", "dc"),)}
    more = told(config, "add", "db", "db-6", "new-1")
    assert (more["joins"], more["leaves"], more["changed"]) == (["db-6"], [], True)
    less = run(config, "remove", "db", "db-6")
    assert "not in it any more: db-6" in less.stdout


def test_each_change_is_a_later_edition_also_in_a_registry_that_lost_all(
    config: Path, registry: EmbeddedRegistry
) -> None:
    before = time.time()
    first = told(config, "set", "db", "db-1")["edition"]
    assert before - 1 <= first <= time.time()
    assert told(config, "set", "db", "db-1")["changed"] is False
    assert held(registry).edition == first
    second = told(config, "add", "db", "db-2")["edition"]
    assert second > first
    ahead = Groups(held(registry).lines, second + 10**6)
    registry.change_setting("groups", encode(ahead))
    assert told(config, "add", "db", "db-3")["edition"] == second + 10**6 + 1


def test_what_takes_out_much_must_say_so(config: Path, registry: EmbeddedRegistry) -> None:
    told(config, "set", "db", "*")
    before = held(registry)
    for words in (["set", "db", "db-1"], ["delete", "db"], ["remove", "db", "*"], ["set", "db"]):
        refused = run(config, *words)
        assert refused.exit_code == 1
        assert "of the 6 members of group db out: nothing was changed" in refused.stderr
        assert "with --shrink" in refused.stderr
    assert held(registry) == before
    done = told(config, "set", "db", "db-1", "--shrink")
    assert done["leaves"] == ["db-2", "db-3", "db-4", "db-5", "db-6"]
    assert held(registry).shrunk == held(registry).edition == done["edition"]
    again = told(config, "set", "db", "db-1", "--shrink")
    assert again["edition"] > done["edition"]  # every agent is told once more
    later = told(config, "add", "db", "db-2")
    assert held(registry).shrunk == again["edition"] < later["edition"]


def test_two_ordinary_changes_are_followed_by_who_reads_both_at_once(
    config: Path, registry: EmbeddedRegistry
) -> None:
    """Each takes out half of the group at most; both together more."""
    told(config, "set", "db", "*")
    followed = FollowedGroups(held(registry), "f")
    told(config, "set", "db", "db-1", "db-2", "db-3")
    told(config, "set", "db", "db-1", "db-2")
    members = [
        Member(id=f"db-{n}", site="dc", private=there, public=None, overlay=there)
        for n, there in ((n, IPv4Address(n)) for n in range(1, 7))
    ]
    said = registry.setting("groups")
    after, why = judged(followed, said, "f", members=members, needed=["db"], now=time.time())
    assert why is None
    assert after == FollowedGroups(held(registry), "f")


def test_a_line_ends_and_is_forgotten_a_day_later(config: Path, registry: EmbeddedRegistry) -> None:
    assert run(config, "set", "db", "db-1").exit_code == 0
    done = told(config, "add", "db", "db-2", "--until", "2h")
    (until,) = [line["until"] for line in done["lines"] if line["id"] == "db-2"]
    assert 7199 - 600 < until - time.time() <= 7200
    done = told(config, "add", "db", "db-2", "--until", "2999-01-01T00:00")
    assert [line["until"] for line in done["lines"]] == [None, 32472144000.0]
    for wrong in ("soon", "2020-01-01T00:00", "0h", "2w"):
        assert run(config, "add", "db", "db-2", "--until", wrong).exit_code == 2
    now = time.time()
    lines = (GroupLine("x", until=now - 90_000), GroupLine("y", until=now - 100))
    registry.change_setting("groups", encode(Groups({"db": lines}, 7)))
    assert "ended" in run(config, "show", "db").stdout
    told(config, "add", "db", "db-1")
    assert [line.pattern for line in held(registry).lines["db"]] == ["y", "db-1"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["set", "members", "db-1"], "group members is every member and exists by itself"),
        (["set", "DB", "db-1"], "'DB' is no name of a group"),
        (["set", "\x1b[2J", "db-1"], "is no name of a group"),
        (["set", "db", "a b"], "'a b' is no host id and no pattern"),
        (["add", "web", "db-1"], "no group is called web; there are db"),
        (["remove", "db", "db-2"], "group db has no line db-2"),
        (["remove", "db", "db-1", "--site", "vpc"], "group db has no line db-1 of site vpc"),
        (["delete", "web"], "no group is called web"),
        (["show", "web"], "no group is called web; there are db"),
        (["show", "members"], "group members is every member"),
    ],
)
def test_what_cannot_be_is_named_and_changes_nothing(
    config: Path, registry: EmbeddedRegistry, words: list[str], said: str
) -> None:
    told(config, "set", "db", "db-1")
    before = registry.setting("groups")
    refused = run(config, *words)
    assert refused.exit_code == 1
    assert said in refused.stderr
    assert "\x1b" not in refused.output
    assert registry.setting("groups") == before


def test_a_site_that_nobody_has_is_refused(config: Path, registry: EmbeddedRegistry) -> None:
    refused = run(config, "set", "db", "db-1", "--site", "vcp")
    assert refused.exit_code == 2
    assert "expected one of the sites: dc, vpc" in refused.stderr
    assert registry.setting("groups") is None


def test_what_no_version_of_this_kind_wrote_is_left_alone(
    config: Path, registry: EmbeddedRegistry
) -> None:
    registry.change_setting("groups", b'{"format":2}')
    for words in (["set", "db", "db-1"], ["list"], ["show", "db"]):
        refused = run(config, *words)
        assert refused.exit_code == 1
        assert "has format 2, not 1" in refused.stderr
    assert registry.setting("groups") == b'{"format":2}'


def test_too_many_slow_patterns_of_a_version_before_can_become_fewer(
    config: Path, registry: EmbeddedRegistry
) -> None:
    many = tuple(GroupLine(f"x-{number:03}-?") for number in range(300))
    raw = encode(Groups({"db": many}), Groups({"db": many}))
    registry.edit_setting("groups", lambda _: raw)
    done = run(config, "remove", "db", "x-000-?")
    assert done.exit_code == 0, done.output
    assert held(registry).lines["db"] == many[1:]
    refused = run(config, "add", "db", "x-999-?")
    assert refused.exit_code == 1
    assert "300 patterns with '?', and 256 is the most" in refused.stderr
    assert held(registry).lines["db"] == many[1:]


def test_an_edition_that_no_command_makes_gives_way_to_the_next_command(
    config: Path, registry: EmbeddedRegistry
) -> None:
    """A member writes the last number that there is, where there are no rights."""
    last = Groups({"db": (GroupLine("db-1"),)}, 1 << 53, 1 << 53)
    registry.change_setting("groups", encode(last))
    assert run(config, "add", "db", "db-2").exit_code == 0
    now = held(registry)
    assert now.edition <= time.time()
    assert now.shrunk == 0
    # Whoever followed that one follows this one, and none of before it.
    followed = FollowedGroups(last, "f")
    for said, follows in ((now, True), (replace(now, edition=0), False)):
        objected = objection(followed, said, "f", members=(), needed=("db",), now=time.time())
        assert (objected is None) is follows


def test_an_id_that_nobody_has_is_named(config: Path, registry: EmbeddedRegistry) -> None:
    """It may be a typo, or a host that is to come."""
    registry.acquire("db-7", IPv4Network("192.168.0.0/18"))  # whose host is not there now
    done = run(config, "set", "db", "db-1", "ec2-99", "db-7", "web-*")
    assert done.exit_code == 0
    assert "nobody is registered as ec2-99, and no operator" in done.stderr
    assert told(config, "set", "db", "ec2-99", "--dry-run")["unheard_of"] == ["ec2-99"]
    assert told(config, "set", "db", "db-1")["unheard_of"] == []
    assert "nobody is registered" not in run(config, "delete", "db").output


def test_each_line_says_whom_it_takes_in(config: Path, registry: EmbeddedRegistry) -> None:
    """An id that nobody has is told apart from one whose host is away or elsewhere, and a pattern
    that fits nobody is named."""
    registry.acquire("db-7", IPv4Network("192.168.0.0/18"))
    told(config, "set", "db", "db-1", "db-7", "ec2-99", "db-*", "web-*")
    told(config, "add", "db", "db-6", "--site", "dc")
    ended = (
        *held(registry).lines["db"],
        GroupLine("gone-1", until=1.0),
        GroupLine("x*", until=1.0),
    )
    registry.change_setting("groups", encode(Groups({"db": ended, "app": ()}, 1 << 40)))
    *lines, _ = run(config, "show", "db").stdout.splitlines()
    assert lines[:6] == [
        "  db-1  registered",
        "  db-7  not registered now",
        "  ec2-99  nobody has this id",
        "  db-*  6 members: db-1, db-2, db-3, db-4, db-5, db-6",
        "  web-*  fits nobody",
        "  db-6  of site dc  nobody: it is of site vpc",
    ]
    assert [line.split()[:2] for line in lines[6:]] == [["gone-1", "ended"], ["x*", "ended"]]
    assert not any("nobody" in line for line in lines[6:])
    shown = told(config, "show", "db")
    assert shown["unheard_of"] == ["ec2-99"]
    assert [len(line["members"]) for line in shown["lines"]] == [1, 0, 0, 6, 0, 0, 0, 0]
    said = run(config, "list").stdout.splitlines()
    assert said[1].endswith("8 lines  1 id that nobody has, 1 pattern that fits nobody")
    assert said[0].endswith("0 lines")
    registry.release("db-7")
    assert "  db-7  nobody has this id" in run(config, "show", "db").stdout


def test_an_id_whose_lease_was_released_is_told_apart_from_a_typo(config: Path) -> None:
    """Where members may not begin a host, its record stays, with its owner."""
    server = MemoryServer()
    server.put_record("old-1", HostRecord())
    server.put_record("to-come-1", HostRecord())
    registry = MemoryRegistry(server)
    registry.acquire("to-come-1", IPv4Network("192.168.0.0/18"))
    named = tuple(map(GroupLine, ("old-1", "to-come-1", "typo-1")))
    registry.change_setting("groups", encode(Groups({"db": named}, 1)))
    seen = grouping.look(load(config), registry, time.time())
    assert (set(seen.released), set(seen.unheard_of)) == ({"old-1"}, {"typo-1"})
    assert [of_line(seen, line, ()) for line in named] == [
        "  old-1  released: nobody has this id any more",
        "  to-come-1  not registered now",
        "  typo-1  nobody has this id",
    ]
    assert doubtful(seen, "db") == "  2 ids that nobody has"


def test_without_certificates_there_are_no_subjects(
    config: Path, registry: EmbeddedRegistry
) -> None:
    refused = run(config, "set", "db", "CN=*,OU=db")
    assert refused.exit_code == 1
    assert "subject CN=*,OU=db: without registry_tls the registry knows no subjects" in (
        refused.stderr
    )
    assert registry.setting("groups") is None


def test_a_subject_is_one_line_with_those_whom_it_means(
    config: Path, registry: EmbeddedRegistry
) -> None:
    """As a command on a machine with an operator's certificate put it there."""
    lines = (
        GroupLine("CN=*,OU=db"),
        GroupLine("CN=web-*"),
        GroupLine("db-1"),
        GroupLine("db-1", by="CN=*,OU=db"),
        GroupLine("db-2", by="CN=*,OU=db"),
        GroupLine("db-9", by="CN=*,OU=db"),
    )
    registry.change_setting("groups", encode(Groups({"db": lines}, 7)))
    assert run(config, "show", "db").stdout.splitlines() == [
        "  CN=*,OU=db  2 members: db-1, db-2",
        "  CN=web-*  fits nobody",
        "  db-1  registered",
        "2 members: db-1, db-2",
    ]
    assert run(config, "list").stdout.splitlines()[0] == (
        "db  2 members    3 lines  1 pattern that fits nobody"
    )
    first = told(config, "show", "db")["lines"]
    assert [(one["id"], one["subject"], one["members"]) for one in first[:4:3]] == [
        (None, "CN=*,OU=db", ["db-1", "db-2"]),
        ("db-1", "CN=*,OU=db", ["db-1"]),
    ]
    # Ids come and go beside it, and an id is in by its subject alone until that goes.
    assert run(config, "add", "db", "db-3").exit_code == 0
    refused = run(config, "remove", "db", "db-2")
    assert "db-2: in group db by its subject, CN=*,OU=db" in refused.stderr
    assert "→ neti group remove db 'CN=*,OU=db'" in refused.stderr
    assert run(config, "remove", "db", "CN=*,OU=db", "--shrink").exit_code == 0
    assert held(registry).lines["db"] == (
        GroupLine("CN=web-*"),
        GroupLine("db-1"),
        GroupLine("db-3"),
    )


def test_lists_and_shows(config: Path, registry: EmbeddedRegistry) -> None:
    assert run(config, "list").stdout == "0 groups\n"
    told(config, "set", "db", "db-?", "--site", "dc")
    told(config, "set", "backup")
    listed = run(config, "list").stdout.splitlines()
    assert [line.split() for line in listed] == [
        ["backup", "0", "members", "0", "lines"],
        ["db", "5", "members", "1", "line"],
        ["2", "groups"],
    ]
    shown = run(config, "show", "db").stdout.splitlines()
    assert shown == [
        "  db-?  of site dc  5 members: db-1, db-2, db-3, db-4, db-5",
        "5 members: db-1, db-2, db-3, db-4, db-5",
    ]
    every = told(config, "list")
    assert every["groups"][1] == {
        "group": "db",
        "lines": [
            {
                "id": "db-?",
                "subject": None,
                "site": "dc",
                "until": None,
                "members": ["db-1", "db-2", "db-3", "db-4", "db-5"],
            }
        ],
        "members": ["db-1", "db-2", "db-3", "db-4", "db-5"],
        "unheard_of": [],
        "released": [],
        "missing": [],
        "not_fitting": [],
    }
    assert told(config, "show", "db") == {"edition": every["edition"], **every["groups"][1]}
    gone = run(config, "delete", "backup")
    assert "no group is called backup any more" in gone.stdout
    assert "backup" not in held(registry).lines

"""The files on disk: what is whole is used, what is not is named, and nothing is half."""

import os
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any

import pytest

from neti import durable
from neti.fleet.followed_groups import FollowedGroups
from neti.fleet.lost import Hold
from neti.fleet.remembered import Everybody, Remembered
from neti.model import Host
from neti.model.groups import GroupLine, Groups
from neti.model.wireguard_key import PrivateKey, PublicKey
from neti.registry import Origin, Session
from neti.stage.stages import Record, Trial
from neti.state.folder import StateFolder
from neti.state.loaded import StateError
from neti.state.records import Self

MEMBERS = {
    f"h{number}": Remembered(
        f"1.0a00000{number}00000000c0a8000{number}.0.ec2.h{number}",
        (ip_address("2001:db8::1"),),
        12.5 if number == 2 else None,
        True,
        Hold(3.0, "many at once", doubt=True, older=True) if number == 2 else None,
        key=PublicKey(bytes([number] * 32)) if number != 1 else None,
    )
    for number in (1, 2, 3)
}

GROUPS = FollowedGroups(
    Groups({"db": (GroupLine("db-*"), GroupLine("x", "ec2", 1.5)), "none": ()}, 7, 3, (6, 7)), "f"
)
HOST = Host(id="h", site="ec2", private=IPv4Address("10.0.0.1"), public=None)


def folder(path: Path, machine: str = "m") -> StateFolder:
    made = StateFolder(path)
    made.load(machine)
    return made


def everybody(members: dict[str, Remembered]) -> Everybody:
    return Everybody(len(members), members.items())


def test_everything_comes_back_as_it_was(tmp_path: Path) -> None:
    written = folder(tmp_path)
    itself = Self(
        overlay="192.168.0.1",
        entry="e",
        structure_text="t",
        structure_seen="s",
        origin=Origin("f", 7),
        host=HOST,
        uplinks=("eth0",),
        ssh_untracked=True,
    )
    trial = Trial(boot="b", deadline=5.5, began=6.5, seconds=60, wait=True)
    record = Record(configured=True, wished=True, trial=trial, why=("x",), retry_at=9.0)
    written.save_self(itself)
    written.save_record(record)
    written.save_window({"h9": 4.0})
    written.save_groups(GROUPS)
    written.save_session(Session(5, b"secret"))
    written.append(dict(MEMBERS), everybody(MEMBERS))
    loaded = folder(tmp_path).load("m")
    assert (loaded.itself, loaded.record, loaded.window) == (itself, record, {"h9": 4.0})
    assert loaded.session == Session(5, b"secret")
    assert loaded.groups == GROUPS
    assert loaded.members == MEMBERS
    assert loaded.faults == []


@pytest.mark.parametrize(
    "name", ["self.json", "stage.json", "guard.json", "session.json", "groups.json"]
)
def test_an_edited_document_is_refused_and_named(tmp_path: Path, name: str) -> None:
    """And no other is: the fleet is still known."""
    written = folder(tmp_path)
    written.save_self(Self(overlay="192.168.0.1"))
    written.save_record(Record(confirmed=True))
    written.save_window({"h9": 4.0})
    written.save_groups(GROUPS)
    written.save_session(Session(5, b"secret"))
    written.append(dict(MEMBERS), everybody(MEMBERS))
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[:-4] + b"x" + content[-3:])
    loaded = folder(tmp_path).load("m")
    assert [fault.file for fault in loaded.faults if "not used" in fault] == [name]
    assert all(name in fault and "secret" not in fault for fault in loaded.faults)
    assert loaded.record == Record(confirmed=True)
    assert not loaded.record_lost
    assert loaded.members == MEMBERS


def test_a_torn_base_is_refused_and_the_journal_before_it_is_used(tmp_path: Path) -> None:
    """Part of a fleet is no fleet."""
    written = folder(tmp_path)
    written.append(dict(MEMBERS), everybody(MEMBERS))
    later = {**MEMBERS, "h4": Remembered("1.0a00000400000000c0a80004.0.ec2.h4")}
    written.append({"h4": later["h4"]}, everybody(later))
    written.rewrite(everybody({**later, "h5": later["h4"]}))
    journal = tmp_path / "members.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([*lines[:2], lines[2][:20] + b"\n", *lines[3:]]))
    loaded = folder(tmp_path).load("m")
    assert loaded.members == later
    assert any("not used" in fault for fault in loaded.faults)
    assert any("members.jsonl.old" in fault for fault in loaded.faults)


@pytest.mark.parametrize("lines", [0, 1, 2])
def test_a_base_that_was_cut_off_is_refused(tmp_path: Path, lines: int) -> None:
    written = folder(tmp_path)
    written.append(dict(MEMBERS), everybody(MEMBERS))
    journal = tmp_path / "members.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:lines]))
    assert folder(tmp_path).load("m").members == {}


@pytest.mark.parametrize("left", ["nothing", "no header"])
def test_a_journal_without_its_header_is_refused_and_the_one_before_it_used(
    tmp_path: Path, left: str
) -> None:
    """Empty is what a power cut leaves of a file, and no fleet of nobody."""
    written = folder(tmp_path)
    written.append(dict(MEMBERS), everybody(MEMBERS))
    journal, old = tmp_path / "members.jsonl", tmp_path / "members.jsonl.old"
    content = journal.read_bytes()
    old.write_bytes(content)
    journal.write_bytes(b"" if left == "nothing" else content.split(b"\n", 1)[1])
    loaded = folder(tmp_path).load("m")
    assert loaded.members == MEMBERS
    assert str(journal) in loaded.faults[0]
    assert str(old) in loaded.faults[1]


def test_after_a_refused_file_the_next_note_writes_a_whole_one(tmp_path: Path) -> None:
    written = folder(tmp_path)
    written.append(dict(MEMBERS), everybody(MEMBERS))
    (tmp_path / "members.jsonl").write_bytes(b"rubbish\n")
    again = folder(tmp_path)
    again.append({"h1": MEMBERS["h1"]}, everybody(MEMBERS))
    assert folder(tmp_path).load("m").members == MEMBERS


@pytest.mark.parametrize("name", ["self.json", "stage.json", "members.jsonl"])
def test_each_file_says_whose_it_is(tmp_path: Path, name: str) -> None:
    """One of another machine among them is enough to use none."""
    written = folder(tmp_path, "another")
    if name == "members.jsonl":
        written.append(dict(MEMBERS), everybody(MEMBERS))
    elif name == "self.json":
        written.save_self(Self(overlay="192.168.0.1"))
    else:
        written.save_record(Record(confirmed=True))
    loaded = folder(tmp_path).load("m")
    assert loaded.foreign
    assert loaded.record is None
    assert loaded.members == {}


def test_the_good_configuration_is_kept_and_is_secret(tmp_path: Path) -> None:
    written = folder(tmp_path)
    written.keep_config(b"reject_all: true\n")
    assert written.good_config.read_bytes() == b"reject_all: true\n"
    assert written.good_config.stat().st_mode & 0o777 == 0o600


# --- the private key ---

KEY = PrivateKey(bytes(range(32)))


def test_the_private_key_comes_back_and_only_the_agents_user_can_read_it(tmp_path: Path) -> None:
    written = folder(tmp_path)
    assert written.private_key() is None
    written.keep_private_key(KEY)
    assert written.private_key() == KEY
    assert folder(tmp_path).private_key() == KEY
    assert (tmp_path / "wireguard.key").stat().st_mode & 0o777 == 0o600


def test_a_torn_private_key_is_named_without_its_text(tmp_path: Path) -> None:
    """The host makes another, which mends the file."""
    folder(tmp_path).keep_private_key(KEY)
    content = (tmp_path / "wireguard.key").read_bytes()
    (tmp_path / "wireguard.key").write_bytes(content[:-9])
    again = StateFolder(tmp_path)
    (fault,) = again.load("m").faults
    assert again.private_key() is None
    assert fault.file == "wireguard.key"
    assert KEY.text()[:20] not in fault


def test_a_private_key_that_could_not_be_written_is_not_used(tmp_path: Path) -> None:
    """Its public half would be known to others, and nobody would have it after a restart."""
    written = folder(tmp_path)
    (tmp_path / ".wireguard.key.new").mkdir()
    with pytest.raises(StateError, match=r"wireguard\.key") as caught:
        written.keep_private_key(KEY)
    assert written.private_key() is None
    assert KEY.text() not in str(caught.value)


def test_another_machines_private_key_is_not_used_and_costs_nothing_else(tmp_path: Path) -> None:
    """Two hosts with one key would take each other's packets. It was copied by hand, because the
    other files are this host's: they stay."""
    folder(tmp_path, "another").keep_private_key(KEY)
    written = StateFolder(tmp_path)
    written.load("m")
    written.save_record(Record(confirmed=True))
    again = StateFolder(tmp_path)
    loaded = again.load("m")
    assert (again.private_key(), loaded.foreign) == (None, False)
    assert loaded.record == Record(confirmed=True)
    assert [fault.file for fault in loaded.faults] == ["wireguard.key"]


def test_a_golden_images_private_key_is_deleted_with_the_rest(tmp_path: Path) -> None:
    image = folder(tmp_path, "another")
    image.save_self(Self(overlay="192.168.0.1"))
    image.keep_private_key(KEY)
    clone = StateFolder(tmp_path)
    assert clone.load("m").foreign
    assert clone.private_key() is None
    clone.discard()
    assert not (tmp_path / "wireguard.key").exists()


def test_a_newer_versions_private_key_is_used_as_far_as_it_is_understood(tmp_path: Path) -> None:
    """A downgrade must not change the host's key."""
    folder(tmp_path).keep_private_key(KEY)
    path = tmp_path / "wireguard.key"
    document = durable.checked(path.read_bytes())
    path.write_bytes(durable.line({**document, "format": 2, "more": 1}))
    again = folder(tmp_path)
    assert again.private_key() == KEY
    path.write_bytes(durable.line({"machine": "m", "format": 2, "keys": []}))
    again = folder(tmp_path)
    assert again.private_key() is None
    again.keep_private_key(KEY)
    assert (tmp_path / "wireguard.key.newer").stat().st_size


# --- files of other versions ---


def test_what_a_newer_version_added_is_passed_over(tmp_path: Path) -> None:
    """A downgrade finds files with more in them, and goes on by what it knows."""
    written = folder(tmp_path)
    written.save_self(Self(overlay="192.168.0.1", host=HOST))
    written.save_record(Record(confirmed=True, wished=True))
    written.save_window({"h9": 4.0})
    written.save_session(Session(5, b"secret"))
    written.append(dict(MEMBERS), everybody(MEMBERS))
    for name in ("self.json", "stage.json", "stage.json.copy", "guard.json", "session.json"):
        document = durable.checked((tmp_path / name).read_bytes())
        (tmp_path / name).write_bytes(durable.line({**document, "newer": {"more": [1]}}))
    journal = tmp_path / "members.jsonl"
    lines = [durable.checked(text) for text in journal.read_bytes().splitlines(keepends=True)]
    more = [{key: [*value, "newer"] for key, value in line.items()} for line in lines]
    journal.write_bytes(b"".join(durable.line(line) for line in more))
    loaded = folder(tmp_path).load("m")
    assert loaded.faults == []
    assert loaded.itself == Self(overlay="192.168.0.1", host=HOST)
    assert loaded.record == Record(confirmed=True, wished=True)
    assert (loaded.window, loaded.session) == ({"h9": 4.0}, Session(5, b"secret"))
    assert loaded.members == MEMBERS


def test_what_an_older_version_did_not_write_has_its_former_value(tmp_path: Path) -> None:
    """As version 0.1.0 wrote these files."""
    written = folder(tmp_path)
    stage = {"configured": True, "wished": True, "by": "command", "confirmed": True}
    stage |= {"trial": None, "failures": 0, "why": [], "retry_at": None}
    (tmp_path / "stage.json").write_bytes(durable.line({"machine": "m", **stage}))
    name, more, lost, leased, hold = MEMBERS["h1"].name, ["2001:db8::1"], None, True, None
    lines: list[dict[str, Any]] = [{"#": ["m", 1]}, {"h1": [name, more, lost, leased, hold]}]
    (tmp_path / "members.jsonl").write_bytes(b"".join(durable.line(line) for line in lines))
    loaded = written.load("m")
    assert loaded.faults == []
    assert loaded.record == Record(configured=True, wished=True, by="command", confirmed=True)
    assert loaded.members == {"h1": MEMBERS["h1"]}


def test_a_record_that_is_not_understood_is_put_aside_and_never_written_over(
    tmp_path: Path,
) -> None:
    written = folder(tmp_path)
    stage = {"machine": "m", "format": 9, "how": "of a version to come"}
    for name in ("stage.json", "stage.json.copy"):
        (tmp_path / name).write_bytes(durable.line(stage))
    content = (tmp_path / "stage.json").read_bytes()
    loaded = written.load("m")
    assert loaded.record_lost
    assert written.holds_what_is_not_understood("stage.json")
    written.save_record(Record(wished=True))  # an operator's word
    assert (tmp_path / "stage.json.newer").read_bytes() == content


def test_a_newer_record_that_says_enforced_is_enforced(tmp_path: Path) -> None:
    """After a downgrade and a reboot."""
    written = folder(tmp_path)
    written.save_record(Record(confirmed=True, wished=True))
    for name in ("stage.json", "stage.json.copy"):
        document = durable.checked((tmp_path / name).read_bytes())
        (tmp_path / name).write_bytes(durable.line({**document, "format": 9}))
    again = folder(tmp_path)
    loaded = again.load("m")
    assert loaded.record is not None
    assert loaded.record.confirmed
    assert not again.holds_what_is_not_understood("stage.json")
    again.save_record(Record())
    assert (tmp_path / "stage.json.newer").exists()


def test_a_newer_journal_is_used_as_far_as_it_is_understood_and_kept(tmp_path: Path) -> None:
    """Both of its files are the newer version's after two of its runs; an enforced host without
    members would be opened."""
    written = folder(tmp_path)
    written.append(dict(MEMBERS), everybody(MEMBERS))
    path = tmp_path / "members.jsonl"
    first, *rest = path.read_bytes().splitlines(keepends=True)
    header = durable.checked(first)
    newer = durable.line({"#": [*header["#"][:2], 9]}) + b"".join(rest)
    path.write_bytes(newer)
    again = folder(tmp_path)
    loaded = again.load("m")
    assert (loaded.members, loaded.faults) == (MEMBERS, [])
    again.append({}, everybody(MEMBERS))
    assert (tmp_path / "members.jsonl.newer").read_bytes() == newer
    path.write_bytes(newer + durable.line({"h1": {"in": "another form"}}))
    again = folder(tmp_path)
    loaded = again.load("m")
    assert any("another version" in fault for fault in loaded.faults)
    assert again.holds_what_is_not_understood("members.jsonl")


def test_a_newer_self_says_who_this_is(tmp_path: Path) -> None:
    written = folder(tmp_path)
    written.save_self(Self(overlay="192.168.0.1", host=HOST))
    path = tmp_path / "self.json"
    document = durable.checked(path.read_bytes())
    path.write_bytes(durable.line({**document, "format": 9, "newer": 1}))
    again = folder(tmp_path)
    assert again.load("m").itself == Self(overlay="192.168.0.1", host=HOST)
    again.save_self(Self())
    assert (tmp_path / "self.json.newer").exists()


@pytest.mark.parametrize("name", ["stage.json", "self.json", "members.jsonl", "guard.json"])
def test_a_pipe_in_the_folder_keeps_nobody_waiting(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)
    assert any(name in fault for fault in folder(tmp_path).load("m").faults)


@pytest.mark.parametrize("place", ["stage.json", ".stage.json.new", "stage.json.copy"])
def test_a_folder_where_a_file_should_be_is_named_with_what_to_do(
    tmp_path: Path, place: str
) -> None:
    (tmp_path / place).mkdir(parents=True)
    with pytest.raises(StateError, match=rf"/{place} is a folder .*: remove it"):
        folder(tmp_path).save_record(Record())
    (tmp_path / place).rmdir()
    folder(tmp_path).save_record(Record())


def test_who_was_removed_is_known_after_a_restart(tmp_path: Path) -> None:
    """The latest last, whatever was appended; and a torn end leaves what stands before it."""
    kept = folder(tmp_path)
    kept.note_gone({"a": 1}, {"a": 1})
    kept.note_gone({"b": 0}, {"a": 1, "b": 0})
    kept.note_gone({"a": 2}, {"b": 0, "a": 2})
    loaded = StateFolder(tmp_path).load("m")
    assert list(loaded.gone.items()) == [("b", 0), ("a", 2)]
    assert loaded.faults == []
    path = tmp_path / "gone.jsonl"
    path.write_bytes(path.read_bytes()[:-3])
    torn = StateFolder(tmp_path)
    loaded = torn.load("m")
    assert loaded.gone == {"a": 1, "b": 0}
    assert "used what stands before" in loaded.faults[0]
    torn.note_gone({"c": 0}, {**loaded.gone, "c": 0})  # nothing ever stands behind a torn line
    assert StateFolder(tmp_path).load("m").gone == {"a": 1, "b": 0, "c": 0}


def test_the_note_of_who_was_removed_does_not_grow_for_ever(tmp_path: Path) -> None:
    kept = folder(tmp_path)
    for number in range(12_000):
        kept.note_gone({"a": number}, {"a": number})
    assert len((tmp_path / "gone.jsonl").read_bytes().splitlines()) < 6_000
    assert StateFolder(tmp_path).load("m").gone == {"a": 11_999}


@pytest.mark.parametrize("more", [[], [True]], ids=["0.1.0", "with passing"])
def test_members_that_a_version_without_keys_wrote_have_none(
    tmp_path: Path, more: list[Any]
) -> None:
    """And what such a version did write counts."""
    head = [MEMBERS["h1"].name, ["2001:db8::1"], None, True, None]
    lines: list[dict[str, Any]] = [{"#": ["m", 1, 1]}, {"h1": [*head, *more]}]
    (tmp_path / "members.jsonl").write_bytes(b"".join(durable.line(line) for line in lines))
    loaded = StateFolder(tmp_path).load("m")
    assert loaded.faults == []
    assert loaded.members == {"h1": replace(MEMBERS["h1"], passing=bool(more))}


def test_a_member_of_a_newer_version_keeps_its_key(tmp_path: Path) -> None:
    """What else that version says of a member is passed over."""
    held = MEMBERS["h3"]
    head = [held.name, ["2001:db8::1"], None, True, None, False, str(held.key)]
    lines: list[dict[str, Any]] = [{"#": ["m", 1, 2]}, {"h3": [*head, {"more": 1}, "x"]}]
    (tmp_path / "members.jsonl").write_bytes(b"".join(durable.line(line) for line in lines))
    loaded = StateFolder(tmp_path).load("m")
    assert loaded.members == {"h3": held}


def test_what_is_no_key_is_not_guessed_at(tmp_path: Path) -> None:
    """Such a file is damaged, or another version's: it is named, and kept."""
    held = MEMBERS["h3"]
    lines: list[dict[str, Any]] = [
        {"#": ["m", 1, 1]},
        {"h3": [held.name, [], None, True, None, False, "AAAA"]},
    ]
    (tmp_path / "members.jsonl").write_bytes(b"".join(durable.line(line) for line in lines))
    loaded = StateFolder(tmp_path).load("m")
    assert loaded.members == {}
    assert any("not used" in fault for fault in loaded.faults)


def test_a_version_without_keys_can_read_what_this_one_writes(tmp_path: Path) -> None:
    """As 0.1.0 takes a record apart: five values, then whatever a newer version added."""
    folder(tmp_path).append(dict(MEMBERS), everybody(MEMBERS))
    for text in (tmp_path / "members.jsonl").read_bytes().splitlines(keepends=True)[1:]:
        for record in durable.checked(text).values():
            name, _more, lost, leased, _hold, *newer = record
            assert name.startswith("1.")
            assert leased is True
            assert lost in {None, 12.5}
            assert newer[0] is False

"""``neti support``: nothing secret in it, whatever is broken on the host."""

import base64
import io
import json
import os
import stat
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neti.cli import cli
from neti.control import client
from neti.control.client import AgentSilent
from neti.errors import NetiError
from neti.oneshot import support
from neti.oneshot.support_secrets import scrubber

CONFIG = """\
overlay_subnet: 192.168.0.0/16
sites: {{here: {{private: [10.0.0.0/8]}}}}
site: here
identity: {{id: me, private: 10.0.0.5}}
table_files_path: {folder}/state
registry: embedded:{folder}/registry.db
log_file: {folder}/neti.log
"""
PARTS = {name for name, *_ in support._WANTED}


@pytest.fixture(name="folder")
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No agent, no journal, and a kernel that shows nothing."""

    def nothing(*_: object, **__: object) -> str:
        raise NetiError("not here")

    for name in ("last_lines", "NftablesDataplane"):
        monkeypatch.setattr(support, name, nothing)
    monkeypatch.setattr("neti.oneshot.plan.difference", nothing)
    (tmp_path / "state").mkdir()
    (tmp_path / "neti.yml").write_text(CONFIG.format(folder=tmp_path))
    (tmp_path / "neti.log").write_text("began\n")
    return tmp_path


def run(folder: Path, *words: str) -> Result:
    return CliRunner().invoke(cli, ["support", "-c", str(folder / "neti.yml"), *words])


def unpacked(packed: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        held = {one.name.partition("/")[2]: tar.extractfile(one) for one in tar.getmembers()}
        return {name: one.read().decode() for name, one in held.items() if one is not None}


SECRETS = st.text("abcdefghijklmnopqrstuvwxyz0123456789+/", min_size=12, max_size=44)
QUOTED = st.text("\"\\'é#: ", min_size=1, max_size=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    secret=SECRETS,
    odd=QUOTED,
    place=st.sampled_from(
        ["aws", "misspelt", "flow", "tls", "session", "wireguard", "environment", "good", "nowhere"]
    ),
    said=st.sampled_from(["{}", "key is {}", '{{"a": "{}"}}', "https://u:{}@host/", "[{}]"]),
    valid=st.booleans(),
)
def test_a_secret_stands_nowhere_in_it(
    folder: Path, secret: str, odd: str, place: str, said: str, valid: bool
) -> None:
    """Wherever the host keeps it: though the log has it too, because some program wrote it there.
    A secret of no place is known by its form."""
    planted = f"Zq{secret}"
    text = CONFIG.format(folder=folder)
    state = folder / "state"
    for name in ("session.json", "wireguard.key", "neti.yml.good"):
        (state / name).unlink(missing_ok=True)
    environment = {}
    match place:
        case "aws":
            text += f"aws_key: {planted}0\naws_secret_key: {planted}\n"
        case "misspelt":
            text += f"aws_secert: {planted}\n"
        case "flow":
            text += f"labels: {{tier: db, aws_secret_key: '{planted}'}}\n"
        case "tls":
            (folder / "key.pem").write_text(f"-----BEGIN PRIVATE KEY-----\n{planted}\n")
            text = text.replace(f"registry: embedded:{folder}/registry.db\n", "")
            text += f"zk_hosts: {{here: ['127.0.0.1:1']}}\nregistry_tls: {{ca: {folder}/key.pem, "
            text += f"cert: {folder}/key.pem, key: {folder}/key.pem}}\n"
        case "session":
            held = base64.b64encode(planted.encode()).decode()
            (state / "session.json").write_text(json.dumps({"id": 5, "password": held}))
            planted = held
        case "wireguard":
            (state / "wireguard.key").write_text(json.dumps({"private": planted}))
        case "environment":
            environment = {"AWS_SESSION_TOKEN": planted}
        case "good":
            (state / "neti.yml.good").write_text(f"{text}aws_secret_key: {planted}\n")
        case "nowhere":
            planted = base64.b64encode(planted.encode().ljust(32, b"x")[:32]).decode()
    broken = "" if valid else f"no_such_key{odd!r}: [{planted}\n"
    (folder / "neti.yml").write_text(text + broken)
    (folder / "neti.log").write_text(f"began\n{said.format(planted)}\nwent on\n")
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        done = run(folder, "--output", "-")
    assert done.exit_code == 0, done.output
    found = unpacked(done.stdout_bytes)
    assert not [name for name, held in found.items() if planted in held]
    assert planted not in done.stderr
    if "log.txt" in found:
        assert "began" in found["log.txt"]
        assert "went on" in found["log.txt"]


def test_what_is_no_secret_stays(folder: Path) -> None:
    """A report in which all is cut helps nobody."""
    found = unpacked(run(folder, "--output", "-").stdout_bytes)
    held = json.loads(found["configuration.json"])
    assert held["sites"]["here"]["private"] == ["10.0.0.0/8"]
    assert held["identity"]["id"] == "me"
    assert held["set"] == {"aws_key": False, "aws_secret_key": False}
    assert not [name for name, text in found.items() if "[cut]" in text]


AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYzq9Kd0aB1e"
WIREGUARD = base64.b64encode(bytes(range(200, 232))).decode()


@pytest.mark.parametrize(
    ("line", "secrets"),
    [
        (f"aws_secret_key={AWS_SECRET}", [AWS_SECRET]),
        (f"refused where=x AWS_SECRET_ACCESS_KEY={AWS_SECRET} for=y", [AWS_SECRET]),
        (f"key={AWS_SECRET}", [AWS_SECRET]),
        (f"private={WIREGUARD}", [WIREGUARD]),
        (f"old={WIREGUARD} new=x", [WIREGUARD]),
        ("password: hunter22", ["hunter22"]),
        ("password: correct horse battery", ["correct", "horse", "battery"]),
        ("passwd=hunter22", ["hunter22"]),
        ("db_pwd = hunter22", ["hunter22"]),
        ('password="ab cd ef" why=gone', ["ab", "cd", "ef"]),
        ("password='ab''cd' why=gone", ["ab", "cd"]),
        (r'{"password": "ab\"cd ef", "why": "gone"}', ["ab", "cd", "ef"]),
        (r'said="{\"password\": \"ab cd\"}" why=gone', ["ab", "cd"]),
        ('password="ab cd', ["ab", "cd"]),
        ("Authorization: Basic aHVudGVyOjIy", ["aHVudGVyOjIy"]),
        ("sent Bearer abc.def-123", ["abc.def-123"]),
        ("GET /?sessionToken=abcdefgh&n=1", ["abcdefgh"]),
        ("aws_session_token: " + "ab" * 20, ["ab" * 20]),  # looks like a commit
        ('"credentials": ["hunter22"]', ["hunter22"]),
    ],
)
def test_what_looks_like_a_secret_is_cut_in_whatever_way_a_log_says_it(
    folder: Path, line: str, secrets: list[str]
) -> None:
    """One that this host holds nowhere any more, or that only the agent's environment has."""
    said = f"10:00 read {line}\nwent on\n"
    scrubbed = scrubber(folder / "neti.yml", None)(said)
    assert not [one for one in secrets if one in scrubbed]
    assert scrubbed.startswith("10:00 read ")
    assert scrubbed.endswith("\nwent on\n")
    assert ("gone" in scrubbed) == ("gone" in said)
    if line.startswith("{"):
        assert json.loads(scrubbed.splitlines()[0].partition("read ")[2])["why"] == "gone"


def test_secrets_of_files_behind_a_link_are_known(folder: Path) -> None:
    """Whoever renews certificates puts links in their place, and so does who deploys neti.yml."""
    (folder / "key-2.pem").write_text("-----BEGIN PRIVATE KEY-----\nZqkeyinalink\n")
    (folder / "key.pem").symlink_to(folder / "key-2.pem")
    text = CONFIG.format(folder=folder).replace(f"registry: embedded:{folder}/registry.db\n", "")
    tls = ", ".join(f"{name}: {folder}/key.pem" for name in ("ca", "cert", "key"))
    text += f"zk_hosts: {{here: ['127.0.0.1:1']}}\nregistry_tls: {{{tls}}}\n"
    (folder / "state/neti.yml.good").write_text(text)
    (folder / "neti-2.yml").write_text(f"{text}aws_secert: Zqmisspelt\n")
    (folder / "neti.yml").unlink()
    (folder / "neti.yml").symlink_to(folder / "neti-2.yml")
    (folder / "neti.log").write_text("with Zqmisspelt and Zqkeyinalink\n")
    found = unpacked(run(folder, "--output", "-").stdout_bytes)
    assert found["log.txt"] == "with [cut] and [cut]\n"


@pytest.mark.parametrize(
    "text",
    [
        '"aws_secret_key": false,\n "aws_key": true\n',
        '{"private": "10.0.0.5", "key": "/etc/neti/key.pem"}',
        "commit=" + "0a" * 20,
        "path=/var/lib/neti/neti.yml.good",
        '"tokens": {\n "seen": 5\n}\n',
    ],
)
def test_what_only_sounds_like_one_is_not_cut(folder: Path, text: str) -> None:
    assert scrubber(folder / "neti.yml", None)(text) == text


@pytest.mark.parametrize("piece", ["x", "secret", "password=", 'token=\\"', "pwd='", "secret \t"])
def test_no_log_makes_it_slow(folder: Path, piece: str) -> None:
    """The agent's user writes it. In the square of its length this would never end."""
    assert scrubber(folder / "neti.yml", None)(piece * (support._LOG_BYTES // 4 // len(piece)))


def test_the_manifest_has_a_line_for_each_part_there_or_not(folder: Path) -> None:
    found = unpacked(run(folder, "--output", "-").stdout_bytes)
    lines = found["MANIFEST"].splitlines()
    assert {line.split()[0] for line in lines} == PARTS
    missing = {line.split()[0] for line in lines if "NOT THERE: " in line}
    assert found.keys() == {"MANIFEST", *(PARTS - missing)}
    assert {"status.json", "journal.txt", "table.json"} <= missing


def test_it_is_a_file_that_only_its_owner_reads_and_replaces_none(folder: Path) -> None:
    path = folder / "report.tar.gz"
    before = os.umask(0)
    try:
        assert run(folder, "--output", str(path)).exit_code == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again = run(folder, "--output", str(path))
    assert again.exit_code == 1
    assert "is there already" in again.output


def test_a_full_disk_leaves_nothing_and_says_where_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = folder / "report.tar.gz", os.open

    path.touch()
    monkeypatch.setattr(os, "open", lambda *_: real("/dev/full", os.O_WRONLY))
    with pytest.raises(NetiError, match=r"(?s)No space left.*--output -"):
        support.write(path, b"x")
    assert not path.exists()


def test_an_agent_that_hangs_costs_its_own_parts_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def silent(*_: object, **__: object) -> None:
        raise AgentSilent("the agent does not answer")

    monkeypatch.setattr(client, "call", silent)
    found = unpacked(run(folder, "--output", "-").stdout_bytes)
    assert {"versions.txt", "configuration.json", "log.txt", "check.json"} <= found.keys()
    assert "the agent does not answer" in found["MANIFEST"]


def test_a_broken_file_is_named_by_places_and_the_last_good_one_shown(folder: Path) -> None:
    good = (folder / "neti.yml").read_text()
    (folder / "state/neti.yml.good").write_text(good)
    (folder / "neti.yml").write_text(good.replace("192.168.0.0/16", "hunter2hunter2"))
    found = unpacked(run(folder, "--output", "-").stdout_bytes)
    assert ":1: overlay_subnet" in found["configuration-mistakes.txt"]
    assert "hunter2" not in "".join(found.values())
    assert json.loads(found["configuration.json"])["overlay_subnet"] == "192.168.0.0/16"


def broken(folder: Path, log_file: Path) -> None:
    """The agent's user named this log in the last good copy, and the file is not valid now."""
    good = (folder / "neti.yml").read_text().replace(f"{folder}/neti.log", str(log_file))
    (folder / "state/neti.yml.good").write_text(good)
    (folder / "neti.yml").write_text(f"table_files_path: {folder}/state\nno_such_key: 1\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may read what is another user's alone")
def test_the_agents_user_has_no_file_of_anothers_read_by_root(folder: Path) -> None:
    other = folder / "shadow"
    other.write_text("root:x\n")
    other.chmod(0o600)
    broken(folder, other)
    for path in (folder / "state", folder / "state/neti.yml.good"):
        os.chown(path, 12345, 12345)
    packed = run(folder, "--output", "-")
    found = unpacked(packed.stdout_bytes)
    assert "configuration.json" in found, packed.stderr
    assert "root:x" not in "".join(found.values())
    assert "is not a file of user 12345" in found["MANIFEST"]
    os.chown(other, 12345, 12345)
    assert unpacked(run(folder, "--output", "-").stdout_bytes)["log.txt"] == "root:x\n"


@pytest.mark.parametrize("valid", [True, False])
def test_a_pipe_or_a_link_in_the_logs_place_is_neither_waited_for_nor_followed(
    folder: Path, valid: bool
) -> None:
    log = folder / "neti.log"
    log.unlink()
    if not valid:
        broken(folder, log)
    os.mkfifo(log)
    assert (
        "is not a regular file" in unpacked(run(folder, "--output", "-").stdout_bytes)["MANIFEST"]
    )
    log.unlink()
    (folder / "other").write_text("of another\n")
    log.symlink_to(folder / "other")
    assert "log.txt" not in unpacked(run(folder, "--output", "-").stdout_bytes)


def test_of_a_long_log_the_end_is_in_it(folder: Path) -> None:
    (folder / "neti.log").write_text("first\n" + "x\n" * support._LOG_BYTES + "last\n")
    held = unpacked(run(folder, "--output", "-").stdout_bytes)["log.txt"]
    assert len(held) == support._LOG_BYTES
    assert held.endswith("x\nlast\n")

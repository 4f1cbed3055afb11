"""The operator's session on recorded /proc trees; and whether it would still be let in."""

from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, ip_address, ip_network
from pathlib import Path

import pytest

from neti.host.ssh_session import _is_local, find, open_sessions
from neti.model import IPAddress
from neti.model.settings import OpenPort, Settings
from neti.stage.stages import Record, commanded, configured, confirmed
from neti.stage.way_in import OperatorSession, covers, loses, refusal, shut_out

# As Linux 6.18 prints /proc/net/tcp on x86-64: who listens, 10.0.0.5:2022 with 10.0.0.77, a
# forwarded connection to 10.0.0.5:7000, and one that is closing.
HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout"
_QUEUES = "00000000:00000000 02:000A7D8C 00000000     0        0"
_REST = "1 00000000ff416aa0 20 4 31 10 -1"
LISTENS = f"   0: 00000000:07E6 00000000:0000 0A {_QUEUES} 301 {_REST}"
SESSION = f"   1: 0500000A:07E6 4D00000A:C350 01 {_QUEUES} 302 {_REST}"
FORWARD = f"   2: 0500000A:9252 0500000A:1B58 01 {_QUEUES} 303 {_REST}"
CLOSING = f"   3: 0500000A:07E6 4D00000A:C351 08 {_QUEUES} 304 {_REST}"
# And /proc/net/tcp6: fd00:5::5 with fd00:5::77; and IPv4 at a socket of both families.
_HERE6, _THERE6 = "050000FD000000000000000005000000", "050000FD000000000000000077000000"
_MAPPED = "0000000000000000FFFF0000"
SESSION6 = f"   0: {_HERE6}:07E6 {_THERE6}:C350 01 {_QUEUES} 305 {_REST}"
MAPPED = f"   0: {_MAPPED}0500000A:07E6 {_MAPPED}4D00000A:C350 01 {_QUEUES} 306 {_REST}"
SAID = "SSH_CONNECTION=10.0.0.77 50000 10.0.0.5 2022"
COMMAND = 900


@dataclass
class Tree:
    """A /proc of processes, each below the one before; what is left out cannot be read."""

    root: Path
    tcp: tuple[str, ...] = (LISTENS, SESSION, FORWARD, CLOSING)
    tcp6: tuple[str, ...] = ()
    local: bool = True  # whether the session's own end is this host's
    last: int = field(default=0, init=False)

    def add(
        self,
        pid: int,
        name: str,
        *,
        sockets: tuple[int, ...] | None = (),
        environ: str | None = "HOME=/root",
        namespace: str = "net:[1]",
    ) -> "Tree":
        folder = self.root / str(pid)
        (folder / "net").mkdir(parents=True)
        (folder / "stat").write_text(
            f"{pid} ({name}) S {self.last} {pid} {pid} 0 -1 4194560 1 2 3\n"
        )
        (folder / "net/tcp").write_text("\n".join((HEAD, *self.tcp)) + "\n")
        (folder / "net/tcp6").write_text("\n".join((HEAD, *self.tcp6)) + "\n")
        if environ is not None:
            (folder / "environ").write_bytes(environ.encode().replace(b" SSH_", b"\0SSH_"))
        (folder / "ns").mkdir()
        (folder / "ns/net").symlink_to(namespace)
        if sockets is not None:
            (folder / "fd").mkdir()
            (folder / "fd/0").symlink_to("/dev/null")
            for number, inode in enumerate(sockets, 3):
                (folder / "fd" / str(number)).symlink_to(f"socket:[{inode}]")
        self.last = pid
        return self

    def found(self) -> OperatorSession | None:
        return find(COMMAND, proc=self.root, is_local=lambda _: self.local)

    def client(self) -> IPAddress:
        session = self.found()
        assert session is not None
        return session.client


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path).add(1, "systemd")


def test_root_through_one_process(tree: Tree) -> None:
    """The connection of the process above the shell; the words name it."""
    tree.add(10, "sshd", sockets=(301,)).add(20, "sshd", sockets=(302,)).add(30, "bash")
    session = tree.add(COMMAND, "neti").found()
    assert session == OperatorSession(
        client=IPv4Address("10.0.0.77"),
        client_port=50000,
        local=IPv4Address("10.0.0.5"),
        local_port=2022,
        found="connection",
        sure=True,
        how="the connection of process 20 (sshd)",
    )


@pytest.mark.parametrize("name", ["sshd", "sshd-session"])
def test_a_user_with_sudo_and_forwarding(tree: Tree, name: str) -> None:
    """The privileged process above has the session's connection only."""
    tree.add(10, "sshd", sockets=(301,)).add(20, name, sockets=(302,))
    tree.add(21, name, sockets=(303, 302)).add(30, "bash").add(31, "sudo").add(32, "sudo")
    session = tree.add(COMMAND, "neti").found()
    assert session is not None
    assert (session.client, session.sure) == (ip_address("10.0.0.77"), True)


def test_the_environment_tells_connections_apart(tree: Tree) -> None:
    """The shell's word is taken where the server has that very connection."""
    tree.add(20, "sshd", sockets=(303, 302)).add(30, "bash", environ=f"A=1 {SAID}")
    session = tree.add(31, "sudo").add(COMMAND, "neti").found()
    assert session is not None
    assert (session.client, session.found) == (ip_address("10.0.0.77"), "connection")
    assert session.sure


def test_the_port_that_the_server_listens_on_tells_them_apart(tree: Tree) -> None:
    """Root's session with a forwarded connection and an empty environment."""
    tree.add(10, "sshd", sockets=(301,)).add(20, "sshd", sockets=(303, 302))
    tree.add(COMMAND, "neti")
    assert tree.client() == ip_address("10.0.0.77")


def test_connections_that_cannot_be_told_apart_are_unsure(tree: Tree) -> None:
    """Started by systemd for one connection, with another forwarded: nothing tells which."""
    tree.add(20, "sshd", sockets=(303, 302)).add(30, "bash").add(COMMAND, "neti")
    session = tree.found()
    assert session is not None
    assert not session.sure
    assert "2 that it could be" in session.how


def test_a_servers_server_further_up_is_not_asked(tree: Tree) -> None:
    """An sshd that was started from within another session."""
    tree.add(10, "sshd", sockets=(303,)).add(15, "bash").add(20, "sshd", sockets=(302,))
    assert tree.add(30, "bash").add(COMMAND, "neti").client() == ip_address("10.0.0.77")


@pytest.mark.parametrize(
    ("line", "inode", "client"),
    [(SESSION6, 305, "fd00:5::77"), (MAPPED, 306, "10.0.0.77")],
)
def test_the_other_family(tmp_path: Path, line: str, inode: int, client: str) -> None:
    """IPv6, and IPv4 as a socket of both families shows it."""
    tree = Tree(tmp_path, tcp6=(line,)).add(1, "init").add(20, "sshd", sockets=(inode,))
    assert tree.add(COMMAND, "neti").client() == ip_address(client)


@pytest.mark.parametrize(("inode", "sure"), [("302", True), ("gone", False)])
def test_without_root_the_environment_is_held_against_the_table(
    tmp_path: Path, inode: str, sure: bool
) -> None:
    """Below sshd, whose connection may not be read: sure while that connection is open."""
    tree = Tree(tmp_path, tcp=(LISTENS, SESSION) if sure else (LISTENS,))
    tree.add(1, "init").add(20, "sshd", sockets=None, environ=None)
    session = tree.add(30, "bash", environ=SAID).add(COMMAND, "neti").found()
    assert session is not None
    assert (session.found, session.sure) == ("environment", sure)
    assert "without root" in session.how


def test_tmux_is_unsure(tree: Tree) -> None:
    """Detached from any server; also when the connection is open, since another may be attached."""
    tree.add(20, "tmux: server").add(30, "bash", environ=SAID).add(COMMAND, "neti")
    session = tree.found()
    assert session is not None
    assert (session.found, session.sure) == ("environment", False)
    assert "still open" in session.how


def test_tmux_in_another_namespace_has_none(tree: Tree) -> None:
    """The address that the session came in by is not this namespace's."""
    tree.local = False
    tree.add(20, "tmux: server").add(30, "bash", environ=SAID).add(COMMAND, "neti")
    assert tree.found() is None


@pytest.mark.parametrize("said", ["HOME=/", "SSH_CONNECTION=", "SSH_CONNECTION=a b c d"])
def test_the_console_has_none(tree: Tree, said: str) -> None:
    """Also where the environment holds nonsense."""
    tree.add(20, "login").add(30, "bash", environ=said).add(COMMAND, "neti")
    assert tree.found() is None


def test_whose_address_it_is() -> None:
    """Asked of the kernel, by binding to it."""
    assert _is_local(ip_address("127.0.0.1"))
    assert not _is_local(ip_address("192.0.2.1"))  # RFC 5737: nobody's


def test_another_namespaces_session_is_none(tree: Tree) -> None:
    """Its packets are judged there, whatever the environment says."""
    tree.add(20, "sshd", sockets=(302,)).add(30, "bash", environ=SAID)
    assert tree.add(COMMAND, "neti", namespace="net:[2]").found() is None


def test_odd_names_and_vanished_processes(tree: Tree) -> None:
    """A name with brackets; a parent that is gone; a process that is not there."""
    tree.add(20, "sshd", sockets=(302,)).add(30, "a) S 1 (b").add(COMMAND, "neti")
    assert tree.client() == ip_address("10.0.0.77")
    assert find(12345, proc=tree.root) is None
    tree.last = 77
    tree.add(901, "orphan")
    assert find(901, proc=tree.root) is None


def test_a_loop_of_parents_ends(tmp_path: Path) -> None:
    """A torn reading must not hang."""
    tree = Tree(tmp_path)
    tree.last = COMMAND
    assert tree.add(COMMAND, "neti").found() is None


def test_from_a_command_to_the_agent_and_back(tree: Tree) -> None:
    """Nothing is lost on the way through JSON."""
    session = tree.add(20, "sshd", sockets=(302,)).add(COMMAND, "neti").found()
    assert session is not None
    assert OperatorSession.from_document(session.document()) == session


def test_all_that_are_open(tmp_path: Path) -> None:
    """At the ports asked for, of both families; not who listens, closes, or comes from here."""
    tree = Tree(tmp_path, tcp6=(SESSION6, MAPPED)).add(COMMAND, "neti")
    (tree.root / "thread-self").symlink_to(str(COMMAND))

    def found(*ports: int, here: str = "") -> list[str]:
        sessions = open_sessions(ports, proc=tree.root, is_local=lambda one: str(one) == here)
        return [f"{one.client} {one.local_port}" for one in sessions]

    assert found(22, 2022) == ["10.0.0.77 2022", "fd00:5::77 2022", "10.0.0.77 2022"]
    assert found(2022, here="10.0.0.77") == ["fd00:5::77 2022"]
    assert found(22) == []
    assert found(0x9252) == []  # from 10.0.0.5 to itself
    assert open_sessions((22,), proc=tmp_path / "none") == []


# --- covered? ---

SETTINGS = Settings(
    path=Path("neti.yml"),
    ssh_whitelist=(ip_network("203.0.113.0/24"), ip_network("2001:db8:5::/48")),
    trusted=(ip_network("172.16.0.0/12"),),
    open_ports=(
        OpenPort(2000, 2100, "tcp", (ip_network("198.51.100.0/24"),)),
        OpenPort(22, 22, "udp"),
        OpenPort(8022, 8022, "tcp"),
    ),
)


def session(client: str, port: int = 22) -> OperatorSession:
    return OperatorSession(
        client=ip_address(client),
        client_port=50000,
        local=ip_address("10.0.0.5"),
        local_port=port,
        found="connection",
        sure=True,
        how="",
    )


def judged(client: str, port: int = 22, settings: Settings = SETTINGS) -> tuple[bool, str]:
    one = session(client, port)
    coverage = covers(one, settings, lambda address: str(address) in ("10.0.0.9", "fd00::9"))
    return coverage.covered, coverage.reason


@pytest.mark.parametrize(
    ("client", "port", "covered", "why"),
    [
        ("203.0.113.7", 22, True, "ssh_whitelist has 203.0.113.0/24"),
        ("2001:db8:5::1", 22, True, "ssh_whitelist has 2001:db8:5::/48"),
        ("203.0.113.7", 2222, False, "write ssh_port: 2222"),
        ("203.0.113.7", 8022, True, "open to everyone"),
        ("10.0.0.9", 22, True, "a member's address"),
        ("10.0.0.9", 2222, True, "a member's address"),
        ("fd00::9", 22, True, "a member's address"),
        ("172.31.255.255", 22, True, "trusted has 172.16.0.0/12"),
        ("198.51.100.200", 2022, True, "2022/tcp open to 198.51.100.0/24"),
        ("198.51.100.200", 22, False, "add 198.51.100.200 to ssh_whitelist"),
        ("192.0.2.1", 2022, False, "add 192.0.2.1 to ssh_whitelist"),
        ("192.0.2.1", 8022, True, "open to everyone"),
        ("127.0.0.1", 22, True, "never judged"),
        ("::1", 22, True, "never judged"),
        ("10.0.0.5", 22, True, "never judged"),
    ],
)
def test_covered_and_why(client: str, port: int, covered: bool, why: str) -> None:
    """The input chain's questions, each with its words."""
    assert judged(client, port)[0] is covered
    assert why in judged(client, port)[1]


def test_why_arming_is_refused(tree: Tree) -> None:
    """Not for nobody and not for the covered; else with the session, the reason and the doubt."""
    tree.add(20, "sshd", sockets=(302,)).add(COMMAND, "neti")
    session = tree.found()
    assert session is not None

    def nobody(_: IPAddress) -> bool:
        return False

    said = session.document()
    assert refusal(None, SETTINGS, nobody) is None
    assert refusal(said, SETTINGS, lambda address: address == session.client) is None
    sentence = refusal(said, SETTINGS, nobody) or ""
    assert "10.0.0.77 port 50000 to 10.0.0.5 port 2022" in sentence
    assert sentence.endswith("add 10.0.0.77 to ssh_whitelist")
    doubted = refusal(said | {"sure": False, "how": "tmux"}, SETTINGS, nobody) or ""
    assert "not sure that you came from there (tmux)" in doubted
    assert "makes no sense" in (refusal({"client": "x"}, SETTINGS, nobody) or "")


def test_the_configured_ssh_port_counts() -> None:
    """ssh_whitelist is about ssh_port and no other."""
    moved = Settings(path=Path("n"), ssh_whitelist=(ip_network("203.0.113.0/24"),), ssh_port=2022)
    assert judged("203.0.113.7", 2022, moved)[0]
    assert not judged("203.0.113.7", 22, moved)[0]


def nobody(_: IPAddress) -> bool:
    return False


def test_what_a_new_configuration_takes_from_whom() -> None:
    """Only where the host drops, or is to; and only from who would be let in until now."""
    typo = replace(SETTINGS, ssh_whitelist=(ip_network("203.0.112.0/24"),))
    dropping = confirmed(commanded(configured(Record(), False), True))
    operator, stranger = session("203.0.113.7"), session("192.0.2.1")
    why = loses([stranger, operator], SETTINGS, typo, dropping, nobody) or ""
    assert "203.0.113.7 port 50000" in why
    assert "ssh_whitelist has 203.0.113.0/24" in why
    assert "not in ssh_whitelist (203.0.112.0/24)" in why
    moved = replace(SETTINGS, ssh_port=2222)
    assert "write ssh_port: 22" in (loses([operator], SETTINGS, moved, dropping, nobody) or "")
    on = replace(typo, reject_all=True)
    assert loses([operator], SETTINGS, on, Record(), nobody) is not None
    assert loses([stranger], SETTINGS, on, Record(), nobody) is None
    assert loses([operator], SETTINGS, typo, Record(), nobody) is None
    off = configured(dropping, True)
    assert loses([operator], SETTINGS, typo, off, nobody) is None  # shadow by the same file
    assert loses([operator], SETTINGS, replace(on, ssh_whitelist=()), dropping, nobody) is None
    assert loses([operator], SETTINGS, typo, dropping, lambda _: True) is None


def test_who_is_in_and_would_not_get_in_again() -> None:
    assert shut_out([session("203.0.113.7")], SETTINGS, nobody) == ""
    assert "192.0.2.1 port 50000" in shut_out([session("192.0.2.1")], SETTINGS, nobody)

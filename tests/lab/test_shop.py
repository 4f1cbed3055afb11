"""The shop of the lab, as real programs on loopback: what its users see when something changes."""

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from neti_lab import LabError
from neti_lab.shop import configuration, lines
from neti_lab.shop.figures import Phase, Traced, by_phase, merge, nearest_rank, parse_trace
from neti_lab.shop.ledger import HANDED_OVER, Ledger
from neti_lab.shop.program import ConfigurationFile

_PATIENCE = 60.0  # for a slow machine; nothing here waits this long when it works
_RATE = 100


class Running:
    """A program of the shop and its files."""

    def __init__(self, folder: Path, role: str, name: str, document: dict[str, Any]) -> None:
        self.config = folder / f"{name}.json"
        self.log = folder / f"{name}.log"
        self.stats = folder / f"{name}.stats"
        self.file = folder / f"{name}.ledger"
        self.control = folder / f"{name}.sock"
        self.trace = folder / f"{name}.trace"
        self.orders = folder / f"{name}.orders"
        self.document = {"host": name, "stats": str(self.stats), **document}
        if role not in ("users", "clients", "scanner"):
            self.document.setdefault("port", 0)
        if role == "database":
            self.document |= {"file": str(self.file), "control": str(self.control)}
        if role in ("users", "clients"):
            self.document["trace"] = str(self.trace)
        if role == "users":
            self.document["orders"] = str(self.orders)
        self.config.write_text(json.dumps(self.document))
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "neti_lab.shop", role, str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def endpoint(self) -> str:
        """Where it listens, once it has started."""
        self.wait_until_started()
        [port] = re.findall(r"shop-listening port=(\d+)", self.log.read_text())
        return f"127.0.0.1:{port}"

    def wait_until_started(self) -> None:
        def started() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            return "shop-started" in self.log.read_text()

        eventually(started)

    def change(self, **keys: Any) -> None:
        self.document |= keys
        scratch = self.config.with_suffix(".new")
        scratch.write_text(json.dumps(self.document))
        scratch.replace(self.config)

    def figures(self) -> dict[str, Any]:
        """Its statistics; empty before the first."""
        with contextlib.suppress(FileNotFoundError):
            document: dict[str, Any] = json.loads(self.stats.read_text())
            return document
        return {}

    def ask(self, command: str) -> tuple[int, dict[str, Any]]:
        """A database's control command: its exit code and what it printed."""
        self.wait_until_started()
        result = subprocess.run(
            [sys.executable, "-m", "neti_lab.shop", "control", str(self.control), command],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return result.returncode, json.loads(result.stdout)

    def end(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_PATIENCE)


class Shop:
    """Starts programs, and ends those that a test has left running."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._programs: list[Running] = []

    def start(self, role: str, name: str | None = None, **document: Any) -> Running:
        program = Running(self.folder, role, name or role, document)
        self._programs.append(program)
        return program

    def app(self, name: str, database: Running, cache: Running) -> Running:
        return self.start("app", name, database=database.endpoint, cache=cache.endpoint)

    def close(self) -> None:
        for program in self._programs:
            if program.process.poll() is None:
                program.process.kill()
                program.process.wait()
            assert "Traceback" not in program.log.read_text(), program.log.read_text()


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    programs = Shop(tmp_path)
    yield programs
    programs.close()


def eventually(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + _PATIENCE
    while not true():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.02)


def more(users: Running, requests: int) -> None:
    """Wait until that many more requests have been made."""
    before = users.figures().get("requests", 0)
    eventually(lambda: users.figures().get("requests", 0) >= before + requests)


@contextlib.contextmanager
def refusing() -> Iterator[str]:
    """Where nobody listens, for as long as the socket is held."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{held.getsockname()[1]}"


def assert_all_kept(users: Running, database: Running) -> dict[str, Any]:
    """End the users; nothing failed and every acknowledged order is there exactly once."""
    assert users.end() == 0
    figures = users.figures()
    assert (figures["failures"], figures["wrong"]) == (0, 0), figures["errors"]
    orders = json.loads(users.orders.read_text())["orders"]
    assert orders
    lines_of_file = [json.loads(line) for line in database.file.read_text().splitlines()]
    written = [(line["id"], line["sequence"]) for line in lines_of_file if "id" in line]
    assert max(Counter(name for name, _ in written).values()) == 1
    assert orders.items() <= dict(written).items()
    return figures


def test_the_whole_chain_serves_users(shop: Shop) -> None:
    """Orders are written and found, everybody who had a part is named, and all end politely."""
    database, cache = shop.start("database"), shop.start("cache")
    apps = [shop.app(name, database, cache) for name in ("app-1", "app-2")]
    webs = [
        shop.start("web", name, apps=[app.endpoint for app in apps]) for name in ("web-1", "web-2")
    ]
    users = shop.start("users", webs=[web.endpoint for web in webs], rate=_RATE)
    clients = shop.start(
        "clients",
        targets={
            "app": [app.endpoint for app in apps],
            "database": [database.endpoint],
            "cache": [cache.endpoint],
        },
    )
    more(users, 60)
    # Off the list, a web server may end without a long connection to it breaking.
    users.change(webs=[webs[0].endpoint])
    eventually(lambda: "shop-configuration-taken" in users.log.read_text())
    more(users, 10)
    assert webs[1].end() == 0
    more(users, 30)
    figures = assert_all_kept(users, database)
    assert set(figures["by_host"]["web"]) == {"web-1", "web-2"}
    assert set(figures["by_host"]["app"]) == {"app-1", "app-2"}
    assert set(figures["by_host"]["database"]) == {"database"}
    assert set(figures["by_host"]["cache"]) == {"cache"}
    assert set(figures["seen_from"]["web"]["web-1"]) == {"127.0.0.1"}
    assert figures["hidden_retries"]["requests"] == 0
    assert figures["long"]["requests"] > 5
    assert figures["long"]["opened"] == 2
    traced = parse_trace(users.trace.read_text())
    assert len(traced) == figures["requests"]
    assert all(request.ok for request in traced)
    assert clients.end() == 0
    assert clients.figures()["failures"] == 0
    assert set(clients.figures()["by_host"]) == {"app", "database", "cache"}
    assert [program.end() for program in (webs[0], *apps, database, cache)] == [0] * 5
    assert apps[0].figures()["cache"]["hits"] > 0
    assert apps[0].figures()["cache"]["failures"] == 0


def test_a_hand_over_under_load_costs_no_request(shop: Shop) -> None:
    """Apps wait for the standby to take over, users notice time and nothing else."""
    old, cache = shop.start("database", "old"), shop.start("cache")
    app = shop.app("app", old, cache)
    web = shop.start("web", apps=[app.endpoint])
    users = shop.start("users", webs=[web.endpoint], rate=_RATE)
    clients = shop.start("clients", targets={"database": [old.endpoint]}, rate=_RATE)
    more(users, 20)
    new = shop.start("database", "new", standby_of=old.endpoint)
    eventually(lambda: old.figures()["standby_in_step"])
    more(users, 20)
    code, answer = new.ask("promote")
    assert code == 1
    assert "alive" in answer["error"]
    code, answer = old.ask("hand-over")
    assert (code, answer["role"]) == (0, "handed_over")
    more(users, 5)  # they wait, or are found in the cache
    app.change(database=new.endpoint)
    more(users, 60)
    figures = assert_all_kept(users, new)
    assert set(figures["by_host"]["database"]) == {"old", "new"}
    # Who only knocks is answered by either role; the long connection was ended with a word.
    assert clients.end() == 0
    assert clients.figures()["failures"] == 0
    assert clients.figures()["long"]["goodbyes"] == 1
    # What was repeated is not hidden.
    assert figures["hidden_retries"]["app"] > 0
    assert app.figures()["database"]["reconnects"] > 0
    code, status = new.ask("status")
    assert (code, status["role"], status["clients"]) == (0, "primary", {"127.0.0.1": 1})
    code, status = old.ask("status")
    assert (status["role"], status["clients"]) == ("handed_over", {})
    assert ask(old.endpoint, {"op": "order", "id": "late"})["error"] == "handed_over"
    assert ask(old.endpoint, {"op": "find", "id": "late"})["error"] == "handed_over"
    assert old.ask("hand-over")[0] == 1
    # And back: what has handed over may follow, and be handed the orders again.
    old.change(standby_of=new.endpoint)
    eventually(lambda: new.figures()["standby_in_step"])
    assert new.ask("hand-over")[0] == 0
    assert old.ask("status")[1]["role"] == "primary"
    assert old.end() == 0
    assert Ledger(old.file).sequence == Ledger(new.file).sequence
    # A start with the configuration of before makes no second primary.
    assert new.end() == 0
    assert Ledger(new.file).marked == HANDED_OVER
    again = shop.start("database", "new")
    assert again.ask("status")[1]["role"] == "handed_over"


def test_an_app_changes_its_database_and_cache_in_mid_traffic(shop: Shop) -> None:
    """New requests go to the new address, those in flight finish on the old one."""
    old, cache = shop.start("database", "old"), shop.start("cache", "cache-1")
    app = shop.app("app", old, cache)
    web = shop.start("web", apps=[app.endpoint])
    users = shop.start("users", webs=[web.endpoint], rate=_RATE)
    more(users, 20)
    other = shop.start("cache", "cache-2")
    port = old.endpoint.rpartition(":")[2]
    app.change(database=f"127.0.0.2:{port}", cache=other.endpoint)  # the same, by another address
    eventually(lambda: "cache-2" in users.figures()["by_host"]["cache"])
    more(users, 40)
    figures = assert_all_kept(users, old)
    assert figures["hidden_retries"]["requests"] == 0
    assert app.figures()["database"]["reconnects"] == 0
    assert old.ask("status")[1]["clients"] == {"127.0.0.1": 1}


def test_a_cache_is_no_reason_to_fail(shop: Shop) -> None:
    """A cache that has gone costs a count and no request."""
    database, cache = shop.start("database"), shop.start("cache")
    app = shop.app("app", database, cache)
    web = shop.start("web", apps=[app.endpoint])
    users = shop.start("users", webs=[web.endpoint], rate=_RATE)
    more(users, 20)
    cache.process.kill()
    more(users, 40)
    assert_all_kept(users, database)
    assert app.end() == 0
    assert app.figures()["cache"]["failures"] > 0


def test_a_database_that_restarts_is_waited_for(shop: Shop) -> None:
    """Its orders are all there again, and the apps repeat what was in flight."""
    database, cache = shop.start("database"), shop.start("cache")
    app = shop.app("app", database, cache)
    web = shop.start("web", apps=[app.endpoint])
    users = shop.start("users", webs=[web.endpoint], rate=_RATE)
    more(users, 20)
    port = int(database.endpoint.rpartition(":")[2])
    database.process.kill()
    database.process.wait()
    with database.file.open("a") as file:
        file.write('{"sequence": 9')  # it was cut off in the middle of a line
    database = shop.start("database", port=port)
    more(users, 40)
    assert_all_kept(users, database)


def test_a_hand_over_needs_a_standby(shop: Shop) -> None:
    """Refused without one; one that dies meanwhile leaves the primary in its place."""
    primary = shop.start("database", "primary")
    code, answer = primary.ask("hand-over")
    assert code == 1
    assert "no standby" in answer["error"]
    assert ask(primary.endpoint, {"op": "order", "id": "one"})["sequence"] == 1
    standby = shop.start("database", "standby", standby_of=primary.endpoint)
    eventually(lambda: primary.figures()["standby_in_step"])
    assert ask(standby.endpoint, {"op": "find", "id": "one"})["error"] == "read_only"
    os.kill(standby.process.pid, signal.SIGSTOP)
    handing_over = subprocess.Popen(
        [sys.executable, "-m", "neti_lab.shop", "control", str(primary.control), "hand-over"],
        stdout=subprocess.PIPE,
        text=True,
    )
    # While it hands over, an order waits; it is done when that has failed.
    eventually(lambda: primary.figures()["handing_over"])
    waiting = order_on_a_connection(primary.endpoint)
    standby.process.kill()
    output, _ = handing_over.communicate(timeout=30)
    assert handing_over.returncode == 1
    assert "goes on as the primary" in json.loads(output)["error"]
    assert waiting() == 2
    assert primary.ask("status")[1]["role"] == "primary"


def test_a_standby_is_promoted_when_its_primary_is_dead(shop: Shop) -> None:
    """And has all that was acknowledged; an order that is asked again keeps its number."""
    primary = shop.start("database", "primary")
    standby = shop.start("database", "standby", standby_of=primary.endpoint)
    eventually(lambda: primary.figures().get("standby_in_step"))
    for number in range(1, 4):
        assert ask(primary.endpoint, {"op": "order", "id": f"o{number}"})["sequence"] == number
    primary.process.kill()
    eventually(lambda: not standby.figures()["attached"])
    code, answer = standby.ask("promote")
    assert (code, answer["role"], answer["sequence"]) == (0, "primary", 3)
    assert ask(standby.endpoint, {"op": "order", "id": "o2"})["sequence"] == 2
    assert ask(standby.endpoint, {"op": "order", "id": "o4"})["sequence"] == 4


def test_a_web_server_fails_over_and_says_so(shop: Shop) -> None:
    """Users are served although an app is dead; nobody can claim that nothing was retried."""
    database, cache = shop.start("database"), shop.start("cache")
    app = shop.app("app", database, cache)
    with refusing() as dead:
        web = shop.start("web", apps=[dead, app.endpoint])
        users = shop.start("users", webs=[web.endpoint], rate=_RATE)
        more(users, 30)
        figures = assert_all_kept(users, database)
    assert figures["hidden_retries"]["web"] > 5
    assert web.end() == 0
    assert web.figures()["failovers"] == figures["hidden_retries"]["web"]
    assert web.figures()["failures"] == 0


def test_users_count_what_fails(shop: Shop) -> None:
    """No web server, a web server without an app, an order that was lost."""
    with refusing() as nobody:
        users = shop.start("users", webs=[nobody], rate=_RATE)
        more(users, 10)
        assert users.end() == 0
    figures = users.figures()
    assert figures["failures"] == figures["requests"] > 0
    assert figures["wrong"] == 0
    assert len(figures["errors"]) == 5
    assert "refused" in figures["errors"][0][1].lower()
    assert not any(request.ok for request in parse_trace(users.trace.read_text()))


def test_an_acknowledged_order_that_is_gone_is_wrong(shop: Shop) -> None:
    """Users who look up an order in an empty database are told apart from those who fail."""
    cache = shop.start("cache")
    old, empty = shop.start("database", "old"), shop.start("database", "empty")
    app = shop.app("app", old, cache)
    web = shop.start("web", apps=[app.endpoint])
    users = shop.start("users", webs=[web.endpoint], rate=_RATE)
    more(users, 20)
    with refusing() as nowhere:
        app.change(database=empty.endpoint, cache=nowhere)
        eventually(lambda: users.figures()["wrong"] > 0)
    users.end()
    assert users.figures()["failures"] >= users.figures()["wrong"]


def test_a_scanner_counts_hits_and_refusals(shop: Shop) -> None:
    """And takes a new list at once; what it hit was on the list when it began."""
    cache = shop.start("cache")
    with refusing() as closed:
        scanner = shop.start("scanner", targets=[closed])
        eventually(lambda: scanner.figures().get("refused", 0) > 5)
        assert scanner.figures()["hit_count"] == 0
        opened = time.monotonic()
        scanner.change(targets=[closed, cache.endpoint])
        eventually(lambda: scanner.figures()["hit_count"] > 5)
    assert scanner.end() == 0
    figures = scanner.figures()
    assert {target for _, target in figures["hits"]} == {cache.endpoint}
    assert all(began > opened for began, _ in figures["hits"])
    assert figures["tries"] == figures["refused"] + figures["hit_count"]


def test_a_start_that_fails_says_why_in_one_line(tmp_path: Path) -> None:
    """A wrong configuration, a port that is taken, statistics that cannot be written."""
    config = tmp_path / "web.json"
    config.write_text('{"apps": ["10.0.0.1"]}')
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert start_fails(config) == f"{config}: apps: '10.0.0.1' is not ADDRESS:PORT"
        config.write_text(json.dumps({"apps": [], "port": port}))
        assert start_fails(config) == f"cannot listen on port {port}: Address already in use"
    config.write_text(json.dumps({"apps": [], "port": 0, "stats": str(tmp_path / "no" / "stats")}))
    assert "No such file" in start_fails(config)


def start_fails(config: Path) -> str:
    command = [sys.executable, "-m", "neti_lab.shop", "web", str(config)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 1
    *events, complaint = result.stderr.splitlines()
    assert all(" shop-listening " in event for event in events)
    return complaint.removeprefix("neti_lab.shop: ")


def test_a_half_written_configuration_keeps_the_last_good_one(tmp_path: Path) -> None:
    """Until it is whole."""
    path = tmp_path / "web.json"
    path.write_text('{"apps": ["127.0.0.1:1"]}')
    file = ConfigurationFile(path, configuration.WebConfiguration.parse)
    assert [str(app) for app in file.load().apps] == ["127.0.0.1:1"]
    assert file.changed() is None
    for bad in ('{"apps": ["127.0', "", '{"apps": ["127.0.0.1:0"]}', '{"apps": [], "ports": 1}'):
        path.write_text(bad)
        assert file.changed() is None
    path.unlink()
    assert file.changed() is None
    path.write_text('{"apps": ["127.0.0.1:2"]}')
    changed = file.changed()
    assert changed is not None
    assert [str(app) for app in changed.apps] == ["127.0.0.1:2"]


def test_configurations_become_documents_and_back() -> None:
    """What a lab writes is what the programs read."""
    targets = {"app": ["10.0.0.1:8001"], "cache": []}
    clients = configuration.ClientsConfiguration.parse({"targets": targets, "host": "a"})
    assert configuration.ClientsConfiguration.parse(clients.to_document()) == clients
    database = configuration.DatabaseConfiguration.parse(
        {"file": "/a", "control": "/b", "standby_of": None}
    )
    assert database.to_document() | {"host": "x"} == {
        "file": "/a",
        "control": "/b",
        "port": 5432,
        "host": "x",
    }
    with pytest.raises(LabError, match="rate"):
        configuration.UsersConfiguration.parse({"webs": [], "rate": 0})


def test_figures_of_a_made_up_trace() -> None:
    """Nearest rank, phases by when a request was due, half a line left out."""
    text = "".join(f"[{10 + number / 100}, {number}.0, true]\n" for number in range(1, 101))
    trace = parse_trace(text + "[20.0, 7.0, false]\n[99.0, 1")
    assert trace[-1] == Traced(20.0, 7.0, False)
    phases = [Phase("before", 0, 10), Phase("move", 10, 20), Phase("after", 20, 30)]
    before, move, after = by_phase(trace, phases)
    assert (before.requests, before.p99_ms) == (0, None)
    assert (move.requests, move.failures) == (100, 0)
    assert (move.p50_ms, move.p99_ms, move.max_ms) == (50, 99, 100)
    assert (after.requests, after.failures, after.p50_ms) == (1, 1, 7)
    assert [nearest_rank([1, 2, 3], percent) for percent in (0, 34, 99)] == [1, 2, 3]


def test_statistics_of_several_programs_add_up() -> None:
    """Counts are added, moments are not."""
    one = {"at": 5.0, "requests": 2, "by_host": {"web": {"a": 2}}, "errors": [[1.0, "x"]]}
    two = {"at": 4.0, "requests": 3, "by_host": {"web": {"a": 1, "b": 2}}, "errors": [[0.5, "y"]]}
    assert merge([one, two]) == {
        "at": 4.0,
        "requests": 5,
        "by_host": {"web": {"a": 3, "b": 2}},
        "errors": [[0.5, "y"], [1.0, "x"]],
    }


def ask(endpoint: str, request: dict[str, Any]) -> dict[str, Any]:
    """One request in the tiers' own protocol."""
    return asyncio.run(
        lines.ask_once(
            configuration.Endpoint.parse(endpoint), request, connect_seconds=5, answer_seconds=10
        )
    )


def order_on_a_connection(endpoint: str) -> Callable[[], int]:
    """Sends an order; its number is what the result waits for."""
    address, _, port = endpoint.rpartition(":")
    connection = socket.create_connection((address, int(port)), timeout=_PATIENCE)
    connection.sendall(lines.encode({"op": "order", "id": "two"}))

    def answer() -> int:
        with connection, connection.makefile() as answers:
            return int(json.loads(answers.readline())["sequence"])

    return answer

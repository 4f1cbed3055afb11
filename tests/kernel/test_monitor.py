"""What the kernel's watcher tells: others' transactions, and none of this process's own."""

import json
import queue
import subprocess
import sys
from collections.abc import Iterator

import pytest
from tests.support.netns import Net

from neti.dataplane.monitor import Monitor, NetworkChanged, Watched
from neti_lab import namespaces

pytestmark = pytest.mark.kernel

_SECONDS = 10.0
# As in the agent, the main thread is the one that writes: the kernel knows a writer by its thread.
_WATCHER = """
import json, queue, re, subprocess, time
from pathlib import Path
from neti.dataplane import other_table
from neti.dataplane.monitor import Monitor, RulesChanged

inbox = queue.SimpleQueue()
monitor = Monitor(inbox.put)
monitor.start()
status = Path(f"/proc/self/task/{monitor._thread.native_id}/status")

def woken():
    return int(re.search("^voluntary_ctxt_switches:(.*)", status.read_text(), re.M)[1])

before = -1
while before != woken():  # a new network has something to tell for a second or two
    before = woken()
    time.sleep(2)
for number in range(3):
    other_table.write(f"add table inet ours{number}")
time.sleep(0.5)
ours = woken() - before
with subprocess.Popen(["nft", "add table inet theirs"]) as other:
    assert other.wait() == 0
time.sleep(0.5)
monitor.close()
told = []
while not inbox.empty():
    told.append(inbox.get())
rules = [[t.program, t.pid == other.pid] for t in told if isinstance(t, RulesChanged)]
print(json.dumps([ours, rules]))
"""


@pytest.mark.parametrize(
    ("around", "as_seen"),
    [([], True), (["unshare", "--pid", "--fork", "--mount-proc"], False)],
    ids=["machine", "container"],
)
def test_another_program_is_named_and_our_own_changes_wake_nobody(
    net: Net, around: list[str], as_seen: bool
) -> None:
    """In a container, too, where the kernel has other numbers than processes see (``as_seen``)."""
    words = [*around, sys.executable, "-c", _WATCHER]
    command = namespaces.command_inside(net.host, words)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [0, [["nft", as_seen]]]


@pytest.fixture
def told(net: Net) -> Iterator["queue.SimpleQueue[Watched]"]:
    inbox: queue.SimpleQueue[Watched] = queue.SimpleQueue()
    monitor = net.inside(net.host, lambda: Monitor(inbox.put))
    monitor.start()
    try:
        yield inbox
    finally:
        monitor.close()


def test_a_changed_address_is_told(net: Net, told: "queue.SimpleQueue[Watched]") -> None:
    words = ["ip", "-n", net.host, "address", "add", "10.9.9.9/32", "dev", "eth0"]
    subprocess.run(words, check=True)
    assert told.get(timeout=_SECONDS) == NetworkChanged()

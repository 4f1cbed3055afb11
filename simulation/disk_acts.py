"""What becomes of a host's disk, and which version of Neti runs on it.

Must never do: what ``simulation/acts.py`` must not.
"""

from typing import Final

from neti import durable
from simulation.acts import Stage, act
from simulation.host import SimulatedHost


@act("the disk is full", 1.5)
def disk_full(stage: Stage, host: SimulatedHost) -> None:
    host.disk.full = True


@act("the disk is read-only", 1)
def disk_read_only(stage: Stage, host: SimulatedHost) -> None:
    host.disk.read_only = True


@act("the disk says it has synced, and has not", 0.5)
def disk_lies(stage: Stage, host: SimulatedHost) -> None:
    host.disk.lying = True


@act("the disk works again", 4)
def disk_works(stage: Stage, host: SimulatedHost) -> None:
    host.disk.works_again()


@act("the disk is copied", 1)
def copy_disk(stage: Stage, host: SimulatedHost) -> None:
    stage.copies[host.label] = host.disk.copied()


@act("gets an old copy of its disk", 0.7)
def old_disk(stage: Stage, host: SimulatedHost) -> None:
    if host.label in stage.copies:
        host.kill()
        host.disk.put_back(stage.copies[host.label])
        host.users.forget()
        word = stage.truth.of(host)
        word.forget()
        word.knows_nothing()
        word.damaged, word.down = True, False


@act("its file {} is torn", 1, lambda c: (c.randrange(12),))
def tear(stage: Stage, host: SimulatedHost, number: int) -> None:
    """One file, while no agent runs; another one only once an agent has seen to the first."""
    names = sorted(host.disk.files)
    if host.runs or not names or stage.truth.of(host).torn:
        return
    name = names[number % len(names)]
    file = host.disk.files[name]
    file.data = file.synced = file.data[: len(file.data) // 2]
    host.users.forget()
    stage.truth.of(host).torn = True
    if name.startswith("members"):
        host.unsaved.add("members.jsonl")  # the journal before it is used, which may know less
    if name.startswith("stage"):
        stage.truth.of(host).ports = None  # the one before, of which nobody was told
    if name.startswith("self"):
        stage.truth.heard_out.discard(host.id)  # until the registry says it again


@act("a newer version ran there", 1)
def newer(stage: Stage, host: SimulatedHost) -> None:
    """It knows more keys, and says a higher format in each document."""
    host.kill()
    host.users.forget()
    for name, file in host.disk.files.items():
        if not name.endswith((".json", ".copy")):
            continue
        try:
            document = durable.checked(file.data)
        except ValueError:
            continue
        written = durable.line({**document, "format": 99, "learnt_since": {"deeply": 1}})
        host.disk.files[name].data = host.disk.files[name].synced = written


@act("the version before ran there", 0.7)
def older(stage: Stage, host: SimulatedHost) -> None:
    """It wrote no format, and none of the keys that came later."""
    host.kill()
    host.users.forget()
    stage.truth.of(host).ports = None
    for name, file in host.disk.files.items():
        if name.endswith((".json", ".copy", ".jsonl", ".old")):
            file.data = file.synced = b"".join(map(_older, file.data.splitlines(keepends=True)))


_LATER: Final = (
    *("format", "followed", "said_at", "said_by", "relaxed_until", "relaxed_for"),
    "member_ports",
)


def _older(line: bytes) -> bytes:
    try:
        document = durable.checked(line)
    except ValueError:
        return line
    return durable.line(
        {
            key: value[:5] if isinstance(value, list) and key != "#" else value
            for key, value in document.items()
            if key not in _LATER
        }
    )


@act("is upgraded, to a version with more sets", 0.7)
def upgrade(stage: Stage, host: SimulatedHost) -> None:
    _installed(stage, host, newer_one=True)


@act("goes back to the version before", 0.7)
def downgrade(stage: Stage, host: SimulatedHost) -> None:
    _installed(stage, host, newer_one=False)


def _installed(stage: Stage, host: SimulatedHost, *, newer_one: bool) -> None:
    """As a package does: the agent that runs is restarted."""
    if host.newer is newer_one:
        return
    ran = host.runs
    if ran:
        host.stop()
    if host.newer:
        newer(stage, host)  # what it has written
    host.newer = newer_one
    if ran:
        host.start()
        stage.world.settle()

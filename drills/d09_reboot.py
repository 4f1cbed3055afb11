"""A reboot without registry: an empty kernel, ``neti restore``, and state files that are torn."""

import time

from drills import talk
from drills.drill import Row, Rows, Run
from drills.field import Field
from drills.fleet import Fleet, fill_embedded, generated
from drills.host import FieldHost
from drills.plan import OTHERS, OVERLAY, PORT, STRANGER
from drills.waiting import wait_for

TITLE = "reboot without registry: the same sets from disk; torn state is refused"

Sets = dict[str, dict[str, str]]


def run(drill: Run) -> Rows:
    many = drill.of(full=16_000, short=1_000)
    with Field(drill, hosts=2) as field:
        host = field.hosts[0]
        field.serve(host.namespace)
        fleet = Fleet(field.open_registry())
        fill_embedded(field.folder / "registry.db", [generated(n) for n in range(many)])
        field.start()
        fleet.join(generated(many))
        wait_for(lambda: len(host.sets()["overlay"]) >= many + 1, "not all members", seconds=120)
        host.neti("enforce", "--trial", "6", "--anyway")
        wait_for(lambda: host.read().armed_for_good, "the trial is not confirmed")
        before = host.sets()
        host.agent.kill()
        yield from _restored(field, host, before)
        yield from _with_agent(host, before)
        yield from _torn(field, host, fleet, many)
        yield from _switched_off(host)


def _reboot(host: FieldHost) -> None:
    """As after a reboot: others have put their rules back, and nothing of ours is there."""
    host.nft("flush ruleset")
    host.nft(OTHERS)
    host.command("ip", "route", "flush", "exact", str(OVERLAY), "protocol", "78")


def _restored(field: Field, host: FieldHost, before: Sets) -> Rows:
    _reboot(host)
    began = time.monotonic()
    done = host.neti("restore")
    took = time.monotonic() - began
    yield Row("neti restore", f"{done.stdout.strip()}, {took:.2f} s", done.returncode == 0)
    # Which ports have a listener is the agent's to see, and its own are not open yet.
    now = host.sets()
    same = all(now[where] == before[where] for where in before if not where.endswith("_listening"))
    yield Row("sets", f"{len(before['overlay']):,} members, the same" if same else "OTHERS", same)
    armed = host.read().armed_for_good
    shut = armed and not talk.reaches(field.street, host.plan.private, PORT, source=STRANGER)
    yield Row("enforced, before any agent", "a stranger is kept out" if shut else "OPEN", shut)
    peer = talk.reaches(field.hosts[1].namespace, host.plan.private, PORT)
    yield Row("a peer", "gets in" if peer else "IS KEPT OUT", peer)


def _with_agent(host: FieldHost, before: Sets) -> Rows:
    """It takes over, finds nothing to change, and adds the route."""
    host.agent.start()
    host.wait_until_registered()
    route = wait_for(lambda: "proto 78" in host.ip("route", "show", str(OVERLAY)), "no route")
    same = host.sets() == before and host.read().armed_for_good
    rewritten = host.resyncs("all") + host.resyncs("chains")
    figure = f"route after {route:.2f} s, sets {'the same' if same else 'OTHERS'}"
    yield Row("the agent afterwards", f"{figure}, {rewritten} times rewritten", same)


def _torn(field: Field, host: FieldHost, fleet: Fleet, many: int) -> Rows:
    """The journal's base is damaged: the one before it is used, and that is said."""
    fleet.join(generated(many + 1))  # the first note of this run: a new journal is begun
    newest = str(fleet.members[generated(many + 1).id].overlay)
    wait_for(lambda: newest in host.sets()["overlay"], "the last joiner does not come")
    host.agent.kill()
    journal, old = host.state / "members.jsonl", host.state / "members.jsonl.old"
    wait_for(old.exists, "no older journal is kept")
    content = journal.read_bytes()
    middle = len(content) // 2
    journal.write_bytes(content[:middle] + b"\0" * 16 + content[middle + 16 :])
    _reboot(host)
    done = host.neti("restore")
    held = len(host.sets()["overlay"])
    named = "members.jsonl" in done.stderr and "not used" in done.stderr
    ok = done.returncode == 0 and named and held >= many + 1
    figure = f"{held:,} members from the older file, {'named' if named else 'NOT named'}"
    yield Row("a torn journal", figure, ok)
    _edit(host, "stage.json")
    _reboot(host)
    done = host.neti("restore")
    shut = host.read().armed_for_good and "stage.json" in done.stderr
    yield Row("an edited stage", "named, its copy is used" if shut else "OPEN", shut)
    _edit(host, "stage.json.copy")
    _reboot(host)
    done = host.neti("restore")
    shadow = not host.read().enforce and "stage.json cannot be used" in done.stderr
    yield Row("and its copy", "refused, said to be open: shadow" if shadow else "USED", shadow)
    host.agent.start()
    host.wait_until_registered()
    back = wait_for(lambda: newest in host.sets()["overlay"], "the registry does not mend it")
    yield Row("with the registry again", f"right after {back:.2f} s", True)


def _edit(host: FieldHost, name: str) -> None:
    path = host.state / name
    path.write_bytes(path.read_bytes().replace(b'"wished":true', b'"wished":True', 1))


def _switched_off(host: FieldHost) -> Rows:
    host.neti("down")
    host.agent.kill()
    done = host.neti("restore")
    bare = host.read().structure is None
    yield Row("restore after down", done.stdout.strip(), bare and done.returncode == 0)
    host.neti("up")

"""``neti down``: afterwards the machine is as it was found."""

from drills import others, talk
from drills.drill import DrillError, Row, Rows, Run
from drills.field import Field
from drills.host import FieldHost
from drills.plan import OVERLAY, PORT
from drills.tracked import tracked
from drills.waiting import wait_for

TITLE = "neti down leaves the machine as found"


def run(drill: Run) -> Rows:
    with Field(drill, hosts=2) as field:
        field.serve(*(host.namespace for host in field.hosts))
        for agent in ("running", "killed"):
            yield from _down(field, agent)
            yield from _stays_down(field.hosts[0], agent)
            for host in field.hosts:
                host.agent.end()


def _down(field: Field, agent: str) -> Rows:
    h1, h2 = field.hosts
    h1.configure(reject_all=False)
    done = h1.neti("down")  # of the round before, where there was one
    before, routes = others.look(h1.namespace), _routes(h1)
    with talk.connection(h2.namespace, h1.plan.private, PORT) as early:
        opened = {each for each in h1.inside(tracked) if not each.translated}
        if h1.neti("up").returncode != 0:
            raise DrillError("neti up, the agent not running, failed on h1")
        field.start()
        h1.reload(reject_all=True)
        h1.wait_until_enforced()
        with talk.connection(h1.namespace, h2.overlay, PORT) as by_overlay:
            used = talk.alive(by_overlay) and talk.alive(early)
            yield Row(f"agent {agent}: connections, Neti in force", _word(used), used)
            if agent == "killed":
                h1.agent.kill()
            done = h1.neti("down")
            said = done.stdout.strip() or done.stderr.strip()
            yield Row(f"agent {agent}: neti down", said, done.returncode == 0)
            yield from _as_found(h1, before, routes)
        after = {each for each in h1.inside(tracked) if not each.translated}
        yield Row(
            "connections from before: still tracked, still alive",
            f"{len(opened & after)} of {len(opened)}",
            bool(opened) and opened <= after and talk.alive(early),
        )


def _word(alive: bool) -> str:
    return "alive" if alive else "dead"


def _as_found(host: FieldHost, before: dict[str, str], routes: set[str]) -> Rows:
    table = host.read().structure is None
    yield Row("rules of ours", "none" if table else "table inet neti is there", table)
    left = _routes(host) ^ routes
    yield Row("routes", min(left) if left else "as found", not left)
    changed = others.differences(before, others.look(host.namespace))
    yield Row("sysctls and all else", changed[0] if changed else "as found", not changed)
    translated = [each for each in host.inside(tracked) if each.destination in OVERLAY]
    yield Row(
        "tracked connections that Neti's rules translate", f"{len(translated)}", not translated
    )


def _stays_down(host: FieldHost, agent: str) -> Rows:
    host.agent.kill()
    host.agent.start()
    wait_for(lambda: bool(host.status()["down"]), "the agent does not know that it is down")
    wait_for(lambda: bool(host.status()["registered"]), "the agent does not register")
    bare = host.read().structure is None
    wrote = "no table" if bare else "made a table"
    yield Row(f"agent {agent}: one started while down", wrote, bare)
    done = host.neti("up")
    back = done.returncode == 0 and host.read().structure is not None
    yield Row(f"agent {agent}: neti up", done.stdout.strip() or done.stderr.strip(), back)


def _routes(host: FieldHost) -> set[str]:
    return set(host.ip("route", "show", "table", "all").splitlines())

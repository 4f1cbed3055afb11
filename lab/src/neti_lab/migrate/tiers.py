"""With groups: which tier reaches which, by operators' word, from the first day to the last.

What docs/runbook.md says of ``member_ports``, by the same commands. A member that is in no group
tries every port of the others from the moment on at which it must not get in.
"""

import json
import time
from collections.abc import Sequence
from typing import Any, Final

import yaml

from neti_lab import LabError, namespaces
from neti_lab.busy import stretched
from neti_lab.migrate import before
from neti_lab.migrate.company import PORTS, task_of
from neti_lab.migrate.journey import TRIAL_SECONDS, Journey
from neti_lab.migrate.looking import opens
from neti_lab.topology import WEB_PORT, LabHost

OUTSIDERS: Final = ("outsider-ec2", "outsider-vpc")  # processes, on the hosts with the caches
_OPS: Final = "vpc-2"
_RECORD: Final[dict[str, list[str]]] = {"all": ["ops"]}  # nobody but them: all else is recorded
_ENFORCE_SECONDS: Final = 240.0


def define(journey: Journey) -> None:
    """By pattern, by site and by id: who is in which group, before anybody has an agent."""
    operator = journey.hosts("vpc")[0]
    if not journey.play.plan.encrypt:
        before.close_registry(journey, operator)
    database = journey.company.the("ec2", "database").name
    for words in (
        ("web", "*-1", "*-2"),
        ("app", "*-3", "*-4"),
        ("db", database),
        ("monitoring", "*-1", "--site", "ec2"),
        ("ops", _OPS),
    ):
        journey.operator(operator, "group", "set", *words)


def record(journey: Journey) -> None:
    """Nobody is kept out by it: what members use is recorded from here on."""
    hosts = _workers(journey, "ec2")
    journey.say(f"member_ports: {{all: [ops]}} in the configuration of {len(hosts)} hosts")
    journey.configure(hosts, member_ports=_RECORD)
    _all_are(journey, hosts, "waiting")


def suggested(journey: Journey) -> None:
    """What is pasted is what was seen. Before the new site's hosts come: as long as they are idle,
    most of a group has not been seen."""
    found = {
        task: _suggested(journey, journey.company.the("ec2", task))
        for task in ("app", "database", "cache", "web")
    }
    wanted = {
        "app": {f"{PORTS['app']}/tcp": ["web"]},
        "database": {f"{PORTS['database']}/tcp": ["app", "monitoring"]},
        "cache": {f"{PORTS['cache']}/tcp": ["app", "monitoring"]},
        "web": {},
    }
    right = [task for task in wanted if found[task] == wanted[task] | _RECORD]
    journey.find(
        "member_ports that were suggested fit the tiers", len(right) == 4, ", ".join(sorted(right))
    )
    journey.say("databases are to reach each other: no standby has called yet")
    found["database"][f"{PORTS['database']}/tcp"].append("db")
    journey.member_ports.update(found)
    _configure(journey, _workers(journey, "ec2"))
    journey.until(
        lambda: not any(_kept_out(journey, host) for host in _workers(journey, "ec2")),
        "somebody would be kept out of what is used",
    )
    journey.find("members that would be kept out of what they use", True, "none")


def new_site(journey: Journey) -> None:
    """Patterns have its hosts already; a line of one site does not."""
    _configure(journey, _workers(journey, "vpc"))
    _group(journey, "add", "monitoring", "*-1", "--site", "vpc")
    _all_are(journey, _workers(journey, "vpc"), "waiting")


def enforce(journey: Journey) -> None:
    """Tier by tier, on trial, confirmed by its agents' evidence."""
    for task in ("cache", "app", "web", "database"):
        tier = [host for host in journey.play.hosts if task_of(host) == task]
        for host in tier:
            journey.neti(host, "enforce", "--no-follow", shown=host is tier[0])
        _in_force(journey, tier)
        journey.find(f"member_ports in force: {task}", True, ", ".join(h.name for h in tier))
    workers = {host.name for site in ("ec2", "vpc") for host in _workers(journey, site)}
    journey.until(lambda: workers <= _in_force_by_fleet(journey), "neti fleet does not say so")
    journey.find("member_ports in force, by neti fleet", True, f"{len(workers)} hosts")
    for site, name in zip(("ec2", "vpc"), OUTSIDERS, strict=True):
        outsider = journey.company.the(site, "cache")
        journey.company.scanner(_doors(journey, outsider), node=outsider.name, name=name)
        journey.say(
            f"from here on {outsider.name}, which is in no group, tries every other's ports"
        )


def new_database(journey: Journey) -> None:
    """Groups go by ids: the address that it takes over brings none of them."""
    _group(journey, "add", "db", journey.company.the("vpc", "database").name)


def retired(journey: Journey) -> None:
    """Whoever comes under an old id must not be in its groups. Whom nobody meant gets nowhere, and
    who reaches everything does."""
    _group(journey, "remove", "db", journey.company.the("ec2", "database").name)
    _group(journey, "remove", "monitoring", "*-1", "--site", "ec2")
    door = _database_door(journey)
    ops = journey.play.plan.namespace(_OPS)
    reached = namespaces.call_inside(ops, lambda: opens(door))
    journey.find("who is in group ops reaches the database", reached, _OPS)


def prove(journey: Journey) -> None:
    """It was ``member_ports`` that kept it out: the same door is open once the file has none."""
    database, outsider = (journey.company.the("vpc", task) for task in ("database", "cache"))
    door, inside = _database_door(journey), journey.play.plan.namespace(outsider.name)
    shut = not namespaces.call_inside(inside, lambda: opens(door))
    journey.configure([database], member_ports={})
    journey.until(
        lambda: namespaces.call_inside(inside, lambda: opens(door)),
        f"{outsider.name} does not get in, though {database.name} has no member_ports any more",
    )
    what = f"{outsider.name} at the door of {database.name}, with member_ports and without"
    journey.find(what, shut, f"{'shut' if shut else 'open'}, then open")


# --- within ---


def _workers(journey: Journey, site: str) -> Sequence[LabHost]:
    return journey.play.plan.site(site).workers


def _configure(journey: Journey, hosts: Sequence[LabHost]) -> None:
    for host in hosts:
        ports = journey.member_ports[task_of(host)]
        journey.say(f"member_ports: {json.dumps(ports)} on {host.name}, and reload")
        journey.configure([host], member_ports=ports)


def _group(journey: Journey, word: str, *words: str) -> None:
    journey.operator(journey.hosts("vpc")[0], "group", word, *words)


def _suggested(journey: Journey, host: LabHost) -> dict[str, list[str]]:
    """The lines that an operator would paste, once everybody who uses the host was seen. A group
    that is missing is none that the operator meant."""
    found: dict[str, Any] = {}

    def settled() -> bool:
        """Twice the same, with somebody in it, where anybody calls."""
        text = journey.neti(host, "preview", "--suggest", shown=False)
        last, found["ports"] = found.get("ports"), yaml.safe_load(text)["member_ports"]
        found["text"] = text
        return bool(last == found["ports"] and (len(last) > 1 or task_of(host) == "web"))

    journey.until(settled, f"what members use of {host.name} is not seen")
    journey.say(f"$ neti preview --suggest          (on {host.name})\n{found['text'].rstrip()}")
    ports: dict[str, list[str]] = found["ports"]
    return ports


def _kept_out(journey: Journey, host: LabHost) -> list[Any]:
    document = json.loads(journey.neti(host, "preview", "--json", shown=False))
    kept: list[Any] = document["kept_out"]["ports"]
    return kept


def _state(journey: Journey, host: LabHost) -> str:
    return str(journey.status(host)["member_ports"])


def _in_force_by_fleet(journey: Journey) -> set[str]:
    # How a host is, operators alone may read.
    shown = journey.operator(journey.hosts("vpc")[0], "fleet", "--json", shown=False)
    members = json.loads(shown)["members"]
    return {one["id"] for one in members if one["member_ports"] == "in-force"}


def _all_are(journey: Journey, hosts: Sequence[LabHost], state: str) -> None:
    journey.until(
        lambda: all(_state(journey, host) == state for host in hosts),
        f"not everybody's member_ports come to be {state}",
    )


def _in_force(journey: Journey, tier: Sequence[LabHost]) -> None:
    """A trial that ended unconfirmed, because its agent was just dead, is begun again by hand."""
    deadline = time.monotonic() + stretched(_ENFORCE_SECONDS)
    for host in tier:
        asked = time.monotonic()
        while (state := _state(journey, host)) != "in force":
            now = time.monotonic()
            if now > deadline:
                raise LabError(f"member_ports of {host.name} do not come to be in force: {state}")
            if state == "waiting" and now - asked > TRIAL_SECONDS:
                journey.neti(host, "enforce", "--no-follow")
                asked = now
            time.sleep(0.2)


def _doors(journey: Journey, outsider: LabHost) -> list[str]:
    """The ports of all others that anybody listens on, but those that are open to everybody."""
    overlays = journey.play.overlays
    found = []
    for site in ("ec2", "vpc"):
        for host in _workers(journey, site):
            task = task_of(host)
            ports = (WEB_PORT,) if task == "web" else (PORTS[task], WEB_PORT)
            if host is not outsider and host.name != outsider.name:
                found += [f"{overlays[host.name]}:{port}" for port in ports]
    return found


def _database_door(journey: Journey) -> tuple[str, int]:
    host = journey.company.the("vpc", "database")
    return journey.play.overlays[host.name], PORTS["database"]

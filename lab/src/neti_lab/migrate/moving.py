"""The phases in which the work itself moves, and the old site ends."""

import time
from typing import Final

from neti_lab import agents, ensemble, groups
from neti_lab.migrate.journey import Journey
from neti_lab.migrate.looking import all_reached, doors
from neti_lab.shop import WEB
from neti_lab.topology import LabHost

_TAKEN_OVER: Final = 0.5  # until a changed list of addresses is surely read


def web_and_app(journey: Journey) -> None:
    """Host by host: the new one is added, then the old one is taken off the list and ended."""
    company = journey.company
    old_database, old_cache = company.the("ec2", "database"), company.the("ec2", "cache")
    apps = journey.company.hosts("ec2", "app")
    for number, new in enumerate(company.hosts("vpc", "app")):
        backs = {
            "database": journey.overlay(old_database)[0],
            "cache": journey.overlay(old_cache)[0],
        }
        company.start(new, **backs)
        old = apps[number]
        apps[number] = new
        _serve_by(journey, apps)
        company.stop(old.name)
        journey.say(f"{new.name} serves instead of {old.name}")
    webs = company.hosts("ec2", "web")
    for number, new in enumerate(company.hosts("vpc", "web")):
        company.start(new, apps=journey.overlay(*apps))
        journey.publish(new, WEB)
        old = webs[number]
        webs[number] = new
        company.configure("users", webs=[journey.published(web) for web in webs])
        time.sleep(_TAKEN_OVER)
        company.stop(old.name)
        journey.say(f"{new.name} serves instead of {old.name}")
    new_cache = company.the("vpc", "cache")
    company.start(new_cache)
    for app in apps:
        company.configure(app.name, cache=journey.overlay(new_cache)[0])
    _clients_call(journey, cache=journey.overlay(new_cache))
    time.sleep(_TAKEN_OVER)
    company.stop(old_cache.name)
    journey.say(f"{new_cache.name} serves instead of {old_cache.name}, empty at first")
    moved = {host.name for host in (*apps, *webs, new_cache)}
    journey.until(lambda: moved <= _serving(journey), f"not all of these serve: {sorted(moved)}")
    journey.find("the new hosts serve", True, ", ".join(sorted(moved)))


def database(journey: Journey) -> None:
    """A standby catches up, takes over, and gets the old one's overlay address."""
    company = journey.company
    old, new = company.the("ec2", "database"), company.the("vpc", "database")
    before = journey.play.overlays[old.name]
    company.start(new, standby_of=journey.overlay(old)[0])

    def caught_up() -> bool:
        return bool(company.control(old, "status")["standby_in_step"])

    seconds = journey.until(caught_up, f"{new.name} does not catch up")
    journey.say(f"{new.name} is a standby of {old.name} and has caught up, {seconds:.1f} s")
    # Who calls a database at every request anew, and never again when it fails, is no driver: from
    # here on only the apps call it.
    _clients_call(journey, database=[])
    time.sleep(_TAKEN_OVER)
    # Not between the two: from the hand-over on orders wait, and who moves the lease would wait
    # for a trouble to end that has begun before.
    with journey.undisturbed:
        began = time.monotonic()
        company.control(old, "hand-over")
        journey.say(f"{old.name} has handed over to {new.name}")
        journey.neti(old, "leave")
        journey.play.hosts.remove(old)
        journey.operator(journey.hosts("vpc")[0], "lease", "move", old.name, new.name)
    journey.until(
        lambda: _overlay_now(journey, new) == before, f"{new.name} does not take {before} over"
    )
    sequence = company.control(new, "status")["sequence"]
    journey.until(
        lambda: company.control(new, "status")["sequence"] > sequence,
        f"nobody writes to {new.name}",
    )
    journey.registered([new])
    journey.find(
        "the database moved with its address",
        journey.play.overlays[new.name] == before,
        f"{before}, {time.monotonic() - began:.1f} s from hand-over to the next write seen",
    )
    company.stop(old.name)


def retire(journey: Journey) -> None:
    """The old hosts leave, are switched off, and their leases are collected."""
    company, plan = journey.company, journey.play.plan
    company.stop(f"clients-{journey.hosts('ec2')[0].name}")
    company.configure("scanner", targets=doors(journey, "vpc"))
    old_hosts = journey.hosts("ec2")
    for host in old_hosts:
        if host in journey.play.hosts:
            with journey.undisturbed:
                journey.neti(host, "leave")
                journey.play.hosts.remove(host)
        agents.checked(["ip", "-n", plan.namespace(host.name), "link", "set", "eth0", "down"])
    operator = journey.hosts("vpc")[0]
    leased = set(journey.registry.leases().values())
    for host in old_hosts:
        if host.name in leased:
            with journey.undisturbed:
                journey.operator(operator, "lease", "release", host.name, "--yes")
    journey.until(
        lambda: (
            set(journey.registry.leases().values()) == {host.name for host in journey.hosts("vpc")}
        ),
        "leases of the old hosts are left",
    )
    journey.find("leases of the old site left", True, "none")
    pairs = all_reached(journey)
    journey.find("pairs left that reach each other the right way", True, f"{len(pairs)}")


def proxies_gone(journey: Journey) -> None:
    """Nobody of the old site needs the registry any more."""
    plan, state = journey.play.plan, journey.play.state
    ours, theirs = plan.site("vpc"), plan.site("ec2")
    rules = groups.admit_registry(ours.keepers, ensemble.callers(theirs), withdraw=True)
    journey.groups("vpc", rules)
    for proxy in theirs.keepers:
        ensemble.stop(proxy, state)
    journey.say("three proxies ended, and the servers' group lets nobody in from the old site")
    hosts = journey.hosts("vpc")
    journey.in_good_health(hosts)
    journey.registry_check(hosts[0])


# --- within ---


def _serve_by(journey: Journey, apps: list[LabHost]) -> None:
    addresses = journey.overlay(*apps)
    for site in ("ec2", "vpc"):
        for web in journey.company.hosts(site, "web"):
            if journey.company.runs(web.name):
                journey.company.configure(web.name, apps=addresses)
    _clients_call(journey, app=addresses)
    time.sleep(_TAKEN_OVER)


def _clients_call(journey: Journey, **targets: list[str]) -> None:
    for site in ("ec2", "vpc"):
        name = f"clients-{journey.hosts(site)[0].name}"
        before = journey.company.configuration(name)["targets"]
        journey.company.configure(name, targets=before | targets)


def _serving(journey: Journey) -> set[str]:
    """Hosts that had a part in some user's request."""
    by_tier = journey.company.statistics("users")["by_host"]
    return {host for hosts in by_tier.values() for host in hosts}


def _overlay_now(journey: Journey, host: LabHost) -> str:
    return str(journey.status(host)["overlay"])

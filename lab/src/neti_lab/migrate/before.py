"""The phases up to the moment when everything outside the fleet may come in and none of it does.

Each does what docs/runbook.md says, by the same commands, and finds out by other means than Neti's
own word whether it worked.
"""

import json
import time
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Final

from neti_lab import LabError, certificates, ensemble, groups, namespaces
from neti_lab.busy import stretched
from neti_lab.migrate.company import PORTS, task_of
from neti_lab.migrate.journey import TRIAL_SECONDS, Journey
from neti_lab.migrate.looking import all_reached, doors, refused, served
from neti_lab.pairs import matrix
from neti_lab.shop import WEB
from neti_lab.topology import (
    GATEWAY_PORTS,
    STRANGER_ADDRESS,
    TUNNEL_PORT,
    LabHost,
)

# The cloud's own ranges, in which the stranger has rented a machine as well.
CLOUD: Final = (
    IPv4Network("198.51.100.0/24"),
    IPv4Network("203.0.113.0/24"),
    IPv4Network(f"{STRANGER_ADDRESS}/26", strict=False),
)
_USERS_RATE: Final = 40
_CLIENTS_RATE: Final = 20
# With troubles about, a trial of a few seconds is often not confirmed, and begun again.
_ENFORCE_SECONDS: Final = 240.0


def old_site(journey: Journey) -> None:
    """Six hosts that call each other by private address, and everybody who uses them."""
    company = journey.company
    (database, cache), apps = _backs(journey, "ec2"), company.hosts("ec2", "app")
    company.start(database, standby_of=None)
    company.start(cache)
    for app in apps:
        backs = {"database": journey.private(database)[0], "cache": journey.private(cache)[0]}
        company.start(app, **backs)
    for web in company.hosts("ec2", "web"):
        company.start(web, apps=journey.private(*apps))
        journey.publish(web, WEB)
    company.users([journey.published(web) for web in company.hosts("ec2", "web")], _USERS_RATE)
    targets = {
        task: journey.private(*company.hosts("ec2", task)) for task in PORTS if task != "web"
    }
    company.clients(journey.hosts("ec2")[0], targets, _CLIENTS_RATE)
    company.scanner(doors(journey, "ec2", "vpc"))
    seconds = journey.until(lambda: served(journey) > 50, "nobody is served")
    journey.find("users are served", True, f"{served(journey)} requests after {seconds:.1f} s")


def registry(journey: Journey) -> None:
    """An ensemble in the new site, proxies in the old; neither runs an agent."""
    play = journey.play
    journey.say("$ neti registry dev-ca ca --server … --host … --operator ann")
    ensemble.make_certificates(play.plan, play.state)
    journey.say("the groups of servers and proxies let each other in: neti aws zk-groups in EC2")
    ensemble.admit(play.plan)
    ensemble.start_servers(play.plan, play.state)
    journey.say("three ZooKeeper servers in vpc")
    operator = journey.hosts("vpc")[0]
    journey.operator(operator, "registry", "init")
    if play.plan.encrypt:
        close_registry(journey, operator)
    proxies = play.plan.site("ec2").keepers
    for proxy in proxies:
        ensemble.start_proxy(play.plan, proxy, play.state)
    journey.say("$ neti zk-proxy --server …          (on each of three proxies in ec2)")
    seconds = journey.until(
        lambda: all(ensemble.servers_seen(play.plan, proxy) == 3 for proxy in proxies),
        "not every proxy reaches every server",
    )
    journey.find("proxies that reach all three servers", True, f"{len(proxies)}, {seconds:.1f} s")
    for site in ("vpc", "ec2"):
        journey.registry_check(journey.hosts(site)[0])


def close_registry(journey: Journey, operator: LabHost) -> None:
    """Only hosts of the plan begin from here on, and each speaks for itself alone."""
    ids = [host.name for host in journey.play.plan.hosts]
    subject = ("--subject", certificates.SUBJECTS)
    journey.operator(operator, "registry", "admit", *ids, *subject, "--yes")
    for word in ("admission", "strict"):
        journey.operator(operator, "registry", word, "on")


def shadow(journey: Journey) -> None:
    """Agents in the old site: they register, and nothing else may be felt of them."""
    hosts = journey.hosts("ec2")
    journey.start_agents(hosts)
    seconds = journey.registered(hosts)
    journey.play.hosts[:] = hosts
    journey.stages(hosts, "shadow")
    journey.find("agents in shadow", True, f"{len(hosts)} of {len(hosts)}, {seconds:.1f} s")


def coverage(journey: Journey) -> None:
    """Everybody who should have an agent has one, in step and in good health."""
    hosts = journey.hosts("ec2")
    first = hosts[0]
    journey.neti(first, "fleet")
    wanted = {host.name for host in hosts}

    def missing() -> set[str]:
        document = json.loads(journey.neti(first, "fleet", "--json", shown=False))
        return wanted - {member["id"] for member in document["members"]}

    # One whose agent was just killed is back soon: an operator looks again, too.
    journey.until(lambda: not missing(), "some hosts stay without an agent")
    journey.find("hosts without an agent", True, "none")
    journey.in_good_health(hosts)


def overlay_addresses(journey: Journey) -> None:
    """Callers name each other by overlay address; until the last has, both ways work."""
    company = journey.company
    hosts = journey.hosts("ec2")
    journey.say("$ neti overlay-ip          (on each host)")
    said = {host.name: journey.neti(host, "overlay-ip", shown=False).strip() for host in hosts}
    same = [host for host in hosts if said[host.name] == journey.play.overlays[host.name]]
    journey.find("overlay addresses as leased", len(same) == len(hosts), ", ".join(said.values()))
    journey.until(
        lambda: len(_by_private_address(journey)) > 1, "nobody is seen to call a private address"
    )
    database, cache = _backs(journey, "ec2")
    for app in company.hosts("ec2", "app"):
        company.configure(
            app.name, database=journey.overlay(database)[0], cache=journey.overlay(cache)[0]
        )
    for web in company.hosts("ec2", "web"):
        company.configure(web.name, apps=journey.overlay(*company.hosts("ec2", "app")))
    targets = {
        task: journey.overlay(*company.hosts("ec2", task)) for task in PORTS if task != "web"
    }
    company.configure(f"clients-{journey.hosts('ec2')[0].name}", targets=targets)
    seconds = journey.until(
        lambda: not _by_private_address(journey), "somebody still calls a private address"
    )
    journey.find("connections by private address left", True, f"none after {seconds:.1f} s")


def new_site(journey: Journey) -> None:
    """The new site's hosts: agents first, work later."""
    hosts = journey.hosts("vpc")
    journey.start_agents(hosts)
    seconds = journey.registered(hosts)
    journey.play.hosts[:] = [*journey.hosts("ec2"), *hosts]
    journey.stages(hosts, "shadow")
    journey.find("the new site's hosts registered", True, f"{len(hosts)}, {seconds:.1f} s")


def reachability(journey: Journey) -> None:
    """Groups opened to the fleet's own addresses alone; then all to all, by overlay address."""
    _let_in_the_fleet(journey)
    journey.say("$ neti verify          (on each host)")
    pairs = all_reached(journey)
    for line in matrix(journey.play.hosts, pairs):
        journey.say(line)
    journey.find("pairs that reach each other the right way", True, f"{len(pairs)}")
    targets = {
        task: journey.overlay(*journey.company.hosts("ec2", task))
        for task in PORTS
        if task != "web"
    }
    journey.company.clients(journey.hosts("vpc")[0], targets, _CLIENTS_RATE)


def _let_in_the_fleet(journey: Journey) -> None:
    plan = journey.play.plan
    own = [host.public for host in plan.hosts if host.public is not None]
    if plan.has_gateways:
        journey.say(f"groups let in gateways: UDP {TUNNEL_PORT} and {GATEWAY_PORTS}")
        rules = groups.open_road(own)
    else:
        journey.say("groups let in the fleet's own addresses: neti aws ip-ranges --fleet in EC2")
        rules = groups.open_hosts(map(IPv4Network, own))
    for site in ("ec2", "vpc"):
        journey.groups(site, rules)


def preview(journey: Journey) -> None:
    """What would break: the port that nobody had thought of is named, and opened."""
    webs = [*journey.company.hosts("ec2", "web"), *journey.company.hosts("vpc", "web")]
    busy = webs[0]
    journey.neti(busy, "preview")
    before = {port["port"] for port in _previewed(journey, busy)}
    journey.find(
        "the port that would break is named",
        WEB in before,
        f"{WEB}/tcp on {busy.name}" if WEB in before else f"only {sorted(before)}",
    )
    journey.say(f"open_ports: [{WEB}] in the configuration of {len(webs)} web hosts, and reload")
    journey.configure(webs, open_ports=[WEB])
    journey.until(
        lambda: all(WEB not in {p["port"] for p in _previewed(journey, web)} for web in webs),
        f"port {WEB} is still named",
    )
    others = {
        f"{port['port']}/{port['protocol']} on {host.name}"
        for host in journey.play.hosts
        for port in _previewed(journey, host)
        if port["rank"] == "used"
    }
    journey.find("ports in use that would be lost", not others, ", ".join(sorted(others)) or "none")


def enforce_one(journey: Journey) -> None:
    """One host, on trial, confirmed by hand."""
    host = journey.company.hosts("ec2", "web")[1]
    journey.configure(journey.play.hosts, trial_seconds=TRIAL_SECONDS)
    journey.neti(host, "enforce", "--trial", "60", "--wait-for-confirm", "--no-follow")
    journey.stages([host], "trial")
    pairs = all_reached(journey)
    journey.find("on trial: pairs that reach each other the right way", True, f"{len(pairs)}")
    journey.neti(host, "confirm")
    journey.stages([host], "enforced")
    journey.find("enforced", True, host.name)


def enforce_tiers(journey: Journey) -> None:
    """Tier by tier, by configuration, each confirmed by its agents' own evidence."""
    for task in ("cache", "app", "web", "database", "gateway"):
        tier = [host for host in journey.play.hosts if task_of(host) == task]
        if not tier:
            continue
        names = ", ".join(host.name for host in tier)
        journey.say(f"reject_all: true on {names}, and reload")
        journey.configure(tier, reject_all=True)
        _enforced(journey, tier)
        journey.find(f"enforced: {task}", True, names)


def open_groups(journey: Journey) -> None:
    """Everybody in the cloud's ranges gets to the hosts now; only the fleet gets in."""
    journey.say("groups opened to the cloud's ranges: neti aws ip-ranges in EC2")
    hosts = journey.play.hosts
    with journey.undisturbed:  # rules that were just flushed have no counter
        before = {host: refused(journey, host) for host in hosts}

    def since() -> int:
        """A counter that has begun anew, with its host's rules, counts from zero."""
        now = {host: refused(journey, host) for host in hosts}
        return sum(n - before[h] if n >= before[h] else n for h, n in now.items())

    tries = journey.company.statistics("scanner").get("tries", 0)
    for site in ("ec2", "vpc"):
        journey.groups(site, groups.open_hosts(CLOUD))
    journey.tries_at_groups = tries
    journey.until(
        lambda: since() > 100 and journey.company.statistics("scanner")["tries"] - tries > 200,
        "the stranger's packets do not come to the hosts",
    )
    with journey.undisturbed:
        gone = since()
    journey.find("the stranger's packets reach the hosts and are refused there", True, f"{gone}")


def _enforced(journey: Journey, tier: list[LabHost]) -> None:
    """A trial that ended unconfirmed, because its agent was just dead, is begun again by hand."""
    deadline = time.monotonic() + stretched(_ENFORCE_SECONDS)
    for host in tier:
        asked = time.monotonic()
        while (stage := journey.status(host)["stage"]) != "enforced":
            now = time.monotonic()
            if now > deadline:
                raise LabError(f"{host.name} does not come to be enforced; it is in {stage}")
            if stage == "shadow" and now - asked > TRIAL_SECONDS:
                journey.neti(host, "enforce", "--no-follow")
                asked = now
            time.sleep(0.2)


def _backs(journey: Journey, site: str) -> tuple[LabHost, LabHost]:
    return journey.company.the(site, "database"), journey.company.the(site, "cache")


def _previewed(journey: Journey, host: LabHost) -> list[dict[str, Any]]:
    document = json.loads(journey.neti(host, "preview", "--json", shown=False))
    found: list[dict[str, Any]] = document["ports"]
    return found


def _by_private_address(journey: Journey) -> set[str]:
    """Hosts of the old site with a connection to a neighbour's service by private address."""
    plan = journey.play.plan
    ports = set(PORTS.values())
    return {
        host.name
        for host in journey.hosts("ec2")
        if namespaces.call_inside(
            plan.namespace(host.name), lambda: _calls_into(plan.site("ec2").private, ports)
        )
    }


def _calls_into(network: IPv4Network, ports: set[int]) -> bool:
    """Whether the calling thread's namespace has an established TCP connection there."""
    for line in Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        address, _, port = fields[2].partition(":")
        called = int.from_bytes(bytes.fromhex(address), "little")
        within = int(network.network_address) <= called <= int(network.broadcast_address)
        if fields[3] == "01" and within and int(port, 16) in ports:
            return True
    return False

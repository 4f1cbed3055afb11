"""What the agent tells of the encrypted road to other sites. Reads, and changes nothing."""

from dataclasses import replace
from itertools import islice

from neti.agent.core import Core
from neti.agent.in_the_clear import by_the_file, has_no_device
from neti.agent.roads import Roads
from neti.model import Encrypt, Road
from neti.model.problems import Problem
from neti.monitoring import check_encryption
from neti.monitoring.encryption import NAMED, Crossing, Encryption, Unheard
from neti.ruleset.reach import requires
from neti.ruleset.roads import asked_between
from neti.text import printable


def told(core: Core, roads: Roads) -> Encryption | None:
    """``shown``, and what may go in the clear by the file: too much work for figures."""
    seen = shown(core, roads)
    return None if seen is None else replace(seen, excepted=by_the_file(core))


def shown(core: Core, roads: Roads) -> Encryption | None:
    """None where no pair of this host's site encrypts. As of the last look at the device, which is
    a minute ago at most."""
    if not core.own_key.wanted:
        return None
    tunnel, states, public = roads.tunnel, roads.states, core.own_key.public()
    shaken = [s.handshake for s in states.values() if s.handshake is not None]
    keyless, cut_off, crossings = _members(core)
    silent = roads.silent()
    return Encryption(
        implementation=roads.kind,
        port=core.settings.tunnel_port,
        mtu=tunnel.mtu if tunnel is not None else None,
        public_key=str(public) if public is not None else None,
        peers=len(states),
        shaken=len(shaken),
        oldest_handshake=min(shaken, default=None),
        last_handshake=max(shaken, default=None),
        received=sum(state.received for state in states.values()),
        sent=sum(state.sent for state in states.values()),
        keyless=len(keyless),
        keyless_ids=tuple(map(printable, islice(keyless, NAMED))),
        keyless_cut_off=len(cut_off),
        keyless_cut_off_ids=tuple(map(printable, islice(cut_off, NAMED))),
        unheard_count=len(silent),
        unheard=tuple(
            Unheard(
                id=printable(host_id),
                overlay=str(core.members.fleet.members[host_id].overlay),
                since=roads.last_handshake(host_id),
            )
            for host_id in islice(silent, NAMED)
        ),
        require_configured=requires(core.settings.sites, core.host.site),
        requires=core.members.requires,
        on_trial=core.stage.tries_to_require,
        sites=crossings,
    )


def problems(core: Core) -> list[Problem]:
    """What follows from the counts that ``shown`` has, as ``neti check`` says it too."""
    strict = requires(core.settings.sites, core.host.site) or core.members.gateways.used
    if not core.own_key.wanted or core.down.now or not strict:
        return []
    _, cut_off, crossings = _members(core)
    seen = Encryption(
        implementation=None if has_no_device(core) else "there is one",
        keyless_cut_off=len(cut_off),
        keyless_cut_off_ids=tuple(map(printable, islice(cut_off, NAMED))),
        require_configured=requires(core.settings.sites, core.host.site),
        requires=core.members.requires,
        on_trial=core.stage.tries_to_require,
        sites=crossings,
    )
    return list(check_encryption.problems(seen))


def _members(core: Core) -> tuple[list[str], list[str], dict[str, Crossing]]:
    """Those without a key, those of them that are cut off, and the counts of each site."""
    host, sites, members = core.host, core.settings.sites, core.members
    keyless, cut_off, counts = list[str](), list[str](), dict[str, dict[str, int]]()
    asked: dict[str, Encrypt] = {}
    for host_id, member in members.fleet.members.items():
        if host_id == host.id:
            continue
        if member.site not in asked:
            asked[member.site] = asked_between(member, host=host, sites=sites)
        if not asked[member.site].encrypts:
            continue
        road = members.road_of(member)
        if host_id not in members.fleet.keys:
            keyless.append(host_id)
            if road is Road.NONE:
                cut_off.append(host_id)
        count = counts.setdefault(member.site, {})
        count[road.value] = count.get(road.value, 0) + 1
    crossings = {
        printable(site): Crossing(asked=asked[site].value, **count)
        for site, count in sorted(counts.items())
    }
    return keyless, cut_off, crossings

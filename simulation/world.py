"""A registry, true time, and hosts. It moves only when it is told to."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from neti.model import Encrypt, Host, Reach, Site
from neti.model.settings import RegistryTLS, Settings
from neti.model.wireguard_key import PublicKey
from neti.registry.memory import MemoryServer
from simulation import disk, gateways
from simulation.clock import HostClock, Time
from simulation.host import SimulatedHost

SITES: Final = {
    "ec2": Site(
        name="ec2",
        private=(IPv4Network("10.0.0.0/16"),),
        public=(IPv4Network("198.51.100.0/24"),),
    ),
    "vpc": Site(
        name="vpc",
        private=(IPv4Network("10.0.0.0/16"),),
        public=(IPv4Network("203.0.113.0/24"),),
    ),
}
OPERATORS: Final = IPv4Network("198.18.0.0/24")
REGISTRY: Final = IPv4Address("10.0.255.53")  # the ZooKeeper server, which is no member
SESSION_SECONDS: Final = 30.0
LINGER_SECONDS: Final = 600
HOLD_SECONDS: Final = 3600
TLS: Final = RegistryTLS(ca=Path("ca.pem"), cert=Path("cert.pem"), key=Path("key.pem"))
FORGED_PRIVATE: Final = IPv4Address("10.0.9.9")
_ROUNDS: Final = 60
_GATHERED: Final = 1.2  # seconds
# Seconds: the first, by how much each next one is longer, and the longest.
_LEAP, _LONGER, _LONGEST_LEAP = 120.0, 60.0, 300.0
_PROBED, _PROBE_EVERY = 9.0, 1.0  # seconds
_LATE_AT_MOST: Final = 10.0  # seconds: then a connection that says nothing is given up
_numbers = itertools.count(1)


def is_forged(name: str) -> bool:
    """Whether somebody else made this entry, or goodbye, in a host's name."""
    return name.startswith((f"1.{int(FORGED_PRIVATE):08x}", "left.zz."))


class Restless(Exception):
    """Hosts go on answering each other without time passing."""


class World:
    def __init__(self, count: int) -> None:
        self.number = next(_numbers)
        self.time = Time()
        # Half of the fleets read hosts' records, as fleets with TLS do.
        self.tls = TLS if count % 2 == 0 else None
        self.server = MemoryServer(wall=HostClock(self.time).wall)
        self.hosts: list[SimulatedHost] = []
        self.rounds = 0
        self.passed: Callable[[], None] = lambda: None  # told of each leap
        self.encrypt = Encrypt.OFF  # between the sites, as the configuration of all hosts says
        self.udp_blocked = False  # between them
        # By site, the ids of its gateways, as the configuration of all hosts says.
        self.gateways: Mapping[str, tuple[str, ...]] = {}
        self._heard: dict[int, float] = {}  # by session, when it was last kept alive
        for number in range(1, count + 1):
            self.add(number)

    def mount_name(self, label: str) -> str:
        return f"{self.number}-{label}"

    def add(self, number: int, label: str = "") -> SimulatedHost:
        site = "ec2" if number % 2 else "vpc"
        host = Host(
            id=f"{site}-{number}",
            site=site,
            private=IPv4Address(f"10.0.0.{number}"),
            public=IPv4Address(f"{'198.51.100' if site == 'ec2' else '203.0.113'}.{number}"),
        )
        settings = Settings(
            path=Path("neti.yml"),
            sites=SITES,
            sites_configured=True,
            ssh_whitelist=(OPERATORS,),
            session_seconds=SESSION_SECONDS,
            linger_seconds=LINGER_SECONDS,
            hold_seconds=HOLD_SECONDS,
            trial_seconds=30,
            registry_tls=self.tls,
        )
        made = SimulatedHost(
            self, label or host.id, host, settings, f"machine of {host.id}", frozenset({REGISTRY})
        )
        self.hosts.append(made)
        return made

    def sites(self) -> dict[str, Site]:
        """As the configuration of all hosts says."""
        named = self.gateways
        return {
            name: replace(
                site,
                encrypt=self.encrypt,
                gateways=named.get(name, ()),
                reached_by=Reach.GATEWAY if name in named else site.reached_by,
            )
            for name, site in SITES.items()
        }

    def close(self) -> None:
        for host in self.hosts:
            host.kill()
            disk.unmount(self.mount_name(host.label))

    # --- time ---

    def settle(self) -> None:
        """Turns of every host, until nobody has anything left to do now. Raises Restless."""
        for _ in range(_ROUNDS):
            due = [host for host in self.hosts if host.due]
            if not due:
                return
            for host in due:
                if host.due:
                    host.turn()
            self.rounds += 1
        names = ", ".join(host.label for host in self.hosts if host.due)
        raise Restless(names)

    def pass_time(self, seconds: float) -> None:
        """In leaps: a short one, in which what is gathered is done; then longer and longer ones;
        while a trial runs, from one look at it to the next."""
        end = self.time.now + seconds
        if seconds > _GATHERED:
            self.pass_time(_GATHERED)
        leap = _LEAP
        # Of gateways each host asks once a second, and believes three answers: so it does at first.
        slowly = self.time.now + _PROBED if self.gateways else 0.0
        while self.time.now < end:
            self._expire_sessions()
            if self.time.now < slowly:
                self.time.now = min(end, self._next(end, _PROBE_EVERY))
            else:
                self.time.now, leap = self._next(end, leap), min(leap + _LONGER, _LONGEST_LEAP)
            self._expire_sessions()
            for host in self.hosts:
                if host.late and self.time.now >= host.late_since + _LATE_AT_MOST:
                    host.late = False
                    host.attentive()
            self.settle()
            self._shake_hands()
            for host in self.hosts:
                host.called()
            self.passed()

    def _next(self, end: float, leap: float) -> float:
        now = self.time.now
        soonest = min(end, now + leap)
        for host in self.hosts:
            if host.late:
                soonest = min(soonest, max(now + 0.05, host.late_since + _LATE_AT_MOST))
            agent = host.agent
            if agent is None or host.paused is not None or agent.core.stage.record.trial is None:
                continue
            due = agent.core.timers.due.get("stage")
            if due is not None:
                soonest = min(soonest, max(now + 0.05, now + due - host.clock.monotonic()))
        return soonest

    def _expire_sessions(self) -> None:
        """Those whose time-out is over: nobody has kept them alive."""
        server, now = self.server, self.time.now
        if server._down:
            self._heard.clear()  # each gets its whole time-out anew
            return
        for host in self.hosts:
            if host.session is not None:
                self._heard[host.session.id] = now
        for number, session in list(server._sessions.items()):
            if now - self._heard.setdefault(number, now) >= SESSION_SECONDS:
                server.expire(session)

    def _shake_hands(self) -> None:
        """Everybody sends to all of its peers. Two shake hands where each has the other as a peer:
        no agent is needed for that. What is sent to all others is not answered."""
        ends = {host.tunnel.device_.public: host for host in self.hosts}
        ends.pop(None, None)
        if not ends:
            return
        for own, host in ends.items():
            device = host.tunnel.device_
            for key in device.peers():
                other = ends.get(key)
                if other is not None and own is not None and self._meet(host, other, own):
                    device.shake_hands(key, host.clock.wall())
                else:
                    device.unanswered(key)

    def _meet(self, host: SimulatedHost, other: SimulatedHost, own: PublicKey) -> bool:
        mutual = other.tunnel.device_.has(own)
        return mutual and self.reaches(host, other) and self.reaches(other, host)

    def reaches(self, host: SimulatedHost, other: SimulatedHost) -> bool:
        """Whether what this host's WireGuard sends to the other one gets there."""
        if not self.gateways:
            return not self.udp_blocked
        key = other.tunnel.device_.public
        to = host.tunnel.device_.endpoint(key) if key is not None else None
        return to is not None and gateways.arrives(host, to, other)

    # --- the registry ---

    def registry_away(self) -> None:
        for host in self.hosts:
            host.deaf()
        self.server.stop()

    def registry_back(self) -> None:
        self.server.start()
        for host in self.hosts:
            host.attentive()
            if host.cut and host.registry is not None:
                self.server.cut(host.registry)

"""Where the drill of the road happens: a lab in which no host but two gateways in each site has a
public address, with machines that are switched off, cut off, and come back.

On leaving, whatever is not Neti's on each host is compared with what it was before. Must never do:
leave anything of the lab behind.
"""

import contextlib
import signal
import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Network
from typing import Any, Final, Self

from drills import leftovers, others, traffic
from drills.drill import DrillError, Run
from drills.ear import Ear
from drills.waiting import wait_for
from neti.dataplane.wireguard import DEVICE
from neti.ruleset.objects import FAMILY_TABLE
from neti_lab import agents, certificates, lifecycle, namespaces, registries, services, wireguard
from neti_lab.marks import TCP_ASKED
from neti_lab.play import Play
from neti_lab.processes import Process
from neti_lab.sniffer import Sniffer
from neti_lab.stage import Stage
from neti_lab.topology import INTERNET, INTERNET_ADDRESS, SITES, TUNNEL_PORT, LabHost, plan_lab
from neti_lab.traffic import ProbeProcess, each, unreached

_EVERY: Final = 0.05
_PATIENCE: Final = (60.0, 0.25)  # for answers by TCP, and by UDP
_REPAIRS_IN_PEACE: Final = 2
_NOBODY_LISTENS: Final = 9
_SECONDS: Final = 90.0  # for everything to be whole again


class Road:
    """As a context manager it is built, and taken down again whatever happens within."""

    def __init__(self, run: Run, *, hosts: int) -> None:
        self._run = run
        self.state = leftovers.lab()
        self.plan = plan_lab(
            name=self.state.name,
            hosts=hosts,
            registry="closed",
            encrypt=True,
            gateways=True,
            private_only=SITES,
        )
        self.play = Play(
            plan=self.plan,
            state=self.state,
            stage=Stage(),
            opened=None,
            hosts=list(self.plan.hosts),
        )
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            stack.callback(lifecycle.take_down, self.state)
            lifecycle.build_networks(self.state, self.plan)
            before = dict(zip(self.plan.hosts, each(self.plan.hosts, self._wired), strict=True))
            words = agents.neti_command("lab", "serve", "--name", self.plan.name)
            services.start(self.state, words)
            registries.start(self.plan, self.state)
            stack.callback(self._compare, before)
            self._start(*self.plan.hosts)
            self.play.opened = registries.open_registry(self.plan, self.state)
            stack.callback(self.play.opened.close)
            self.whole()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    # --- looking ---

    def member(self, name: str) -> LabHost:
        return self.plan.host(name)

    def gateway_of(self, host: LabHost) -> LabHost:
        """That it sends to now, by its agent's word."""
        found = self._status(host)["gateway"]
        if found is None:
            raise DrillError(f"{host.name} is behind no gateway")
        return self.plan.host(found)

    def whole(self, *without: LabHost) -> float:
        """Seconds until all are registered, encrypt with all of the other site, and reach each
        other, but for those that are off."""
        hosts = [host for host in self.play.hosts if host not in without]
        names = {host.name for host in hosts}

        missing: list[object] = []

        def all_well() -> bool:
            missing[:] = sorted(names - self.play.registered())
            if not missing:
                leases = {host: str(at) for at, host in self.play.registry.leases().items()}
                self.play.overlays = {name: leases[name] for name in names}
                missing[:] = unreached(self.plan, self.play.overlays, hosts)
            return not missing

        try:
            return wait_for(all_well, "not every host reaches every other", seconds=_SECONDS)
        except DrillError as error:
            raise DrillError(f"{error}: {', '.join(map(str, missing))}") from None

    def wait_until_idle(self, gateway: LabHost) -> None:
        """Until it passes nothing on for a second, by its own count."""
        wait_for(
            lambda: self._passed_on(gateway) == self._passed_on(gateway),
            f"{gateway.name} goes on being sent to",
            every=0.5,
        )

    @contextlib.contextmanager
    def sniffing(self) -> Iterator[Ear]:
        sites: dict[str, list[IPv4Network]] = {site.name: [site.public] for site in self.plan.sites}
        with Sniffer(self.plan.namespace(INTERNET), sites, port=TUNNEL_PORT) as sniffer:
            sniffer.wait_until_ready()
            yield Ear(sniffer)

    @contextlib.contextmanager
    def talking(self, *ways: tuple[LabHost, LabHost]) -> Iterator[list[ProbeProcess]]:
        """All kinds of traffic on each way, by overlay address."""
        with contextlib.ExitStack() as stack:
            for called in {called for _, called in ways}:
                stack.enter_context(traffic.serving(self._inside(called)))
            yield [
                stack.enter_context(
                    traffic.probing(
                        self._inside(caller),
                        self.play.overlays[called.name],
                        every=_EVERY,
                        mark=TCP_ASKED.decode(),
                        patience=_PATIENCE,
                    )
                )
                for caller, called in ways
            ]

    # --- what happens here ---

    def says(self, host: LabHost, *words: str) -> str:
        """``neti WORDS`` there. DrillError when it fails."""
        done = agents.neti(self.plan, host, *words, state=self.state)
        if done.returncode != 0:
            raise DrillError(f"neti {' '.join(words)} on {host.name}: {done.stderr.strip()}")
        return done.stdout

    def operator_says(self, *words: str) -> None:
        certificates.operator_says(self.plan, self.state, *words, inside=INTERNET)

    def shout(self) -> None:
        """What the sniffer must read: a mark in the clear, to a port at which nobody listens."""
        inside = self._inside(self.plan.hosts[0])
        namespaces.call_inside(inside, _shout)

    def kill_agent(self, host: LabHost) -> None:
        agents.send(host, signal.SIGKILL, state=self.state)

    def start_agent(self, host: LabHost) -> None:
        agents.start(self.plan, [host], state=self.state)

    def nft(self, host: LabHost, text: str) -> None:
        agents.checked(["nft", text], inside=self._inside(host))

    def at_peace(self, host: LabHost) -> None:
        """Two repairs are behind it: a third within the minute would be slow on purpose."""
        if self._status(host)["drift"]["repairs"] >= _REPAIRS_IN_PEACE:
            self.kill_agent(host)
            self.start_agent(host)

    def cut(self, host: LabHost) -> None:
        """Its cable is pulled at the other end, and nobody there hears of it."""
        self._cable(host, "down")

    def mend(self, host: LabHost) -> None:
        self._cable(host, "up")

    def switch_off(self, host: LabHost) -> None:
        """Nothing of it is left but its disk."""
        self.cut(host)
        self.kill_agent(host)
        self._kill_wireguard(host)
        self.nft(host, f"delete table {FAMILY_TABLE}")
        for words in (
            ("-4", "route", "flush", "table", "all", "proto", "78"),
            ("-4", "rule", "flush", "protocol", "78"),
        ):
            agents.checked(["ip", *words], inside=self._inside(host))
        forwarding = "/proc/sys/net/ipv4/conf/eth0/forwarding"
        agents.checked(["sh", "-c", f"echo 0 > {forwarding}"], inside=self._inside(host))

    def switch_on(self, host: LabHost) -> None:
        """As a machine boots: the rules are there before its network."""
        wireguard.start(self.plan, [host], state=self.state)
        self.says(host, "restore")
        self.mend(host)
        self.start_agent(host)

    # --- within ---

    def _passed_on(self, gateway: LabHost) -> list[str]:
        time.sleep(0.5)
        lines = self.says(gateway, "metrics").splitlines()
        return [line for line in lines if line.startswith("neti_gateway_packets_total")]

    def _inside(self, host: LabHost) -> str:
        return self.plan.namespace(host.name)

    def _status(self, host: LabHost) -> dict[str, Any]:
        found: dict[str, Any] = {}

        def answers() -> bool:
            found.clear()
            found.update(self.play.neti_json(host, "status"))
            return "agent" not in found

        wait_for(answers, f"no agent answers on {host.name}")
        return found

    def _start(self, *hosts: LabHost) -> None:
        wireguard.start(self.plan, hosts, state=self.state)
        agents.start(self.plan, hosts, state=self.state)

    def _cable(self, host: LabHost, state: str) -> None:
        switch = self.plan.namespace(self.plan.site(host.site).switch)
        agents.checked(["ip", "link", "set", host.name, state], inside=switch)

    def _kill_wireguard(self, host: LabHost) -> None:
        program: Process | None = wireguard.program_of(host, state=self.state)
        if program is None:
            agents.checked(["ip", "link", "delete", DEVICE], inside=self._inside(host))
            return
        program.signal(signal.SIGKILL)
        wait_for(lambda: not program.alive, f"wireguard-go goes on at {host.name}")

    def _compare(self, before: dict[LabHost, dict[str, str]]) -> None:
        for host, after in zip(before, each(before, self._down), strict=True):
            self._run.compared.hosts += 1
            found = others.differences(before[host], after)
            self._run.compared.differences += [f"{host.name}: {one}" for one in found]

    def _wired(self, host: LabHost) -> dict[str, str]:
        """What is there once a new link has its IPv6 address for good."""
        words = ["ip", "-6", "-o", "address", "show", "dev", "eth0", "scope", "link"]

        def has_address() -> bool:
            text = agents.checked(words, inside=self._inside(host))
            return "fe80:" in text and "tentative" not in text

        wait_for(has_address, f"{host.name} has no IPv6 address of its link")
        return others.look_settled(self._inside(host))

    def _down(self, host: LabHost) -> dict[str, str]:
        with contextlib.suppress(DrillError):
            self.says(host, "down")
        return self._wired(host)


def _shout() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mouth:
        mouth.sendto(TCP_ASKED, (str(INTERNET_ADDRESS), _NOBODY_LISTENS))

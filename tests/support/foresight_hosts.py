"""Ten hosts as one finds them, each with a list of what will break, written down beforehand.

"Will break" has two meanings. When the host is enforced, it is everybody who comes to one of its
ports and is let in by nothing (``shut``). When members move, it is every program here that calls
one of them by a real address (``left``). Beside it there is what must not be named: members, the
way in, what open_ports lets in, a scanner, a call by the overlay address.

A list is about what was seen. Nobody can foresee the job that has not run yet.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from tests.support import netns

DB, WEB = "db-1", "web-2"  # members
MEMBERS: Final = {DB: netns.PEER, WEB: netns.PEER_MOVED}
BASTION, LEGACY, LEGACY6 = netns.ADMIN, netns.STRANGER, netns.STRANGER6
MONITOR, BACKUP, DEVELOPER, SWITCH = "10.0.0.20", "10.0.0.30", "10.0.0.70", "10.0.0.60"
BALANCERS: Final = ("10.0.0.40", "10.0.0.41")
GRAFANA, BATCH = "10.0.0.81", "10.0.0.80"
OFFICE, SCANNER = "203.0.113.50", "198.51.100.99"  # from the internet
INTERNET: Final = (OFFICE, SCANNER)
OUTSIDERS: Final = (
    *(MONITOR, BACKUP, DEVELOPER, SWITCH, GRAFANA, BATCH),
    *BALANCERS,
)
CONTAINER: Final = f"container {netns.CONTAINER}"

Protocol = Literal["tcp", "udp"]
Shut = tuple[str, str]  # a port as "5432/tcp", and who comes there
Left = tuple[str, str, int]  # who calls (a unit, or a container), which member, at which port


@dataclass(frozen=True, slots=True)
class Service:
    """What listens here. ``published``: a port that leads to port 80 of the container."""

    port: int
    protocol: Protocol = "tcp"
    at: str = "::"
    published: bool = False


@dataclass(frozen=True, slots=True)
class Visit:
    """``source`` comes to a port of this host, so many times, each for a moment."""

    source: str
    port: int
    times: int
    protocol: Protocol = "tcp"


@dataclass(frozen=True, slots=True)
class Program:
    """What calls a member from here, so many times. ``overlay``: by its overlay address, as it
    should. It lives for as long as it takes: for one call some 50 ms."""

    unit: str
    member: str
    port: int
    times: int
    overlay: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One host. ``first``: the port that hurts most, which the first line of 'neti preview' should
    name; ``instead``: what it names, where that is another one. ``first_left``: the program that
    calls most, in the first line of 'neti leftovers'. ``keys``: of its neti.yml."""

    name: str
    services: tuple[Service, ...]
    visits: tuple[Visit, ...]
    programs: tuple[Program, ...]
    shut: frozenset[Shut]
    first: str
    left: frozenset[Left]
    first_left: str
    instead: str = ""
    keys: Mapping[str, Any] = field(default_factory=dict)


POSTGRES: Final = Found(
    name="a database with an exporter that nobody remembers",
    services=(
        Service(22),
        Service(5432),
        Service(6432),
        Service(873),
        Service(9100),
        Service(9187),
    ),
    visits=(
        Visit(netns.PEER, 5432, 20),
        Visit(netns.PEER_MOVED, 6432, 5),
        Visit(BASTION, 22, 2),
        Visit(LEGACY, 5432, 12),
        Visit(MONITOR, 9100, 6),
        Visit(MONITOR, 9187, 3),
        Visit(BACKUP, 873, 1),
    ),
    programs=(Program("patroni.service", WEB, 2379, 10), Program("cron.service", DB, 9000, 1)),
    shut=frozenset(
        {("5432/tcp", LEGACY), ("9100/tcp", MONITOR), ("9187/tcp", MONITOR), ("873/tcp", BACKUP)}
    ),
    first="5432/tcp",
    left=frozenset({("patroni.service", WEB, 2379), ("cron.service", DB, 9000)}),
    first_left="patroni.service",
)

WEB_SERVER: Final = Found(
    name="a web server behind two balancers, of which only HTTPS is in neti.yml",
    services=(
        *(Service(80), Service(443), Service(9000, at="127.0.0.1"), Service(9100)),
        Service(8125, "udp"),
    ),
    visits=(
        *(Visit(balancer, 80, 10) for balancer in BALANCERS),
        Visit(OFFICE, 443, 5),
        Visit(MONITOR, 9100, 3),
        Visit(LEGACY, 8125, 4, "udp"),
    ),
    programs=(
        Program("cron.service", DB, 6379, 1),
        Program("php-fpm.service", DB, 3306, 15),
        Program("php-fpm.service", WEB, 11211, 5, overlay=True),
    ),
    shut=frozenset(
        {
            *(("80/tcp", balancer) for balancer in BALANCERS),
            *(("9100/tcp", MONITOR), ("8125/udp", LEGACY)),
        }
    ),
    first="80/tcp",
    left=frozenset({("php-fpm.service", DB, 3306), ("cron.service", DB, 6379)}),
    first_left="php-fpm.service",
    keys={"open_ports": [443]},
)

REDIS: Final = Found(
    name="a cache with a sentinel elsewhere",
    services=(Service(6379), Service(26379), Service(16379)),
    visits=(
        Visit(netns.PEER, 6379, 9),
        Visit(LEGACY, 6379, 8),
        Visit(DEVELOPER, 6379, 1),
        Visit(LEGACY, 26379, 2),
    ),
    programs=(Program("redis-server.service", WEB, 6379, 3),),
    shut=frozenset({("6379/tcp", LEGACY), ("6379/tcp", DEVELOPER), ("26379/tcp", LEGACY)}),
    first="6379/tcp",
    left=frozenset({("redis-server.service", WEB, 6379)}),
    first_left="redis-server.service",
)

KAFKA: Final = Found(
    name="a broker that is also called by IPv6, with JMX open since 2019",
    services=(Service(9092), Service(2181), Service(7199)),
    visits=(
        Visit(LEGACY, 9092, 9),
        Visit(LEGACY6, 9092, 2),
        Visit(DEVELOPER, 2181, 2),
        Visit(MONITOR, 7199, 1),
    ),
    programs=(
        Program("cron.service", WEB, 2181, 1),
        Program("mirrormaker.service", DB, 9092, 12),
    ),
    shut=frozenset(
        {
            *(("9092/tcp", LEGACY), ("9092/tcp", LEGACY6)),
            *(("2181/tcp", DEVELOPER), ("7199/tcp", MONITOR)),
        }
    ),
    first="9092/tcp",
    left=frozenset({("mirrormaker.service", DB, 9092), ("cron.service", WEB, 2181)}),
    first_left="mirrormaker.service",
)

DNS: Final = Found(
    name="a name server: datagrams, and TCP now and then",
    services=(Service(53, "udp"), Service(53), Service(953, at="127.0.0.1")),
    visits=(
        Visit(OFFICE, 53, 10, "udp"),
        Visit(LEGACY, 53, 6, "udp"),
        Visit(LEGACY, 53, 1),
        Visit(netns.PEER, 53, 4, "udp"),
    ),
    programs=(Program("named.service", WEB, 53, 2),),
    shut=frozenset({("53/udp", OFFICE), ("53/udp", LEGACY), ("53/tcp", LEGACY)}),
    first="53/udp",
    left=frozenset({("named.service", WEB, 53)}),
    first_left="named.service",
)

MAIL: Final = Found(
    name="a mail server whose users send from anywhere",
    services=(
        Service(25),
        Service(587),
        Service(993),
        Service(11334, at="127.0.0.1"),
        Service(9154),
    ),
    visits=(
        Visit(OFFICE, 25, 4),
        Visit(LEGACY, 25, 4),
        Visit(OFFICE, 587, 8),
        Visit(OFFICE, 993, 4),
        Visit(MONITOR, 9154, 2),
    ),
    programs=(Program("dovecot.service", DB, 5432, 6), Program("rspamd.service", WEB, 6379, 2)),
    shut=frozenset({("587/tcp", OFFICE), ("993/tcp", OFFICE), ("9154/tcp", MONITOR)}),
    first="587/tcp",
    left=frozenset({("dovecot.service", DB, 5432), ("rspamd.service", WEB, 6379)}),
    first_left="dovecot.service",
    instead="9154/tcp",  # what comes from near stands first
    keys={"open_ports": [25]},
)

CONTAINERS: Final = Found(
    name="a host of containers, with one that calls out by itself",
    services=(Service(8080, published=True), Service(8081)),
    visits=(
        *(Visit(balancer, 8080, 8) for balancer in BALANCERS),
        Visit(OFFICE, 8080, 3),
        Visit(MONITOR, 8081, 2),
    ),
    programs=(Program("backup.service", WEB, 873, 1), Program(CONTAINER, DB, 5432, 6)),
    shut=frozenset(
        {
            *(("8080/tcp", source) for source in (*BALANCERS, OFFICE)),
            ("8081/tcp", MONITOR),
        }
    ),
    first="8080/tcp",
    left=frozenset({(CONTAINER, DB, 5432), ("backup.service", WEB, 873)}),
    first_left=CONTAINER,
)

BUILDS: Final = Found(
    name="a build server: NFS, git, SSH at two ports",
    services=(
        *(Service(22), Service(2049), Service(111), Service(2222), Service(3000)),
        Service(111, "udp"),
    ),
    visits=(
        Visit(BASTION, 22, 3),
        Visit(LEGACY, 2049, 8),
        Visit(LEGACY, 111, 2),
        Visit(LEGACY, 111, 2, "udp"),
        Visit(DEVELOPER, 2222, 3),
        Visit(DEVELOPER, 3000, 5),
    ),
    programs=(
        Program("gitea.service", DB, 5432, 4),
        Program("runner.service", WEB, 5000, 10),
    ),
    shut=frozenset(
        {
            *(("2049/tcp", LEGACY), ("111/tcp", LEGACY), ("111/udp", LEGACY)),
            *(("2222/tcp", DEVELOPER), ("3000/tcp", DEVELOPER)),
        }
    ),
    first="2049/tcp",
    left=frozenset({("runner.service", WEB, 5000), ("gitea.service", DB, 5432)}),
    first_left="runner.service",
)

MONITORING: Final = Found(
    name="the monitoring itself: it calls everybody by the addresses of yesterday",
    services=(Service(9090), Service(9091), Service(9093), Service(514, "udp")),
    visits=(
        Visit(SWITCH, 514, 12, "udp"),
        Visit(BATCH, 9091, 1),
        Visit(GRAFANA, 9090, 9),
        Visit(OFFICE, 9090, 3),
    ),
    programs=(
        Program("prometheus.service", DB, 9100, 8),
        Program("prometheus.service", WEB, 9100, 8),
        Program("prometheus.service", DB, 9187, 8),
        Program("blackbox.service", WEB, 80, 2),
    ),
    shut=frozenset(
        {
            *(("514/udp", SWITCH), ("9091/tcp", BATCH)),
            *(("9090/tcp", GRAFANA), ("9090/tcp", OFFICE)),
        }
    ),
    first="9090/tcp",
    left=frozenset(
        {
            *(("prometheus.service", DB, 9100), ("prometheus.service", WEB, 9100)),
            *(("prometheus.service", DB, 9187), ("blackbox.service", WEB, 80)),
        }
    ),
    first_left="prometheus.service",
)

JOBS: Final = Found(
    name="a replica on one address, and jobs that live for 50 ms",
    services=(Service(3306, at=netns.PRIVATE), Service(33060, at=netns.PRIVATE), Service(6556)),
    visits=(
        Visit(LEGACY, 3306, 5),
        Visit(MONITOR, 6556, 3),
        Visit(netns.PEER, 3306, 7),
        Visit(DEVELOPER, 33060, 1),
    ),
    programs=(
        Program("cron.service", WEB, 3306, 1),
        Program("heartbeat.service", DB, 3306, 20),
        Program("mysql.service", WEB, 3306, 2, overlay=True),
    ),
    shut=frozenset({("3306/tcp", LEGACY), ("6556/tcp", MONITOR), ("33060/tcp", DEVELOPER)}),
    first="3306/tcp",
    left=frozenset({("heartbeat.service", DB, 3306), ("cron.service", WEB, 3306)}),
    first_left="heartbeat.service",
)

TEN: Final = (
    *(POSTGRES, WEB_SERVER, REDIS, KAFKA, DNS),
    *(MAIL, CONTAINERS, BUILDS, MONITORING, JOBS),
)

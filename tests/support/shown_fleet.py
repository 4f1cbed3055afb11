"""A made-up fleet for whoever shows one, without a registry: ``python -m tests.support.shown_fleet
[HOSTS [ADDRESS:PORT [plain] [still] [tls=STEM]]]`` serves its dashboard. Something happens each
second, unless it is ``still``; hosts have hostile names, unless they are ``plain``. With each
SIGUSR1 the registry goes away, or comes back. ``tls``: with STEM.pem and STEM.key.
"""

import signal
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from random import Random
from typing import Any, Literal

from neti.errors import RegistryUnavailable
from neti.fleet import attendance
from neti.fleet.attendance import Word
from neti.fleet.selecting import OLD
from neti.model import Member, Reach, Site
from neti.model.settings import Settings
from neti.oneshot.seen import Seen
from neti.oneshot.watched import Watched
from neti.registry.detail import Document, Left, Order, Verified
from neti.registry.hurts import Hurt, Hurts

TIERS = ("db", "cache", "web", "queue", "search", "batch")
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</script><b>bold</b>",
    "{{7*7}}${7*7}",
    "<!--<script>",
    "\u202egnp.exe",
)


def sites() -> dict[str, Site]:
    return {
        "ec2": Site(name="ec2", private=(IPv4Network("10.0.0.0/8"),), reached_by=Reach.PUBLIC),
        "vpc": Site(name="vpc", private=(IPv4Network("10.0.0.0/8"),), reached_by=Reach.PUBLIC),
    }


def made(count: int, seed: int = 1, *, now: float | None = None, hostile: bool = False) -> Seen:
    """The same for the same numbers, but for the times. Some of its hosts are lost, held, down,
    silent, or have problems."""
    chance, now = Random(seed), time.time() if now is None else now
    members, told = dict[str, Member](), dict[str, Document]()
    words, leases = dict[str, Word](), dict[str, IPv4Address]()
    for number in range(count):
        tier = TIERS[number % len(TIERS)]
        host_id = f"{tier}-{number}"
        overlay = IPv4Address("192.168.0.1") + number
        site = "vpc" if chance.random() < 0.4 else "ec2"
        leases[host_id] = overlay
        fate = chance.random()
        if number and fate < 0.015:
            state: Literal["lost", "held"] = chance.choice(("lost", "lost", "held"))
            words[host_id] = Word(state, now - chance.randrange(30, 900), site, 300.0)
            continue
        members[host_id] = Member(
            id=host_id,
            site=site,
            private=IPv4Address("10.0.0.1") + number,
            public=IPv4Address("203.0.113.1") + number,
            overlay=overlay,
        )
        told[host_id] = _said(chance, number, tier, site, now, hostile)
    return Seen(
        members=members,
        told=told,
        taken=frozenset(sites()),
        skipped={},
        skipped_count=0,
        away=attendance.absent(leases, members, words=words),
        leases={overlay: host_id for host_id, overlay in leases.items()},
        strict=True,
    )


def _said(chance: Random, number: int, tier: str, site: str, now: float, hostile: bool) -> Document:
    fate = chance.random()
    stage = "enforced" if fate < 0.55 else "shadow"
    stage = {0: "trial", 1: "down", 2: "relaxed"}.get(int(fate * 200) if fate < 0.015 else 9, stage)
    order = Order(by="alice", at=int(now) - 600, until=None)
    problems = chance.choice((("disk",), ("clone", "kernel"), ("certificate",), ("arming",)))
    left = (Left(to="db-0", port="5432/tcp", calls=214, last=int(now) - 4),)
    clumsy = HOSTILE[number % len(HOSTILE)] if hostile else None
    since = int(now) - (86_400 * 5 if number % 10 else 2700)
    hurts = Hurts(
        ports=2,
        sources=3,
        at=(Hurt(port="9100/tcp", sources=3, networks=("10.9.0.0/24",)),),
        since=since,
    )
    name = clumsy if clumsy and number % 5 == 0 else f"{tier}-{number}"
    label = clumsy if clumsy and number % 7 == 0 else tier
    return Document(
        name=name,
        pid=1000 + number,
        version="0.1.0",
        installed="deb",
        stage="shadow" if stage == "relaxed" else stage,
        relaxed=order if stage == "relaxed" else None,
        down=order if stage == "down" else None,
        problems=problems if chance.random() < 0.03 else (),
        encryption="prefer",
        member_ports="none",
        labels={"tier": label, "az": "abc"[number % 3]},
        config_read=int(now) - 86_400,
        hurts=hurts
        if stage == "shadow" and chance.random() < 0.2
        else Hurts(ports=0, sources=0, since=since),
        left=left if chance.random() < 0.1 and number else (),
        left_since=int(now) - 86_400,
        verified=Verified(
            at=int(now) - 300,
            tried=100,
            reached=99 if chance.random() < 0.02 else 100,
            missed=("db-0",) if chance.random() < 0.02 else (),
        ),
        written=int(now) - (3600 if chance.random() < 0.005 else chance.randrange(5, 500)),
    )


class MadeUp(Watched):
    """``step``: what becomes of the fleet before each look."""

    def __init__(self, settings: Settings, seen: Seen, step: Any = None, *, key: str = "") -> None:
        super().__init__(settings, lambda _: nullcontext(), lambda *_: [], key=key, to="vpc")  # type: ignore[arg-type, return-value]
        self.now = seen
        self.away = False
        self._step = step

    def _seen(self) -> Seen:
        if self.away:
            raise RegistryUnavailable("no server of the registry answers")
        if self._step is not None:
            self.now = self._step(self.now)
        return self.now


def something_happens(seen: Seen, chance: Random) -> Seen:
    """One host is enforced, and one has a problem. All but those that are silent write anew."""
    now = time.time()
    told = {
        i: replace(said, written=int(now) - 30) if now - (said.written or 0) < OLD else said
        for i, said in seen.told.items()
    }
    for host_id in chance.sample(sorted(told), k=min(2, len(told))):
        problems = ("disk",) if chance.random() < 0.3 else ()
        told[host_id] = replace(
            told[host_id], stage="enforced", down=None, relaxed=None, problems=problems
        )
    return replace(seen, told=told)


def settings() -> Settings:
    return Settings(
        path=Path("neti.yml"),
        site="ec2",
        overlay_subnet=IPv4Network("192.168.0.0/16"),
        sites=sites(),
        table_files_path=Path("nowhere"),
        zk_hosts={},
    )


def main() -> None:
    from neti.dashboard import serve
    from neti.dashboard.door import new_token
    from neti.dashboard.tls import Certificate

    count, listen, *how = [*sys.argv[1:], *("200", "127.0.0.1:0")[len(sys.argv) - 1 :]]
    chance = Random(7)
    stem = next((Path(word[4:]) for word in how if word.startswith("tls=")), None)
    certificate = None
    if stem is not None:
        certificate = Certificate(stem.with_suffix(".pem"), stem.with_suffix(".key"))
    watched = MadeUp(
        settings(),
        made(int(count), hostile="plain" not in how),
        None if "still" in how else lambda seen: something_happens(seen, chance),
    )

    def turn(*_: object) -> None:
        watched.away = not watched.away

    signal.signal(signal.SIGUSR1, turn)
    where = serve.where(listen, ["localhost"])
    served = serve.Served(
        settings(),
        watched,
        where,
        token=new_token(),
        version="0.1.0",
        certificate=certificate,
    )
    served.run(lambda: print(served.link, flush=True))


if __name__ == "__main__":
    main()

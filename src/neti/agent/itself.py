"""What this host says of itself: how things stand here, as a document for operators. Only reads."""

import os
import socket
from typing import Final

from neti import __version__
from neti.agent.conditions import own_codes
from neti.agent.core import Core
from neti.agent.in_the_clear import has_no_device
from neti.agent.preview import may_be_lost, running_view
from neti.agent.shadow_log import ShadowLog
from neti.build import installed
from neti.model.settings import IPNetwork
from neti.registry.detail import Document, Order, gateways_named
from neti.registry.hurts import MAX_HURTS, MAX_NETWORKS, Hurt, Hurts
from neti.ruleset.reach import requires_everywhere
from neti.stage.hurting import wide_enough
from neti.stage.preview import unanswered
from neti.stage.shadow import port_name

_INSTALLED: Final = installed()


def said_of_itself(core: Core, config_read: int | None) -> Document:
    """All of it but the moment of writing, and what a trial would shut."""
    read = core.out.config_read
    unread = read.unread() if read is not None else None
    return Document(
        name=socket.gethostname(),
        pid=os.getpid(),
        version=__version__,
        installed=_INSTALLED,
        stage=core.stage.word,
        problems=own_codes(core),
        encryption=_encryption(core),
        tunnel_port=core.settings.tunnel_port if core.own_key.wanted else None,
        member_ports=core.stage.ports.replace(" ", "-"),
        gateways=gateways_named({s.name: s.gateways for s in core.settings.sites.values()}),
        openings=len(core.openings.held),
        down=_down(core),
        relaxed=_relaxed(core),
        labels=core.settings.labels,
        config_read=config_read,
        config_unread=_whole(unread),
    )


def hurting(core: Core, shadow: ShadowLog) -> Hurts | None:
    """What ``neti preview`` lists as in use, and no rule lets in. Reads what listens here."""
    if core.down.now:
        return None
    accepted, _ = may_be_lost(shadow.folder)
    rows = unanswered(shadow.record, running_view(shadow, core.members, accepted))
    at = [
        Hurt(port=port_name(row.port), sources=row.sources, networks=_few(row.networks))
        for row in rows[:MAX_HURTS]
    ]
    return Hurts(
        ports=len(rows),
        sources=sum(row.sources for row in rows),
        at=tuple(at),
        since=_whole(core.shown(shadow.record.since)),
    )


def _few(networks: tuple[IPNetwork, ...] | None) -> tuple[str, ...] | None:
    """As few as have room in a document."""
    if networks is None:
        return None
    return tuple(map(str, wide_enough(networks, MAX_NETWORKS)))


def _down(core: Core) -> Order | None:
    if not core.down.now:
        return None
    return Order(by=core.down.said.by, at=_whole(core.down.said.at))


def _relaxed(core: Core) -> Order | None:
    """Only where the file asks for more, or for a time: else it is a host in shadow."""
    record = core.stage.record
    for_a_time = record.relaxed_until is not None
    if not (record.relaxed and (core.settings.reject_all or for_a_time)):
        return None
    until = core.shown(record.relaxed_until)  # the clock may have been set since the word
    return Order(by=record.said_by, at=_whole(record.said_at), until=_whole(until))


def _whole(seconds: float | None) -> int | None:
    return None if seconds is None else int(seconds)


def _encryption(core: Core) -> str:
    """As ``neti.registry.detail.Document`` has it."""
    if not core.own_key.wanted:
        return "off"
    if core.down.now or has_no_device(core):
        requires = core.stage.requires or core.stage.tries_to_require
        return "require-unable" if requires else "unable"
    if core.stage.tries_to_require:
        return "trial"
    if not core.stage.requires:
        return "prefer"
    return "require" if requires_everywhere(core.settings.sites, core.host.site) else "partly"

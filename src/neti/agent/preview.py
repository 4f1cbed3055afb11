"""``neti preview``'s answer: the record joined with the machine and the fleet, as a document.

Reads, changes nothing. The loop does the join. A thread finds the owner of each socket, which means
a look at every process, so that nothing waits for it.
"""

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import replace
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import Final

from neti import log, threads
from neti.agent import shadow_log
from neti.agent.shadow_log import ShadowLog
from neti.control.server import Request
from neti.fleet.former import FormerAddresses
from neti.host.listeners import listeners, with_owners
from neti.model import IPAddress, Member
from neti.model.document import plain
from neti.model.settings import Settings
from neti.monitoring.preview import KeptOut, Preview, Socket, Source, Wanted
from neti.ruleset.desired import Membership
from neti.ruleset.reach import by_link
from neti.ruleset.set_names import SetName
from neti.stage import preview
from neti.stage.in_the_clear import InTheClear
from neti.stage.preview import (
    Formerly,
    Refused,
    Row,
    View,
    Whose,
    let_in_since,
    open_entry,
    opened_by,
    rows,
    way_in_by,
    without_noise,
)
from neti.stage.record import Record
from neti.stage.shadow import Listener, Port, port_name
from neti.state.loaded import StateError
from neti.text import printable

_HOSTS: Final = Path("/etc/hosts")
Finished = Callable[[], Preview]


def answer(
    request: Request,
    shadow: ShadowLog,
    fleet: Membership,
    stage: str,
    former: FormerAddresses,
    clear: InTheClear | None = None,
    kept: Callable[[ShadowLog], KeptOut | None] = lambda _: None,
    notes: tuple[str, ...] = (),
) -> None:
    """The control command: argument ``all`` lists the noise too."""
    everything = bool(request.arguments.get("all"))
    finish = _running(shadow, fleet, stage, former, everything=everything)
    kept_out = kept(shadow)

    def ended() -> None:
        try:
            shown = finish()
            shown = replace(shown, clear=clear, notes=(*shown.notes, *notes))
            request.succeed(plain(_with_members(shown, kept_out)))
        except Exception as error:  # whatever is in /proc, the caller must get an answer
            request.fail(log.unexpected("the preview", error))

    try:
        threads.begin(ended)
    except RuntimeError:
        request.fail("there is no memory or no thread left for this\n→ try again later")


def _running(
    shadow: ShadowLog,
    fleet: Membership,
    stage: str,
    former: FormerAddresses,
    *,
    everything: bool,
) -> Finished:
    shadow.sample()
    accepted, faults = may_be_lost(shadow.folder)
    view = running_view(shadow, fleet, accepted)
    view = replace(view, former=_former(former, shadow.record, view, fleet))
    missed = [f"the kernel's record cannot be read: {shadow.fault}"] if shadow.fault else []
    if incomplete := shadow.incomplete(view.now):
        missed.append(incomplete)
    head = Preview(
        agent=True,
        stage=stage,
        faults=(*missed, *shadow.faults, *faults),
        notes=tuple(note for note in (shadow.crowded(view.now), shadow.uncounted) if note),
        open_ports=tuple(map(open_entry, fleet.settings.open_ports)),
        since=0.0,
        now=0.0,
    )
    return finished(head, shadow.record, view, shadow.shown(0.0), everything=everything)


def running_view(shadow: ShadowLog, fleet: Membership, accepted: Mapping[Port, float]) -> View:
    """What the running agent's record is joined with."""

    elements = fleet.elements

    def refused(address: IPAddress) -> Refused | None:
        return refused_of(fleet, address)

    def admitted(address: IPAddress) -> bool:
        peers: SetName = "peers4" if address.version == 4 else "peers6"
        return elements.wants(peers, str(address)) and refused(address) is None

    members = fleet.fleet.members.values()
    return View(
        listening=tuple(listeners()),
        members=whose(
            members,
            fleet.host.id,
            sources_of(shadow.record),
            admitted,
            seen_here(fleet.settings, fleet.host.site),
            refused,
        ),
        site=site_networks(fleet.settings, fleet.host.site),
        accepted=accepted,
        opened=opened_by(fleet.settings),
        way_in=way_in_by(fleet.settings),
        trusted=fleet.settings.trusted,
        now=shadow.now(),
    )


def _with_members(shown: Preview, kept: KeptOut | None) -> Preview:
    """A port of which members are kept out is not one to which everybody gets."""
    refused = {
        port_name((row.protocol, row.port))
        for row in (kept.ports if kept is not None else ())
        if not row.waits
    }
    let_in = tuple(name for name in shown.let_in if name not in refused)
    return replace(shown, let_in=let_in, kept_out=kept)


def refused_of(fleet: Membership, address: IPAddress) -> Refused | None:
    """What required encryption makes of what comes from there."""
    clear: SetName = "clear4" if address.version == 4 else "clear6"
    elements = fleet.elements
    if not elements.enforcement.requires:
        return None
    if elements.wants(clear, str(address)):
        return "clear"
    outside = address.version == 4 and elements.wants("outside4", str(address))
    return "outside" if outside else None


def _former(
    former: FormerAddresses, record: Record, view: View, fleet: Membership
) -> dict[bytes, Formerly]:
    """Of the recorded sources that are no member's now."""
    seen = seen_here(fleet.settings, fleet.host.site)
    found = {}
    for source in sources_of(record) - view.members.keys():
        had = former.of(source, seen)
        if had is not None:
            found[source] = Formerly(had.member.id, had.until)
    return found


def finished(
    head: Preview, record: Record, view: View, ahead: float, *, everything: bool
) -> Finished:
    """The document but for names and processes, which the returned function looks up. ``ahead``:
    what makes Unix time of the record's, for people."""
    found = rows(record, view)
    shown, noise = without_noise(record, found)
    listed: list[Row] = found if everything else shown
    since, now = record.since, view.now
    accepted = {port_name(port): when for port, when in sorted(view.accepted.items())}
    let_in = tuple(port_name(port) for port in let_in_since(record, view))

    def finish() -> Preview:
        sockets = [one for row in listed for one in row.listeners]
        owners = {one.inode: one for one in with_owners(sockets)}
        names = hosts_file_names()
        return replace(
            head,
            since=since + ahead,
            now=now + ahead,
            ports=tuple(told(row, owners, names, ahead) for row in listed),
            noise=noise,
            noise_listed=everything,
            accepted=accepted,
            let_in=let_in,
        )

    return finish


def told(
    row: Row,
    owners: Mapping[int, Listener],
    names: Mapping[IPAddress, str],
    ahead: float,
) -> Wanted:
    """``owners``: the same listeners by inode, with their processes."""
    protocol, number = row.port
    return Wanted(
        protocol=protocol,
        port=number,
        rank=row.rank,
        listeners=tuple(socket(owners.get(one.inode, one)) for one in row.listeners),
        forwarded=row.forwarded,
        redirected=row.redirected,
        packets=row.packets,
        sources=row.sources,
        first=row.first + ahead,
        last=row.last + ahead,
        top=tuple(_source(source, names, ahead) for source in row.top),
        accepted=row.accepted,
        open_ports=row.line,
    )


def _source(source: preview.Source, names: Mapping[IPAddress, str], ahead: float) -> Source:
    member, formerly = source.member, source.formerly
    return Source(
        address=str(source.address),
        name=names.get(source.address),
        member=member.id if member is not None else None,
        admitted=member.admitted if member is not None else False,
        refused=member.refused if member is not None else None,
        former_member=formerly.id if formerly is not None else None,
        former_until=formerly.until + ahead if formerly is not None else None,
        near=source.near,
        packets=source.packets,
        first=source.first + ahead,
        last=source.last + ahead,
    )


def socket(listener: Listener) -> Socket:
    return Socket(
        address=str(listener.address),
        port=listener.port,
        inode=listener.inode,
        pid=listener.pid,
        process=listener.process,
        unit=listener.unit,
    )


def may_be_lost(folder: Path) -> tuple[Mapping[Port, float], list[str]]:
    """Ports that an operator accepted losing, with when; and what cannot be read of that."""
    try:
        return shadow_log.accepted(folder), []
    except StateError as error:
        return {}, [str(error)]


def site_networks(settings: Settings, name: str) -> tuple[IPv4Network, ...]:
    """None of a site that the configuration does not name."""
    site = settings.sites.get(name)
    return site.private if site is not None else ()


def sources_of(record: Record) -> set[bytes]:
    """The addresses in it, packed."""
    return {source for use in record.ports.values() for source in use.sources}


def whose(
    members: Iterable[Member],
    own: str,
    wanted: Container[bytes],
    admitted: Callable[[IPAddress], bool | None],
    seen_here: Callable[[Member], bool],
    refused: Callable[[IPAddress], Refused | None] = lambda _: None,
) -> dict[bytes, Whose]:
    """Whose each of the wanted addresses is. Private ranges may overlap: the private address of a
    member of another site is not its own here (``seen_here``), and a claim that is let in goes
    before one that is not."""
    found: dict[bytes, Whose] = {}
    for member in members:
        private = member.private if seen_here(member) else None
        claimed = (private, member.public, member.overlay, *member.more)
        for address in claimed:
            if address is not None and address.packed in wanted and member.id != own:
                known = found.get(address.packed)
                if known is None or not known.admitted:
                    found[address.packed] = Whose(member.id, admitted(address), refused(address))
    return found


def seen_here(settings: Settings, own_site: str | None) -> Callable[[Member], bool]:
    """Whether a packet from a member's private address is that member's, as this host sees it:
    inside the site, from a site that is reached by private addresses, and where no machine of this
    site can have the address. Private ranges may be the same in two sites."""
    own = settings.sites.get(own_site) if own_site is not None else None
    here = own.private if own is not None else ()

    def seen(member: Member) -> bool:
        near = own_site is None or member.site == own_site
        if near or by_link(own, settings.sites.get(member.site)):
            return True
        return bool(here) and not any(member.private in network for network in here)

    return seen


def hosts_file_names(path: Path = _HOSTS) -> dict[IPAddress, str]:
    """The first name of each address in hosts(5). Nothing is asked of the network."""
    names: dict[IPAddress, str] = {}
    try:
        lines = path.read_text(errors="replace").splitlines()
    except OSError:
        return names
    for line in lines:
        words = line.partition("#")[0].split()
        try:
            address = ip_address(words[0])
        except (IndexError, ValueError):
            continue
        if len(words) > 1:
            names.setdefault(address, printable(words[1]))
    return names

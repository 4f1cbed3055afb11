"""``neti explain``: whether a member or an address gets in here, by what this host knows; and the
same of many members at once, for ``neti verify --ports``.

Reads, changes nothing.
"""

from collections.abc import Iterator, Mapping

from neti.agent.core import Core
from neti.agent.kept_out import peers_at
from neti.agent.named import HERE, Named, address_of, addresses_of, is_own
from neti.agent.preview import refused_of
from neti.control.server import Request
from neti.errors import NetiError
from neti.fleet.attendance import moment
from neti.model import IPAddress, Member
from neti.model.document import plain
from neti.monitoring.explained import Answer, Pair
from neti.ruleset.member_ports import Proto
from neti.ruleset.set_names import SetName
from neti.stage.explain import Explained, Known, explain
from neti.stage.kept_out import Peer
from neti.stage.shadow import parse_port


def answer(core: Core, request: Request) -> None:
    said = request.arguments
    source, dest = str(said.get("source", "")), str(said.get("dest", ""))
    proto: Proto = "udp" if said.get("udp") else "tcp"
    asked = Asked(core, proto, int(said.get("port", 0)))
    request.succeed(plain(asked.pair(source, dest)))


def answer_many(core: Core, request: Request) -> None:
    """Of each of these members that this host knows, and each port, in this order. One that has no
    address by which it could come here has no answers."""
    said = request.arguments
    members = core.members.fleet.members
    ids = [one for one in said.get("ids", ()) if one in members]
    ports = [parse_port(one) for one in said.get("ports", ())]
    sources = {one.packed for host_id in ids for one in addresses_of(core, members[host_id])}
    peers = peers_at(core, sources)
    pairs = [
        Asked(core, "udp" if proto == "udp" else "tcp", number, peers).known(
            host_id, HERE, members[host_id]
        )
        for host_id in ids
        for proto, number in ports
    ]
    request.succeed({"pairs": plain(pairs)})


class Asked:
    """One question. ``peers``: who is at all addresses that it is about; None: it looks itself."""

    def __init__(
        self,
        core: Core,
        proto: Proto,
        port: int,
        peers: Mapping[bytes, tuple[Peer, ...]] | None = None,
    ) -> None:
        self._core = core
        self._proto = proto
        self._port = port
        self._peers = peers

    def pair(self, source: str, dest: str) -> Pair:
        """Raises NetiError."""
        known = self.known(source, dest)
        if known.here and not known.answers:
            raise NetiError(
                f"member {source} has no address by which it could come to this host\n"
                "→ 'neti verify' says by which road members are reached"
            )
        return known

    def known(self, source: str, dest: str, member: Member | None = None) -> Pair:
        """``member``: whose id ``source`` is, whatever it looks like; None: as people write it."""
        here = is_own(self._core, dest)
        return Pair(
            source=source,
            dest=dest,
            protocol=self._proto,
            port=self._port,
            here=here,
            stage=self._core.stage.word,
            answers=tuple(self._answers(source, member)) if here else (),
            notes=() if here else tuple(self._elsewhere(source, dest)),
        )

    def _answers(self, source: str, member: Member | None) -> Iterator[Answer]:
        core = self._core
        if is_own(core, source) if member is None else member.id == core.host.id:
            yield self._answer(None)
            return
        named = Named(core).addresses(source) if member is None else addresses_of(core, member)
        for address in named:
            yield self._answer(address)

    def _answer(self, address: IPAddress | None) -> Answer:
        found, shown = self.judged(address), None if address is None else str(address)
        return Answer(address=shown, admitted=found.admitted, by=found.by, ahead=found.ahead)

    def judged(self, address: IPAddress | None) -> Explained:
        """``address``: None for this host itself."""
        core = self._core
        peers = self._peers
        if peers is None:
            peers = peers_at(core, {address.packed}) if address is not None else {}
        at = peers.get(address.packed, ()) if address is not None else ()
        return explain(
            Known(
                settings=core.settings,
                source=address,
                proto=self._proto,
                port=self._port,
                ids=tuple(peer.id for peer in at),
                groups=frozenset[str]().union(*(peer.groups for peer in at)),
                clear=refused_of(core.members, address) if address is not None else None,
                in_force=core.ports_in_force,
                groups_known=core.members.groups.known,
                narrows=core.stage.narrows,
                tunnel=core.members.overlay is not None,
                answers=address is not None and self._is_an_answer(address),
                openings=tuple(
                    (one, moment(core.steady.shown(one.until)))
                    for one in core.openings.decided.to(address)
                ),
                stage=core.stage.word,
            )
        )

    def _is_an_answer(self, address: IPAddress) -> bool:
        """As chain ``removed`` takes it (``neti.ruleset.policy_judge``)."""
        elements = self._core.members.elements
        revoked: SetName = "revoked4" if address.version == 4 else "revoked6"
        if self._proto != "udp" or str(address) not in elements.revoked[revoked]:
            return False
        low, high = self._core.out.machine.local_ports()
        heard = elements.wants("udp_listening", str(self._port))
        return low <= self._port <= high and not heard

    def _elsewhere(self, source: str, dest: str) -> Iterator[str]:
        core = self._core
        asked = f"{self._port} --udp" if self._proto == "udp" else str(self._port)
        asker = core.host.id if is_own(core, source) else source
        yield (
            f"whom {dest} lets in is in its own neti.yml, which no other host knows: run 'neti "
            f"explain {asker} here {asked}' there"
        )
        for name in (asker, dest):
            member = _member(core, name)
            if member is None and not is_own(core, name):
                yield f"{name} is no member that this host knows"
                continue
            if not core.members.groups.known:
                yield f"it is not known which groups {name} is in"
                continue
            known = member if member is not None else core.members.fleet.members.get(core.host.id)
            groups = core.grouping.every().of(known) if known is not None else ()
            yield f"{name} is in {', '.join(groups) or 'no group'}"
        if is_own(core, source) and (member := _member(core, dest)) is not None:
            road = core.members.road_of(member).value
            yield f"this host reaches {dest} by the road: {road} ('neti verify {member.id}')"


def _member(core: Core, name: str) -> Member | None:
    members, address = core.members.fleet.members, address_of(name)
    if address is None:
        return members.get(name)
    found = peers_at(core, {address.packed}).get(address.packed, ())
    return members.get(found[0].id) if found else None

"""The key ``member_ports``: its values, its lines, and what is in vain in it. Pure."""

from collections.abc import Iterator, Mapping, Sequence

from neti.config.problems import Unfit
from neti.config.values import ports
from neti.model.groups import GROUP_NAME, MemberPort, MemberPorts, spelled
from neti.model.settings import Settings


def port(value: object) -> str:
    """A key of ``member_ports``, as it is written."""
    if value == "all":
        return "all"
    try:
        ports(value)
    except Unfit as error:
        meant = f": {error.write}" if error.write is not None else ""
        expected = error.expected.replace(", or {port, proto, from}", ", or all")
        raise Unfit(value, expected + meant) from None
    return str(value)


def group(value: object) -> str:
    expected = "a group's name: 1 to 32 of a-z, 0-9 and '-', starting with a letter"
    if isinstance(value, str):
        if GROUP_NAME.fullmatch(value):
            return value
        meant = value.strip().lower().replace("_", "-")
        raise Unfit(value, expected, write=meant if GROUP_NAME.fullmatch(meant) else None)
    raise Unfit(value, expected)


def groups(value: object) -> object:
    # An empty list would shut the port to all groups. A template that renders none did not mean it.
    if value is None or value == []:
        raise Unfit(value, "at least one group, such as [app] (members: every member)")
    return value


def lines(listed: Mapping[str, Sequence[str]]) -> MemberPorts:
    return tuple(_line(key, tuple(dict.fromkeys(of))) for key, of in listed.items()) or None


def _line(key: str, groups: tuple[str, ...]) -> MemberPort:
    if key == "all":
        return MemberPort(groups)
    first, last, proto = ports(key)
    return MemberPort(groups, proto, first, last)


def warnings(settings: Settings) -> Iterator[str]:
    """Lines that mean nothing, because more is let in anyway."""
    everybody = any(network.prefixlen == 0 for network in settings.ssh_whitelist)
    anyway = [("tcp", settings.verify_port, "verify_port, which every member reaches")]
    if everybody:
        anyway.append(("tcp", settings.ssh_port, "ssh_port, which ssh_whitelist opens to everyone"))
    if settings.encrypts:
        anyway.append(("udp", settings.tunnel_port, "tunnel_port, which Neti opens itself"))
    for line in settings.member_ports or ():
        written = spelled(line)
        for proto, port, what in anyway:
            if line.proto == proto and line.first == line.last == port:
                yield f"member_ports has {written} in vain: it is {what}"
        for opened in settings.open_ports:
            same = opened.proto == line.proto and not opened.sources
            if same and opened.first <= line.first and line.last <= opened.last:
                yield (
                    f"member_ports has {written} in vain: open_ports opens it to everyone, members "
                    "and strangers"
                )

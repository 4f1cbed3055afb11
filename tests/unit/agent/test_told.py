"""What waits for the loop, as it is handed to it."""

from ipaddress import IPv4Address

from neti.agent.told import Answers, Reload, Told, gathered
from neti.registry import DataRead, LeaseRead


def test_answers_are_gathered_in_order_and_nothing_overtakes_them() -> None:
    first, second = LeaseRead(IPv4Address("192.168.0.1"), "h1"), DataRead("n1", b"")
    waiting: list[Told] = [Reload(), first, second, Reload(), first, second, first]
    assert list(gathered(waiting, most=2)) == [
        Reload(),
        Answers((first, second)),
        Reload(),
        Answers((first, second)),
        Answers((first,)),
    ]

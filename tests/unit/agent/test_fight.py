"""Two programs at odds over one table."""

from neti.agent.fight import LONGEST_PAUSE, Fight


def test_two_repairs_are_no_fight_and_three_within_a_minute_are() -> None:
    fight = Fight()
    for now in (0.0, 10.0):
        fight.repaired(now, "nft (pid 7)")
        assert fight.sentence(now) is None
        assert fight.pause(now) == 0
    fight.repaired(20.0, "nft (pid 7)")
    assert "nft (pid 7)" in (fight.sentence(20.0) or "")
    assert 0 < fight.pause(20.0) < 2


def test_the_pause_grows_up_to_a_limit_and_ends_with_peace() -> None:
    fight, now, pauses = Fight(), 0.0, []
    for _ in range(20):
        fight.repaired(now, "")
        pauses.append(fight.pause(now))
        now += 1
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE
    assert fight.repairs == 20
    assert fight.sentence(now + 200) is not None
    assert fight.sentence(now + 400) is None
    assert fight.pause(now + 400) == 0


def test_repairs_that_are_far_apart_are_no_fight() -> None:
    fight = Fight()
    for now in range(0, 1000, 40):
        fight.repaired(now, "nft")
        assert fight.sentence(now) is None


def test_who_had_no_part_in_a_fight_is_not_named() -> None:
    """One that did something before is no party to repairs of which nobody knows whose they are."""
    fight = Fight()
    fight.repaired(0.0, "nft (pid 7)")
    for now in (1000.0, 1001.0, 1002.0):
        fight.repaired(now, "")
    assert (fight.sentence(1002.0) or "").startswith("a program that could not be identified keeps")
    fight.repaired(1003.0, "ip (pid 8)")
    fight.repaired(1004.0, "")
    assert (fight.sentence(1004.0) or "").startswith("ip (pid 8) keeps")


def test_a_command_of_netis_is_no_party_and_a_second_agent_is() -> None:
    fight = Fight()
    assert not any(fight.party("neti", pid) for pid in (1043, 1051, 1077))
    assert fight.party("neti", 1043)  # the same process again: it does not end
    assert fight.party("nft", 7)
    assert fight.party("nft", 8)


def test_a_fight_says_what_it_means_for_this_host() -> None:
    """What opens the host is repaired at once, however often: it is open in between."""
    fight = Fight()
    for second in range(5):
        fight.repaired(second, "nft (pid 7)")
    sentence = fight.sentence(5) or ""
    assert "repaired 5 times" in sentence
    assert "may be open or cut off" in sentence

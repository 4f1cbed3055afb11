"""The key ``identity``: clouds by a word, and machines that say themselves who they are."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from neti.config import load
from neti.errors import ConfigError
from neti.model.settings import LocalIdentity, Settings, StaticIdentity

SITES = "sites: {dc: {private: [10.8.0.0/16], public: [198.51.100.0/24]}}\n"
REST = "registry: embedded:/var/lib/neti/registry.db\nssh_whitelist: [192.0.2.0/24]\n"


def loaded(tmp_path: Path, text: str, sites: str = SITES) -> Settings:
    path = tmp_path / "neti.yml"
    path.write_text(sites + REST + text)
    return load(path)


@pytest.mark.parametrize("word", ["auto", "ec2", "gcp", "azure"])
def test_a_word_for_a_cloud(tmp_path: Path, word: str) -> None:
    assert loaded(tmp_path, f"identity: {word}\n").identity == word


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "{id: hostname, private: eth0}",
            LocalIdentity(id="hostname", id_is_given=False, private="eth0"),
        ),
        (
            "{id: machine-id, private: 10.8.0.0/16, public: same}",
            LocalIdentity(
                id="machine-id",
                id_is_given=False,
                private=IPv4Network("10.8.0.0/16"),
                public="same",
            ),
        ),
        (
            "{id: file:/etc/host-id, private: 10.8.0.5, public: none}",
            LocalIdentity(
                id=Path("/etc/host-id"), id_is_given=False, private=IPv4Address("10.8.0.5")
            ),
        ),
        (
            "{id: db-1, private: bond0.7, public: 198.51.100.5}",
            LocalIdentity(
                id="db-1",
                id_is_given=True,
                private="bond0.7",
                public=IPv4Address("198.51.100.5"),
            ),
        ),
        (
            "{id: db-1, private: 10.8.0.5, public: none}",
            StaticIdentity(id="db-1", private=IPv4Address("10.8.0.5")),
        ),
    ],
)
def test_what_the_machine_says(tmp_path: Path, text: str, expected: object) -> None:
    """A file that leaves nothing to the machine means what it meant."""
    assert loaded(tmp_path, f"identity: {text}\n").identity == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{id: file:host-id, private: eth0}", "file: and an absolute path"),
        ("{id: hostname, private: 10.8.0.300}", "one IPv4 address"),
        ("{id: hostname, private: 10.8.0.5/16}", "without host bits set"),
        ("{id: hostname, private: 'fe80::1'}", "an interface such as eth0"),
        ("{id: hostname, private: 'eth*'}", "an interface such as eth0"),
        ("{id: hostname, private: an-interface-too-long}", "an interface such as eth0"),
        ("{id: hostname, private: eth0, public: eth0}", "or same, or none"),
        ("{id: 'host name', private: eth0}", "or hostname, machine-id, or file:/PATH"),
        ("google", "auto, ec2, gcp, azure"),
    ],
)
def test_a_mistake_names_what_was_expected(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, f"identity: {text}\n")
    assert "identity" in str(caught.value)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("identity", "room"),
    [
        ("auto", 9),
        ("ec2", 9),
        ("gcp", 8),
        ("azure", 3),
        ("{id: machine-id, private: eth0}", 12),
    ],
)
def test_room_for_the_site_beside_the_id(tmp_path: Path, identity: str, room: int) -> None:
    """An entry holds 28 bytes of both: it is said before a host cannot be registered."""

    def warnings(length: int) -> list[str]:
        site = "s" * length
        text = (
            f"sites: {{{site}: {{private: [10.8.0.0/16], public: [198.51.100.0/24]}}, x: {{}}}}\n"
        )
        found = loaded(tmp_path, f"identity: {identity}\n", text).warnings
        return [one for one in found if site in one and "too " in one]

    assert not warnings(room)
    assert len(warnings(room + 1)) == 1
    if not identity.startswith("{"):
        assert f"to {room} characters" in warnings(room + 1)[0]


def test_networks_are_written_as_people_write_them(tmp_path: Path) -> None:
    """Neither cloud tells names apart by upper and lower case."""
    text = "sites: {a: {networks: [Prod, projects/12/networks/prod-2, 8D10da13-8125/My-RG]}}\n"
    found = loaded(tmp_path, "identity: gcp\n", text).sites["a"].networks
    assert found == ("prod", "projects/12/networks/prod-2", "8d10da13-8125/my-rg")


def test_a_network_is_in_one_site(tmp_path: Path) -> None:
    text = "sites: {a: {networks: [prod]}, b: {networks: [PROD]}}\n"
    with pytest.raises(ConfigError, match=r"sites\.b\.networks\[0\]: prod.*it in one site only"):
        loaded(tmp_path, "identity: gcp\n", text)


@pytest.mark.parametrize(
    ("identity", "long"),
    [
        ("auto", "google-east"),
        ("gcp", "google-east"),
        ("azure", "google-east"),
        ("ec2", "amazon-east"),
    ],
)
def test_only_sites_of_its_own_cloud_have_to_leave_room(
    tmp_path: Path, identity: str, long: str
) -> None:
    """A site of the other cloud is none in which this host may find itself."""
    text = (
        "sites: {amazon-east: {vpc_ids: [vpc-1]}, google-east: {networks: [prod]}, "
        "gcp: {networks: [dev]}}\n"
    )
    found = loaded(tmp_path, f"identity: {identity}\n", text).warnings
    named = {
        site
        for site in ("amazon-east", "google-east")
        for one in found
        if f"{site!r} is too" in one
    }
    assert named == ({"amazon-east", "google-east"} if identity == "auto" else {long})

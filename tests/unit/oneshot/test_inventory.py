"""Inventories as clouds, Terraform, Ansible and people write them, and how they fail."""

import json
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.errors import NetiError
from neti.model.machine import Machine
from neti.oneshot.inventory import machines, read

GOOGLE = [
    {
        "id": "4513456781234567890",
        "name": "web-1",
        "status": "RUNNING",
        "zone": "https://compute.example/projects/p/zones/us-central1-a",
        "labels": {"tier": "web"},
        "networkInterfaces": [
            {
                "networkIP": "10.128.0.2",
                "network": "https://compute.example/projects/p/global/networks/prod",
                "accessConfigs": [{"natIP": "198.51.100.2"}],
            },
            {"networkIP": "10.9.0.2", "network": ".../networks/other"},
        ],
    },
    {"id": "1", "name": "off-1", "status": "TERMINATED", "networkInterfaces": []},
]
AZURE = [
    {
        "vmId": "5c08b38e-4d57-4c23-ac45-aca61037f084",
        "name": "web-2",
        "powerState": "VM running",
        "privateIps": "10.4.0.4,10.4.0.5",
        "publicIps": "198.51.100.4",
        "resourceGroup": "Prod-RG",
        "location": "westeurope",
        "id": "/subscriptions/8D10/resourceGroups/Prod-RG/providers/x",
        "tags": {"tier": "web"},
    },
    {"name": "off-2", "powerState": "VM deallocated", "privateIps": "10.4.0.9"},
]
TERRAFORM = {
    "version": 4,
    "resources": [
        {
            "mode": "managed",
            "type": "aws_instance",
            "name": "db",
            "instances": [
                {
                    "attributes": {
                        "id": "i-0a1b2c3d",
                        "private_ip": "10.0.0.5",
                        "public_ip": "",
                        "availability_zone": "us-east-1a",
                        "instance_state": "running",
                        "tags": {"Name": "db-1", "tier": "db"},
                    }
                },
                {"attributes": {"id": "i-0b", "instance_state": "stopped"}},
            ],
        },
        {
            "mode": "managed",
            "type": "google_compute_instance",
            "name": "web",
            "instances": [
                {
                    "attributes": {
                        "instance_id": "4513456781234567890",
                        "name": "web-1",
                        "network_interface": [
                            {
                                "network_ip": "10.128.0.2",
                                "network": "projects/p/global/networks/prod",
                                "access_config": [{"nat_ip": "198.51.100.2"}],
                            }
                        ],
                        "labels": None,
                    }
                }
            ],
        },
        {
            "mode": "managed",
            "type": "azurerm_linux_virtual_machine",
            "name": "web",
            "instances": [
                {
                    "attributes": {
                        "virtual_machine_id": "5c08b38e-4d57-4c23-ac45-aca61037f084",
                        "name": "web-2",
                        "private_ip_addresses": ["10.4.0.4"],
                        "public_ip_addresses": [],
                        "resource_group_name": "Prod-RG",
                    }
                }
            ],
        },
        {"mode": "data", "type": "aws_instance", "name": "looked_up", "instances": [{}]},
        {"mode": "managed", "type": "aws_s3_bucket", "name": "b", "instances": [{}]},
    ],
}
ANSIBLE = {
    "_meta": {
        "hostvars": {
            "db-1.example.com": {"ansible_host": "10.8.0.5", "neti_id": "rack1-db-1"},
            "web-3": {"ansible_host": "bastion.example.com", "private_ip": "10.8.0.6"},
        }
    },
    "all": {"children": ["ungrouped", "db", "old"]},
    "db": {"hosts": ["db-1.example.com"]},
    "old": {"hosts": ["db-1.example.com", "10.8.0.7"]},
    "ungrouped": {"hosts": ["web-3"]},
}
SHEET = """\
name,private,public,site,tag:tier
web-4,10.8.0.8,198.51.100.8,dc,web
db-2,10.8.0.9 10.9.0.9,,,
"""


def of(document: Any) -> list[Machine]:
    return machines(json.dumps(document).encode(), "file")


def ip(*texts: str) -> tuple[IPv4Address, ...]:
    return tuple(map(IPv4Address, texts))


def test_google() -> None:
    """What runs, with the first card's network and every card's addresses."""
    assert of(GOOGLE) == [
        Machine(
            ids=("4513456781234567890", "web-1"),
            name="web-1",
            region="us-central1-a",
            cloud="gcp",
            networks=("prod",),
            privates=ip("10.128.0.2", "10.9.0.2"),
            publics=ip("198.51.100.2"),
            tags={"tier": "web"},
        )
    ]


def test_azure() -> None:
    """By the id that its agent has; networks in lower case, as sites are matched."""
    assert of(AZURE) == [
        Machine(
            ids=("5g5fif7efz72vq47k51r039tw", "web-2"),
            name="web-2",
            account="8d10",
            region="westeurope",
            cloud="azure",
            networks=("8d10", "8d10/prod-rg", "prod-rg"),
            privates=ip("10.4.0.4", "10.4.0.5"),
            publics=ip("198.51.100.4"),
            tags={"tier": "web"},
        )
    ]


def test_terraform() -> None:
    """Machines of all three clouds; neither what it only looked up, nor what is no machine."""
    found = of(TERRAFORM)
    assert [(one.ids[0], one.name, one.cloud) for one in found] == [
        ("i-0a1b2c3d", "db-1", "ec2"),
        ("4513456781234567890", "web-1", "gcp"),
        ("5g5fif7efz72vq47k51r039tw", "web-2", "azure"),
    ]
    assert found[0].region == "us-east-1"
    assert found[0].tags == {"Name": "db-1", "tier": "db"}
    assert [one.privates for one in found] == [ip("10.0.0.5"), ip("10.128.0.2"), ip("10.4.0.4")]
    assert [one.publics for one in found] == [(), ip("198.51.100.2"), ()]


def _resource(kind: str, **attributes: Any) -> dict[str, Any]:
    return {"mode": "managed", "type": kind, "name": "x", "instances": [{"attributes": attributes}]}


def test_an_azure_machine_in_a_state_has_the_names_of_its_network_that_its_agent_has() -> None:
    """The subscription is in its id only. A former kind has its addresses with its interfaces, and
    no UUID."""
    resource = "/subscriptions/8D10/resourceGroups/Prod-RG/providers/x"
    more = {"id": resource, "name": "web-2", "resource_group_name": "Prod-RG"}
    card = _resource("azurerm_network_interface", id="/a/Card-1", private_ip_addresses=["10.4.0.4"])
    state = [
        _resource("azurerm_windows_virtual_machine", **more),
        _resource("azurerm_virtual_machine", network_interface_ids=["/a/card-1", "/a/b"], **more),
        card,
    ]
    now, former = of({"version": 4, "resources": state})
    for one in (now, former):
        assert one.account == "8d10"
        assert one.networks == ("8d10", "8d10/prod-rg", "prod-rg")
    assert former.privates == ip("10.4.0.4")
    assert not former.complete


def test_kinds_of_machines_that_are_not_read_are_named() -> None:
    """Who reads 100 % must know of what. A kind of which there is none is not named."""
    none = {**_resource("aws_ec2_fleet"), "instances": []}
    looked_up = {**_resource("aws_eks_node_group"), "mode": "data"}
    group = _resource("aws_autoscaling_group", desired_capacity=3)
    state = [group, none, looked_up, *TERRAFORM["resources"][:3]]  # type: ignore[index]  # a list
    said: list[str] = []
    raw = json.dumps({"version": 4, "resources": state}).encode()
    assert len(machines(raw, "file", said.append)) == 3
    (only,) = said
    assert only.endswith("so the totals are without them: aws_autoscaling_group")


def test_ansible() -> None:
    """Hosts with variables, hosts in groups only, and hosts in no group."""
    assert of(ANSIBLE) == [
        Machine(
            ids=("rack1-db-1", "db-1.example.com", "db-1"),
            name="db-1.example.com",
            privates=ip("10.8.0.5"),
            tags={"group": "db,old"},
            complete=False,
        ),
        Machine(ids=("web-3",), name="web-3", privates=ip("10.8.0.6"), complete=False),
        Machine(
            ids=("10.8.0.7",),
            name="10.8.0.7",
            privates=ip("10.8.0.7"),
            tags={"group": "old"},
            complete=False,
        ),
    ]


def test_a_sheet() -> None:
    """Several addresses with spaces between them; columns of one's own are tags."""
    assert machines(SHEET.encode(), "file") == [
        Machine(
            ids=("web-4",),
            name="web-4",
            privates=ip("10.8.0.8"),
            publics=ip("198.51.100.8"),
            tags={"site": "dc", "tier": "web"},
            complete=False,
        ),
        Machine(ids=("db-2",), name="db-2", privates=ip("10.8.0.9", "10.9.0.9"), complete=False),
    ]


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "is no inventory"),
        (b"[web]\nweb-1 ansible_host=10.0.0.1\n", "begins like JSON, but is none"),
        (b"all:\n  hosts:\n    web-1:\n", "is no inventory"),
        (b'[{"networkInterfaces": [', "begins like JSON, but is none: was it cut off?"),
        (b'{"Reservations": []}', "is JSON, but no inventory"),
        (b'[{"name": "web-1"}]', "is JSON, but no inventory"),
        (b"\xff\xfe", "is not text in UTF-8 (byte 0)"),
        (b"name,private\nweb-1\n", "line 2: has not as many fields"),
        (b"name,private\nweb-1,10.0.0.1,more\n", "line 2: has not as many fields"),
        (b"name,private\n,10.0.0.1\n", "line 2: has neither id nor name"),
        (b"name,private,Private\nweb-1,10.0.0.1,\n", "has the column private twice"),
        (b"name,private,tier,tag:tier\nweb-1,10.0.0.1,a,b\n", "has the column tier twice"),
        (b"name,private\nweb-1,10.0.0.300\n", "line 2: '10.0.0.300' is no address"),
        (b'[{"networkInterfaces": 7}]', "instance 1: networkInterfaces is no list"),
        (b'[{"powerState": "VM running", "vmId": "x"}]', "machine 1: vmId is 'x'"),
    ],
)
def test_a_file_of_another_kind_gets_one_sentence(raw: bytes, says: str) -> None:
    with pytest.raises(NetiError) as caught:
        machines(raw, "machines.json")
    first = str(caught.value).partition("\n")[0]
    assert first.startswith("machines.json")
    assert says in first


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(NetiError, match="nothing: No such file"):
        read(tmp_path / "nothing")


KEYS = [
    "networkInterfaces",
    "id",
    "name",
    "powerState",
    "privateIps",
    "_meta",
    "hostvars",
    "version",
    "resources",
    "type",
    "instances",
    "attributes",
    "hosts",
    "labels",
    "vmId",
]
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@given(_JSON.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=80))
def test_whatever_the_file_is(raw: bytes) -> None:
    """Machines, each with an id, or an error that names the file."""
    try:
        found = machines(raw, "file")
    except NetiError as error:
        assert str(error).startswith("file")  # noqa: PT017 - either is right
    else:
        assert all(one.ids for one in found)

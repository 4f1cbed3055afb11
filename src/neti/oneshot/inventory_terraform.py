"""Machines of a Terraform state (version 4)."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from neti.model.machine import Machine
from neti.oneshot.inventory_place import Place, addresses, azure_id, ids_of


def of_terraform(document: Any) -> Iterator[Machine]:
    """Of its resources those that are machines. Its kinds name the same thing differently."""
    for resource in document["resources"]:
        where = Place("a resource", resource)
        made = _TERRAFORM.get(where.text("type"))
        if made is None or where.text("mode", "managed") != "managed":
            continue
        for one in where.mappings("instances"):
            name = f"{where.text('type')}.{where.text('name')}"
            machine = made(Place(name, one.held.get("attributes")))
            if machine is not None:
                yield machine


def _terraform_ec2(where: Place) -> Machine | None:
    if where.text("instance_state", "running") not in ("running", ""):
        return None
    tags = where.texts("tags")
    return Machine(
        ids=ids_of(where.text("id"), tags.get("Name", "")),
        name=tags.get("Name", ""),
        region=where.text("availability_zone")[:-1],
        cloud="ec2",
        privates=addresses(where, [where.text("private_ip")]),
        publics=addresses(where, [where.text("public_ip")]),
        tags=tags,
    )


def _terraform_google(where: Place) -> Machine | None:
    if where.text("current_status", "RUNNING") not in ("RUNNING", ""):
        return None
    cards = where.mappings("network_interface")
    access = [config for card in cards for config in card.mappings("access_config")]
    network = cards[0].text("network").rpartition("/")[2] if cards else ""
    return Machine(
        ids=ids_of(where.text("instance_id"), where.text("name")),
        name=where.text("name"),
        region=where.text("zone"),
        cloud="gcp",
        networks=(network,) if network else (),
        privates=addresses(where, (card.text("network_ip") for card in cards)),
        publics=addresses(where, (config.text("nat_ip") for config in access)),
        tags=where.texts("labels"),
    )


def _terraform_azure(where: Place) -> Machine | None:
    return Machine(
        ids=ids_of(azure_id(where, "virtual_machine_id"), where.text("name")),
        name=where.text("name"),
        region=where.text("location"),
        cloud="azure",
        networks=(where.text("resource_group_name").lower(),),
        privates=addresses(where, where.several("private_ip_addresses")),
        publics=addresses(where, where.several("public_ip_addresses")),
        tags=where.texts("tags"),
    )


_TERRAFORM: Final[Mapping[str, Callable[[Place], Machine | None]]] = {
    "aws_instance": _terraform_ec2,
    "google_compute_instance": _terraform_google,
    "azurerm_linux_virtual_machine": _terraform_azure,
    "azurerm_windows_virtual_machine": _terraform_azure,
}

"""Machines of a Terraform state (version 4)."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from ipaddress import IPv4Address
from typing import Any, Final

from neti.model.machine import Machine
from neti.oneshot.inventory_place import Place, addresses, azure_id, azure_networks, ids_of

_Made = Callable[[Place], Machine | None]


def of_terraform(document: Any) -> Iterator[Machine]:
    """Of its resources those that are machines. Its kinds name the same thing differently."""
    managed = _managed(document)
    former = partial(_former_azure, _cards(managed))
    kinds: dict[str, _Made] = {**_TERRAFORM, "azurerm_virtual_machine": former}
    for where in managed:
        made = kinds.get(where.text("type"))
        if made is not None:
            yield from (one for one in map(made, _instances(where)) if one is not None)


def left_out(document: Any) -> list[str]:
    """The kinds of resources in it that are machines or make some, and are not read."""
    found = {where.text("type") for where in _managed(document) if where.held.get("instances")}
    return sorted(found & _NOT_READ)


def _managed(document: Any) -> list[Place]:
    """Without what it only looked up."""
    every = [Place("a resource", resource) for resource in document["resources"]]
    return [where for where in every if where.text("mode", "managed") == "managed"]


def _instances(where: Place) -> Iterator[Place]:
    for one in where.mappings("instances"):
        yield Place(f"{where.text('type')}.{where.text('name')}", one.held.get("attributes"))


def _cards(managed: list[Place]) -> dict[str, tuple[IPv4Address, ...]]:
    """Azure's network interfaces: the private addresses, by the id."""
    cards = [where for where in managed if where.text("type") == "azurerm_network_interface"]
    return {
        one.text("id").lower(): addresses(one, one.several("private_ip_addresses"))
        for where in cards
        for one in _instances(where)
    }


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
        complete=False,  # it holds no VPC id, and an address that was attached later is missing
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
    subscription, networks = azure_networks(where.text("id"), where.text("resource_group_name"))
    return Machine(
        ids=ids_of(azure_id(where, "virtual_machine_id"), where.text("name")),
        name=where.text("name"),
        account=subscription,
        region=where.text("location"),
        cloud="azure",
        networks=networks,
        privates=addresses(where, where.several("private_ip_addresses")),
        publics=addresses(where, where.several("public_ip_addresses")),
        tags=where.texts("tags"),
    )


def _former_azure(cards: Mapping[str, tuple[IPv4Address, ...]], where: Place) -> Machine | None:
    """It holds no UUID; its addresses are with its network interfaces, if those are in the
    state."""
    subscription, networks = azure_networks(where.text("id"), where.text("resource_group_name"))
    own = [cards.get(card.lower(), ()) for card in where.several("network_interface_ids")]
    return Machine(
        ids=ids_of(where.text("name")),
        name=where.text("name"),
        account=subscription,
        region=where.text("location"),
        cloud="azure",
        networks=networks,
        privates=tuple(address for addresses_of in own for address in addresses_of),
        tags=where.texts("tags"),
        complete=False,
    )


_TERRAFORM: Final[Mapping[str, _Made]] = {
    "aws_instance": _terraform_ec2,
    "google_compute_instance": _terraform_google,
    "google_compute_instance_from_machine_image": _terraform_google,
    "google_compute_instance_from_template": _terraform_google,
    "azurerm_linux_virtual_machine": _terraform_azure,
    "azurerm_windows_virtual_machine": _terraform_azure,
}

# What the state holds of these is how many machines there shall be, or another cloud's words.
_NOT_READ: Final = frozenset(
    {
        "aws_autoscaling_group",
        "aws_ec2_fleet",
        "aws_eks_node_group",
        "aws_lightsail_instance",
        "aws_spot_fleet_request",
        "aws_spot_instance_request",
        "azurerm_kubernetes_cluster",
        "azurerm_kubernetes_cluster_node_pool",
        "azurerm_linux_virtual_machine_scale_set",
        "azurerm_orchestrated_virtual_machine_scale_set",
        "azurerm_virtual_machine_scale_set",
        "azurerm_windows_virtual_machine_scale_set",
        "digitalocean_droplet",
        "google_compute_instance_group_manager",
        "google_compute_instance_template",
        "google_compute_region_instance_group_manager",
        "google_compute_region_instance_template",
        "google_container_cluster",
        "google_container_node_pool",
        "hcloud_server",
        "libvirt_domain",
        "linode_instance",
        "oci_core_instance",
        "openstack_compute_instance_v2",
        "proxmox_vm_qemu",
        "scaleway_instance_server",
        "vsphere_virtual_machine",
    }
)

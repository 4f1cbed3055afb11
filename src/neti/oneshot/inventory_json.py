"""Machines as Google, Azure and Ansible list them in JSON."""

from collections.abc import Iterator
from typing import Any

from neti.model.addresses import is_address
from neti.model.machine import Machine
from neti.oneshot.inventory_place import Odd, Place, addresses, azure_id, azure_networks, ids_of
from neti.text import printable


def of_google(document: Any) -> Iterator[Machine]:
    for number, one in enumerate(document):
        where = Place(f"instance {number + 1}", one)
        if where.text("status", "RUNNING") != "RUNNING":
            continue
        name = where.text("name")
        cards = where.mappings("networkInterfaces")
        access = [config for card in cards for config in card.mappings("accessConfigs")]
        network = cards[0].text("network").rpartition("/")[2] if cards else ""
        yield Machine(
            ids=ids_of(str(where.held.get("id", "")), name),
            name=name,
            region=where.text("zone").rpartition("/")[2],
            cloud="gcp",
            networks=(network,) if network else (),
            privates=addresses(where, (card.text("networkIP") for card in cards)),
            publics=addresses(where, (config.text("natIP") for config in access)),
            tags=where.texts("labels"),
        )


def of_azure(document: Any) -> Iterator[Machine]:
    for number, one in enumerate(document):
        where = Place(f"machine {number + 1}", one)
        if where.text("powerState", "VM running") != "VM running":
            continue
        name, group = where.text("name"), where.text("resourceGroup")
        subscription, networks = azure_networks(where.text("id"), group)
        yield Machine(
            ids=ids_of(azure_id(where, "vmId"), name),
            name=name,
            account=subscription,
            region=where.text("location"),
            cloud="azure",
            networks=networks,
            privates=addresses(where, where.text("privateIps").split(",")),
            publics=addresses(where, where.text("publicIps").split(",")),
            tags=where.texts("tags"),
        )


def of_ansible(document: Any) -> Iterator[Machine]:
    """Groups count as tags ``group``, several with commas between them. A host without variables
    stands in its groups only."""
    held = Place("the inventory", document)
    variables = Place("_meta", document["_meta"]).held.get("hostvars", {})
    if not isinstance(variables, dict):
        raise Odd("_meta.hostvars is no mapping")
    groups: dict[str, list[str]] = {}
    for group, content in held.held.items():
        if group not in ("_meta", "all", "ungrouped") and isinstance(content, dict):
            for host in Place(f"group {group}", content).several("hosts"):
                groups.setdefault(host, []).append(group)
    ungrouped = Place("group ungrouped", document.get("ungrouped") or {}).several("hosts")
    for host in dict.fromkeys((*variables, *groups, *ungrouped)):
        one = Place(f"host {printable(host)}", variables.get(host, {}))
        address = one.text("ansible_host") or host
        private = one.text("private_ip") or (address if is_address(address) else "")
        short = "" if is_address(host) else host.partition(".")[0]
        yield Machine(
            ids=ids_of(one.text("neti_id"), host, short),
            name=host,
            privates=addresses(one, [private]),
            publics=addresses(one, [one.text("public_ip")]),
            complete=False,
            tags={"group": ",".join(groups[host])} if host in groups else {},
        )

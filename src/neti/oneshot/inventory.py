"""Machines from a file: what a cloud, Terraform, Ansible or a spreadsheet lists of them.

Each kind is told by its content, never by its name. Only machines that run are returned, as far as
the file says whether they do.

Must never do: guess what a file means, or return a part of it.
"""

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import IPv4Address, ip_address
from pathlib import Path
from typing import Any, Final

from neti import files
from neti.errors import NetiError
from neti.identity.azure import short_id
from neti.model.entry import HOST_ID
from neti.model.machine import Machine
from neti.text import printable
from neti.words import why

MAX_BYTES: Final = 512 * 1024 * 1024
KINDS: Final = (
    "'gcloud compute instances list --format=json', 'az vm list -d -o json', a Terraform state "
    "(version 4), 'ansible-inventory --list', or a CSV with the columns id or name, and private"
)
_TAG: Final = "tag:"

Read = Callable[[Any], Iterator[Machine]]


def read(path: Path) -> list[Machine]:
    """Raises NetiError, which names the file and what is wrong with it."""
    try:
        raw = files.read(path, MAX_BYTES)
    except OSError as error:
        raise NetiError(f"{path}: {why(error)}") from error
    return machines(raw, str(path))


def machines(raw: bytes, source: str) -> list[Machine]:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise NetiError(f"{source}: is not text in UTF-8 (byte {error.start})") from error
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        if text.lstrip()[:1] in ("{", "["):
            raise NetiError(
                f"{source}: begins like JSON, but is none: was it cut off?\n→ expected {KINDS}"
            ) from None
        return list(_of_csv(text, source))
    kind = _kind(document)
    if kind is None:
        raise NetiError(f"{source}: is JSON, but no inventory\n→ expected {KINDS}")
    try:
        return list(kind(document))
    except _Odd as error:
        raise NetiError(f"{source}: {error}") from error


class _Odd(Exception):
    """What in a document is not as its kind has it."""


def _kind(document: Any) -> Read | None:
    if isinstance(document, list):
        first = document[0] if document else {}
        if not isinstance(first, dict):
            return None
        if not document or "networkInterfaces" in first:
            return _of_google
        return _of_azure if "powerState" in first or "privateIps" in first else None
    if not isinstance(document, dict):
        return None
    if "_meta" in document:
        return _of_ansible
    if document.get("version") == 4 and isinstance(document.get("resources"), list):
        return _of_terraform
    return None


# --- Google ---


def _of_google(document: Any) -> Iterator[Machine]:
    for number, one in enumerate(document):
        where = _Place(f"instance {number + 1}", one)
        if where.text("status", "RUNNING") != "RUNNING":
            continue
        name = where.text("name")
        cards = where.mappings("networkInterfaces")
        access = [config for card in cards for config in card.mappings("accessConfigs")]
        network = cards[0].text("network").rpartition("/")[2] if cards else ""
        yield Machine(
            ids=_ids(str(where.held.get("id", "")), name),
            name=name,
            region=where.text("zone").rpartition("/")[2],
            cloud="gcp",
            networks=(network,) if network else (),
            privates=_addresses(where, (card.text("networkIP") for card in cards)),
            publics=_addresses(where, (config.text("natIP") for config in access)),
            tags=where.texts("labels"),
        )


# --- Azure ---


def _of_azure(document: Any) -> Iterator[Machine]:
    for number, one in enumerate(document):
        where = _Place(f"machine {number + 1}", one)
        if where.text("powerState", "VM running") != "VM running":
            continue
        name, group = where.text("name"), where.text("resourceGroup").lower()
        subscription = _after(where.text("id"), "subscriptions").lower()
        networks = (subscription, f"{subscription}/{group}", group) if subscription else (group,)
        yield Machine(
            ids=_ids(_azure_id(where, "vmId"), name),
            name=name,
            account=subscription,
            region=where.text("location"),
            cloud="azure",
            networks=tuple(network for network in networks if network),
            privates=_addresses(where, where.text("privateIps").split(",")),
            publics=_addresses(where, where.text("publicIps").split(",")),
            tags=where.texts("tags"),
        )


def _azure_id(where: "_Place", key: str) -> str:
    said = where.text(key)
    try:
        return short_id(said) if said else ""
    except ValueError:
        raise _Odd(f"{where.name}: {key} is {said[:60]!r}, which is no UUID") from None


def _after(path: str, word: str) -> str:
    """The part of an id behind this one: /subscriptions/THIS/resourceGroups/…"""
    parts = path.split("/")
    return parts[parts.index(word) + 1] if word in parts[:-1] else ""


# --- Terraform ---


def _of_terraform(document: Any) -> Iterator[Machine]:
    """Of its resources those that are machines. Its kinds name the same thing differently."""
    for resource in document["resources"]:
        where = _Place("a resource", resource)
        made = _TERRAFORM.get(where.text("type"))
        if made is None or where.text("mode", "managed") != "managed":
            continue
        for one in where.mappings("instances"):
            name = f"{where.text('type')}.{where.text('name')}"
            machine = made(_Place(name, one.held.get("attributes")))
            if machine is not None:
                yield machine


def _terraform_ec2(where: "_Place") -> Machine | None:
    if where.text("instance_state", "running") not in ("running", ""):
        return None
    tags = where.texts("tags")
    return Machine(
        ids=_ids(where.text("id"), tags.get("Name", "")),
        name=tags.get("Name", ""),
        region=where.text("availability_zone")[:-1],
        cloud="ec2",
        privates=_addresses(where, [where.text("private_ip")]),
        publics=_addresses(where, [where.text("public_ip")]),
        tags=tags,
    )


def _terraform_google(where: "_Place") -> Machine | None:
    if where.text("current_status", "RUNNING") not in ("RUNNING", ""):
        return None
    cards = where.mappings("network_interface")
    access = [config for card in cards for config in card.mappings("access_config")]
    network = cards[0].text("network").rpartition("/")[2] if cards else ""
    return Machine(
        ids=_ids(where.text("instance_id"), where.text("name")),
        name=where.text("name"),
        region=where.text("zone"),
        cloud="gcp",
        networks=(network,) if network else (),
        privates=_addresses(where, (card.text("network_ip") for card in cards)),
        publics=_addresses(where, (config.text("nat_ip") for config in access)),
        tags=where.texts("labels"),
    )


def _terraform_azure(where: "_Place") -> Machine | None:
    return Machine(
        ids=_ids(_azure_id(where, "virtual_machine_id"), where.text("name")),
        name=where.text("name"),
        region=where.text("location"),
        cloud="azure",
        networks=(where.text("resource_group_name").lower(),),
        privates=_addresses(where, where.several("private_ip_addresses")),
        publics=_addresses(where, where.several("public_ip_addresses")),
        tags=where.texts("tags"),
    )


_TERRAFORM: Final[Mapping[str, Callable[["_Place"], Machine | None]]] = {
    "aws_instance": _terraform_ec2,
    "google_compute_instance": _terraform_google,
    "azurerm_linux_virtual_machine": _terraform_azure,
    "azurerm_windows_virtual_machine": _terraform_azure,
}


# --- Ansible ---


def _of_ansible(document: Any) -> Iterator[Machine]:
    """Groups count as tags ``group``, several with commas between them. A host without variables
    stands in its groups only."""
    held = _Place("the inventory", document)
    variables = _Place("_meta", document["_meta"]).held.get("hostvars", {})
    if not isinstance(variables, dict):
        raise _Odd("_meta.hostvars is no mapping")
    groups: dict[str, list[str]] = {}
    for group, content in held.held.items():
        if group not in ("_meta", "all", "ungrouped") and isinstance(content, dict):
            for host in _Place(f"group {group}", content).several("hosts"):
                groups.setdefault(host, []).append(group)
    ungrouped = _Place("group ungrouped", document.get("ungrouped") or {}).several("hosts")
    for host in dict.fromkeys((*variables, *groups, *ungrouped)):
        one = _Place(f"host {printable(host)}", variables.get(host, {}))
        address = one.text("ansible_host") or host
        private = one.text("private_ip") or (address if _is_address(address) else "")
        short = "" if _is_address(host) else host.partition(".")[0]
        yield Machine(
            ids=_ids(one.text("neti_id"), host, short),
            name=host,
            privates=_addresses(one, [private]),
            publics=_addresses(one, [one.text("public_ip")]),
            tags={"group": ",".join(groups[host])} if host in groups else {},
        )


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


# --- CSV ---


def _of_csv(text: str, source: str) -> Iterator[Machine]:
    """Other columns than those it knows are tags, with or without ``tag:`` before their name."""
    table = csv.DictReader(io.StringIO(text, newline=""))
    try:
        columns = [(column or "").strip().lower() for column in table.fieldnames or ()]
    except csv.Error as error:
        raise NetiError(f"{source}: is no inventory ({error})\n→ expected {KINDS}") from error
    if not {"id", "name"} & set(columns) or "private" not in columns:
        raise NetiError(f"{source}: is no inventory\n→ expected {KINDS}")
    table.fieldnames = columns
    known = {"id", "name", "private", "public", "account", "region", "network", "vpc_id"}
    for line in _lines(table, source):
        if None in line or None in line.values():
            raise NetiError(
                f"{source}, line {table.line_num}: has not as many fields as the first line"
            )
        row = {column: value.strip() for column, value in line.items()}
        where = _Place(f"line {table.line_num}", row)
        if not row.get("id") and not row.get("name"):
            raise NetiError(f"{source}, line {table.line_num}: has neither id nor name")
        tags = {key.removeprefix(_TAG): row[key] for key in row if key not in known and row[key]}
        network = row.get("network", "").lower()
        try:
            yield Machine(
                ids=_ids(row.get("id", ""), row.get("name", "")),
                name=row.get("name", ""),
                account=row.get("account", ""),
                region=row.get("region", ""),
                vpc_id=row.get("vpc_id") or None,
                networks=(network,) if network else (),
                privates=_addresses(where, row["private"].split()),
                publics=_addresses(where, row.get("public", "").split()),
                tags=tags,
            )
        except _Odd as error:
            raise NetiError(f"{source}, {error}") from error


def _lines(table: "csv.DictReader[str]", source: str) -> Iterator[dict[str, str]]:
    try:
        yield from table
    except csv.Error as error:
        raise NetiError(f"{source}, line {table.line_num}: is no CSV ({error})") from error


# --- what they have in common ---


class _Place:
    """A mapping in a document. ``name``: which one it is, for people."""

    def __init__(self, name: str, held: Any) -> None:
        if not isinstance(held, dict):
            raise _Odd(f"{name} is no mapping")
        self.name = name
        self.held: Mapping[str, Any] = held

    def text(self, key: str, missing: str = "") -> str:
        found = self.held.get(key)
        if found is None:
            return missing
        if not isinstance(found, str):
            raise _Odd(f"{self.name}: {key} is {str(found)[:60]!r}, which is no text")
        return found

    def several(self, key: str) -> list[str]:
        found = self.held.get(key) or []
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise _Odd(f"{self.name}: {key} is no list of texts")
        return found

    def mappings(self, key: str) -> "list[_Place]":
        found = self.held.get(key) or []
        if not isinstance(found, list):
            raise _Odd(f"{self.name}: {key} is no list")
        return [_Place(f"{self.name}, {key}[{n}]", one) for n, one in enumerate(found)]

    def texts(self, key: str) -> dict[str, str]:
        found = self.held.get(key) or {}
        if not isinstance(found, dict):
            raise _Odd(f"{self.name}: {key} is no mapping")
        return {str(name): str(value) for name, value in found.items()}


def _ids(*wanted: str) -> tuple[str, ...]:
    """Those of them that an agent may be registered under; the first one, if none is."""
    fit = tuple(dict.fromkeys(one for one in wanted if HOST_ID.fullmatch(one)))
    return fit or (next((one for one in wanted if one), "?"),)


def _addresses(where: _Place, texts: Iterable[str]) -> tuple[IPv4Address, ...]:
    found: list[IPv4Address] = []
    for text in texts:
        bare = text.strip()
        if not bare:
            continue
        try:
            address = ip_address(bare)
        except ValueError:
            raise _Odd(f"{where.name}: {bare[:60]!r} is no address") from None
        if isinstance(address, IPv4Address):
            found.append(address)
    return tuple(dict.fromkeys(found))

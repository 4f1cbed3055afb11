"""Machines from a file: what a cloud, Terraform, Ansible or a spreadsheet lists of them.

Each kind is told by its content, never by its name. Only machines that run are returned, as far as
the file says whether they do.

Must never do: guess what a file means, or return a part of it.
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from neti import files
from neti.errors import NetiError
from neti.model.machine import Machine
from neti.oneshot.inventory_json import of_ansible, of_azure, of_google
from neti.oneshot.inventory_place import Odd, Place, addresses, ids_of
from neti.oneshot.inventory_terraform import left_out, of_terraform
from neti.text import printable
from neti.words import why

MAX_BYTES: Final = 512 * 1024 * 1024
KINDS: Final = (
    "'gcloud compute instances list --format=json', 'az vm list -d -o json', a Terraform state "
    "(version 4), 'ansible-inventory --list', or a CSV with the columns id or name, and private"
)
_TAG: Final = "tag:"

Read = Callable[[Any], Iterator[Machine]]


def read(path: Path, warn: Callable[[str], object] = lambda _: None) -> list[Machine]:
    """Raises NetiError, which names the file and what is wrong with it. ``warn``: is told which
    kinds of machines in it are not read."""
    try:
        raw = files.read(path, MAX_BYTES)
    except OSError as error:
        raise NetiError(f"{path}: {why(error)}") from error
    return machines(raw, str(path), warn)


def machines(
    raw: bytes, source: str, warn: Callable[[str], object] = lambda _: None
) -> list[Machine]:
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
        found = list(kind(document))
        others = left_out(document) if kind is of_terraform else []
    except Odd as error:
        raise NetiError(f"{source}: {error}") from error
    if others:
        warn(
            f"{source}: machines of these kinds are not read, so the totals are without them: "
            f"{', '.join(others)}"
        )
    return found


def _kind(document: Any) -> Read | None:
    if isinstance(document, list):
        first = document[0] if document else {}
        if not isinstance(first, dict):
            return None
        if not document or "networkInterfaces" in first:
            return of_google
        return of_azure if "powerState" in first or "privateIps" in first else None
    if not isinstance(document, dict):
        return None
    if "_meta" in document:
        return of_ansible
    if document.get("version") == 4 and isinstance(document.get("resources"), list):
        return of_terraform
    return None


def _of_csv(text: str, source: str) -> Iterator[Machine]:
    """Other columns than those it knows are tags, with or without ``tag:`` before their name."""
    table = csv.DictReader(io.StringIO(text, newline=""))
    try:
        columns = [(column or "").strip().lower() for column in table.fieldnames or ()]
    except csv.Error as error:
        raise NetiError(f"{source}: is no inventory ({error})\n→ expected {KINDS}") from error
    if not {"id", "name"} & set(columns) or "private" not in columns:
        raise NetiError(f"{source}: is no inventory\n→ expected {KINDS}")
    bare = [column.removeprefix(_TAG) for column in columns if column]
    twice = next((column for column in bare if bare.count(column) > 1), None)
    if twice is not None:
        raise NetiError(
            f"{source}: has the column {printable(twice)} twice, so it is not clear which is meant"
        )
    table.fieldnames = columns
    known = {"id", "name", "private", "public", "account", "region", "network", "vpc_id"}
    for line in _lines(table, source):
        if None in line or None in line.values():
            raise NetiError(
                f"{source}, line {table.line_num}: has not as many fields as the first line"
            )
        row = {column: value.strip() for column, value in line.items()}
        where = Place(f"line {table.line_num}", row)
        if not row.get("id") and not row.get("name"):
            raise NetiError(f"{source}, line {table.line_num}: has neither id nor name")
        tags = {key.removeprefix(_TAG): row[key] for key in row if key not in known and row[key]}
        network = row.get("network", "").lower()
        try:
            yield Machine(
                ids=ids_of(row.get("id", ""), row.get("name", "")),
                name=row.get("name", ""),
                account=row.get("account", ""),
                region=row.get("region", ""),
                vpc_id=row.get("vpc_id") or None,
                networks=(network,) if network else (),
                privates=addresses(where, row["private"].split()),
                publics=addresses(where, row.get("public", "").split()),
                tags=tags,
                complete=False,
            )
        except Odd as error:
            raise NetiError(f"{source}, {error}") from error


def _lines(table: "csv.DictReader[str]", source: str) -> Iterator[dict[str, str]]:
    try:
        yield from table
    except csv.Error as error:
        raise NetiError(f"{source}, line {table.line_num}: is no CSV ({error})") from error

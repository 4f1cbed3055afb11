"""Reads EC2 instances into values. Parsing is pure."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import Any, Final

from neti.aws.calls import Calls, Place, everywhere
from neti.errors import NetiError
from neti.model.machine import Machine

_PAGE: Final = 1000
# "User initiated (2026-01-31 10:00:00 GMT)"
_SINCE: Final = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """``privates`` and ``publics``: every address of every interface, the primary one first.
    ``since``: when it entered its state, in Unix seconds, if EC2 says so. ``owner``: the number of
    the account that it is in."""

    id: str
    place: Place
    state: str
    name: str = ""
    vpc_id: str | None = None
    privates: tuple[IPv4Address, ...] = ()
    publics: tuple[IPv4Address, ...] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    since: float | None = None
    owner: str = ""


def read(
    places: Sequence[Calls],
    *,
    states: Sequence[str] = (),
    refuse_empty: bool = False,
    progress: Callable[[Place, int], None] = lambda _place, _count: None,
) -> list[Instance]:
    """The instances of all places (in these states), each once. ``refuse_empty``: a place without
    instances is an error; for callers that change something because an instance is missing.
    ``progress`` is called with a place and its count so far, from any thread."""
    parameters: dict[str, Any] = {"MaxResults": _PAGE}
    if states:
        parameters["Filters"] = [{"Name": "instance-state-name", "Values": list(states)}]
    seen: dict[str, Instance] = {}

    def one(calls: Calls) -> list[Instance]:
        found = []
        for reservation in calls.pages("describe_instances", parameters, "Reservations"):
            owner = reservation.get("OwnerId") or ""
            found += [parse(one, calls.place, owner) for one in reservation["Instances"]]
            progress(calls.place, len(found))
        return found

    for calls, instances in zip(places, everywhere(places, one), strict=True):
        if refuse_empty and not instances:
            raise NetiError(
                f"EC2 reports no instances in {calls.place}. Nothing was changed, because an "
                "empty answer may be wrong. Leave that account or region out, or check the "
                "credentials"
            )
        # Two profiles of one account see the same instances.
        seen |= {instance.id: instance for instance in instances if instance.id not in seen}
    return list(seen.values())


def machine(instance: Instance) -> Machine:
    return Machine(
        ids=(instance.id,),
        name=instance.name,
        account=instance.place.account,
        owner=instance.owner,
        region=instance.place.region,
        cloud="ec2",
        vpc_id=instance.vpc_id,
        privates=instance.privates,
        publics=instance.publics,
        tags=instance.tags,
    )


def parse(document: Mapping[str, Any], place: Place, owner: str = "") -> Instance:
    """One instance of DescribeInstances."""
    tags = {tag["Key"]: tag["Value"] for tag in document.get("Tags", ())}
    return Instance(
        id=document["InstanceId"],
        place=place,
        state=document["State"]["Name"],
        name=tags.get("Name", ""),
        vpc_id=document.get("VpcId"),
        privates=tuple(dict.fromkeys(map(IPv4Address, _privates(document)))),
        publics=tuple(dict.fromkeys(map(IPv4Address, _publics(document)))),
        tags=tags,
        since=_since(document.get("StateTransitionReason") or ""),
        owner=owner,
    )


def _privates(document: Mapping[str, Any]) -> Iterator[str]:
    if document.get("PrivateIpAddress"):
        yield document["PrivateIpAddress"]
    for address in _addresses(document):
        yield address["PrivateIpAddress"]


def _publics(document: Mapping[str, Any]) -> Iterator[str]:
    if document.get("PublicIpAddress"):
        yield document["PublicIpAddress"]
    for address in _addresses(document):
        if public := (address.get("Association") or {}).get("PublicIp"):
            yield public


def _addresses(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for interface in document.get("NetworkInterfaces", ()):
        yield from interface.get("PrivateIpAddresses", ())


def _since(reason: str) -> float | None:
    match = _SINCE.search(reason)
    if match is None:
        return None
    return datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp()

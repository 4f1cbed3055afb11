"""The two tags of an instance: set by the agent's child process, read by ``neti overlay-ip``.

Reading asks the metadata service first, which needs no permission if the instance shows its tags
there, and EC2 only after that.
"""

import os
from ipaddress import IPv4Address
from typing import Final

from neti.aws.access import Keys, open_places
from neti.aws.calls import Calls
from neti.aws.refusals import VERSION_TAG
from neti.errors import AwsRefused, IdentityError, NetiError
from neti.identity.imds import MetadataClient
from neti.model.machine import OVERLAY_TAG
from neti.model.settings import Settings

_TRIES: Final = 3
_REGION: Final = "/latest/meta-data/placement/region"
_TAG: Final = f"/latest/meta-data/tags/instance/{OVERLAY_TAG}"
_INSTANCE: Final = "/latest/meta-data/instance-id"


def write(settings: Settings, instance_id: str, overlay: IPv4Address, version: str) -> None:
    calls = _here(settings, MetadataClient())
    try:
        calls.call(
            "create_tags",
            {
                "Resources": [instance_id],
                "Tags": [
                    {"Key": OVERLAY_TAG, "Value": str(overlay)},
                    {"Key": VERSION_TAG, "Value": version},
                ],
            },
        )
    except AwsRefused as error:
        if error.code == "NoCredentials":
            raise AwsRefused(
                "this instance has no role, so its tags cannot be set. Give it an instance "
                "profile whose role has the statement for tags in docs/aws.md",
                code=error.code,
            ) from error
        raise


def read_overlay(settings: Settings) -> IPv4Address | None:
    """The address in this instance's tag; None without the tag."""
    client = MetadataClient()
    text = client.get(_TAG)
    if text is None:
        instance_id = client.get(_INSTANCE)
        if instance_id is None:
            raise IdentityError(
                f"the metadata service ({client.endpoint}) has no instance-id: is this an instance?"
            )
        text = _ask_ec2(_here(settings, client), instance_id)
    if text is None:
        return None
    try:
        overlay = IPv4Address(text.strip())
    except ValueError as error:
        raise NetiError(
            f"this instance's tag {OVERLAY_TAG} is {text[:40]!r}, which is not an IPv4 address"
        ) from error
    if overlay not in settings.overlay_subnet:
        raise NetiError(
            f"this instance's tag {OVERLAY_TAG} is {overlay}, which is outside overlay_subnet "
            f"{settings.overlay_subnet}: it belongs to another fleet, or to an earlier one"
        )
    return overlay


def _ask_ec2(calls: Calls, instance_id: str) -> str | None:
    filters = [
        {"Name": "resource-id", "Values": [instance_id]},
        {"Name": "key", "Values": [OVERLAY_TAG]},
    ]
    found = [tag["Value"] for tag in calls.pages("describe_tags", {"Filters": filters}, "Tags")]
    return found[0] if found else None


def _here(settings: Settings, client: MetadataClient) -> Calls:
    """For this instance's own region; credentials from the usual chain, or the 2014 keys."""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    region = region or client.get(_REGION)
    if region is None:
        raise IdentityError(
            f"the metadata service ({client.endpoint}) has no region: set AWS_REGION"
        )
    keys = None
    if settings.aws_key is not None and settings.aws_secret_key is not None:
        keys = Keys(settings.aws_key, settings.aws_secret_key)
    return open_places(regions=[region], keys=keys, tries=_TRIES)[0]

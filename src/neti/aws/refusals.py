"""What AWS refuses, in words for the operator. Pure: codes and messages in, errors out."""

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from neti.aws.calls import Place
from neti.errors import AwsRefused, AwsUnavailable, NetiError
from neti.model.machine import OVERLAY_TAG
from neti.text import printable

UNAUTHORIZED: Final = frozenset({"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"})
THROTTLED: Final = frozenset(
    {
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "TooManyRequestsException",
        "SlowDown",
    }
)
_BUSY: Final = frozenset(
    {"InternalError", "InternalFailure", "ServiceUnavailable", "Unavailable", "RequestTimeout"}
)
_CREDENTIALS: Final = frozenset(
    {
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "InvalidToken",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnrecognizedClientException",
    }
)
_NOT_ENABLED: Final = frozenset({"OptInRequired", "RegionDisabledException", "InvalidRegion"})
# Only these belong to a command that has --sleep.
_SPREAD: Final = frozenset(
    {
        "authorize_security_group_ingress",
        "revoke_security_group_ingress",
        "update_security_group_rule_descriptions_ingress",
        "create_managed_prefix_list",
        "modify_managed_prefix_list",
        "delete_managed_prefix_list",
    }
)
_PARTITIONS: Final = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
_IAM_PREFIX: Final = {"service-quotas": "servicequotas"}
_RESOURCE: Final = re.compile(r"on resource: (arn:[^\s\"']+)")
_ACTION: Final = re.compile(r"not authorized to perform: ([a-z0-9-]+:[A-Za-z]+)")
_DENIED: Final = re.compile(r"with an explicit deny in (?:an? )?([^.:]+)")
_ALLOWED_BY_NONE: Final = re.compile(r"because no (.+?) allows")
# Calls that the SDK makes by itself before the one that was asked for, and the service of each.
CREDENTIALS_FROM: Final = {
    "assume_role": "sts",
    "assume_role_with_web_identity": "sts",
    "get_role_credentials": "sso",
}
_MAX_MESSAGE: Final = 300

VERSION_TAG: Final = "neti_version"


def refusal(
    place: Place,
    service: str,
    operation: str,
    code: str,
    message: str,
    resource: str | None = None,
) -> NetiError:
    """The error for one call that AWS answered with ``code``, its retries included. ``resource``:
    what the call was about, in case AWS's message does not name it."""
    call = api_name(operation)
    where = f"AWS, {place}: {call}"
    said = f"{code}: {_short(message)}"
    if code in UNAUTHORIZED and operation == "assume_role":
        return _role_refusal(place, where, code, message)
    if code in UNAUTHORIZED:
        needed = statement(service, operation, message, resource)
        return AwsRefused(f"{where} is not allowed ({said}). {_help(message, needed)}", code=code)
    if code in THROTTLED:
        spread = ", or spread the calls with --sleep" if operation in _SPREAD else ""
        return AwsUnavailable(
            f"{where} was throttled ({code}), and so were the SDK's retries. Wait a minute and "
            f"run it again{spread}"
        )
    if code in _BUSY or code.isdigit():
        return AwsUnavailable(f"{where} failed at AWS ({said}). Run it again")
    if code in _CREDENTIALS:
        return AwsRefused(
            f"{where} was refused because of its credentials ({said}). Check --profile, "
            "AWS_PROFILE or the instance's role ('aws sso login' for SSO), this machine's "
            f"clock, and that the region {place.region} is enabled in the account",
            code=code,
        )
    if code in _NOT_ENABLED:
        return AwsRefused(
            f"{where} was refused ({said}). Enable the region {place.region} in this account, or "
            "leave it out",
            code=code,
        )
    return AwsRefused(f"{where} was refused ({said})", code=code)


def _help(message: str, needed: dict[str, Any]) -> str:
    """What would help, as far as AWS's message tells."""
    if denied := _DENIED.search(message):
        return (
            f"An explicit deny in {_short(denied[1])} forbids it, so a statement that allows it "
            "would not help: change that policy"
        )
    allow = json.dumps(needed)
    if (none := _ALLOWED_BY_NONE.search(message)) and "identity-based" not in none[1]:
        return f"No {_short(none[1])} allows it. This statement is needed there:\n{allow}"
    return f"This statement would allow it, unless another policy denies it:\n{allow}"


def _role_refusal(place: Place, where: str, code: str, message: str) -> AwsRefused:
    """AWS does not say which of the two sides refused."""
    told = _RESOURCE.search(message)
    arn = place.account if place.account.startswith("arn:") else told[1] if told else None
    said = f"{where} is not allowed ({code}: {_short(message)})."
    if "MultiFactor" in message:
        return AwsRefused(
            f"{said} The role requires an MFA code: name the device in the profile (mfa_serial), "
            "or enter the code again",
            code=code,
        )
    allow = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": arn or "ROLE-ARN"}
    if _DENIED.search(message):
        return AwsRefused(f"{said} {_help(message, allow)}", code=code)
    return AwsRefused(
        f"{said} The trust policy of {arn or 'the role'} must name the caller as a principal, "
        f"and the caller needs this statement:\n{json.dumps(allow)}",
        code=code,
    )


def statement(
    service: str, operation: str, message: str = "", resource: str | None = None
) -> dict[str, Any]:
    """The IAM statement that allows the call, as narrow as AWS's conditions and message permit."""
    action, told = _ACTION.search(message), _RESOURCE.search(message)
    prefix = _IAM_PREFIX.get(service, service)
    named = action[1] if action is not None else f"{prefix}:{api_name(operation)}"
    if operation == "create_tags" and named == "ec2:CreateTags":
        return own_tags_statement()
    about = told[1].rstrip(".,;") if told is not None else resource or "*"
    return {"Effect": "Allow", "Action": named, "Resource": about}


def resource_of(parameters: Mapping[str, Any], region: str) -> str | None:
    """The ARN of what a changing call is about; None for all other calls."""
    partition = next((p for start, p in _PARTITIONS.items() if region.startswith(start)), "aws")
    for key, kind in (("GroupId", "security-group"), ("PrefixListId", "prefix-list")):
        if key in parameters:
            return f"arn:{partition}:ec2:{region}:*:{kind}/{parameters[key]}"
    if "PrefixListName" in parameters:
        return f"arn:{partition}:ec2:{region}:*:prefix-list/*"
    return None


def own_tags_statement() -> dict[str, Any]:
    """For the hosts' role: an instance may set these two tags, only on itself."""
    return {
        "Effect": "Allow",
        "Action": "ec2:CreateTags",
        "Resource": "arn:aws:ec2:*:*:instance/*",
        "Condition": {
            "ArnLike": {"ec2:SourceInstanceARN": "arn:aws:ec2:*:*:instance/${ec2:InstanceID}"},
            "ForAllValues:StringEquals": {"aws:TagKeys": [OVERLAY_TAG, VERSION_TAG]},
        },
    }


def api_name(operation: str) -> str:
    """The call as AWS and its IAM name it."""
    return "".join(word.capitalize() for word in operation.split("_")).replace("Aws", "AWS")


def _short(message: str) -> str:
    """Printable, on one line, and without the kilobyte of encoded reason that AWS adds."""
    text = " ".join(message.partition("Encoded authorization failure message")[0].split())
    return printable(text, _MAX_MESSAGE)

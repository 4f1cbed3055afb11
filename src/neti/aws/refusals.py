"""What AWS says no with, in words for the operator. Pure: codes and messages in, errors out."""

import json
import re
from typing import Any, Final

from neti.aws.calls import Place
from neti.errors import AwsRefused, AwsUnavailable, NetiError
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
_IAM_PREFIX: Final = {"service-quotas": "servicequotas"}
_RESOURCE: Final = re.compile(r"on resource: (arn:\S+)")
# Calls that the SDK makes by itself, before the one that was asked for, and whom it asks.
CREDENTIALS_FROM: Final = {
    "assume_role": "sts",
    "assume_role_with_web_identity": "sts",
    "get_role_credentials": "sso",
}
_MAX_MESSAGE: Final = 300

OVERLAY_TAG: Final = "overlay_ip"
VERSION_TAG: Final = "neti_version"


def refusal(place: Place, service: str, operation: str, code: str, message: str) -> NetiError:
    """The error for one call that AWS answered with ``code``, its retries included."""
    call = api_name(operation)
    where = f"AWS, {place}: {call}"
    said = f"{code}: {_short(message)}"
    if code in UNAUTHORIZED and operation == "assume_role":
        return _role_refusal(place, where, code, message)
    if code in UNAUTHORIZED:
        return AwsRefused(
            f"{where} is not allowed ({code}). This statement would allow it:\n"
            f"{json.dumps(statement(service, operation))}",
            code=code,
        )
    if code in THROTTLED:
        return AwsUnavailable(
            f"{where} was throttled ({code}), the SDK's retries included: "
            "wait a minute and run it again, or spread calls with --sleep"
        )
    if code in _BUSY or code.isdigit():
        return AwsUnavailable(f"{where} failed at AWS ({said}): run it again")
    if code in _CREDENTIALS:
        return AwsRefused(
            f"{where} was refused for its credentials ({said}): look at --profile, AWS_PROFILE or "
            "the instance's role, and at this machine's clock",
            code=code,
        )
    return AwsRefused(f"{where} was refused ({said})", code=code)


def _role_refusal(place: Place, where: str, code: str, message: str) -> AwsRefused:
    """AWS does not say which of the two sides refused."""
    told = _RESOURCE.search(message)
    arn = place.account if place.account.startswith("arn:") else told[1] if told else None
    allow = {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": arn or "ROLE-ARN"}
    return AwsRefused(
        f"{where} is not allowed ({code}). The trust policy of {arn or 'the role'} must name who "
        f"asks as a principal, and who asks needs this statement:\n{json.dumps(allow)}",
        code=code,
    )


def statement(service: str, operation: str) -> dict[str, Any]:
    """The IAM statement that allows the call, no wider than AWS's conditions permit."""
    if operation == "create_tags":
        return own_tags_statement()
    prefix = _IAM_PREFIX.get(service, service)
    return {"Effect": "Allow", "Action": f"{prefix}:{api_name(operation)}", "Resource": "*"}


def own_tags_statement() -> dict[str, Any]:
    """For the role of the hosts: an instance may set these two tags, and on itself only."""
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

"""Where an account is asked for its regions, and where a role is assumed."""

from typing import Any

import pytest

from neti.aws import access
from neti.aws.access import SdkCalls, open_places
from neti.errors import AwsRefused, NetiError

KEYS = access.Keys("AKIA", "secret")
ROLE = "arn:{}:iam::111111111111:role/x"


@pytest.fixture(name="asked")
def _asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The regions that are asked for regions, each of which says that there is eu-west-1."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    asked: list[str] = []

    def call(self: SdkCalls, operation: str, _parameters: object) -> dict[str, Any]:
        assert operation == "describe_regions"
        asked.append(self.place.region)
        return {"Regions": [{"RegionName": "eu-west-1"}]}

    monkeypatch.setattr(SdkCalls, "call", call)
    return asked


@pytest.mark.parametrize(
    ("partition", "first"),
    [("aws", "us-east-1"), ("aws-cn", "cn-north-1"), ("aws-us-gov", "us-gov-west-1")],
)
def test_a_roles_partition_is_asked_and_sts_in_a_region_that_there_is(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, partition: str, first: str
) -> None:
    """The word "all" is no region of STS."""
    sts: list[str | None] = []
    fetcher = "botocore.credentials.AssumeRoleCredentialFetcher"

    class Fetcher:
        def __init__(self, *, client_creator: Any, **_more: object) -> None:
            sts.append(client_creator.keywords["region_name"])

        def fetch_credentials(self) -> None: ...

    monkeypatch.setattr(fetcher, Fetcher)
    (place,) = open_places(roles=[ROLE.format(partition)], regions=["all"])
    assert place.place.region == "eu-west-1"
    assert asked == sts == [first]


def test_a_partition_that_was_guessed_is_said(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """China and GovCloud have no us-east-1. With a region of its own nothing was guessed."""

    def refuse(*_: object) -> None:
        raise AwsRefused("AuthFailure", code="AuthFailure")

    assert open_places(regions=["all"], keys=KEYS)
    assert asked == ["us-east-1"]
    monkeypatch.setattr(SdkCalls, "call", refuse)
    with pytest.raises(NetiError, match="for China or GovCloud, set one") as caught:
        open_places(regions=["all"], keys=KEYS)
    assert isinstance(caught.value, AwsRefused)
    monkeypatch.setenv("AWS_REGION", "cn-north-1")
    with pytest.raises(NetiError, match=r"^AuthFailure$"):
        open_places(regions=["all"], keys=KEYS)

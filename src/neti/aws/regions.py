"""Where to begin, before an account has said which regions it has. Pure."""

from typing import Final

# By partition: enabled in every account, and nobody can switch it off.
_FIRST: Final = {"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1"}


def first_region(account: str) -> str:
    """Where to ask for an account's regions. Only a role's ARN tells its partition."""
    return _FIRST.get(account.split(":")[1] if ":" in account else "aws", "us-east-1")

"""What goes wrong before AWS answers (credentials, endpoints, the SDK itself), in words. Pure.

The SDK reads the operator's variables, files and programs, and may raise anything when one is
wrong. Must never pass on text that may contain a key or a token.
"""

import builtins
import difflib
import re
from collections.abc import Sequence
from typing import Final

from neti.errors import AwsRefused, AwsUnavailable, NetiError
from neti.text import printable

NO_CREDENTIALS: Final = frozenset({"NoCredentialsError", "PartialCredentialsError"})
_SSO: Final = frozenset(
    {
        "SSOError",
        "SSOTokenLoadError",
        "UnauthorizedSSOTokenError",
        "PendingAuthorizationExpiredError",
        "TokenRetrievalError",
    }
)
_NO_ANSWER: Final = frozenset(
    {
        "EndpointConnectionError",
        "ConnectTimeoutError",
        "ReadTimeoutError",
        "ConnectionClosedError",
        "ConnectionError",
        "HTTPClientError",
        "ProxyConnectionError",
        "SSLError",
        "IncompleteReadError",
        "ResponseStreamingError",
    }
)
# Headers carry keys and tokens.
_SECRET: Final = re.compile(r"header|AWS4-|Credential=|Signature|token value", re.IGNORECASE)
_ERRNO: Final = re.compile(r"\[Errno -?[0-9]+\] ")
_LOOK: Final = "check the profile in ~/.aws/config and the AWS_… variables"
_MOST: Final = 300
# As OpenSSL says it (X509_verify_cert_error_string(3)); later versions with a hyphen.
_UNKNOWN_AUTHORITY: Final = re.compile(r"self.signed certificate|issuer cert|the first cert")


def trouble(
    where: str, kind: str, text: str, *, profile: str | None, answered: bool = False
) -> NetiError:
    """The error for what the SDK raised, given the name of its class and its message. ``answered``:
    it was raised while an answer was arriving, so the network or AWS is at fault."""
    said = (
        "the SDK's message is not shown because it may contain a key"
        if _SECRET.search(text)
        else _short(text)
    )
    with_profile = f" --profile {printable(profile)}" if profile else ""
    if _SECRET.search(text) or kind in ("UnicodeEncodeError", "InvalidHeader"):
        return AwsRefused(
            f"{where}: a key or token contains characters that are not allowed there (a line "
            "end, an accent): " + _LOOK,
            code=kind,
        )
    if kind in NO_CREDENTIALS:
        found = f" ({said})" if kind == "PartialCredentialsError" else ""
        asked = f" in profile {printable(profile)}: give another" if profile else ": give"
        return AwsRefused(
            f"{where}: no AWS credentials were found{found}{asked} --profile NAME or "
            "AWS_PROFILE, or run this on an instance with a role",
            code="NoCredentials",
        )
    if kind in _SSO or (kind == "InvalidConfigError" and "sso" in text.lower()):
        return AwsRefused(
            f"{where}: there is no valid SSO login ({said}): 'aws sso login{with_profile}'",
            code=kind,
        )
    if kind in ("EOFError", "GetPassWarning"):
        return AwsRefused(
            f"{where}: the profile asks for an MFA code and there is no terminal to ask on: run "
            "this on a terminal, or use a profile with temporary credentials (aws sts "
            "get-session-token)",
            code=kind,
        )
    if kind == "ResponseParserError":
        return AwsUnavailable(
            f"{where} got an answer that is not from AWS. Is there a proxy in between? Run it again"
        )
    if kind == "SSLError" and (hint := of_authority(text)):
        return AwsRefused(f"{where}: {said}{hint}", code=kind)
    if kind in _NO_ANSWER or answered:
        return AwsUnavailable(f"{where} got no answer ({said}). Run it again")
    if kind == "CredentialRetrievalError":
        said = said.rstrip(": ")
        return AwsRefused(
            f"{where}: {said}. Run the profile's credential program by hand", code=kind
        )
    if kind in ("FileNotFoundError", "PermissionError", "NotADirectoryError", "OSError"):
        return AwsRefused(
            f"{where} needs a file or program for its credentials ({said}): {_LOOK}", code=kind
        )
    of_python = f"{kind}: " if hasattr(builtins, kind) or not said else ""
    return AwsRefused(f"{where} failed ({of_python}{said.rstrip('.: ')}): {_LOOK}", code=kind)


def of_authority(text: str) -> str:
    """A hint for what OpenSSL says of a server's certificate; empty when its authority is known."""
    if _UNKNOWN_AUTHORITY.search(text) is None:
        return ""
    return (
        ". This host does not know its authority. That of your company, such as its proxy's, "
        "belongs to the host's own (update-ca-certificates, update-ca-trust), or into a file that "
        "SSL_CERT_FILE names"
    )


def of_region(region: str, known: Sequence[str]) -> str:
    """A hint for a region that does not answer; empty when the SDK knows it."""
    if region in known or not known:
        return ""
    meant = near(region, known)
    return f". The SDK does not know the region {printable(region)}" + (
        f": did you mean {meant}?" if meant else ""
    )


def near(region: str, known: Sequence[str]) -> str | None:
    found = difflib.get_close_matches(region, known, n=1)
    return found[0] if found else None


def _short(text: str) -> str:
    return printable(" ".join(_ERRNO.sub("", text).split()), _MOST)

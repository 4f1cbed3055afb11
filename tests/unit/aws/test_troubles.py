"""What goes wrong before AWS answers: one sentence each, and never a key in it."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neti.aws.patience import watched
from neti.aws.troubles import of_region, trouble
from neti.errors import AwsUnavailable

WHERE = "AWS, us-east-1 (p): DescribeInstances"


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("NoCredentialsError", "Unable to locate credentials", "no AWS credentials were found"),
        ("SSOTokenLoadError", "Token for s does not exist", "'aws sso login --profile p'"),
        ("UnauthorizedSSOTokenError", "The SSO session has expired", "'aws sso login --profile p'"),
        ("InvalidConfigError", "The source_profile x does not exist", "source_profile x"),
        ("EOFError", "EOF when reading a line", "asks for an MFA code"),
        ("FileNotFoundError", "[Errno 2] No such file: '/nope'", "a file or program"),
        ("CredentialRetrievalError", "Error from custom-process: ", "program by hand"),
        ("ValueError", "Invalid endpoint: foo", "ValueError: Invalid endpoint: foo"),
        ("ResponseParserError", "x", "a proxy in between"),
        ("EndpointConnectionError", "Could not connect", "Run it again"),
    ],
)
def test_each_says_what_is_wrong_and_what_to_do(kind: str, text: str, said: str) -> None:
    error = trouble(WHERE, kind, text, profile="p")
    assert str(error).startswith(WHERE)
    assert said in str(error)
    assert len(str(error).splitlines()) == 1


@given(secret=st.text(st.characters(codec="ascii"), min_size=8, max_size=40))
def test_no_header_is_ever_shown(secret: str) -> None:
    """A token with a line's end in it was printed, because the HTTP client quotes the header."""
    text = f"An HTTP Client raised an unhandled exception: Invalid header value {secret!r}"
    error = trouble(WHERE, "HTTPClientError", text, profile=None, answered=True)
    plain = trouble(WHERE, "HTTPClientError", "Invalid header value ''", profile=None)
    assert str(error) == str(plain)


@given(st.sampled_from(["ValueError", "OSError", "SSOError", "ConnectionError"]), st.text())
def test_foreign_words_stay_on_one_line(kind: str, text: str) -> None:
    """Whatever a program, a file or the network made the SDK say."""
    assert str(trouble(WHERE, kind, text, profile="\x1b[31m")).isprintable()


def test_a_region_that_the_sdk_does_not_know_is_asked_about() -> None:
    known = ["us-east-1", "eu-west-1"]
    assert "did you mean us-east-1?" in of_region("us-esat-1", known)
    assert of_region("us-east-1", known) == of_region("us-esat-1", []) == ""


def test_a_call_that_takes_long_is_heard_of() -> None:
    """While it lasts, and not of one that is quick."""
    heard: list[str] = []
    come = threading.Event()

    def told(sentence: str) -> None:
        heard.append(sentence)
        come.set()

    with watched("AWS: X", told, first=0.01):
        assert come.wait(10)
    assert heard[0].startswith("AWS: X has had no answer for 0 s")
    with watched("AWS: X", told, first=60):
        count = len(heard)
    assert len(heard) == count
    error = trouble("w", "ReadTimeoutError", "Read timeout", profile=None, answered=True)
    assert isinstance(error, AwsUnavailable)

"""The agent's tags on its instance: wished for by the loop, set by a short-lived child process.

AWS's SDK costs tens of MiB and half a second of CPU, so the agent never loads it: ``neti aws tag``
runs at low priority and ends. A thread waits for it and tries again with growing pauses. Must never
do: keep the loop waiting, log the same fault twice, or affect the dataplane.
"""

import contextlib
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

from neti import log
from neti.errors import IdentityError
from neti.identity.imds import MetadataClient
from neti.model.settings import Settings
from neti.text import printable

_CHILD_SECONDS: Final = 120.0
_FIRST_PAUSE: Final = 30.0
_LONGEST_PAUSE: Final = 3600.0
_ROLES: Final = "/latest/meta-data/iam/security-credentials/"
_OTHER_CREDENTIALS: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
)
_NOT_FOR_THE_CHILD: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS")


@dataclass(frozen=True, slots=True)
class Tags:
    overlay: IPv4Address
    version: str


Run = Callable[[Tags], str | None]


class Tagger:
    """``wanted`` is safe from any thread and returns at once. ``problem``: for ``neti status``."""

    def __init__(
        self, run: Run, *, stop: Callable[[], None] = lambda: None, jitter: Callable[[], float]
    ) -> None:
        """``run`` sets the tags and returns None, or what is wrong; ``stop`` ends it from outside;
        ``jitter``, from 0 to 1, spreads the attempts of a fleet."""
        self.problem: str | None = None
        self._run = run
        self._stop = stop
        self._jitter = jitter
        self._wanted: Tags | None = None
        self._closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._live, name="neti-tagging", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wanted(self, overlay: IPv4Address, version: str) -> None:
        """These are the tags that the instance should have. Calling it again costs nothing."""
        with self._changed:
            if self._wanted != Tags(overlay, version):
                self._wanted = Tags(overlay, version)
                self._changed.notify()

    def close(self, timeout: float = 2.0) -> None:
        """Ends a child that still runs; the tags are then set at the next start."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._stop()
        if self._thread.is_alive():
            self._thread.join(timeout)

    def _live(self) -> None:
        while True:
            try:
                self._set_what_is_wanted()
            except Exception as error:  # if tags are never set again, say so
                self._failed(log.unexpected("the tagger", error), _LONGEST_PAUSE)
                with self._changed:
                    if self._changed.wait_for(lambda: self._closed, timeout=_LONGEST_PAUSE):
                        return
            else:
                return

    def _set_what_is_wanted(self) -> None:
        """Until it is closed."""
        done: Tags | None = None
        while (wanted := self._next(done)) is not None:
            pause = _FIRST_PAUSE
            while (fault := self._run(wanted)) is not None:
                self._failed(fault, pause)
                if self._slept(pause * (0.5 + self._jitter()), wanted):
                    break
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                done = wanted
                self.problem = None
                log.info("tagged", overlay_ip=wanted.overlay, neti_version=wanted.version)

    def _next(self, done: Tags | None) -> Tags | None:
        """What is wanted and not done yet; None: this tagger is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._wanted != done)
            return None if self._closed else self._wanted

    def _slept(self, seconds: float, wanted: Tags) -> bool:
        """Wait. True if something else is wanted by now, or nothing any more."""
        with self._changed:
            return self._changed.wait_for(
                lambda: self._closed or self._wanted != wanted, timeout=seconds
            )

    def _failed(self, fault: str, pause: float) -> None:
        if fault != self.problem and not self._closed:
            log.warning("tags_not_set", what=fault, retry_seconds=pause)
        self.problem = fault


def for_instance(settings: Settings, instance_id: str) -> Tagger | None:
    """The tagger of an agent; None if the host's identity does not come from EC2."""
    if settings.identity not in ("auto", "ec2") or not instance_id.startswith("i-"):
        return None
    child = Child(settings.path, instance_id, has_keys=settings.aws_secret_key is not None)
    return Tagger(child.run, stop=child.stop, jitter=random.random)


class Child:
    """``neti aws tag``, one at a time."""

    def __init__(self, config: Path, instance_id: str, *, has_keys: bool = False) -> None:
        """``has_keys``: the configuration has the two keys of 2014."""
        self._has_keys = has_keys
        # -P: never import from the working directory, which may be anybody's.
        self._command = [sys.executable, "-P", "-m", "neti", "aws", "tag", "--low-priority"]
        self._command += ["--config", str(config), "--instance", instance_id]
        self._process: subprocess.Popen[str] | None = None
        self._stopped = False
        self._lock = threading.Lock()

    def run(self, tags: Tags) -> str | None:
        """None: the tags are set; otherwise what the child said, or why it was not started."""
        fault = self._without_credentials()
        if fault is not None:
            return fault
        wish = ["--overlay", str(tags.overlay), "--tag-version", tags.version]
        environment = {k: v for k, v in os.environ.items() if k not in _NOT_FOR_THE_CHILD}
        with self._lock:
            if self._stopped:
                return "the agent stops"
            try:
                self._process = subprocess.Popen(
                    [*self._command, *wish],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    text=True,
                    errors="replace",
                )
            except OSError as error:
                return f"neti aws tag cannot be run: {error.strerror}"
        return self._outcome(self._process)

    def _without_credentials(self) -> str | None:
        """Why it is no use to begin: a host without a role would run a program in vain each hour.

        What the SDK would find elsewhere is not judged here, only that there is something.
        """
        if self._has_keys or any(os.environ.get(name) for name in _OTHER_CREDENTIALS):
            return None
        if Path("~/.aws/credentials").expanduser().exists():
            return None
        try:
            roles = MetadataClient().get(_ROLES)
        except IdentityError as error:
            return str(error)
        if roles is not None:
            return None
        return (
            "this instance has no role: give it an instance profile with the statement for tags in "
            "docs/aws.md"
        )

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._process is not None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.terminate()

    def _outcome(self, process: "subprocess.Popen[str]") -> str | None:
        try:
            _, said = process.communicate(timeout=_CHILD_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            return f"neti aws tag did not end within {_CHILD_SECONDS:.0f} s"
        if process.returncode == 0:
            return None
        lines = [line for line in said.splitlines() if line.strip()]
        # The command's own explanation is kept whole; of anything else the last line is enough.
        begins = next((n for n, line in enumerate(lines) if line.startswith("neti: ")), -1)
        text = " ".join(line.removeprefix("neti: ") for line in lines[begins:])
        return printable(text, 2000) or f"neti aws tag ended with {process.returncode}"

"""Unexpected errors, and jobs that hang: each is logged and is a problem, and the loop goes on.

An exception that is not a NetiError may have left things half done. So everything is read again
soon after: the membership from what is known, and the kernel compared with it. A thread beside the
loop is restarted by its owner; here it only gets its sentence.

Must never do: let one request, job or event end the loop, or hide that it failed.
"""

from collections.abc import Callable
from typing import Final

from neti import log
from neti.agent.core import Core
from neti.control.trouble import Trouble
from neti.errors import NetiError

_FORGOTTEN_AFTER: Final = 600.0  # seconds without another one
_JOBS_EVERY: Final = 15.0
_JOB_TAKES_LONG: Final = 60.0  # every job has deadlines far below this
_JOB_HANGS: Final = 600.0


class Faults:
    """Not thread-safe: the loop's thread owns it. ``brittle``: raise what is unexpected instead,
    for tests."""

    def __init__(self, core: Core, *, brittle: bool = False) -> None:
        self._core = core
        self._brittle = brittle
        self._codes: set[str] = set()  # of the troubles that other threads reported
        self.hanging = False  # a job does not end: only a restart can help

    def guard(self, where: str, action: Callable[[], object]) -> str | None:
        """Runs ``action``. Returns a sentence if something unexpected happened."""
        try:
            action()
        except Exception as error:  # the loop goes on, whatever this raised
            if self._brittle and not isinstance(error, NetiError):
                raise
            return self._unexpected(where, error)
        return None

    def _unexpected(self, where: str, error: Exception) -> str:
        core = self._core
        sentence = log.unexpected(where, error)
        core.problems.set(
            "unexpected",
            f"{sentence}; it is in the log with its traceback. The agent goes on and reads "
            "everything again: please report it",
        )
        core.timers.due["forget"] = core.now() + _FORGOTTEN_AFTER
        core.timers.retry("anew", core.now())
        return sentence

    def told(self, trouble: Trouble) -> None:
        core, code, where = self._core, trouble.code, trouble.where
        if trouble.sentence is None:
            core.problems.clear(code, subject=where)
            return
        self._codes.add(code)
        core.problems.set(code, trouble.sentence, subject=where)
        core.timers.due["forget"] = core.now() + _FORGOTTEN_AFTER

    def forget(self) -> None:
        """Nothing unexpected has happened for a while."""
        self._core.problems.clear("unexpected")
        for code in self._codes:
            self._core.problems.clear(code)
        self._codes.clear()
        self._core.timers.worked("anew")

    def look_at_jobs(self) -> None:
        """Whether the worker's jobs still end."""
        core = self._core
        core.soon("jobs", _JOBS_EVERY)
        self.look_at_log()
        now = core.now()
        slow = {job.name: now - job.since for job in core.out.worker.running()}
        slow = {name: age for name, age in slow.items() if age >= _JOB_TAKES_LONG}
        self.hanging = any(age >= _JOB_HANGS for age in slow.values())
        if not slow:
            core.problems.clear("job")
            return
        named = ", ".join(f"{name!r} for {age:.0f} s" for name, age in slow.items())
        if "job" not in core.problems:
            log.error("job_does_not_end", jobs=named)
        core.problems.set(
            "job",
            f"a job does not end ({named}): it should have within seconds. After "
            f"{_JOB_HANGS:.0f} s systemd restarts the agent; without systemd, restart it yourself",
        )

    def look_at_log(self, *, reopen: bool = False) -> None:
        """Whether log_file can be written; ``reopen``: it may have been moved away."""
        if reopen:
            log.reopen()
        if (fault := log.fault()) is not None:
            self._core.problems.set("log", fault)
        else:
            self._core.problems.clear("log")

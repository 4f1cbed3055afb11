"""As whom the dashboard runs where root started it.

Must never do: go on as root, or choose a user who cannot do the work.
"""

import contextlib
import ctypes
import os
import pwd
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from neti.errors import NetiError

_NO_NEW_PRIVS: Final = 38  # prctl(2), linux/prctl.h
_SERVICE: Final = "neti"  # the user that deploy/neti.sysusers makes


def other_user(needed: Iterable[Path]) -> pwd.struct_passwd | None:
    """As whom to go on: user ``neti``, whoever called sudo, or ``nobody``; the first who may read
    these files, which a new connection to the registry reads again. None: this is not root. Raises
    NetiError where nobody may. Call it while the process has one thread."""
    if os.geteuid() != 0:
        return None
    files = [path for path in needed if path.exists()]
    users = [*_users()]
    found = next((user for user in users if _reads(user, files)), None)
    if found is not None:
        return found
    names = ", ".join(user.pw_name for user in users) or "nobody but root is there"
    raise NetiError(
        "neti dashboard does not go on as root, and no other user may read "
        f"{', '.join(map(str, files))} (tried: {names})\n→ run it as an ordinary user, with a "
        "neti.yml and an operator's certificate that this user may read: --config PATH"
    )


def become(user: pwd.struct_passwd) -> None:
    """For good, and for all threads (``setresuid(2)``, by the C library); and no program that it
    might start gets more (``PR_SET_NO_NEW_PRIVS``)."""
    os.setgroups(os.getgrouplist(user.pw_name, user.pw_gid))
    os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
    os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
    ctypes.CDLL(None, use_errno=True).prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)
    # Root's terminal, to which this user could type otherwise (TIOCSTI, ioctl_tty(2)).
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _users() -> Iterable[pwd.struct_passwd]:
    for name in (_SERVICE, os.environ.get("SUDO_USER", ""), "nobody"):
        with contextlib.suppress(KeyError):
            user = pwd.getpwnam(name) if name else None
            if user is not None and user.pw_uid != 0:
                yield user


def _reads(user: pwd.struct_passwd, files: Iterable[Path]) -> bool:
    """Asked of the kernel, as that user: by groups and ACLs too."""
    child = os.fork()
    if child == 0:
        try:
            become(user)
            os._exit(0 if all(os.access(path, os.R_OK) for path in files) else 1)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

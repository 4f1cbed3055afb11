"""What this kernel and this library can do beyond what every host needs: asked, not guessed.

A table of a name of its own is compiled and shown to the kernel, which says whether it would take
it, and takes nothing. What else depends on the kernel shows by itself: ``model/capabilities.py``.

Must never do: leave anything in the kernel.
"""

import errno
import functools
import os
from contextlib import closing
from typing import Final

from neti import log
from neti.dataplane import nf_tables as nf
from neti.dataplane.compiler import compile_rules
from neti.dataplane.netlink import NETLINK_NETFILTER, NOT_PERMITTED, NetlinkSocket
from neti.errors import DataplaneError, DataplaneUnavailable, RulesRefused

_GROUPS: Final = """
table inet neti_asks {
	set by {
		type uid . cgroupsv2
		flags dynamic
	}
	chain out {
		type filter hook output priority 0; policy accept;
		update @by { meta skuid . socket cgroupv2 level 1 }
	}
}
"""


def control_groups() -> bool:
    """Whether rules can tell by which control group (version 2) a packet was sent. While that
    cannot be asked, no; and it is asked again."""
    try:
        return _takes(_GROUPS)
    except DataplaneError as error:
        log.info("kernel_not_asked", what=str(error))
        return False


@functools.cache
def _takes(rules: str) -> bool:
    try:
        orders = compile_rules(rules)
    except RulesRefused as error:
        log.info("library_cannot", what=str(error))
        return False
    with closing(NetlinkSocket(NETLINK_NETFILTER)) as kernel:
        refused = kernel.batch(nf.SUBSYSTEM, orders, commit=False)
    if refused is None:
        return True
    if refused[1] in (errno.EPERM, errno.EACCES):
        raise DataplaneUnavailable(NOT_PERMITTED)
    log.info("kernel_cannot", what=os.strerror(refused[1]))
    return False

"""What this kernel and this library can do beyond what every host needs: asked, not guessed.

A table of a name of its own is compiled and shown to the kernel, which says whether it would take
it, and takes nothing.

| what | since | without it |
|---|---|---|
| ``socket cgroupv2`` | Linux 5.13, nft 0.9.9 | leftovers have a user, and no unit or container |

Must never do: leave anything in the kernel.
"""

import functools
from contextlib import closing
from typing import Final

from neti import log
from neti.dataplane import nf_tables as nf
from neti.dataplane.compiler import compile_rules
from neti.dataplane.netlink import NETLINK_NETFILTER, NetlinkSocket
from neti.errors import DataplaneError

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


@functools.cache
def control_groups() -> bool:
    """Whether rules can tell by which control group (version 2) a packet was sent."""
    return _takes(_GROUPS)


def _takes(rules: str) -> bool:
    try:
        orders = compile_rules(rules)
        with closing(NetlinkSocket(NETLINK_NETFILTER)) as kernel:
            return kernel.batch(nf.SUBSYSTEM, orders, commit=False) is None
    except DataplaneError as error:
        log.info("kernel_cannot", what=str(error))
        return False

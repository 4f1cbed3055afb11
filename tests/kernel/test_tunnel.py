"""What packets do on the encrypted road: real ones, two real kernels, real WireGuard.

Both hosts are 10.0.0.11, each in its own site: see ``tests.support.tunnel_net``.
"""

import pytest
from tests.support.netns import Server, reaches, require_root
from tests.support.tunnel_net import A, B, two_sites

from neti.model import Road

pytestmark = pytest.mark.kernel


def test_the_server_sees_the_callers_overlay_address() -> None:
    """At its own private one. Both hosts call and are called; nothing of it depends on the other
    end's road."""
    require_root()
    with two_sites() as sites:
        a, b = sites.a, sites.b
        at_a, at_b = Server(a.net, a.net.host, 7000), Server(b.net, b.net.host, 7000)
        assert reaches(a.net, a.net.host, B.overlay, 7000)
        sites.both(Road.TRYING)
        assert reaches(a.net, a.net.host, B.overlay, 7000)
        assert at_b.callers == [A.public, A.public]
        a.goes_by(Road.PREFERRED)
        assert reaches(a.net, a.net.host, B.overlay, 7000)
        assert at_b.callers[2:] == [A.overlay]
        assert reaches(b.net, b.net.host, A.overlay, 7000)
        b.goes_by(Road.PREFERRED)
        assert reaches(b.net, b.net.host, A.overlay, 7000)
        assert at_a.callers == [B.public, B.overlay]

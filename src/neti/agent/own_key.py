"""This host's WireGuard key: made where its site and another one encrypt, and kept on disk.

Must never do: show a private key; tell anybody a public half that this host does not hold.
"""

from typing import TYPE_CHECKING

from neti import log
from neti.dataplane.wireguard.keys import public_half
from neti.model import Host
from neti.model.settings import Settings
from neti.model.wireguard_key import PrivateKey, PublicKey
from neti.ruleset.reach import encrypts
from neti.state.folder import KEY_FILE

if TYPE_CHECKING:
    from neti.agent.core import Core


class OwnKey:
    """Not thread-safe: the loop's thread owns it."""

    def __init__(self, core: "Core") -> None:
        self._core = core
        self._private = core.out.folder.private_key()
        self._public: PublicKey | None = None
        self._judged: tuple[Settings | None, Host | None, bool] = None, None, False
        self._device: PrivateKey | None = None  # which this host is registered with
        if not self.wanted:
            core.disk.overlook(KEY_FILE)  # a key that nobody needs is nobody's problem

    @property
    def wanted(self) -> bool:
        """Whether a pair of this host's site encrypts. Asked in each turn of the loop."""
        settings, host = self._core.settings, self._core.host
        if settings is not self._judged[0] or host is not self._judged[1]:
            self._judged = settings, host, encrypts(settings.sites, host.site)
        return self._judged[2]

    def private(self) -> PrivateKey | None:
        """None where nothing is encrypted."""
        if not self.wanted:
            return None
        if self._private is None:
            self.another()
        return self._private

    def public(self) -> PublicKey | None:
        private = self.private()
        if private is None:
            return None
        if self._public is None:
            self._public = public_half(private)
        return self._public

    @property
    def text(self) -> str:
        """The public half as a record says it; empty where nothing is encrypted."""
        public = self.public()
        return str(public) if public is not None else ""

    def another(self) -> None:
        """From now on this host registers with a new key. If we are killed right here, the next
        start finds that the record does not say it, and registers anew."""
        self._take(self._core.out.new_key())
        self._core.disk.keep(KEY_FILE, self._write)

    def another_if_kept(self) -> str:
        """The same, if the new key could be written to disk first. Otherwise the present one stays,
        there too. Returns why; empty: it is taken."""
        disk, key = self._core.disk, self._core.out.new_key()
        if disk.keep(KEY_FILE, lambda: self._core.out.folder.keep_private_key(key)):
            self._take(key)
            return ""
        why = disk.unsaved(KEY_FILE) or KEY_FILE
        self.write_again()  # and again, instead of the new one
        return why

    def _take(self, key: PrivateKey) -> None:
        self._private, self._public = key, None
        log.info("key_made", public=self.text)

    def write_again(self) -> None:
        """Somebody else took it from the disk or changed it there: peers know this one."""
        if self._private is not None:
            self._core.disk.keep(KEY_FILE, self._write)

    def _write(self) -> None:
        if self._private is not None:
            self._core.out.folder.keep_private_key(self._private)

    def registered(self) -> bool:
        """Peers read the present key from now on. Returns whether it is another one than the device
        was to have."""
        before, self._device = self._device, self._private
        return before != self._device

    def for_device(self) -> PrivateKey | None:
        """A new key waits until it is registered: peers know the former one until then."""
        private = self.private()
        return None if private is None else self._device or private

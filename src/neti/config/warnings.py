"""What an operator should know about a valid file. Refuses nothing, shows no secret."""

from collections.abc import Iterator

from neti.config.schema import ConfigForm
from neti.model.settings import Settings

# The longest session that a ZooKeeper with stock settings (tickTime 2000) grants.
_STOCK_SESSION_SECONDS = 40


def warnings(form: ConfigForm, settings: Settings, *, readable_by_all: bool) -> Iterator[str]:
    yield from _of_2014(form, readable_by_all=readable_by_all)
    covered = settings.ssh_whitelist or settings.allow_empty_ssh_whitelist
    if settings.reject_all and not covered:
        yield (
            "reject_all is true and ssh_whitelist is empty, so this host will refuse to enforce: "
            "list the networks that SSH comes from, or write allow_empty_ssh_whitelist: true"
        )
    for network in settings.trusted:
        if network.prefixlen == 0:
            yield (
                f"trusted contains {network}: everyone gets in on every port, even with reject_all"
            )
    if settings.embedded is None and settings.session_seconds > _STOCK_SESSION_SECONDS:
        yield (
            f"session_seconds is {settings.session_seconds:g}, but a stock ZooKeeper ends sessions "
            f"after {_STOCK_SESSION_SECONDS} s at most"
        )
    if settings.embedded is not None and settings.zk_hosts:
        yield f"zk_hosts is not used, because registry is embedded:{settings.embedded}"
    if settings.embedded is not None and settings.registry_tls is not None:
        yield f"registry_tls is not used, because registry is embedded:{settings.embedded}"


def _of_2014(form: ConfigForm, *, readable_by_all: bool) -> Iterator[str]:
    if form.aws_key is not None or form.aws_secret_key is not None:
        yield (
            "aws_key and aws_secret_key are used for the instance's tags: give the instance a role "
            "instead, and remove them"
        )
        if (form.aws_key is None) != (form.aws_secret_key is None):
            yield "aws_key and aws_secret_key belong together: one alone is not used"
        if readable_by_all:
            yield (
                "the file contains AWS keys and everyone on this host can read it: run chmod "
                "o-rwx on it, and replace the keys"
            )
    for key in ("bin", "overlay_ip_cache_file_path"):
        if key in form.model_fields_set:
            yield f"{key} has no effect any more (it belonged to the 2014 cookbook): remove it"

"""A fleet whose hosts say something of themselves, in an embedded registry, and its commands."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from click.testing import CliRunner, Result

from neti.cli import cli
from neti.model import Member, entry
from neti.registry import detail
from neti.registry.detail import Document
from neti.registry.embedded.registry import EmbeddedRegistry

Neti = Callable[..., Result]
_SUBNET = IPv4Network("192.168.0.0/16")


@contextmanager
def told_fleet(folder: Path, documents: Mapping[str, Document]) -> Iterator[Neti]:
    """By host id what each says; the first has the private address 10.0.0.1. Yields what runs
    ``neti fleet`` with these words."""
    config = folder / "neti.yml"
    config.write_text(
        f"overlay_subnet: {_SUBNET}\nsites: {{here: {{}}}}\nsite: here\n"
        f"identity: {{id: me, private: 10.0.0.5}}\ntable_files_path: {folder}/state\n"
        f"registry: embedded:{folder}/registry.db\n"
    )
    opened = []
    try:
        for number, (host_id, said) in enumerate(documents.items(), 1):
            registry = EmbeddedRegistry(folder / "registry.db", session_seconds=600)
            opened.append(registry)
            member = Member(
                id=host_id,
                site="here",
                private=IPv4Address(f"10.0.0.{number}"),
                public=None,
                overlay=registry.acquire(host_id, _SUBNET),
            )
            registry.register(
                host_id=host_id,
                name=entry.encode(member),
                data=b"",
                detail=detail.encode(detail.for_members(said)),
                report=detail.encode(said),
            )
        yield lambda *words: CliRunner().invoke(cli, ["fleet", *words, "-c", str(config)])
    finally:
        for registry in opened:
            registry.close()

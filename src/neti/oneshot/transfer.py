"""A registry to a file, and what of a file is missing in a registry.

Must never do: leave half a file, or turn strict on where somebody would vanish by it.
"""

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from neti import durable, files
from neti.errors import NetiError
from neti.model.settings import Settings
from neti.oneshot import strict
from neti.registry import export as document
from neti.registry.export import Export
from neti.registry.strict import decode
from neti.registry.zookeeper import export_tree, import_plan, import_tree
from neti.registry.zookeeper.import_plan import ImportPlan
from neti.registry.zookeeper.init import InitPlan
from neti.registry.zookeeper.registry import ZooKeeperRegistry
from neti.words import counted

_MODE = 0o600  # no secret is in it, but whoever changes it says who is who


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """``planned``: what was missing; ``differs``: what is not as in the file, then and now;
    ``operators``: of the tree that was laid out."""

    planned: ImportPlan
    differs: tuple[str, ...]
    operators: tuple[str, ...]


def look(registry: ZooKeeperRegistry, clock: Callable[[], float]) -> tuple[Export, list[str]]:
    """And what was left out."""
    at = datetime.fromtimestamp(clock(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return registry.inspect(lambda attempt, layout: export_tree.look(attempt, layout, at))


def write(path: Path, export: Export) -> None:
    """Whole, or not at all."""
    try:
        durable.replace(path, document.encode(export), _MODE)
    except OSError as error:
        raise NetiError(f"{path} cannot be written: {error.strerror}") from error


def read(path: Path) -> Export:
    try:
        raw = files.read(path, document.MAX_BYTES)
        seen = path.lstat()
    except OSError as error:
        raise NetiError(f"{path} cannot be read: {error.strerror}") from error
    if seen.st_uid not in (0, os.geteuid()) or seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        whose = f"user {seen.st_uid}" if seen.st_uid else "others"
        raise NetiError(
            f"{path} may be changed by {whose}, and decides who is who; nothing was changed\n"
            "→ look whether it is as it was exported, then copy it to where only you may write"
        )
    return document.decode(raw, str(path))


def bring(
    settings: Settings, registry: ZooKeeperRegistry, export: Export, *, dry_run: bool
) -> Brought:
    """Makes what is missing. May be repeated, also after it was killed."""
    planned = _plan(settings, registry, export)
    subjects = export.operators if settings.registry_tls is not None else ()
    # Only then, because it looks at every node that there is.
    init = registry.plan_init(subjects) if planned.lays_out else None
    operators = init.subjects if init is not None else ()
    if dry_run or planned.nothing:
        return Brought(planned=planned, differs=planned.differs, operators=operators)
    if init is not None:
        laying = init
        registry.operate(lambda attempt, layout: import_tree.lay_out(attempt, layout, laying))
    registry.operate(
        lambda attempt, layout: import_tree.carry_out(attempt, layout, planned, export)
    )
    after = _plan(settings, registry, export)
    if after.missing:
        raise NetiError(
            f"{counted(len(after.leases), 'lease')}, {counted(len(after.hosts), 'host')}, "
            f"{counted(len(after.keys), 'public key')} and "
            f"{counted(len(after.settings), 'setting')} could not be made\n→ type this again"
        )
    if init is not None:
        _open_up(registry, export, init)
    return Brought(planned=planned, differs=after.differs, operators=operators)


def _open_up(registry: ZooKeeperRegistry, export: Export, init: InitPlan) -> None:
    admission = export.admission is True
    registry.operate(
        lambda attempt, layout: import_tree.open_up(attempt, layout, init, admission=admission)
    )


def _plan(settings: Settings, registry: ZooKeeperRegistry, export: Export) -> ImportPlan:
    secure = settings.registry_tls is not None
    planned = registry.inspect(
        lambda attempt, layout: import_plan.plan(attempt, layout, export, secure=secure)
    )
    value = planned.settings.get("strict")
    said = decode(value.encode()) if value is not None else None
    if said is None or not said.on:
        return planned
    if not secure:
        why = "strict is on in the file, and proves nothing in a tree without access rights"
    elif not planned.lays_out and (found := strict.look(settings, registry).unvouched):
        hosts = counted(len(found), "registered host")
        why = f"strict is on in the file, and here no record vouches for {hosts}"
    else:
        return planned
    rest = {name: each for name, each in planned.settings.items() if name != "strict"}
    return replace(planned, settings=rest, differs=(*planned.differs, why))

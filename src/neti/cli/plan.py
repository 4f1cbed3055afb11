"""``neti plan``: what the agent would change in the kernel. Changes nothing anywhere."""

import difflib
import os
import time
from ipaddress import IPv4Address
from pathlib import Path

import click

from neti.agent.desired import Membership
from neti.agent.keeping_time import rebased
from neti.agent.loop import seen_structure
from neti.cli.common import config_option, json_option
from neti.cli.output import hand_over, print_json, say
from neti.clock import SteadyClock, SystemClock
from neti.config import load
from neti.dataplane.listing import fingerprint, is_rule
from neti.dataplane.nftables import NftablesDataplane
from neti.fleet.guard import Guard
from neti.host import surroundings as around
from neti.host.listeners import Listening
from neti.host.machine import RealMachine
from neti.identity import discover
from neti.identity.machine import boot_id
from neti.identity.machine import fingerprint as machine_fingerprint
from neti.identity.preflight import registry_addresses
from neti.model.settings import Settings
from neti.registry import Registry
from neti.registry.opening import open_registry
from neti.ruleset.enforce import enforce_commands
from neti.ruleset.objects import NO_TABLE, CreateTable, KernelState, Structure, Transaction
from neti.ruleset.plan import plan as changes_of
from neti.ruleset.policy import structure
from neti.stage import stages
from neti.state.folder import Loaded, StateFolder
from neti.words import counted


@click.command()
@config_option
@json_option
@click.option("--full", is_flag=True, help="The whole ruleset, as a file that nft -f takes.")
def plan(config: Path, as_json: bool, full: bool) -> None:
    """Print the difference between what the kernel holds and what it should hold.

    The registry is only read: this host is not registered and takes no lease.

    \b
    Examples:
      neti plan
      neti plan --full > neti.nft && nft -c -f neti.nft
    """
    settings = load(config)
    loaded, down, relaxed = _on_disk(settings)
    steady = SteadyClock(SystemClock(), boot_id(), loaded.mark)
    membership, wanted = _desired(settings, rebased(loaded, steady), steady.now())
    membership.take_changes()
    dataplane = NftablesDataplane()
    kernel = NO_TABLE if full else dataplane.read()
    record = stages.taken_up(
        loaded.record,
        reject_all=settings.reject_all,
        relaxed=relaxed,
        armed=kernel.armed_for_good,
    )
    way_in = settings.way_in
    membership.elements.enforcement = stages.in_force(
        record, monotonic=time.monotonic(), way_in=way_in, down=down and not full
    )
    if full:
        membership.elements.kernel_is(NO_TABLE)
        whole = changes_of(wanted, membership.elements, NO_TABLE, None, definitions=_unasked)
        text = whole.transaction.text()
        print_json({"ruleset": text}) if as_json else hand_over(text)
        return
    if down:
        why = stages.hindrance(way_in=way_in, down=down)
        lines = [f"nothing to change: {why}"]
        if kernel.structure is not None:
            lines = [f"remove table inet neti and the overlay's route: {why}"]
        print_json({"structure": "down", "changes": lines}) if as_json else say(*lines)
        return
    membership.elements.kernel_is(kernel)
    seen = seen_structure(loaded.itself)
    planned = changes_of(
        wanted, membership.elements, kernel, seen, definitions=dataplane.definitions
    )
    lines = _structure_lines(planned.structure, wanted, kernel)
    lines += [str(one) for one in planned.changes.commands() if kernel.structure is not None]
    if planned.structure == "new":
        lines += [f"add {counted(len(membership.fleet.members), 'member')}"]
    if planned.structure in ("as is", "chains"):
        lines += map(str, enforce_commands(membership.elements.enforcement, kernel.enforce))
    if stages.may_begin(record, time.time()) and way_in:
        lines.append(f"begin a trial of reject_all, {settings.trial_seconds} s")
    if record.wished and not way_in:
        say(f"neti: reject_all is not put in force: {stages.NO_WAY_IN}", err=True)
    if as_json:
        print_json({"structure": planned.structure, "changes": lines})
    else:
        say(*(lines or ["nothing to change: the kernel holds what it should"]))


def _desired(settings: Settings, loaded: Loaded, now: float) -> tuple[Membership, Structure]:
    host = discover(settings)
    machine = RealMachine()
    seen = machine.network(settings.overlay_subnet)
    others = machine.others_judging_input()
    surroundings = around.surroundings(machine, seen, host, others=others)
    reserved = frozenset(registry_addresses(settings, host.site))
    membership = Membership.empty(settings, host, reserved, Guard(window=dict(loaded.window)))
    around.note(membership.elements, host, seen, reserved)
    around.listen(membership.elements, Listening(machine.listeners, machine.local_ports))
    membership.remember(loaded.members)  # who is lost or held stays in the kernel
    registry = open_registry(settings, host.site)
    try:
        membership.hold_lease(registry.lease_of(host.id))
        _read_fleet(membership, registry, now)
    finally:
        registry.close()
    return membership, structure(settings, surroundings)


def _read_fleet(membership: Membership, registry: Registry, now: float) -> None:
    fleet = membership.fleet
    fleet.snapshot(registry.names(), now=now)
    owners = registry.leases()
    asked = fleet.questions()
    for overlay in asked.leases:
        fleet.lease_read(IPv4Address(overlay), owners.get(overlay))
    for name, data in registry.data(asked.data).items():
        fleet.data_read(name, data)
    fleet.tick(now=now)


def _on_disk(settings: Settings) -> tuple[Loaded, bool, bool]:
    """What an agent left here, and whether ``neti down`` and ``neti relax`` were said; nothing
    where none has run."""
    if not settings.table_files_path.is_dir():
        return Loaded(), False, False
    folder = StateFolder(settings.table_files_path, make=False)
    return folder.load(machine_fingerprint()), folder.is_down, folder.is_relaxed


def _unasked(_: Structure) -> frozenset[str]:
    return frozenset()  # where there is no table, there is nothing to compare with


def _structure_lines(kind: str, wanted: Structure, kernel: KernelState) -> list[str]:
    """How rules and sets differ. Rules of ours in nft's words; what else the kernel holds as a
    fingerprint, since nothing here reads rules."""
    if kind == "as is":
        return []
    if kernel.structure is None:
        return ["create table inet neti and the overlay's route"]
    listed = _listed_elsewhere(wanted)
    if listed is None:
        return [f"replace {'the chains' if kind == 'chains' else 'the whole table'}"]
    desired = listed.splitlines()
    words = _in_words(desired, wanted)
    diff = difflib.unified_diff(
        kernel.structure.splitlines(), desired, "kernel", "desired", lineterm=""
    )
    shown = [_shown(line, words) for line in diff]
    return shown or ["replace the table by an equal one, since nobody knows who wrote it"]


def _in_words(listed: list[str], wanted: Structure) -> dict[str, str]:
    """What stands in the listing of ``wanted`` for each rule, chain and set: nft's words."""
    words = {f"set {name.split()[1]} ": f"{name} {{ {body} }}" for name, body in wanted.sets}
    said = {
        line: text for line in listed for start, text in words.items() if line.startswith(start)
    }
    for chain in wanted.chains:
        lines = [line for line in listed if line.startswith(f"rule {chain.name} ")]
        # One line of nft's is one rule, in the same order.
        said.update((line, f"    {rule}") for line, rule in zip(lines, chain.rules, strict=False))
    return said


def _shown(line: str, words: dict[str, str]) -> str:
    if line.startswith(("---", "+++", "@@")):
        return line
    text = line[1:]
    chain = " ".join(text.split()[:2])
    other = f"    {fingerprint(text)}" if is_rule(text) else chain
    return line[0] + words.get(text, other)


def _listed_elsewhere(wanted: Structure) -> str | None:
    """The wanted structure as the kernel lists it: loaded in a network namespace of a child that
    ends at once. None where this process may not make one (it needs CAP_SYS_ADMIN)."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        try:
            text = _in_new_namespace(wanted)
            with os.fdopen(write, "w") as answer:
                answer.write(text)
            os._exit(0)
        except BaseException:
            os._exit(1)
    os.close(write)
    with os.fdopen(read) as answer:
        text = answer.read()
    _, code = os.waitpid(child, 0)
    return text if code == 0 else None


def _in_new_namespace(wanted: Structure) -> str:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).unshare(0x40000000) != 0:  # CLONE_NEWNET
        raise OSError(ctypes.get_errno(), "unshare")
    dataplane = NftablesDataplane()
    dataplane.apply(Transaction((CreateTable(wanted),)))
    return dataplane.structure() or ""

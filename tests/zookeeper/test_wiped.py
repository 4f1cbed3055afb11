"""What a wipe takes and an import brings back, by a walk through the whole tree."""

import json
from pathlib import Path

import pytest
from kazoo.protocol.serialization import Create, GetACL, GetData, SetACL
from tests.support.zookeeper import SecureWorld
from tests.zookeeper.test_admission import Operator, exported, wipe
from tests.zookeeper.test_keys import OTHER, register

from neti.errors import KeyTaken
from neti.model.groups import GroupLine, Groups
from neti.registry import groups, revoked
from neti.registry.zookeeper import rights
from neti.registry.zookeeper.calls import Attempt
from neti.registry.zookeeper.layout import OUTSIDE, Layout

pytestmark = pytest.mark.zookeeper

KEY, FORMER, STOLEN = ("KFS"[n] * 42 + "8" for n in range(3))
Held = dict[str, tuple[bytes, dict[str, int]]]


def lasting(world: SecureWorld, *, tree: bool = True) -> Held:
    """Every node that no session's end takes away, with its data and rights, and what stands beside
    the tree."""

    def every(attempt: Attempt, layout: Layout) -> Held:
        found: Held = {}
        paths = [layout.root] if tree else []
        while paths:
            path = paths.pop()
            data, stat = attempt.one(GetData(path, None))
            if not stat.ephemeralOwner:
                acl, _ = attempt.one(GetACL(path))
                found[path.removeprefix(layout.root)] = (data or b"", _plain(acl))
            paths += [f"{path}/{name}" for name in attempt.names(path)]
        for path in OUTSIDE:
            found[f"beside {path}"] = (b"", _plain(attempt.one(GetACL(path))[0]))
        return found

    return world.open_as("super-root").inspect(every)


def _plain(acl: rights.Rights) -> dict[str, int]:
    """What each may do, however often it is said."""
    may: dict[str, int] = {}
    for one in acl:
        may[str(one.id)] = may.get(str(one.id), 0) | int(one.perms)
    return may


# As many as there may be.
GROUPS = Groups({"db": tuple(GroupLine(f"i-{n:038}") for n in range(1350)), "none": ()}, 7)


def filled(world: SecureWorld, operator: Operator) -> None:
    """One of all that there may be."""
    chief = world.open_as("operator-chief")
    chief.init(chief.plan_init(close_root=True))
    a, b = world.open_as("host-a"), world.open_as("host-b")
    register(a, "a", FORMER)
    register(a, "a", KEY, generation=1)
    register(b, "b", STOLEN)
    assert chief.revoke_key("b") is not None
    operator.run("admit", "c", "CN=c,OU=hosts")
    operator.run("admission", "on")
    operator.run("strict", "on", "--anyway")
    chief.change_setting("interval", b"2")
    chief.change_setting("maxchange", b"7")
    chief.change_setting("release", b"1 x")
    chief.change_setting("drained", b"1 gw-1")
    chief.change_setting("groups", groups.encode(GROUPS))
    a.close()
    b.close()


def test_all_of_the_tree_is_back_but_what_agents_make_anew(
    limited: SecureWorld, tmp_path: Path
) -> None:
    operator = Operator(limited, tmp_path)
    filled(limited, operator)
    before, file = lasting(limited), exported(operator)
    wipe(limited)
    limited.open_as("super-root").inspect(  # as a new server has them
        lambda attempt, _: [attempt.one(SetACL(p, list(rights.OPEN), -1)) for p in OUTSIDE]
    )
    beside = lasting(limited, tree=False)
    for more in (["--dry-run"], []):  # it may be another program's root by now
        told = operator.told("import", str(file), *more)
        assert (told["differs"], told["then"]) == ([], "neti registry init --close-root")
        assert lasting(limited, tree=False) == beside
    said = operator.run("import", str(file)).stdout.splitlines()
    assert said[-1].startswith("the root was closed when the file was written, and is open")
    assert said[-1].endswith("'neti registry init --close-root' closes it")
    assert operator.run("init", "--close-root").exit_code == 0
    assert operator.told("import", str(file))["then"] == ""
    after = lasting(limited)
    # What is for hosts of one day, such as gateways that are drained; a name that is drawn by
    # chance; and what a record says of an entry that is gone, and its key: a host says both anew.
    assert before.keys() - after.keys() == {"/release", "/drained"}
    assert after.keys() - before.keys() == set()
    differ = {path for path in after if before[path] != after[path]}
    assert differ == {"/fleet", "/hosts/a", "/hosts/b"}
    for path in ("/hosts/a", "/hosts/b"):
        assert before[path][1] == after[path][1]
        assert before[path][0].split()[:2] == after[path][0].split()[:2]


def test_nobody_gets_anothers_key_on_the_day_of_a_wipe(secure: SecureWorld, tmp_path: Path) -> None:
    operator = Operator(secure, tmp_path)
    filled_here, chief = secure.open_as("host-a"), secure.open_as("operator-chief")
    register(filled_here, "a", FORMER)
    register(filled_here, "a", KEY, generation=1)
    register(secure.open_as("host-c"), "c", STOLEN)
    chief.revoke_key("c")
    file = exported(operator)
    filled_here.close()
    wipe(secure)
    told = operator.told("import", str(file))
    assert told["keys"] == {KEY: "a", FORMER: "a", STOLEN: None}
    b = secure.open_as("host-b")
    for key in (KEY, FORMER, STOLEN):
        with pytest.raises(KeyTaken):
            register(b, "b", key)
    register(secure.open_as("host-a"), "a", KEY, generation=2)
    register(b, "b", OTHER)
    assert operator.told("import", str(file))["keys"] == {}


def test_keys_of_no_host_are_counted_and_left_out(secure: SecureWorld, tmp_path: Path) -> None:
    operator = Operator(secure, tmp_path)
    register(secure.open_as("host-a"), "a", KEY)
    names = [chr(65 + number) * 42 + "8" for number in range(12)]
    secure.open_as("host-b").inspect(
        lambda attempt, layout: attempt.each(
            [Create(layout.key(n), b"nobody", list(rights.READ_ONLY), 0) for n in names]
        )
    )
    done = operator.run("export", "-")
    assert "left out: 11 public keys of no host that is in the file" in done.stderr
    assert json.loads(done.stdout)["keys"] == [{"key": KEY, "id": "a"}]


def test_an_import_adds_revoked_keys_to_those_that_were_revoked_since(
    secure: SecureWorld, tmp_path: Path
) -> None:
    operator = Operator(secure, tmp_path)
    a, chief = secure.open_as("host-a"), secure.open_as("operator-chief")
    register(a, "a", STOLEN)
    chief.revoke_key("a")
    file = exported(operator)
    chief.change_setting("revoked", None)
    register(a, "a", OTHER, generation=1)
    chief.revoke_key("a")
    told = operator.told("import", str(file))
    assert told["differs"] == []
    listed = chief.setting("revoked")
    assert revoked.names(listed, STOLEN)
    assert revoked.names(listed, OTHER)
    assert operator.told("import", str(file))["settings"] == {}

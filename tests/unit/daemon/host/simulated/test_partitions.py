"""The kernel's answers to cpuset.cpus.partition, as the lab saw them on Linux 6.1 and 6.12."""

from __future__ import annotations

import pytest

from hostlerd.host.simulated.cgroups import ROOT, Cgroups
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.cpuset import parse_cpu_list

OLD, NEW, NEWEST = (6, 1), (6, 12), (7, 0)
SLICE, SCOPE = "/machine.slice", "/machine.slice/a.scope"
NOT_EXCLUSIVE = "isolated invalid (Cpu list in cpuset.cpus not exclusive)"


def machine(release: tuple[int, int]) -> Cgroups:
    groups = Cgroups(Tree(), frozenset(range(8)), release=lambda: release)
    groups.boot()
    for path in ("/system.slice", "/user.slice", SCOPE):
        groups.make(path, populated=True)
    groups.control("")
    groups.control(SLICE)
    groups.write("/system.slice", "cpuset.cpus", "0-1,5-7")
    return groups


def read(groups: Cgroups, path: str, name: str = "partition") -> str:
    return groups.tree.read(f"{ROOT}{path}/cpuset.cpus.{name}").strip()


def local(release: tuple[int, int] = OLD) -> Cgroups:
    groups = machine(release)
    groups.write(SLICE, "cpuset.cpus", "2-4")
    groups.write(SLICE, "cpuset.cpus.partition", "isolated")
    return groups


def remote(release: tuple[int, int] = NEW) -> Cgroups:
    groups = machine(release)
    groups.write(SLICE, "cpuset.cpus.exclusive", "2-4")
    groups.write(SCOPE, "cpuset.cpus.exclusive", "2-4")
    groups.write(SCOPE, "cpuset.cpus.partition", "isolated")
    return groups


def test_a_local_one_has_its_cpus_alone() -> None:
    groups = local()
    assert read(groups, SLICE) == "isolated"
    effective = {path: read(groups, path, "effective") for path in ("", "/user.slice", SLICE, SCOPE)}
    assert effective == {"": "0-1,5-7", "/user.slice": "0-1,5-7", SLICE: "2-4", SCOPE: "2-4"}
    groups.write(SLICE, "cpuset.cpus.partition", "root")
    assert read(groups, SLICE) == "root"
    groups.write(SLICE, "cpuset.cpus.partition", "member")
    assert read(groups, "", "effective") == "0-7"


def test_before_6_7_there_is_none_below_a_member() -> None:
    groups = machine(OLD)
    groups.write(SCOPE, "cpuset.cpus", "2-4")
    groups.write(SCOPE, "cpuset.cpus.partition", "isolated")
    assert read(groups, SCOPE) == "isolated invalid (Parent is not a partition root)"
    assert read(groups, "", "effective") == "0-7"
    assert not groups.tree.exists(f"{ROOT}{SCOPE}/cpuset.cpus.exclusive")


def test_a_conflict_stays_until_it_was_a_member_or_its_own_cpus_change() -> None:
    groups = local()
    told: list[None] = []
    groups.notified = lambda: told.append(None)
    groups.write("/system.slice", "cpuset.cpus", "0-7")
    assert read(groups, SLICE) == NOT_EXCLUSIVE
    assert told
    groups.write("/system.slice", "cpuset.cpus", "0-1,6-7")
    groups.write(SLICE, "cpuset.cpus.partition", "isolated")
    assert read(groups, SLICE) == NOT_EXCLUSIVE
    groups.write(SLICE, "cpuset.cpus", "2-5")
    assert read(groups, SLICE) == "isolated"
    groups.write("/system.slice", "cpuset.cpus", "0-7")
    groups.write("/system.slice", "cpuset.cpus", "0-1,6-7")
    groups.write(SLICE, "cpuset.cpus.partition", "member")
    groups.write(SLICE, "cpuset.cpus.partition", "isolated")
    assert read(groups, SLICE) == "isolated"


def test_with_no_cpus_or_with_all() -> None:
    groups = machine(OLD)
    groups.write(SLICE, "cpuset.cpus.partition", "root")
    assert read(groups, SLICE) == "root invalid (cpuset.cpus is empty)"
    groups.write("/system.slice", "cpuset.cpus.partition", "member")
    groups = machine(OLD)
    groups.write(SLICE, "cpuset.cpus", "2-4")
    groups.write("/user.slice", "cpuset.cpus", "0-1,5-7")
    groups.write(SLICE, "cpuset.cpus.partition", "isolated")
    assert read(groups, SLICE) == "isolated"


@pytest.mark.parametrize("release", [NEW, NEWEST])
def test_a_remote_one_gets_what_is_handed_down(release: tuple[int, int]) -> None:
    groups = remote(release)
    assert read(groups, SCOPE) == "isolated"
    assert read(groups, SCOPE, "exclusive.effective") == "2-4"
    effective = {path: read(groups, path, "effective") for path in ("", SLICE, SCOPE)}
    assert effective == {"": "0-1,5-7", SLICE: "0-1,5-7", SCOPE: "2-4"}
    groups.write("/system.slice", "cpuset.cpus", "0-7")
    assert read(groups, SCOPE) == "isolated"
    groups.write(SLICE, "cpuset.cpus.exclusive", "2-3")
    assert read(groups, SCOPE, "effective") == "2-3"
    groups.write(SLICE, "cpuset.cpus.exclusive", "")
    assert read(groups, SCOPE) == "isolated invalid (Parent is not a partition root)"
    groups.write(SLICE, "cpuset.cpus.exclusive", "2-4")
    groups.write(SCOPE, "cpuset.cpus.partition", "isolated")
    assert read(groups, SCOPE) == "isolated"
    groups.remove(SCOPE)
    assert read(groups, "", "effective") == "0-7"
    assert read(groups, SLICE, "exclusive") == "2-4"


def test_what_a_sibling_has_alone_cannot_be_had() -> None:
    groups = remote()
    with pytest.raises(OSError, match="Invalid argument"):
        groups.write("/system.slice", "cpuset.cpus.exclusive", "2-3")
    groups.write("/user.slice", "cpuset.cpus", "6-7")
    with pytest.raises(OSError, match="Invalid argument"):
        groups.write(SLICE, "cpuset.cpus.exclusive", "5-7")


@pytest.mark.parametrize(("make", "again"), [(local, "isolated"), (remote, "")])
def test_cpus_that_go_and_come(make: object, again: str) -> None:
    groups: Cgroups = make()  # type: ignore[operator]
    path = SLICE if make is local else SCOPE
    groups.switch(3, online=False)
    assert (read(groups, path), read(groups, path, "effective")) == ("isolated", "2,4")
    for cpu in (2, 4):
        groups.switch(cpu, online=False)
    invalid = "isolated invalid (No cpu available due to hotplug)"
    assert read(groups, path) == invalid
    for cpu in (2, 3, 4):
        groups.switch(cpu, online=True)
    assert read(groups, path) == (again or invalid)
    groups.write(path, "cpuset.cpus.partition", "isolated")
    assert read(groups, path) == "isolated"
    assert parse_cpu_list(read(groups, path, "effective")) == {2, 3, 4}

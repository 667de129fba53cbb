"""Which control group is a domain's."""

from __future__ import annotations

import pytest
from tests.unit.daemon.observe.recorded import tree

from hostlerd.model.isolation import Group, Groups
from hostlerd.observe.scopes import scope_of

ROOT = "/sys/fs/cgroup"
SCOPE = "machine-qemu\\x2d3\\x2dwin11\\x2dpro.scope"
NONE = frozenset[int]()


@pytest.mark.parametrize("below", ["/libvirt/emulator", "/emulator", ""])
def test_where_its_process_says(below: str) -> None:
    files = tree(
        {
            "/run/libvirt/qemu/win11-pro.pid": "77",
            "/proc/77/cgroup": f"0::/machine.slice/a.slice/{SCOPE}{below}\n",
        }
    )
    assert scope_of(files, Groups(), "win11-pro") == f"{ROOT}/machine.slice/a.slice/{SCOPE}"


def test_by_its_name_where_there_is_no_process_to_ask() -> None:
    path = f"{ROOT}/machine.slice/{SCOPE}"
    other = Group(
        unit="machine-qemu\\x2d3\\x2dpro.scope", allowed=NONE, effective=NONE, path="/x", is_domain=True
    )
    mine = Group(unit=SCOPE, allowed=NONE, effective=NONE, path=path, is_domain=True)
    assert scope_of(tree({}), Groups(units=(other, mine)), "win11-pro") == path
    assert scope_of(tree({}), Groups(units=(other,)), "win11-pro") is None


def test_a_host_without_machined_has_none() -> None:
    files = tree(
        {"/run/libvirt/qemu/a.pid": "77", "/proc/77/cgroup": "0::/machine/qemu-1-a.libvirt-qemu/emulator\n"}
    )
    assert scope_of(files, Groups(), "a") is None

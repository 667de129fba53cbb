"""Slices as sysfs and mdevctl show them."""

from __future__ import annotations

import pytest

from hostlerd.host.simulated.host import SimulatedHost
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.slices import MdevDefinition, Slices, Sriov, VgpuType
from hostlerd.observe.pci import observe_functions
from hostlerd.observe.slices import observe_slices

PF, VF, CARD, VGPU = "0000:05:00.0", "0000:05:00.1", "0000:41:00.0", "0000:41:00.4"
UUID = "00000001-aaaa-4aaa-8aaa-aaaaaaaaaaaa"


def observed(host: SimulatedHost, *unreadable: str) -> Slices:
    functions = observe_functions(host.files, unreadable=frozenset(unreadable))
    return observe_slices(host.files, functions, unreadable=frozenset(unreadable))


def test_virtual_functions_and_where_they_will_be() -> None:
    host = SimulatedHost("slices")
    found = observed(host)
    assert found.sriov[PF] == Sriov(address=PF, total=4, count=0, offset=1, stride=1)
    assert found.parent_of_vf("0000:05:00.3") == (found.sriov[PF], 2)
    assert found.parent_of_vf("0000:05:00.5") is None
    assert found.sriov[CARD].addresses[:6] == tuple(
        f"0000:41:{a}" for a in ("00.4", "00.5", "00.6", "00.7", "01.0", "01.1")
    )
    host.kernel.write(f"/sys/bus/pci/devices/{CARD}/sriov_numvfs", "32")
    found = observed(host)
    assert found.sriov[CARD].count == 32
    functions = observe_functions(host.files)
    assert sorted(a for a, f in functions.items() if f.physfn == CARD) == sorted(found.sriov[CARD].addresses)


def test_a_far_virtual_function_is_on_the_next_bus() -> None:
    sriov = Sriov(address="0000:05:00.0", total=64, offset=128, stride=2)
    assert sriov.vf(0) == "0000:05:10.0"
    assert sriov.vf(63) == "0000:05:1f.6"
    assert Sriov(address="0000:05:00.0", total=2, offset=256, stride=1).vf(1) == "0000:06:00.1"
    assert Sriov(address="0000:05:00.0", total=2).addresses == ()


def test_the_count_is_not_read_from_a_file_that_takes_the_lock() -> None:
    host = SimulatedHost("slices")
    host.files.locked.add(host.files.real(f"/sys/bus/pci/devices/{PF}/sriov_numvfs"))
    assert observed(host).sriov[PF].count == 0


def test_types_and_devices() -> None:
    host = SimulatedHost("slices")
    folder = "/sys/class/mdev_bus/mbochs/mdev_supported_types"
    host.kernel.write(f"{folder}/mbochs-large/create", UUID)
    found = observed(host)
    by_id = {t.id: t for t in found.types if t.parent == "mbochs"}
    assert {k: t.available for k, t in by_id.items()} == {
        "mbochs-large": 3,
        "mbochs-medium": 12,
        "mbochs-small": 48,
    }
    assert by_id["mbochs-small"].name == "small"
    mdev = found.mdevs[UUID]
    assert (mdev.parent, mdev.type) == ("mbochs", "mbochs-large")
    assert mdev.group == host.kernel.mdevs.devices[UUID].group


def test_nothing_of_an_unreadable_parent_is_read() -> None:
    host = SimulatedHost("slices")
    types = "/sys/bus/pci/devices/0000:00:02.0/mdev_supported_types"
    for path in host.files.flat(types):
        host.files.locked.add(path)
    host.files.locked.add(host.files.real(f"/sys/bus/pci/devices/{PF}/sriov_totalvfs"))
    found = observed(host, "0000:00:02.0", PF)
    assert {t.available for t in found.types if t.parent == "0000:00:02.0"} == {None}
    assert PF not in found.sriov
    assert not host.files.hung


@pytest.mark.parametrize(
    "table",
    [
        "ID    : vGPU Name\n1145  : NVIDIA L40S-1B\n1149  : NVIDIA L40S-24Q\n",
        "1145 : NVIDIA L40S-1B\n1149 : NVIDIA L40S-24Q\n\nrubbish\n",
    ],
)
def test_nvidias_types(table: str) -> None:
    host = SimulatedHost("slices")
    host.kernel.write(f"/sys/bus/pci/devices/{CARD}/sriov_numvfs", "1")
    host.files.put(f"/sys/bus/pci/devices/{VGPU}/nvidia/creatable_vgpu_types", table)
    assert observed(host).vgpus[VGPU].creatable == (
        VgpuType(id=1145, name="NVIDIA L40S-1B"),
        VgpuType(id=1149, name="NVIDIA L40S-24Q"),
    )


def test_what_mdevctl_has_defined() -> None:
    files = Tree()
    folder = "/etc/mdevctl.d"
    files.put(
        f"{folder}/0000:00:02.0/{UUID}",
        '{"mdev_type": "i915-GVTg_V5_4", "start": "auto", "attrs": [{"a": "1"}, {"b/c": "2"}]}',
    )
    files.put(f"{folder}/scripts.d/callouts/x", "#!/bin/sh\n")
    for number, text in enumerate(
        [
            "",
            "[]",
            "{}",
            '{"mdev_type": 3}',
            '{"mdev_type": "../../x"}',
            '{"mdev_type": "x", "attrs": [{"../remove": "1"}]}',
            '{"mdev_type": "x", "attrs": 7}',
        ]
    ):
        files.put(f"{folder}/p/0000000{number}-0000-4000-8000-000000000000", text)
    assert observe_slices(files, {}).definitions == {
        UUID: MdevDefinition(
            uuid=UUID,
            parent="0000:00:02.0",
            type="i915-GVTg_V5_4",
            auto=True,
            attrs=(("a", "1"), ("b/c", "2")),
        )
    }

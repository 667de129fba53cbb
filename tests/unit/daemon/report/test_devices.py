"""The JSON of `hostler devices`."""

from __future__ import annotations

from hostlerd.model.devices import Function
from hostlerd.model.holders import Grip, Holder, Module
from hostlerd.model.plan import Owner
from hostlerd.report.devices import devices_json

GPU, AUDIO = "0000:01:00.0", "0000:01:00.1"


def function(address: str, **more: object) -> Function:
    values: dict[str, object] = {
        "vendor": 0x1002,
        "device": 0x73BF,
        "class_code": 0x030000,
        "group": 14,
        **more,
    }
    return Function(address=address, **values)  # type: ignore[arg-type]


def test_shape() -> None:
    holder = Holder(
        address=GPU,
        pid=42,
        command="Xorg",
        user="root",
        unit="gdm.service",
        container=None,
        node="/dev/dri/card0",
    )
    found = devices_json(
        {f.address: f for f in (function(GPU, driver="amdgpu", boot_vga=True), function(AUDIO, group=None))},
        owners={GPU: Owner(kind="domain", who="win11")},
        names={GPU: "AMD Navi 21"},
        companions=lambda address: (AUDIO,) if address == GPU else (),
        holders=[holder],
    )
    assert found[0] == {
        "address": GPU,
        "name": "AMD Navi 21",
        "vendor": "0x1002",
        "device": "0x73bf",
        "class": "0x030000",
        "driver": "amdgpu",
        "iommu_group": 14,
        "group": [],
        "companions": [AUDIO],
        "numa_node": None,
        "path": None,
        "slot": None,
        "serial": None,
        "boot_vga": True,
        "owner": {"kind": "domain", "who": "win11"},
        "holders": [
            {
                "pid": 42,
                "command": "Xorg",
                "user": "root",
                "unit": "gdm.service",
                "container": None,
                "node": "/dev/dri/card0",
                "session": None,
                "engine": None,
                "container_name": None,
                "how": "fd",
            }
        ],
        "busy": [],
        "physfn": None,
        "sriov": None,
        "slices": None,
    }
    assert set(found[1]) == set(found[0])
    assert (found[1]["owner"], found[1]["holders"], found[1]["name"]) == (
        {"kind": "host", "who": None},
        [],
        "",
    )


def test_references_of_a_module_are_told_where_no_process_explains_them() -> None:
    cards = {
        f.address: f for f in (function(GPU, driver="amdgpu"), function("0000:02:00.0", driver="amdgpu"))
    }
    grip = Grip(
        address=GPU,
        modules=(Module(name="amdgpu", refcount=3, used_by=("drm_thing",)),),
        framebuffers=("fb0",),
        consoles=("vtcon1",),
    )

    def busy(*holders: Holder) -> list[str]:
        found = devices_json(
            cards, owners={}, names={}, companions=lambda _: (), holders=holders, grips={GPU: grip}
        )
        assert found[1]["busy"] == []
        return list(found[0]["busy"])

    console = "the console is on its screen (fb0, vtcon1)"
    assert busy() == [console, "its module amdgpu is in use 2 times"]
    other = Holder(address="0000:02:00.0", pid=1, command="x", user="x", unit=None, container=None, node="x")
    assert busy(other) == [console]


def test_the_group_is_the_others_in_it() -> None:
    functions = {f.address: f for f in (function(GPU), function(AUDIO), function("0000:02:00.0", group=15))}
    found = devices_json(functions, owners={}, names={}, companions=lambda _: (), holders=())
    assert [device["group"] for device in found] == [[AUDIO], [GPU], []]


def test_what_may_not_be_read_is_null() -> None:
    unknown = Function(address=GPU, vendor=0, device=0, class_code=0, driver="vfio-pci", readable=False)
    (found,) = devices_json({GPU: unknown}, owners={}, names={}, companions=lambda _: (), holders=())
    assert (found["vendor"], found["device"], found["class"], found["driver"]) == (
        None,
        None,
        None,
        "vfio-pci",
    )

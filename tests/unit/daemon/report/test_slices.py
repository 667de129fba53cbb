"""What devices are cut into, as JSON."""

from __future__ import annotations

from hostlerd.model.devices import Function
from hostlerd.model.domains import Definition, Gpu, Hostdev
from hostlerd.model.plan import Owner
from hostlerd.model.slices import Mdev, MdevType, Slices, SliceSpec, Sriov, VgpuSlot, VgpuType
from hostlerd.report.devices import devices_json
from hostlerd.report.domains import domain_json

IGPU, CARD, VF1, VF2 = "0000:00:02.0", "0000:41:00.0", "0000:41:00.4", "0000:41:00.5"
UUID = "00000001-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
SIZE = VgpuType(id=1149, name="NVIDIA L40S-24Q")
SLICES = Slices(
    sriov={CARD: Sriov(address=CARD, total=32, count=2, offset=4, stride=1)},
    types=(
        MdevType(parent=IGPU, id="i915-GVTg_V5_4", available=0),
        MdevType(parent="mbochs", id="mbochs-small", name="small", available=63),
    ),
    mdevs={UUID: Mdev(uuid=UUID, parent=IGPU, type="i915-GVTg_V5_4", group=9)},
    vgpus={VF1: VgpuSlot(address=VF1, current=1149), VF2: VgpuSlot(address=VF2, creatable=(SIZE,))},
)
FUNCTIONS = {
    address: Function(address=address, vendor=1, device=1, class_code=0x030000, physfn=physfn)
    for address, physfn in ((IGPU, None), (CARD, None), (VF1, CARD), (VF2, CARD))
}


def test_devices() -> None:
    owners = {UUID: Owner(kind="domain", who="win11"), VF1: Owner(kind="idle")}
    rows = devices_json(
        FUNCTIONS, owners=owners, names={}, companions=lambda _: (), holders=(), slices=SLICES
    )
    found = {row["address"]: row for row in rows}
    assert list(found) == [IGPU, CARD, VF1, VF2, "mbochs"]
    assert found[IGPU]["slices"]["types"][0]["available"] == 0
    assert found[IGPU]["slices"]["instances"] == [
        {"uuid": UUID, "address": None, "type": "i915-GVTg_V5_4", "domain": "win11"}
    ]
    assert found[CARD]["sriov"] == {"total": 32, "count": 2, "vfs": [VF1, VF2]}
    assert found[CARD]["slices"] == {
        "types": [{"type": "1149", "name": "NVIDIA L40S-24Q", "description": "", "available": 1}],
        "instances": [{"uuid": None, "address": VF1, "type": "1149", "domain": None}],
    }
    assert found[VF1]["physfn"] == CARD
    assert found[VF1]["slices"] is None
    assert found[IGPU]["sriov"] is None
    assert found["mbochs"]["vendor"] is None
    assert found["mbochs"]["slices"]["types"][0]["name"] == "small"
    assert set(found["mbochs"]) == set(found[IGPU])


def domain(gpu: Gpu, *hostdevs: Hostdev, slices: tuple[SliceSpec, ...] = ()) -> Definition:
    return Definition(name="a", uuid="u", gpu=gpu, hostdevs=hostdevs, slices=slices)


def test_a_domain_says_what_its_slice_is() -> None:
    one = domain(Gpu.SLICE, Hostdev(kind="mdev", uuid=UUID))
    row = domain_json(one, slices=SLICES, functions=FUNCTIONS)
    assert row["gpu"] == "slice"
    assert row["slices"] == [{"uuid": UUID, "address": None, "type": "i915-GVTg_V5_4", "parent": IGPU}]


def test_before_it_is_made_its_metadata_says() -> None:
    spec = SliceSpec(uuid=UUID, type="mbochs-small")
    one = domain(Gpu.SLICE, Hostdev(kind="mdev", uuid=UUID), slices=(spec,))
    assert domain_json(one)["slices"][0]["type"] == "mbochs-small"


def test_a_virtual_function_is_a_slice() -> None:
    vf = Hostdev(kind="pci", address=VF1)
    row = domain_json(domain(Gpu.PASSTHROUGH, vf), slices=SLICES, functions=FUNCTIONS)
    assert (row["gpu"], row["slices"]) == (
        "slice",
        [{"uuid": None, "address": VF1, "type": "1149", "parent": CARD}],
    )
    unmade = domain(Gpu.PASSTHROUGH, Hostdev(kind="pci", address="0000:41:00.7"))
    assert domain_json(unmade, slices=SLICES, functions=FUNCTIONS)["gpu"] == "slice"
    whole = domain(Gpu.PASSTHROUGH, vf, Hostdev(kind="pci", address=IGPU))
    assert domain_json(whole, slices=SLICES, functions=FUNCTIONS)["gpu"] == "passthrough"

"""Which hostdevs are a domain's GPU, and what is meant by a word."""

from __future__ import annotations

import pytest
from tests.unit.daemon.decide.cards import AUDIO, BRIDGE, GPU, NIC, USB, WIN11, card, domain, function

from hostlerd.decide.gpu import find_device, find_slice, gpu_addresses, summary, whole_card
from hostlerd.model.domains import Gpu, Hostdev
from hostlerd.model.edits import SliceChoice
from hostlerd.model.identity import Known
from hostlerd.model.settings import DevicePolicy, Match, Settings
from hostlerd.model.slices import MdevType, Slices, Sriov

NAMES = {GPU: "AMD Navi 31 [Radeon RX 7900 XTX]", NIC: "Intel I225-V", AUDIO: "AMD Navi 31 HDMI Audio"}
GONE, GONE_AUDIO, SECOND = "0000:09:00.0", "0000:09:00.1", "0000:02:00.0"
UUID = "6695eb01-f6a4-8304-79aa-0000000000aa"


@pytest.mark.parametrize(
    ("hostdevs", "gpu"),
    [
        ((), ()),
        ((NIC,), ()),
        ((NIC, GPU, AUDIO), (GPU, AUDIO)),
        ((GONE, GONE_AUDIO, NIC), (GONE, GONE_AUDIO)),
        ((GPU, GONE), (GPU,)),
        ((GPU, "0000:01:00.7"), (GPU, "0000:01:00.7")),
    ],
    ids=[
        "none",
        "no card",
        "card",
        "a card that is gone",
        "something else is gone",
        "a function of it is gone",
    ],
)
def test_the_gpu_among_the_hostdevs(hostdevs: tuple[str, ...], gpu: tuple[str, ...]) -> None:
    assert gpu_addresses(domain(WIN11, *hostdevs, gpu=Gpu.PASSTHROUGH), card()) == gpu
    assert gpu_addresses(domain(WIN11, *hostdevs, gpu=Gpu.EMULATED), card()) == ()  # interfaces and disks


def test_what_is_gone_may_be_remembered() -> None:
    nic, gpu = Known(identity="8086:15f3:020000"), Known(identity="1002:744c:030000")
    wants = domain(WIN11, GPU, GONE, gpu=Gpu.PASSTHROUGH)
    assert gpu_addresses(domain(WIN11, GONE, gpu=Gpu.PASSTHROUGH), card(), {GONE: nic}) == ()
    assert gpu_addresses(wants, card(), {GONE: nic}) == (GPU,)
    assert gpu_addresses(wants, card(), {GONE: gpu}) == (GPU, GONE)


def test_summaries() -> None:
    functions = card()
    assert summary(domain(WIN11, GPU, AUDIO, gpu=Gpu.PASSTHROUGH), functions) == f"passthrough {GPU} {AUDIO}"
    assert summary(domain(WIN11, NIC, gpu=Gpu.PASSTHROUGH), functions) == "none"
    assert summary(domain(WIN11, gpu=Gpu.EMULATED), functions) == "emulated"
    slice_ = domain(WIN11, gpu=Gpu.SLICE)
    assert slice_.hostdevs == ()
    with_mdev = type(slice_)(name="x", uuid=WIN11, gpu=Gpu.SLICE, hostdevs=(Hostdev(kind="mdev", uuid=UUID),))
    assert summary(with_mdev, functions) == f"slice {UUID}"


def found(word: str, settings: Settings | None = None) -> list[str]:
    functions = card() | {SECOND: function(SECOND, 0x030000, "nvidia", vendor=0x10DE, device=0x2684)}
    names = NAMES | {SECOND: "NVIDIA AD102 [GeForce RTX 4090]"}
    return find_device(word, functions, names, settings or Settings())


def test_a_device_is_meant_by_address_name_of_its_section_or_part_of_its_name() -> None:
    sections = Settings(
        devices=(
            DevicePolicy(name="gaming", match=Match(vendor=0x1002)),
            DevicePolicy(name="net", match=Match(address=NIC)),
        )
    )
    assert found(GPU) == [GPU]
    assert found("gaming", sections) == [GPU]  # not its audio, which the section matches as well
    assert found("net", sections) == [NIC]
    assert found("7900 xtx") == [GPU]
    assert found("rtx") == [SECOND]
    assert found("rx") == [GPU]
    assert found("[") == [GPU, SECOND]
    assert found("I225") == []  # by a part of its name only a display card
    assert found("0000:0f:00.0") == []


def test_a_card_goes_whole_function_0_first() -> None:
    assert whole_card(AUDIO, card(), Settings()) == (GPU, AUDIO, USB)
    assert whole_card(NIC, card(), Settings()) == (NIC,)
    alone = Settings(devices=(DevicePolicy(name="x", match=Match(address=GPU), companions="none"),))
    assert whole_card(GPU, card(), alone) == (GPU,)
    assert BRIDGE not in whole_card(GPU, card(), Settings())


def test_slices() -> None:
    vfs = {f"0000:03:10.{n}": function(f"0000:03:10.{n}", 0x020000, None, physfn=NIC) for n in range(2)}
    functions = card() | vfs
    free: frozenset[str] = frozenset()
    cut = Slices(
        types=(MdevType(parent="mtty", id="mtty-1"), MdevType(parent="0000:00:02.0", id="t", name="T one")),
        sriov={SECOND: Sriov(address=SECOND, total=2, offset=128, stride=2)},
    )

    def find(word: str, taken: frozenset[str] = free) -> SliceChoice | str:
        return find_slice(word, UUID, {**functions, SECOND: functions[NIC]}, taken, cut)

    assert find("mtty-1") == SliceChoice(uuid=UUID, type="mtty-1")
    assert find("T one@0000:00:02.0") == SliceChoice(uuid=UUID, type="t", parent="0000:00:02.0")
    assert find("nvidia-63") == "no device of this host can be cut into 'nvidia-63'; there is mtty-1, t"
    assert find("t@mtty") == "mtty cannot be cut into 't'; there is mtty-1"
    assert find(NIC) == find(f"vf:{NIC}") == SliceChoice(vf="0000:03:10.0", parent=NIC)
    assert find(NIC, frozenset({"0000:03:10.0"})) == SliceChoice(vf="0000:03:10.1", parent=NIC)
    assert find(NIC, frozenset(vfs)) == f"{NIC} has 2 virtual functions, and none is free"
    assert find("vf:0000:0f:00.0") == "there is no PCI function 0000:0f:00.0 on this host"
    assert find(f"vf:{GPU}") == f"{GPU} cannot have virtual functions"
    # Of one that has none yet: those that its start will make.
    assert find(f"vf:{SECOND}") == SliceChoice(vf="0000:02:10.0", parent=SECOND)
    both = frozenset({"0000:02:10.0", "0000:02:10.2"})
    assert find(SECOND, both) == f"{SECOND} has 2 virtual functions, and none is free"

"""PCI functions, on small hosts and on recorded ones."""

from __future__ import annotations

import errno
import os

import pytest
from tests.unit.daemon.observe.recorded import shared, tree

from hostlerd.host.files import open_files
from hostlerd.host.simulated.tree import Tree
from hostlerd.model.devices import Function
from hostlerd.observe.pci import (
    has_iommu,
    observe_drivers,
    observe_functions,
    observe_kernel,
)

GPU, AUDIO = "0000:01:00.0", "0000:01:00.1"
DEVICES = "/sys/bus/pci/devices"
REAL = f"/sys/devices/pci0000:00/0000:00:01.0/{GPU}"
ATTRIBUTES = {
    "vendor": "0x1002\n",
    "device": "0x73bf\n",
    "class": "0x030000\n",
    "subsystem_vendor": "0x1da2\n",
    "subsystem_device": "0xe438\n",
    "driver_override": "(null)\n",
    "numa_node": "-1\n",
    "boot_vga": "1\n",
}


def host(*addresses: str, release: str = "6.12.0", **links: str) -> Tree:
    files = {
        f"{DEVICES}/{address}/{name}": text for address in addresses for name, text in ATTRIBUTES.items()
    }
    files["/proc/sys/kernel/osrelease"] = f"{release}\n"
    return tree(files, {f"{DEVICES}/{GPU}/{name}": target for name, target in links.items()})


def one(files: Tree) -> Function:
    return observe_functions(files)[GPU]


def test_attributes_and_links() -> None:
    files = host(GPU, driver="../../../bus/pci/drivers/amdgpu", iommu_group="../../../kernel/iommu_groups/14")
    assert one(files) == Function(
        address=GPU,
        vendor=0x1002,
        device=0x73BF,
        class_code=0x030000,
        subsystem_vendor=0x1DA2,
        subsystem_device=0xE438,
        driver="amdgpu",
        group=14,
        boot_vga=True,
    )


def test_what_is_set_and_what_is_not() -> None:
    files = host(GPU)
    files.put(f"{DEVICES}/{GPU}/driver_override", "vfio-pci\n")
    files.put(f"{DEVICES}/{GPU}/numa_node", "1\n")
    files.put(f"{DEVICES}/{GPU}/boot_vga", "0\n")
    function = one(files)
    assert (function.override, function.numa_node, function.boot_vga) == ("vfio-pci", 1, False)
    assert (function.driver, function.group, function.physfn, function.slot_label) == (None, None, None, None)
    files.put(f"{DEVICES}/{GPU}/driver_override", "\n")
    assert one(files).override is None


def test_a_virtual_function_knows_its_physical_one() -> None:
    assert one(host(GPU, physfn="../0000:01:00.4")).physfn == "0000:01:00.4"


@pytest.mark.parametrize("code", ["0x060400", "0x060401", "0x060700", "0x060900"])
def test_bridges(code: str) -> None:
    files = host(GPU)
    files.put(f"{DEVICES}/{GPU}/class", code)
    assert one(files).bridge
    assert not one(files).is_endpoint


def test_on_vfio_is_the_folder_on_newer_kernels() -> None:
    files = host(GPU, driver="../drivers/mlx5_vfio_pci")
    assert not one(files).on_vfio
    files.folder(f"{DEVICES}/{GPU}/vfio-dev/vfio0")
    assert one(files).on_vfio


@pytest.mark.parametrize(
    ("driver", "on_vfio"),
    [("vfio-pci", True), ("mlx5_vfio_pci", True), ("nvgrace-gpu-vfio-pci", True), ("nvidia", False)],
)
def test_on_vfio_is_the_driver_on_older_kernels(driver: str, on_vfio: bool) -> None:
    assert one(host(GPU, release="6.0.19", driver=f"../drivers/{driver}")).on_vfio is on_vfio


def test_slots_name_functions_and_labels_those_without() -> None:
    files = host(GPU, AUDIO, "0000:02:00.0")
    files.put("/sys/bus/pci/slots/7-1/address", "0000:01:00\n")
    files.put(f"{DEVICES}/0000:02:00.0/label", "Onboard LAN\n")
    found = observe_functions(files)
    assert [function.slot_label for function in found.values()] == ["7-1", "7-1", "Onboard LAN"]


def test_nothing_of_an_unreadable_function_is_read() -> None:
    """The simulated kernel raises WouldHang, which nothing catches, where the real one would hang."""
    files = host(GPU, AUDIO, driver="../drivers/vfio-pci", iommu_group="../iommu_groups/14")
    files.folder(f"{DEVICES}/{GPU}/vfio-dev/vfio0")
    files.locked |= {f"{DEVICES}/{GPU}/{name}" for name in ATTRIBUTES}
    seen: list[str] = []
    found = observe_functions(files, unreadable=frozenset({GPU}), progress=seen.append)
    assert seen == [AUDIO]
    assert files.hung == []
    function = found[GPU]
    assert not function.readable
    assert (function.driver, function.group, function.on_vfio) == ("vfio-pci", 14, True)
    assert found[AUDIO].readable


def test_progress_comes_before_the_first_read() -> None:
    files = host(GPU, AUDIO)
    files.locked |= {f"{DEVICES}/{AUDIO}/{name}" for name in ATTRIBUTES}
    seen: list[str] = []
    with pytest.raises(BaseException, match=AUDIO):
        observe_functions(files, progress=seen.append)
    assert seen[-1] == AUDIO


def test_a_card_being_taken_from_a_guest_is_seen_by_its_folder_and_its_lock_left_alone() -> None:
    files = host(GPU, AUDIO, release="6.1.0", iommu_group="../iommu_groups/14")
    files.folder(f"{DEVICES}/{GPU}/vfio-dev/vfio0")
    files.locked |= {f"{DEVICES}/{GPU}/driver_override", f"{DEVICES}/{GPU}/uevent"}
    function = one(files)
    assert (function.leaving, function.driver, function.on_vfio) == (True, None, True)
    assert (function.vendor, function.readable, function.override) == (0x1002, True, None)
    assert files.hung == []
    (links,) = observe_functions(files, unreadable=frozenset({GPU, AUDIO})).keys() - {AUDIO}
    assert observe_functions(files, unreadable=frozenset({GPU}))[links].leaving


@pytest.mark.parametrize(("name", "on_vfio"), [("vfio-pci", True), ("labgpu", False)])
def test_a_driver_that_has_not_let_go_is_seen_in_uevent(name: str, on_vfio: bool) -> None:
    files = host(GPU, AUDIO, release="6.12.0")
    files.put(f"{DEVICES}/{GPU}/uevent", f"DRIVER={name}\nPCI_CLASS=30000\n")
    assert not one(files).leaving  # a recording without links
    files.folder(f"/sys/bus/pci/drivers/{name}")
    function = one(files)
    assert (function.leaving, function.driver, function.on_vfio) == (True, None, on_vfio)
    files.put(f"{DEVICES}/{GPU}/uevent", "PCI_CLASS=30000\n")
    assert not one(files).leaving


class Probing(Tree):
    """A driver is bound between two looks at the link: it is set before the link is there (really_probe)."""

    def exists(self, path: str) -> bool:
        found = super().exists(path)
        if path.endswith(("/vfio-dev", "/drivers/vfio-pci")):
            self.link(f"{DEVICES}/{GPU}/driver", "/sys/bus/pci/drivers/vfio-pci")
        return found


def test_a_probe_under_way_is_no_leaving() -> None:
    for found in (
        {f"{DEVICES}/{GPU}/vfio-dev/vfio0/dev": "511:0\n"},
        {f"{DEVICES}/{GPU}/uevent": "DRIVER=vfio-pci\n"},
    ):
        files = Probing()
        files.load(host(GPU).dump())
        files.folder("/sys/bus/pci/drivers/vfio-pci")
        for path, text in found.items():
            files.put(path, text)
        assert not one(files).leaving


class Vanishing(Tree):
    """Its card is pulled out once an attribute was read."""

    def read(self, path: str) -> str:
        text = super().read(path)
        if GPU in path:
            self.discard(f"{DEVICES}/{GPU}")
        return text


class Dying(Tree):
    """Its card answers with errors, as one that fell off the bus."""

    def read(self, path: str) -> str:
        if GPU in path:
            raise OSError(errno.EIO, os.strerror(errno.EIO), path)
        return super().read(path)


@pytest.mark.parametrize("kind", [Vanishing, Dying])
def test_a_function_that_goes_away_is_left_out(kind: type[Tree]) -> None:
    files = kind()
    files.load(host(GPU, AUDIO).dump())
    assert list(observe_functions(files)) == [AUDIO]


def test_order_is_that_of_the_addresses() -> None:
    files = host("10000:e0:01.0", "0000:0a:00.0", "0000:09:00.0")
    assert list(observe_functions(files)) == ["0000:09:00.0", "0000:0a:00.0", "10000:e0:01.0"]


def test_without_the_bus_links_the_devices_are_walked() -> None:
    files = tree(
        {f"{REAL}/{name}": text for name, text in ATTRIBUTES.items()}
        | {f"{os.path.dirname(REAL)}/class": "0x060400\n"}
    )
    found = observe_functions(files)
    assert list(found) == ["0000:00:01.0", GPU]
    assert found[GPU].vendor == 0x1002


def test_a_host_without_pci() -> None:
    files = tree({"/proc/version": "x\n"})
    assert observe_functions(files) == {}
    assert observe_drivers(files) == frozenset()
    assert not has_iommu(files)


def test_drivers_and_groups_that_are_there() -> None:
    files = tree({"/sys/bus/pci/drivers/vfio-pci/new_id": "", "/sys/kernel/iommu_groups/0/type": "DMA\n"})
    assert observe_drivers(files) == {"vfio-pci"}
    assert has_iommu(files)


@pytest.mark.parametrize(
    ("path", "text", "kernel"),
    [
        ("/proc/sys/kernel/osrelease", "6.12.43+deb13-amd64\n", (6, 12)),
        ("/proc/version", "Linux version 5.10.0-8-amd64 (debian-kernel@lists.debian.org)\n", (5, 10)),
        ("/proc/version", "rubbish\n", (0, 0)),
        ("/proc/cmdline", "quiet\n", (0, 0)),
    ],
)
def test_kernel(path: str, text: str, kernel: tuple[int, int]) -> None:
    assert observe_kernel(tree({path: text})) == kernel


def test_recorded_host_with_pci() -> None:
    found = observe_functions(open_files(str(shared("topologies", "40intel64-2g2n4c+pcilocality.tar.bz2"))))
    assert len(found) == 37
    network = found["0000:43:00.0"]
    assert (network.vendor, network.driver, network.class_code) == (0x1077, "ib_qib", 0x0C0600)
    assert found["0000:09:03.0"].is_display
    assert found["0000:09:03.0"].boot_vga
    assert found["0000:00:03.0"].bridge
    assert {function.group for function in found.values()} == {None}


def test_recorded_host_with_classes_alone() -> None:
    found = observe_functions(open_files(str(shared("topologies", "nvidiagpunumanodes.tar.bz2"))))
    assert len(found) == 6
    assert {(function.vendor, function.is_display) for function in found.values()} == {(0, True)}

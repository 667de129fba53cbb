"""The VFIO driver made for a device: best alias, and what its module calls it."""

from __future__ import annotations

import pytest

from hostlerd.host.simulated.tree import Tree
from hostlerd.model.devices import Function, Variant
from hostlerd.observe.variants import variants

ADDRESS = "0000:01:00.0"
MODALIAS = "pci:v00001002d00005046sv00001AF4sd00001100bc03sc00i00"
GENERIC = "alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n"
CARD = "alias vfio_pci:v00001002d00005046sv*sd*bc*sc*i* labvfio\n"
CLASS = "alias vfio_pci:v*d*sv*sd*bc03sc*i* coarse\n"


def host(*lines: str) -> Tree:
    tree = Tree()
    tree.put("/proc/sys/kernel/osrelease", "6.12.0\n")
    if lines:
        tree.put("/lib/modules/6.12.0/modules.alias", "# Aliases extracted from modules\n" + "".join(lines))
    return tree


def found(tree: Tree, modalias: str | None = MODALIAS) -> Variant | None:
    function = Function(address=ADDRESS, vendor=0x1002, device=0x5046, class_code=0x030000, modalias=modalias)
    return variants(tree, [function])[ADDRESS]


@pytest.mark.parametrize("lines", [(GENERIC, CLASS, CARD), (CARD, CLASS, GENERIC)])
def test_the_fewest_wildcards_win_wherever_they_stand(lines: tuple[str, ...]) -> None:
    assert found(host(*lines)) == Variant(module="labvfio")


def test_of_other_hardware_nothing_is_taken() -> None:
    other = MODALIAS.replace("00005046", "00005047")
    assert found(host(GENERIC, CARD), other) is None
    assert found(host(GENERIC, CARD, CLASS), other) == Variant(module="coarse")


def test_drivers_of_the_host_are_no_variants() -> None:
    assert found(host(GENERIC, CARD.replace("vfio_pci:", "pci:"))) is None


@pytest.mark.parametrize("tree", [host(), host(GENERIC)])
def test_without_one_it_is_vfio_pci(tree: Tree) -> None:
    assert found(tree) is None


def test_a_device_that_cannot_be_read_has_none() -> None:
    assert found(host(GENERIC, CARD), None) is None


def test_a_loaded_module_tells_what_its_driver_is_called() -> None:
    tree = host(GENERIC, CARD)
    tree.put("/sys/bus/pci/drivers/lab-vfio/bind", None)
    tree.link("/sys/module/labvfio/drivers/pci:lab-vfio", "/sys/bus/pci/drivers/lab-vfio")
    assert found(tree) == Variant(module="labvfio", driver="lab-vfio")

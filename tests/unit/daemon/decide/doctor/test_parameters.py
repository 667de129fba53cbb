"""Words of the kernel command line, modprobe.d and driverctl."""

from __future__ import annotations

import pytest
from tests.unit.daemon.decide.doctor.small import AMD, by_id, findings, function, judged
from tests.unit.daemon.observe.recorded import tree

from hostlerd.model.settings import DevicePolicy, Match, Settings

GPU = "0000:01:00.0"
CARD = function(GPU, group=1, driver="amdgpu")
IDLE = Settings(devices=(DevicePolicy(name="gaming", match=Match(address=GPU), when_idle="vfio"),))


@pytest.mark.parametrize(
    ("word", "id_", "severity", "drops"),
    [
        ("iommu=pt", "parameter.iommu-pt", "note", False),
        ("amd_iommu=on", "parameter.amd_iommu-on", "note", True),
        ("intel_iommu=on,igfx_off", "parameter.intel_iommu-igfx_off", "note", False),
        ("pcie_acs_override=downstream,multifunction", "parameter.pcie_acs_override", "warning", True),
        ("video=efifb:off", "parameter.video-efifb", "note", True),
        ("video=vesafb:off,efifb:off", "parameter.video-efifb", "note", True),
        ("initcall_blacklist=sysfb_init", "parameter.initcall_blacklist-sysfb_init", "note", True),
        ("nomodeset", "parameter.nomodeset", "warning", True),
        ("pci=realloc", "parameter.pci-realloc", "note", False),
        ("pci=nomsi", "parameter.pci-nomsi", "warning", True),
        ("mitigations=off", "parameter.mitigations-off", "note", False),
    ],
)
def test_words(word: str, id_: str, severity: str, *, drops: bool) -> None:
    found = judged(tree({"/proc/cmdline": f"ro {word} quiet\n"}))
    assert by_id(found)[id_].severity == severity
    assert word in by_id(found)[id_].evidence
    assert (word in found.boot.remove) == drops
    assert found.boot.line == ("ro quiet" if drops else f"ro {word} quiet")


def test_ordinary_words_are_left_alone() -> None:
    found = judged(
        tree({"/proc/cmdline": "BOOT_IMAGE=/v ro video=1920x1080 pci=noaer mitigations=auto,nosmt\n"})
    )
    assert not [id_ for id_ in by_id(found) if id_.startswith("parameter")]
    assert found.boot.line == "ro video=1920x1080 pci=noaer mitigations=auto,nosmt"


def test_no_line_is_not_known() -> None:
    found = judged(tree({"/proc/": ""}))
    assert not by_id(found)["command-line"].known
    assert found.boot.now is None


def test_intel_s_word_on_amd() -> None:
    found = judged(tree({**AMD, "/proc/cmdline": "intel_iommu=on ro"}))
    assert "parameter.intel_iommu" in by_id(found)
    assert found.boot.line == "ro"


@pytest.mark.parametrize("name", ["vfio-pci.ids", "vfio_pci.ids"])
def test_ids_on_the_line_take_a_card_for_good(name: str) -> None:
    files, links = CARD
    files = {**files, "/proc/cmdline": f"ro {name}=10de:1,1002:73bf"}
    found = judged(tree(files, links))
    taken = by_id(found)["vfio-ids:/proc/cmdline"]
    assert taken.severity == "warning"
    assert GPU in taken.what
    assert 'when_idle = "vfio"' in taken.do
    assert found.boot.line == "ro"
    assert by_id(judged(tree(files, links), IDLE))["vfio-ids:/proc/cmdline"].severity == "note"


def test_ids_in_modprobe_d() -> None:
    files, links = CARD
    text = "# options vfio-pci ids=1:2\noptions vfio-pci ids=1002:73bf disable_vga=1\n"
    found = findings({**files, "/etc/modprobe.d/vfio.conf": text, "/etc/modprobe.d/x.bak": text}, links)
    taken = found["vfio-ids:/etc/modprobe.d/vfio.conf"]
    assert taken.severity == "warning"
    assert GPU in taken.what
    assert "initial ramdisk" in taken.do
    assert len([id_ for id_ in found if id_.startswith("vfio-ids")]) == 1


def test_ids_that_no_file_tells_of() -> None:
    files, links = CARD
    files = {**files, "/sys/module/vfio_pci/parameters/ids": "1002:73bf\n"}
    assert GPU in findings(files, links)["vfio-ids:/sys/module/vfio_pci/parameters/ids"].what
    files["/etc/modprobe.d/v.conf"] = "options vfio-pci ids=1002:73bf\n"
    assert [id_ for id_ in findings(files, links) if id_.startswith("vfio-ids")] == [
        "vfio-ids:/etc/modprobe.d/v.conf"
    ]


def test_a_rule_of_udev_s() -> None:
    rule = 'ACTION=="add", SUBSYSTEM=="pci", KERNEL=="0000:01:00.0", ATTR{driver_override}="vfio-pci"'
    path = "/etc/udev/rules.d/10-vfio.rules"
    found = findings({path: f'# {rule}\n{rule}\nACTION=="add"\n'})
    assert found[f"udev:{path}"].severity == "warning"
    assert "kept-drivers" not in found
    assert f"udev:{path}" not in findings({path: f"# {rule}\n"})


def test_ids_of_no_device_here() -> None:
    found = findings({"/etc/modprobe.d/v.conf": "options vfio_pci ids=8086:1\n"})
    assert "no device that is here" in found["vfio-ids:/etc/modprobe.d/v.conf"].what


def test_driverctl() -> None:
    found = findings(
        {"/etc/driverctl.d/pci-0000:01:00.0": "vfio-pci\n", "/etc/driverctl.d/pci-0000:02:00.0": "none\n"}
    )
    assert found["driverctl:0000:01:00.0"].severity == "warning"
    assert "driverctl:0000:02:00.0" not in found


def test_drivers_that_are_kept_away() -> None:
    found = findings(
        {
            "/proc/cmdline": "modprobe.blacklist=nouveau,pcspkr rd.driver.pre=vfio-pci module_blacklist=pcspkr",
            "/etc/modprobe.d/a.conf": "blacklist amdgpu\nsoftdep nvidia pre: vfio-pci\nblacklist pcspkr\n",
        }
    )["kept-drivers"]
    assert found.severity == "note"
    for word in ("nouveau,pcspkr", "rd.driver.pre", "blacklist amdgpu", "softdep nvidia"):
        assert word in found.what
    assert "blacklist pcspkr" not in found.what

"""KVM, the IOMMU, remapped interrupts, VFIO: a table of small trees, and what is found in each."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tests.unit.daemon.decide.doctor.small import AMD, INTEL, findings, function, judged, processors
from tests.unit.daemon.observe.recorded import tree

GROUPS = "/sys/kernel/iommu_groups/"
DMAR = {"/sys/firmware/acpi/tables/DMAR": "", "/sys/firmware/acpi/tables/FACP": ""}
IVRS = {"/sys/firmware/acpi/tables/IVRS": ""}
NO_TABLE = {"/sys/firmware/acpi/tables/FACP": ""}
CARD, _ = function("0000:01:00.0", group=None)
OFF = {GROUPS: "", **CARD}


def line(text: str) -> dict[str, str]:
    return {"/proc/cmdline": text}


@pytest.mark.parametrize(
    ("files", "severity", "words"),
    [
        ({}, "note", []),
        ({GROUPS: ""}, "note", []),  # no device: a recording of processors alone
        ({f"{GROUPS}0/": "", f"{GROUPS}1/": ""}, "ok", ["2 groups"]),
        ({**OFF, **INTEL, **DMAR, **line("quiet")}, "broken", ["boot with intel_iommu=on"]),
        (
            {**OFF, **INTEL, **NO_TABLE, **line("quiet")},
            "broken",
            ['"VT-d"', "then boot with intel_iommu=on"],
        ),
        ({**OFF, **INTEL, **line("quiet")}, "broken", ['"VT-d"', " and boot with intel_iommu=on"]),
        ({**OFF, **INTEL, **DMAR, **line("intel_iommu=on")}, "broken", ["dmesg | grep -e DMAR"]),
        ({**OFF, **INTEL, **DMAR, **line("intel_iommu=on,off")}, "broken", ["take intel_iommu=on,off off"]),
        ({**OFF, **AMD, **IVRS, **line("amd_iommu=off")}, "broken", ["take amd_iommu=off off"]),
        ({**OFF, **AMD, **IVRS, **line("quiet")}, "broken", ["dmesg | grep -e AMD-Vi"]),
        ({**OFF, **AMD, **NO_TABLE}, "broken", ['"IOMMU" (Enabled']),
        (OFF, "broken", ["switch the IOMMU on"]),
    ],
)
def test_iommu(files: Mapping[str, str], severity: str, words: list[str]) -> None:
    found = findings(files)["iommu"]
    assert found.severity == severity
    assert found.known == (severity != "note")
    assert all(word in f"{found.what} {found.do}" for word in words), found


@pytest.mark.parametrize(
    ("config", "needed"),
    [
        ("# CONFIG_INTEL_IOMMU_DEFAULT_ON is not set\nCONFIG_INTEL_IOMMU_DEFAULT_ON_INTGPU_OFF=y\n", True),
        ("CONFIG_INTEL_IOMMU_DEFAULT_ON=y\n", False),
        (None, True),
    ],
)
def test_a_kernel_that_has_intel_s_on_by_itself_needs_no_word(config: str | None, needed: bool) -> None:
    files = {**OFF, **INTEL, **DMAR, **line("ro"), "/proc/sys/kernel/osrelease": "6.1.0\n"}
    if config is not None:
        files["/boot/config-6.1.0"] = config
    boot = judged(tree(files)).boot
    assert boot.add == (("intel_iommu=on",) if needed else ())
    assert boot.line == ("ro intel_iommu=on" if needed else "ro")


def test_a_word_that_switches_it_off_goes() -> None:
    boot = judged(tree({**OFF, **INTEL, **DMAR, **line("ro intel_iommu=off iommu=off")})).boot
    assert boot.line == "ro intel_iommu=on"
    assert boot.remove == ("intel_iommu=off", "iommu=off")


@pytest.mark.parametrize(
    ("interrupts", "unsafe", "severity"),
    [
        ("  24:   1  IR-PCI-MSI 512-edge nvme0q0\n", "N", "ok"),
        ("  24:   1 PCI-MSI-0000:00:01.0   0-edge virtio0\n", "N", "broken"),
        ("   1:   1  IR-IO-APIC   1-edge i8042\n 24: 1 IR-PCI-MSIX-0000:01:00.0 0-edge x\n", "N", "ok"),
        ("  24:   1 PCI-MSI 512-edge nvme0q0\n", "Y", "warning"),
        ("  24:   1 ITS-MSI 512-edge nvme0q0\n", "N", "note"),
        (None, "N", "note"),
    ],
)
def test_interrupt_remapping(interrupts: str | None, unsafe: str, severity: str) -> None:
    files = {
        **AMD,
        f"{GROUPS}0/": "",
        "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts": f"{unsafe}\n",
    }
    if interrupts is not None:
        files["/proc/interrupts"] = f"     CPU0\n{interrupts}"
    found = findings(files)["interrupt-remapping"]
    assert (found.severity, found.known) == (severity, severity != "note")


def test_unsafe_interrupts_for_nothing() -> None:
    files = {
        **AMD,
        f"{GROUPS}0/": "",
        "/proc/interrupts": " 24: 1 IR-PCI-MSI x\n",
        "/sys/module/vfio_iommu_type1/parameters/allow_unsafe_interrupts": "Y\n",
    }
    assert findings(files)["unsafe-interrupts"].severity == "warning"


MODULES = "/lib/modules/6.1.0"
RELEASE = {"/proc/sys/kernel/osrelease": "6.1.0\n"}


@pytest.mark.parametrize(
    ("files", "severity"),
    [
        ({}, "note"),
        ({"/sys/bus/pci/drivers/vfio-pci/bind": ""}, "ok"),
        ({**RELEASE, f"{MODULES}/modules.dep": "kernel/drivers/vfio/pci/vfio-pci.ko.xz: a\n"}, "ok"),
        ({**RELEASE, f"{MODULES}/modules.builtin": "kernel/drivers/vfio/pci/vfio-pci.ko\n"}, "ok"),
        ({**RELEASE, f"{MODULES}/modules.dep": "kernel/drivers/net/e1000.ko:\n"}, "broken"),
    ],
)
def test_vfio(files: Mapping[str, str], severity: str) -> None:
    assert findings(files)["vfio"].severity == severity


def test_the_modules_of_a_kernel_that_was_updated_are_gone() -> None:
    files = {**RELEASE, "/lib/modules/6.1.1/modules.dep": ""}
    assert findings(files, live=True)["modules"].severity == "broken"
    loaded = {**files, "/sys/bus/pci/drivers/vfio-pci/bind": ""}
    assert findings(loaded, live=True)["modules"].severity == "warning"
    assert "modules" not in findings(files)  # a recording may lack them


DOMAIN = {"/etc/libvirt/qemu/a.xml": "<domain type='kvm'><name>a</name></domain>"}


@pytest.mark.parametrize(
    ("files", "live", "severity"),
    [
        ({}, False, "note"),
        (AMD, False, "ok"),
        ({**AMD, "/dev/kvm": ""}, True, "ok"),
        (AMD, True, "broken"),
        ({"/proc/cpuinfo": "vendor_id : AuthenticAMD\nflags : fpu\n"}, False, "warning"),
        ({"/proc/cpuinfo": "vendor_id : AuthenticAMD\nflags : fpu\n", **DOMAIN}, False, "broken"),
    ],
)
def test_kvm(files: Mapping[str, str], *, live: bool, severity: str) -> None:
    assert findings(files, live=live)["kvm"].severity == severity


def test_nothing_of_a_bare_host_is_broken() -> None:
    assert judged(processors()).worst in ("ok", "note")
    assert judged(tree({"/proc/": ""})).worst in ("ok", "note")

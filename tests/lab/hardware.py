"""The machine that the guest sees, as QEMU arguments.

- 1 socket, 2 dies, 2 cores each, 2 threads each: 8 CPUs, 4 SMT pairs, 2 L3 caches, 2 NUMA nodes.
- 01:00.0 and 01:00.1: an AMD display card with an audio function, one IOMMU group, boot_vga=1, no display driver. The
  audio function has a codec, so that there is a stream to open.
- 02:00.0: a card held by a real DRM driver (bochs-drm) that owns fb0 and the console.
- 03:00.0: a USB controller, bus `xhci.0`, ports 1 to 4 for devices by QMP.
- 04: an empty slot for hotplug (QMP `device_add ... bus=rp4`), with room for a card's memory.
- 05:00.0: an NVMe drive with SR-IOV: 4 VFs, and managed interrupts that refuse to move.
- 06:00.0: a PCIe-to-PCI bridge; behind it 07:01.0 (audio) and 07:02.0 (a network card, foreign to it) share one group,
  because a conventional bus gives the IOMMU one requester for all.

`thread=single` is not for taste: with 8 CPUs on two cores `thread=multi` loses half of the boots (panics while the
kernel patches its own code, lost timers), on QEMU 7.2 and 10.0 alike. Inside, libvirt's QEMU gives each vCPU a thread.
"""

from typing import Literal

Firmware = Literal["seabios", "ovmf"]
"""With ovmf the card at 02:00.0 is the boot display, and bochs is not loaded: the EFI framebuffer (efifb) has it."""

OVMF_CODE = "/usr/share/OVMF/OVMF_CODE_4M.fd"
OVMF_VARIABLES = "/usr/share/OVMF/OVMF_VARS_4M.fd"

PROCESSOR = (
    *("-machine", "q35,kernel-irqchip=split,sata=off,smbus=off,i8042=off", "-nodefaults"),
    *("-accel", "tcg,thread=single,tb-size=1024"),
    *("-cpu", "Skylake-Server,check=off"),
    *("-smp", "8,sockets=1,dies=2,cores=2,threads=2", "-m", "4096"),
    *("-object", "memory-backend-ram,id=m0,size=2G", "-object", "memory-backend-ram,id=m1,size=2G"),
    *("-numa", "node,memdev=m0,cpus=0-3", "-numa", "node,memdev=m1,cpus=4-7"),
)

DEVICES = (
    "intel-iommu,intremap=on,caching-mode=on,device-iotlb=on",
    "pcie-root-port,id=rp1,chassis=1,slot=1",
    "ati-vga,bus=rp1,addr=0.0,multifunction=on,romfile=",
    "intel-hda,id=sound1,bus=rp1,addr=0.1",
    "hda-output,bus=sound1.0,audiodev=silence",
    "pcie-root-port,id=rp2,chassis=2,slot=2",
    "bochs-display,bus=rp2",
    "pcie-root-port,id=rp3,chassis=3,slot=3",
    "qemu-xhci,id=xhci,bus=rp3",
    "pcie-root-port,id=rp4,chassis=4,slot=4,pref32-reserve=32M",
    "nvme-subsys,id=ss0",
    "pcie-root-port,id=rp5,chassis=5,slot=5",
    "nvme,serial=lab,bus=rp5,subsys=ss0,max_ioqpairs=10,msix_qsize=20,sriov_max_vfs=4,sriov_vq_flexible=8,sriov_vi_flexible=4",
    "pcie-root-port,id=rp6,chassis=6,slot=6",
    "pcie-pci-bridge,id=br6,bus=rp6",
    "intel-hda,bus=br6,addr=1",
    "e1000,bus=br6,addr=2,romfile=",
)

# The last line saves a tenth of a boot: no login on the serial port, no rebuilding of caches that the image has.
KERNEL = (
    "root=/dev/vda rw console=ttyS0 intel_iommu=on iommu=pt mitigations=off panic=-1 quiet systemd.show_status=0 "
    "systemd.getty_auto=0 systemd.condition_needs_update=0"
)


def arguments(firmware: Firmware) -> list[str]:
    """Arguments of qemu-system-x86_64 for everything but disk, share and serial ports."""
    devices = [word for device in DEVICES for word in ("-device", device)]
    kernel = KERNEL
    flash: tuple[str, ...] = ()
    if firmware == "ovmf":
        kernel += " modprobe.blacklist=bochs"
        # What the firmware would remember is forgotten: `snapshot` keeps writes in a temporary file.
        flash = (
            *("-drive", f"if=pflash,unit=0,format=raw,readonly=on,file={OVMF_CODE}"),
            *("-drive", f"if=pflash,unit=1,format=raw,snapshot=on,file={OVMF_VARIABLES}"),
        )
    quiet = ("-audiodev", "none,id=silence", "-nic", "none", "-display", "none", "-vga", "none")
    return [*PROCESSOR, *flash, *quiet, *devices, "-append", kernel]

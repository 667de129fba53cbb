"""USB devices to and from running domains, through libvirt, which has QEMU open and let go of them.

Read back from the live XML that libvirt shows afterwards. A device that was unplugged while a domain had it stays in
that XML until it is detached: libvirt is not told, and QEMU keeps an empty shell.
"""

from __future__ import annotations

from hostler.errors import HostFailed
from hostlerd.host import Host
from hostlerd.model.plan import AttachUsb, DetachUsb
from hostlerd.model.usb import UsbDevice

DEVICES = "/sys/bus/usb/devices"


def is_gone(host: Host, device: UsbDevice) -> bool:
    """Whether it was pulled out; one that was plugged in again has another number. Takes no lock of the device."""
    try:
        return host.files.read(f"{DEVICES}/{device.port}/devnum").strip() != str(device.number)
    except OSError:
        return True


async def attach_usb(host: Host, step: AttachUsb) -> None:
    """Raises what the hypervisor raises, and HostFailed."""
    device = step.device
    if is_gone(host, device):
        raise HostFailed(f"{device.label} is gone: it was pulled out meanwhile", data={"object": step.object})
    live = await host.hypervisor.attach_usb(step.uuid, device)
    if not any(source.mark == device.mark and source.names(device) for source in live.usb_sources):
        raise HostFailed(
            f"libvirt took {device.label} for {step.after} and does not list it", data={"object": step.object}
        )


async def detach_usb(host: Host, step: DetachUsb) -> None:
    """Raises what the hypervisor raises, and HostFailed where the guest has not let go; it may, later."""
    live = await host.hypervisor.detach_usb(step.uuid, step.device)
    if any(source.mark == step.device.mark for source in live.usb_sources):
        raise HostFailed(
            f"{step.before} has not let go of {step.object} yet",
            remedy="it may when its guest goes on; else stop it",
            data={"object": step.object},
        )

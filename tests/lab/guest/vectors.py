"""Turns the MSI of a guest's device on and off in the guest's place: `vectors.py PID`, one word a line on its input.

The device is QEMU's own open file, fetched with pidfd_getfd(2), since a group has one owner; the ioctls are those that
QEMU makes when a driver in the guest enables interrupts (include/uapi/linux/vfio.h).
"""

import ctypes
import fcntl
import os
import struct
import sys

PIDFD_GETFD = 438
GET_IRQ_INFO, SET_IRQS = 0x3B6D, 0x3B6E
INTX, MSI = 0, 1
NONE, EVENTFD, TRIGGER = 1, 4, 32


def fetched(pid: int) -> list[int]:
    """The VFIO devices that a process has open."""
    pidfd, syscall = os.pidfd_open(pid), ctypes.CDLL(None, use_errno=True).syscall
    folder = f"/proc/{pid}/fd"
    numbers = [
        int(n) for n in os.listdir(folder) if os.readlink(f"{folder}/{n}") == "anon_inode:[vfio-device]"
    ]
    found = [syscall(PIDFD_GETFD, pidfd, number, 0) for number in numbers]
    if -1 in found:
        raise OSError(ctypes.get_errno(), "pidfd_getfd")
    return found


def vectors(device: int) -> int:
    info = fcntl.ioctl(device, GET_IRQ_INFO, struct.pack("4I", 16, 0, MSI, 0))
    return struct.unpack("4I", info)[3]


def off(device: int, index: int) -> None:
    fcntl.ioctl(device, SET_IRQS, struct.pack("5I", 20, NONE | TRIGGER, index, 0, 0))


def on(device: int, event: int) -> None:
    off(device, INTX)
    fcntl.ioctl(device, SET_IRQS, struct.pack("5Ii", 24, EVENTFD | TRIGGER, MSI, 0, 1, event))


def main() -> None:
    device = next(device for device in fetched(int(sys.argv[1])) if vectors(device))
    event = os.eventfd(0)
    for line in sys.stdin:
        if line.strip() == "on":
            on(device, event)
        else:
            off(device, MSI)
        print(line.strip(), flush=True)


if __name__ == "__main__":
    main()

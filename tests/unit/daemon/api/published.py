"""What a pass publishes, for the tests of the D-Bus face: the shapes of the command line's JSON."""

from hostlerd.api import Published

UUID = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
ROOT = "/org/hostler1"
CARD = f"{ROOT}/device/_0000_01_00_0"
GUEST = f"{ROOT}/domain/_4dea22b3_1d52_d8f3_2516_782e98ab3fa0"

DEVICE_JSON = {
    "address": "0000:01:00.0",
    "name": "NVIDIA AD102",
    "vendor": "10de",
    "device": "2684",
    "class": "030000",
    "driver": "nvidia",
    "iommu_group": 14,
    "group": ["0000:01:00.1"],
    "companions": ["0000:01:00.1"],
    "numa_node": None,
    "boot_vga": True,
    "owner": {"kind": "host", "who": None},
    "holders": [],
}
DOMAIN_JSON = {
    "state": "running",
    "name": "win11",
    "uuid": UUID,
    "type": "kvm",
    "vcpus": {"current": 4, "maximum": 8},
    "topology": None,
    "vcpu_pins": {"0": [2, 10], "1": [3]},
    "emulator_pins": None,
    "iothreads": 1,
    "iothread_pins": {"1": [0, 1]},
    "hostdevs": [
        {"kind": "pci", "address": "0000:01:00.0", "managed": True},
        {"kind": "usb", "source": "1:2"},
    ],
    "numa_cells": [],
    "hugepages": False,
    "gpu": "passthrough",
    "placement": {"mode": "dedicated", "why": "", "vcpus": [[2], [3]], "emulator": [4], "idle": [5, 7]},
}
STATUS_JSON = {
    "version": "0.1.0",
    "state": "converged",
    "pass": 3,
    "devices": [],
    "domains": [],
    "isolation": {"cpus": [2, 3, 4, 5], "for": ["win11"]},
    "degraded": [{"object": "0000:02:00.0", "reason": "it hangs", "since": 1.5, "remedy": "reboot"}],
}
PUBLISHED = Published(
    status=STATUS_JSON,
    devices=(DEVICE_JSON,),
    domains=(DOMAIN_JSON,),
    cpus={"online": [0]},
    plan={"steps": []},
)

"""A small reader of domain XML, until `hostlerd.observe.domain_xml` is there."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from hostlerd.host.simulated import domain_text
from hostlerd.model.domains import Definition, Gpu, GuestTopology, Hostdev


def parse(text: str) -> Definition:
    root = ET.fromstring(text)  # noqa: S314  # simulated
    topology = root.find("cpu/topology")
    pins = domain_text.pins(text)
    hostdevs = domain_text.pci_hostdevs(text)
    ids = domain_text.iothreads(text)
    return Definition(
        name=root.findtext("name", ""),
        uuid=root.findtext("uuid", ""),
        type=root.get("type", "kvm"),
        vcpus=domain_text.vcpus(text),
        max_vcpus=int(root.findtext("vcpu", "1")),
        topology=None
        if topology is None
        else GuestTopology(
            sockets=int(topology.get("sockets", "1")),
            dies=int(topology.get("dies", "1")),
            cores=int(topology.get("cores", "1")),
            threads=int(topology.get("threads", "1")),
        ),
        vcpu_pins={number: cpus for (kind, number), cpus in pins.items() if kind == "vcpupin"},
        emulator_pins=pins.get(("emulatorpin", 0)),
        iothreads=len(ids),
        iothread_ids=tuple(ids),
        iothread_pins={number: cpus for (kind, number), cpus in pins.items() if kind == "iothreadpin"},
        hostdevs=tuple(Hostdev(kind="pci", address=h.address, managed=h.managed) for h in hostdevs),
        gpu=Gpu.PASSTHROUGH if hostdevs else Gpu.NONE,
    )

"""The JSON of `hostler domains`."""

from __future__ import annotations

from dataclasses import replace

from hostlerd.model.domains import Cell, Definition, Gpu, GuestTopology, Hostdev
from hostlerd.model.edits import Edit
from hostlerd.report.domains import domain_json, edit_json

UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"


def test_shape() -> None:
    definition = Definition(
        name="win11",
        uuid=UUID,
        vcpus=2,
        max_vcpus=4,
        topology=GuestTopology(sockets=1, dies=1, cores=2, threads=2),
        vcpu_pins={0: frozenset({10, 2})},
        emulator_pins=frozenset({1}),
        iothreads=1,
        iothread_pins={1: frozenset({1})},
        hostdevs=(
            Hostdev(kind="pci", address="0000:01:00.0", managed=True),
            Hostdev(kind="mdev", uuid=UUID, managed=True),
            Hostdev(kind="usb", source="046d:c52b"),
        ),
        cells=(Cell(cpus=frozenset({1, 0}), memory_kib=1024),),
        hugepages=True,
        gpu=Gpu.PASSTHROUGH,
    )
    assert domain_json(definition, file="win11.xml") == {
        "file": "win11.xml",
        "name": "win11",
        "uuid": UUID,
        "type": "kvm",
        "vcpus": {"current": 2, "maximum": 4},
        "topology": {"sockets": 1, "dies": 1, "cores": 2, "threads": 2},
        "vcpu_pins": {"0": [2, 10]},
        "emulator_pins": [1],
        "iothreads": 1,
        "iothread_pins": {"1": [1]},
        "hostdevs": [
            {"kind": "pci", "address": "0000:01:00.0", "managed": True},
            {"kind": "mdev", "uuid": UUID},
            {"kind": "usb", "source": "046d:c52b"},
        ],
        "numa_cells": [{"cpus": [0, 1], "memory_kib": 1024}],
        "hugepages": True,
        "gpu": "passthrough",
        "slices": [{"uuid": UUID, "address": None, "type": None, "parent": None}],
        "notes": [
            (
                "managed='yes': libvirt rebinds 0000:01:00.0, too, since 10.0 to the VFIO driver "
                "that it thinks best; managed='no' leaves that to hostler alone"
            )
        ],
    }


def test_what_is_not_there_is_null_or_empty() -> None:
    found = domain_json(Definition(name="a", uuid=""), state="shut off")
    assert found["state"] == "shut off"
    assert "file" not in found
    assert (found["uuid"], found["topology"], found["emulator_pins"]) == (None, None, None)
    assert found["notes"] == []
    problem = Definition(name="a", uuid="", problems=("its metadata makes no sense",))
    assert domain_json(problem, state="shut off")["notes"] == ["its metadata makes no sense"]
    assert (found["vcpu_pins"], found["hostdevs"], found["gpu"]) == ({}, [], "none")


def test_the_newest_edit_is_told() -> None:
    edit = Edit(
        uuid="u",
        name="n",
        kind="gpu",
        by="fallback",
        before="a",
        after="b",
        changes=(),
        lacks=("0000:01:00.0",),
    )
    older = replace(edit, by="user")
    assert edit_json({"u": (older, edit)}, "u") == {
        "kind": "gpu",
        "by": "fallback",
        "before": "a",
        "after": "b",
        "waits_for": ["0000:01:00.0"],
        "since": 0.0,
    }
    assert edit_json({"u": (edit,)}, "v") is None
    assert edit_json({"u": (edit,)}, None) is None

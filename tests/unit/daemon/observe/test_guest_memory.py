"""Where a guest's memory is, from numa_maps as kernels write it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlerd.host.simulated.tree import Tree
from hostlerd.model.guest_memory import Placed
from hostlerd.observe.guest_memory import guest_memory, parse_numa_maps

UUID = "6695eb01-f6a4-8304-79aa-000000000001"
MAPS = """\
55d0c0a00000 default file=/usr/bin/qemu-system-x86_64 mapped=1200 mapmax=2 active=0 N0=1000 N1=200 kernelpagesize_kB=4
7f0000000000 bind:1 file=/dev/hugepages/1-win11/ram\\040(deleted) huge dirty=512 N1=512 kernelpagesize_kB=2048
7f1000000000 prefer:0 anon=262144 dirty=262144 active=0 N0=262000 N1=144 kernelpagesize_kB=4
7f2000000000 default file=anon_inode:[vfio-device]
7f3000000000 default heap
"""
"""By show_numa_map: a transparent huge page counts as 512 pages of 4 KiB, one of hugetlbfs as one of its size."""


def test_pages_are_counted_in_their_own_size() -> None:
    placed = parse_numa_maps(MAPS.splitlines())
    assert placed == Placed(((0, 1000 * 4 + 262000 * 4), (1, 200 * 4 + 512 * 2048 + 144 * 4)))
    assert placed.nodes == {0, 1}
    assert placed.on([1]) == dict(placed.kib)[1]


def test_a_node_with_little_does_not_count() -> None:
    placed = Placed(((0, 1 << 20), (1, 1 << 10)))
    assert placed.nodes == {0}
    assert not Placed().nodes
    assert placed.is_all(1 << 20)
    assert not placed.is_all(1 << 21)
    assert not placed.says_something(1 << 30)


def process(**files: str) -> Tree:
    tree = Tree()
    known = {"/run/libvirt/qemu/win11.pid": "4001\n", "/proc/4001/cmdline": f"qemu\0-uuid\0{UUID}\0"}
    for path, text in {**known, "/proc/4001/numa_maps": MAPS, **files}.items():
        tree.put(path, text)
    return tree


def test_of_the_process_that_libvirt_names() -> None:
    assert guest_memory(process(), "win11", UUID) == parse_numa_maps(MAPS.splitlines())


@pytest.mark.parametrize(
    "files",
    [
        {"/run/libvirt/qemu/win11.pid": "x"},
        {"/run/libvirt/qemu/win11.pid": "4002"},
        {"/proc/4001/cmdline": "sleep\0600\0"},
    ],
)
def test_a_file_that_was_left_behind_says_nothing(files: dict[str, str]) -> None:
    assert guest_memory(process(**files), "win11", UUID) is None


def test_a_process_that_has_ended_says_nothing() -> None:
    tree = process()
    tree.discard("/proc/4001/numa_maps")
    assert guest_memory(tree, "win11", UUID) is None
    assert guest_memory(Tree(), "win11", UUID) is None


@given(st.lists(st.text(), max_size=5))
def test_whatever_a_line_says_there_is_an_answer(lines: list[str]) -> None:
    assert parse_numa_maps(lines).total >= 0

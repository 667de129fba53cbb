"""<hugepages> and memory devices, as libvirt reads them."""

from __future__ import annotations

import pytest

from hostler.errors import BadInput
from hostlerd.model.hugepages import Dimm, PageSize
from hostlerd.observe.domain_xml import parse_domain

GIB = 1 << 20
CELLS = "<cpu><numa><cell cpus='0' memory='1' unit='GiB'/><cell cpus='1' memory='1' unit='GiB'/></numa></cpu>"


def domain(body: str) -> str:
    return f"<domain type='kvm'><name>a</name><memory unit='GiB'>4</memory><vcpu>2</vcpu>{body}</domain>"


def backing(pages: str) -> str:
    return f"<memoryBacking><hugepages>{pages}</hugepages></memoryBacking>"


@pytest.mark.parametrize(
    ("body", "sizes"),
    [
        ("<memoryBacking><locked/></memoryBacking>", ()),
        (backing(""), (PageSize(),)),
        (backing("<page size='1' unit='GiB'/>"), (PageSize(kib=GIB),)),
        (backing("<page size='2048'/>"), (PageSize(kib=2048),)),
        # A guest without cells counts as cell 0.
        (backing("<page size='2048' nodeset='0'/>"), (PageSize(kib=2048),)),
        (
            CELLS + backing("<page size='2048'/><page size='1' unit='G' nodeset='1'/>"),
            (PageSize(kib=2048), PageSize(kib=GIB, cells=frozenset({1}))),
        ),
    ],
)
def test_sizes(body: str, sizes: tuple[PageSize, ...]) -> None:
    found = parse_domain(domain(body))
    assert found.page_sizes == sizes
    assert found.hugepages == bool(sizes)
    assert found.asks_for_hugepages == bool(sizes)


def test_memory_devices_that_are_there_from_the_start() -> None:
    found = parse_domain(
        domain(
            f"{CELLS}<devices>"
            "<memory model='dimm'><source><pagesize unit='KiB'>2048</pagesize></source>"
            "<target><size unit='MiB'>512</size><node>1</node></target></memory>"
            "<memory model='virtio-mem'><target><size unit='GiB'>8</size><node>0</node>"
            "<block unit='MiB'>2</block><requested unit='GiB'>1</requested></target></memory>"
            "<memory model='nvdimm'><source><path>/tmp/nvdimm</path></source>"
            "<target><size unit='GiB'>1</size><node>0</node></target></memory></devices>"
        )
    )
    assert found.dimms == (Dimm(kib=GIB // 2, cell=1, page_kib=2048), Dimm(kib=GIB, cell=0))
    assert found.asks_for_hugepages


@pytest.mark.parametrize("page", ["<page size='0'/>", "<page size='2048' nodeset='2'/>", "<page/>"])
def test_wrong_pages(page: str) -> None:
    with pytest.raises(BadInput, match="<page"):
        parse_domain(domain(CELLS + backing(page)))


def test_a_device_of_a_cell_that_there_is_not() -> None:
    with pytest.raises(BadInput, match="no NUMA cell 5"):
        parse_domain(
            domain(f"{CELLS}<devices><memory model='dimm'><target><node>5</node></target></memory></devices>")
        )

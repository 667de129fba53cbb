"""The kernel's command line, taken apart as the kernel does it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlerd.model.command_line import CommandLine, parse_cpus, parse_isolcpus


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ()),
        ("ro quiet\n", ("ro", "quiet")),
        ('dyndbg="file drivers/vfio/* +p" ro', ('dyndbg="file drivers/vfio/* +p"', "ro")),
        ('x="open', ('x="open',)),
        ("ro -- isolcpus=1", ("ro",)),
    ],
)
def test_words(text: str, words: tuple[str, ...]) -> None:
    assert CommandLine(text=text).words == words


def test_what_the_loader_adds_is_no_setting() -> None:
    line = CommandLine(text="BOOT_IMAGE=/vmlinuz initrd=\\initrd ro root=/dev/sda1")
    assert line.settings == ("ro", "root=/dev/sda1")


def test_values() -> None:
    line = CommandLine(text='vfio_pci.ids=a intel_iommu=on,igfx_off vfio-pci.ids="b,c" quiet')
    assert line.values("vfio-pci.ids") == ("a", "b,c")
    assert line.value("vfio-pci.ids") == "b,c"
    assert line.value("quiet") == ""
    assert line.value("nohz_full") is None
    assert line.has("intel_iommu", "on")
    assert not line.has("intel_iommu", "off")
    assert line.written("vfio-pci.ids") == ("vfio_pci.ids=a", 'vfio-pci.ids="b,c"')


@pytest.mark.parametrize(
    ("value", "flags", "cpus"),
    [
        ("2-3", {"domain"}, {2, 3}),
        ("managed_irq,domain,1,3", {"managed_irq", "domain"}, {1, 3}),
        ("managed_irq,1", {"managed_irq"}, {1}),
        ("novelty,1", {"domain"}, {1}),  # "Skipped unknown flag"
        ("nov3lty,1", {"domain"}, None),  # "Invalid flag": the whole word is overlooked
        ("domain", {"domain"}, None),
        ("1-", {"domain"}, None),
    ],
)
def test_isolcpus(value: str, flags: set[str], cpus: set[int] | None) -> None:
    told = parse_isolcpus(value)
    assert (set(told.flags), None if told.cpus is None else set(told.cpus)) == (flags, cpus)


def test_cpu_lists() -> None:
    possible = frozenset(range(8))
    assert parse_cpus("all", possible=possible) == possible
    assert parse_cpus("4-N", possible=possible) == frozenset({4, 5, 6, 7})
    assert parse_cpus("", possible=possible) is None
    assert parse_cpus("x", possible=possible) is None


@given(st.text())
def test_any_text_is_a_line(text: str) -> None:
    line = CommandLine(text=text)
    assert set(line.settings) <= set(line.words)
    for word in line.words:
        assert not any(char in word.partition('"')[0] for char in " \n\t")
        parse_isolcpus(word)

"""A function's memory: its BARs, as the kernel's `resource` file has them, and the sizes they can have."""

from __future__ import annotations

from dataclasses import dataclass

BARS = 6
"""Of a function; the lines after them in `resource` are its ROM and what a bridge or VFs have."""
MIB = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A resizable BAR. `size` in MiB; `sizes`: bit n says that it can have 2^n MiB (pci_rebar_get_possible_sizes)."""

    index: int
    size: int
    sizes: int

    @property
    def largest(self) -> int:
        return 1 << self.sizes.bit_length() >> 1

    def can_be(self, mebibytes: int) -> bool:
        return bool(self.sizes & mebibytes) and mebibytes & (mebibytes - 1) == 0


def regions(text: str | None) -> tuple[tuple[int, int], ...]:
    """(start, bytes) of each BAR; 0 bytes where there is none (pci-sysfs.c, resource_show)."""
    found: list[tuple[int, int]] = []
    for line in (text or "").splitlines()[:BARS]:
        try:
            start, end = (int(word, 16) for word in line.split()[:2])
        except ValueError:
            start = end = 0
        found.append((start, end - start + 1 if end else 0))
    return tuple(found)


def size_of(text: str | None, bar: int) -> int | None:
    """In MiB; None where it has no whole one, or there is no such BAR."""
    every = regions(text)
    size = every[bar][1] // MIB if bar < len(every) else 0
    return size or None


def memory(text: str | None) -> str:
    """Where the BARs are, to be compared."""
    return " ".join(f"{start:x}+{size:x}" for start, size in regions(text) if size)

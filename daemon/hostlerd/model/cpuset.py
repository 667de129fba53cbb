"""CPU lists: the kernel's text form ("0-3,8") and systemd's bit mask, to and from frozen sets."""

from __future__ import annotations

from collections.abc import Iterable

CpuSet = frozenset[int]


def parse_cpu_list(text: str) -> CpuSet:
    """The set for a kernel list such as ``0-3,8,10-14:2/4`` (cpuset(7), List format); empty text is the empty set.

    Raises ValueError with the piece that makes no sense.
    """
    cpus: set[int] = set()
    for piece in text.replace("\n", ",").split(","):
        piece = piece.strip()  # noqa: PLW2901
        if not piece:
            continue
        span, _, group = piece.partition(":")
        low, dash, high = span.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise ValueError(f"{piece!r} is not a CPU or a range of CPUs")
        first, last = int(low), int(high or low)
        if last < first or last > 65535:
            raise ValueError(f"{piece!r} is not a range of CPUs")
        if group:
            used, _, size = group.partition("/")
            if not (used.isdecimal() and size.isdecimal() and int(size)):
                raise ValueError(f"{piece!r} is not a range of CPUs")
            cpus.update(c for c in range(first, last + 1) if (c - first) % int(size) < int(used))
        else:
            cpus.update(range(first, last + 1))
    return frozenset(cpus)


def parse_cpu_mask(text: str) -> CpuSet:
    """The set for a kernel hexadecimal mask such as ``ff,00000003`` (cpuset(7), Mask format)."""
    value = int(text.strip().replace(",", "") or "0", 16)
    return frozenset(i for i in range(value.bit_length()) if value >> i & 1)


def format_cpu_mask(cpus: Iterable[int], *, like: str) -> str:
    """The kernel's hexadecimal text for a set, with as many digits as `like`, which the kernel printed (%*pb)."""
    digits = len(like.replace(",", ""))
    plain = f"{sum(1 << cpu for cpu in set(cpus)):0{digits}x}"
    first = len(plain) % 8
    pieces = [plain[i : i + 8] for i in range(first, len(plain), 8)]
    return ",".join([plain[:first], *pieces] if first else pieces)


def format_cpu_list(cpus: Iterable[int]) -> str:
    """The kernel's canonical text for a set: ``0-3,8``."""
    pieces: list[str] = []
    run: list[int] = []
    for cpu in [*sorted(set(cpus)), -1]:
        if run and cpu != run[-1] + 1:
            pieces.append(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}")
            run = []
        run.append(cpu)
    return ",".join(pieces)


def to_bytes(cpus: Iterable[int]) -> bytes:
    """systemd's wire form of AllowedCPUs: a little-endian bit mask (org.freedesktop.systemd1(5))."""
    value = sum(1 << cpu for cpu in set(cpus))
    return value.to_bytes((value.bit_length() + 7) // 8, "little")


def from_bytes(mask: bytes) -> CpuSet:
    value = int.from_bytes(mask, "little")
    return frozenset(i for i in range(value.bit_length()) if value >> i & 1)

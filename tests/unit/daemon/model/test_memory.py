"""BARs, as `resource` has them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hostlerd.model.memory import Bar, memory, regions, size_of

TEXT = (
    "0x000000c000000000 0x000000c00fffffff 0x000000000014220c\n"
    "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
    "0x00000000fe000000 0x00000000fe000fff 0x0000000000040200\n"
)


def test_sizes_and_places() -> None:
    assert regions(TEXT) == ((0xC000000000, 1 << 28), (0, 0), (0xFE000000, 4096))
    assert [size_of(TEXT, n) for n in (0, 1, 2, 3)] == [256, None, None, None]
    assert memory(TEXT) == "c000000000+10000000 fe000000+1000"


def test_what_makes_no_sense_is_nothing() -> None:
    assert regions("x y\n") == ((0, 0),)
    assert size_of(None, 0) is None
    assert memory(None) == ""


@given(sizes=st.integers(1, (1 << 44) - 1))
def test_the_largest_is_one_that_it_can_be(sizes: int) -> None:
    bar = Bar(index=0, size=1, sizes=sizes)
    assert bar.can_be(bar.largest)
    assert not bar.can_be(bar.largest * 2)
    assert not bar.can_be(3)

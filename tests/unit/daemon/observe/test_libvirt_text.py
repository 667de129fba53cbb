"""libvirt's way of writing values."""

from __future__ import annotations

import contextlib
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.errors import BadInput
from hostlerd.model.cpuset import CpuSet, format_cpu_list
from hostlerd.observe.libvirt_text import cpu_set, kib, label, number, pci_address, uuid, wrong

HERE = Element("here")


@pytest.mark.parametrize(
    ("word", "value"), [("10", 10), ("0x0a", 10), ("0X0A", 10), ("012", 10), ("0", 0), ("00", 0), (" 7 ", 7)]
)
def test_numbers_are_as_in_c(word: str, value: int) -> None:
    assert number(HERE, word, "it") == value


@pytest.mark.parametrize(
    "word", ["", "0x", "-1", "+1", "1.5", "08", "1_000", "0x1_0", "ten", "٣", "0b1", "9" * 40]
)
def test_other_words_are_no_numbers(word: str) -> None:
    with pytest.raises(BadInput):
        number(HERE, word, "it")


@pytest.mark.parametrize(
    ("size", "unit", "found"),
    [
        ("1", None, 1),
        ("1", "KiB", 1),
        ("1", "k", 1),
        ("1000", "KB", 977),
        ("1", "b", 1),
        ("2048", "bytes", 2),
        ("3", "MiB", 3072),
        ("3", "m", 3072),
        ("1", "GB", 976563),
        ("2", "T", 2 << 30),
        ("1", "EiB", 1 << 50),
    ],
)
def test_sizes_are_rounded_up_to_kib(size: str, unit: str | None, found: int) -> None:
    assert kib(HERE, size, unit) == found


@pytest.mark.parametrize("unit", ["", "x", "KiBi", "ki", "bb"])
def test_units_that_are_none(unit: str) -> None:
    if unit:
        with pytest.raises(BadInput):
            kib(HERE, "1", unit)
    else:
        assert kib(HERE, "1", unit) == 1


def parse(word: str) -> CpuSet:
    return cpu_set(Element("here", cpuset=word), "cpuset")


@pytest.mark.parametrize(
    ("word", "cpus"),
    [
        ("0-3,^2", {0, 1, 3}),
        ("^2,0-3", {0, 1, 2, 3}),
        ("1-7,^3,^5,3", {1, 2, 3, 4, 6, 7}),
        (" 4 , 6 - 7 ", {4, 6, 7}),
        ("16383", {16383}),
    ],
)
def test_sets(word: str, cpus: set[int]) -> None:
    assert parse(word) == cpus


@pytest.mark.parametrize(
    "word", ["", ",", "1,", "a", "1-", "-1", "^1-2,0-3", "1 2", "2-1", "0-16384", "5,^5", "1--2"]
)
def test_wrong_sets(word: str) -> None:
    with pytest.raises(BadInput) as caught:
        parse(word)
    assert caught.value.message.startswith(f"<here cpuset='{word}'>: ")


@given(st.frozensets(st.integers(0, 300), min_size=1))
def test_the_kernels_lists_are_sets(cpus: CpuSet) -> None:
    assert parse(format_cpu_list(cpus)) == cpus


@given(st.text(max_size=12))
def test_any_word_is_a_set_or_bad_input(word: str) -> None:
    with contextlib.suppress(BadInput):
        assert parse(word)


def test_uuids() -> None:
    canonical = "c7a5fdbd-edaf-9455-926a-d65c16db1809"
    for word in (canonical, canonical.upper(), canonical.replace("-", ""), f" {canonical} "):
        assert uuid(HERE, word) == canonical
    for word in ("", "x", canonical[:-1], canonical + "0"):
        with pytest.raises(BadInput):
            uuid(HERE, word)


def test_addresses() -> None:
    assert pci_address(Element("address", {"domain": "0x5", "bus": "0x90", "slot": "1"})) == "0005:90:01.0"


def test_a_long_element_is_cut_and_stays_on_one_line() -> None:
    assert label(Element("a", {"b": "c" * 500})) == "<a b='" + "c" * 110 + "...>"
    assert wrong(Element("a", {"b": "c\nd\x1b[31m"}), "bad").message == "<a b='c d [31m'>: bad"

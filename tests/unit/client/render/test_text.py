"""Words, columns and colours."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.render.text import (
    Cell,
    Style,
    clean,
    columns_of,
    count,
    cpu_list,
    memory,
    paragraph,
    table,
    texts_of,
    wrap,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        ("", "-"),
        (True, "yes"),
        (False, "no"),
        (5, "5"),
        ("win11", "win11"),
        ("fenêtre 窓", "fenêtre 窓"),
        ("a\nb\tc", "a b c"),
        ("\033[31mred\033[0m", "?[31mred?[0m"),
        ("\u202egnp.exe", "?gnp.exe"),
        ("\udcff", "?"),
    ],
)
def test_clean_text_steers_no_terminal(value: object, text: str) -> None:
    assert clean(value) == text


@given(st.text())
def test_clean_text_is_printable(text: str) -> None:
    assert clean(text).isprintable()


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([], "none"),
        ([3], "3"),
        ([0, 1], "0-1"),
        ([8, 0, 1, 2, 8], "0-2,8"),
        ([0, 2, 3, 5], "0,2-3,5"),
        (None, "none"),
        ("2-7", "2-7"),
        (["x", 1], "1"),
    ],
)
def test_cpu_lists(ids: object, text: str) -> None:
    assert cpu_list(ids) == text


@given(st.sets(st.integers(0, 400), min_size=1))
def test_cpu_lists_hold_every_cpu(ids: set[int]) -> None:
    found = set()
    for part in cpu_list(sorted(ids)).split(","):
        first, _, last = part.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    assert found == ids


@pytest.mark.parametrize(
    ("kib", "text"),
    [(0, "0 KiB"), (512, "512 KiB"), (32768, "32 MiB"), (131072000, "125 GiB"), (None, "-"), ("x", "-")],
)
def test_memory(kib: object, text: str) -> None:
    assert memory(kib) == text


def test_counts() -> None:
    assert [count(1, "step"), count(2, "step"), count(0, "refusal")] == ["1 step", "2 steps", "0 refusals"]


@pytest.mark.parametrize(("value", "texts"), [(None, []), ("", []), ("a", ["a"]), (["a", 1], ["a", "1"])])
def test_texts(value: object, texts: list[str]) -> None:
    assert texts_of(value) == texts


@pytest.mark.parametrize(("text", "columns"), [("abc", 3), ("窓窓", 4), ("e\u0301", 1)])
def test_columns(text: str, columns: int) -> None:
    assert columns_of(text) == columns


words = st.text(st.sampled_from("ab窓-"), max_size=30)


@given(st.lists(words), st.integers(2, 40))
def test_wrapping_loses_nothing_and_keeps_to_the_width(parts: list[str], width: int) -> None:
    text = " ".join(parts)
    lines = wrap(text, width)
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert all(columns_of(line) <= width for line in lines)


@given(st.lists(st.tuples(words, words, words), max_size=4), st.integers(60, 120))
def test_tables_keep_to_the_terminal(rows: list[tuple[str, str, str]], width: int) -> None:
    for line in table(["ONE", "TWO", "THREE"], rows, Style(width=width), flexible=(1, 2)):
        assert columns_of(line) <= width


def test_tables_are_aligned() -> None:
    assert table(["A", "LONG"], [("wide one", "x"), ("y", "z")], Style()) == [
        "A         LONG",
        "wide one  x",
        "y         z",
    ]


def test_narrow_tables_wrap_their_flexible_columns() -> None:
    assert table(["A", "B"], [("x", "some words that are long")], Style(width=18), flexible=(1,)) == [
        "A  B",
        "x  some words that",
        "   are long",
    ]


def test_tables_that_cannot_fit_become_records() -> None:
    assert table(["A", "BB"], [("x" * 10, "y" * 10), ("1", "2")], Style(width=16)) == [
        "A   xxxxxxxxxx",
        "BB  yyyyyyyyyy",
        "",
        "A   1",
        "BB  2",
    ]


def test_color_changes_no_column() -> None:
    rows = [(Cell("x", "red"), "y"), (Cell("wide", ""), "z")]
    assert table(["A", "B"], rows, Style(color=True))[1:] == ["\033[31mx\033[0m     y", "wide  z"]


def test_paragraphs() -> None:
    assert paragraph("some words here", Style(), first="- ", indent="  ") == ["- some words here"]
    assert paragraph("some words here", Style(width=14), first="- ", indent="  ") == [
        "- some words",
        "  here",
    ]

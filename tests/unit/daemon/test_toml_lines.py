"""Lines of keys, held against what tomllib reads from made-up documents."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlerd.toml_lines import Path, key_lines


def paths_of(value: Any, path: Path = ()) -> set[Path]:
    """Every key and list element of what tomllib read."""
    found: set[Path] = {path} if path else set()
    if isinstance(value, (dict, list)):
        members: Any = value.items() if isinstance(value, dict) else enumerate(value)
        found.update(*(paths_of(member, (*path, key)) for key, member in members))
    return found


def basic(text: str) -> str:
    special = {'"': '\\"', "\\": "\\\\"}
    body = "".join(special.get(c) or (c if c.isprintable() else f"\\U{ord(c):08x}") for c in text)
    return f'"{body}"'


words = st.text(alphabet="ab-_1", min_size=1, max_size=4)
strange = st.text(alphabet="a\"'\\]=#.[{},\n \t\u00e9", max_size=6)
blanks = st.sampled_from(["", " ", "\t "])
comments = st.sampled_from(["", ' # a [b] = \'c\' """', " #"])
scalars = st.one_of(
    st.sampled_from(["1", "-0.5e3", "true", "1979-05-27 07:32:00", "07:32:00.5", "nan", "0x1"]),
    strange.map(basic),
    st.sampled_from(["''", "'#]'", '""', "'''\n'a'' = 1\n# no'''", '"""\n[x]\n\\"""" y = ""\n"""']),
    st.sampled_from(['"""a""b"""', '""""""', "''''''", '"""q"""""', "'''q'''''", '"""\\\n  x"""', '"\\""']),
)


@st.composite
def keys(draw: st.DrawFn) -> str:
    word = draw(words)
    return draw(st.sampled_from([word, f"'{word}'", basic(word), basic(word + draw(strange))]))


@st.composite
def values(draw: st.DrawFn, depth: int = 2) -> str:
    kind = draw(st.sampled_from(["scalar", "list", "table"] if depth else ["scalar"]))
    if kind == "scalar":
        return draw(scalars)
    blank = draw(blanks)
    if kind == "list":
        members = draw(st.lists(values(depth - 1), max_size=3))
        gap = draw(st.sampled_from([blank, "\n", " # ], [\n", "\r\n"]))
        end = draw(st.sampled_from(["", ",", f"{gap},{gap}"])) if members else gap
        return f"[{gap}" + f"{gap},{gap}".join(members) + f"{end}{gap}]"
    names = draw(st.lists(keys(), max_size=3))
    return (
        "{"
        + ",".join(f"{blank}{name}{blank}={blank}{draw(values(depth - 1))}" for name in names)
        + f"{blank}}}"
    )


@st.composite
def statements(draw: st.DrawFn) -> str:
    blank = draw(blanks)
    key = f"{blank}.{blank}".join(draw(st.lists(keys(), min_size=1, max_size=3)))
    kind = draw(st.sampled_from(["pair", "pair", "pair", "table", "array", "blank"]))
    comment = draw(comments)
    return {
        "pair": f"{blank}{key}{blank}={blank}{draw(values())}{comment}",
        "table": f"{blank}[{blank}{key}{blank}]{comment}",
        "array": f"{blank}[[{blank}{key}{blank}]]{comment}",
        "blank": f"{blank}{comment}",
    }[kind]


@st.composite
def documents(draw: st.DrawFn) -> str:
    """Valid TOML: statements that tomllib refuses after the ones before (duplicates, mostly) are left out."""
    text = ""
    for statement in draw(st.lists(statements(), max_size=8)):
        longer = text + statement + draw(st.sampled_from(["\n", "\r\n", "\n\n"]))
        try:
            tomllib.loads(longer)
        except tomllib.TOMLDecodeError:
            continue
        text = longer
    return text


@given(documents())
def test_exactly_what_tomllib_reads_has_a_line(text: str) -> None:
    assert set(key_lines(text)) == paths_of(tomllib.loads(text))


@given(documents(), documents())
def test_lines_do_not_depend_on_what_follows_and_move_with_what_precedes(text: str, other: str) -> None:
    alone = key_lines(text)
    assert {path: key_lines("# one\n\n" + text)[path] - 2 for path in alone} == alone
    try:
        tomllib.loads(text + other)
    except tomllib.TOMLDecodeError:
        return
    assert alone.items() <= key_lines(text + other).items()


@given(documents())
def test_a_key_stands_on_the_line_that_is_told(text: str) -> None:
    """Cutting the text before a line leaves no trace of what is told to stand there or later."""
    lines = text.split("\n")
    for path, line in key_lines(text).items():
        before = "\n".join(lines[: line - 1])
        try:
            known = paths_of(tomllib.loads(before))
        except tomllib.TOMLDecodeError:
            continue  # cut in the middle of a value
        assert path not in known


def test_an_example_line_by_line() -> None:
    text = '''# comment
[a."b.c"]
x = """
y = 1
"""
z.w = [ 1,   # [
  { k = 2 },
]
[[d]]
n = 1
[[d]]
[d.e]
n = 2
[[d.f]]
[[d.f]]
'q' = 0
'''
    assert key_lines(text) == {
        ("a",): 2,
        ("a", "b.c"): 2,
        ("a", "b.c", "x"): 3,
        ("a", "b.c", "z"): 6,
        ("a", "b.c", "z", "w"): 6,
        ("a", "b.c", "z", "w", 0): 6,
        ("a", "b.c", "z", "w", 1): 7,
        ("a", "b.c", "z", "w", 1, "k"): 7,
        ("d",): 9,
        ("d", 0): 9,
        ("d", 0, "n"): 10,
        ("d", 1): 11,
        ("d", 1, "e"): 12,
        ("d", 1, "e", "n"): 13,
        ("d", 1, "f"): 14,
        ("d", 1, "f", 0): 14,
        ("d", 1, "f", 1): 15,
        ("d", 1, "f", 1, "q"): 16,
    }


@pytest.mark.parametrize("text", ["", "\n", "# only", "a = 1"])
def test_small_texts(text: str) -> None:
    assert set(key_lines(text)) == paths_of(tomllib.loads(text))

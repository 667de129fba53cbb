"""What CONTRIBUTING.md asks of every file, held against the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TREE = Path(__file__).parents[2]
PRODUCT = ("client", "daemon")
LIMIT = 400
REASON = "Longer than 400 lines because"
FORBIDDEN = frozenset({"util", "utils", "helper", "helpers", "common", "manager", "misc"})
CATCH_ALLS = 2
"""One request, one pass."""


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (TREE / folder).rglob("*.py"))


def without_opening(source: str, name: str) -> Iterator[str]:
    """A module opens with its rules; one of the product that is long also with why it is."""
    text = ast.get_docstring(ast.parse(source))
    if source.strip() and not text:
        yield f"{name} has no docstring"
    lines = source.count("\n")
    if lines > LIMIT and name.startswith(PRODUCT) and REASON not in (text or "").replace("\n", " "):
        yield f"{name} has {lines} lines and does not say '{REASON}'"


def catch_alls(source: str) -> list[int]:
    """Lines of handlers that catch everything and keep it. One that ends in a bare `raise` only passes by."""

    def names(kind: ast.expr | None) -> Iterator[str]:
        if kind is None:
            yield "BaseException"
        elif isinstance(kind, ast.Tuple):
            for one in kind.elts:
                yield from names(one)
        else:
            yield ast.unparse(kind).split(".")[-1]

    def passes_by(handler: ast.ExceptHandler) -> bool:
        last = handler.body[-1]
        return isinstance(last, ast.Raise) and last.exc is None

    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ExceptHandler)
        and {"Exception", "BaseException"} & set(names(node.type))
        and not passes_by(node)
    ]


def test_every_module_opens_with_its_rules() -> None:
    wrong = [
        sentence
        for path in sources(*PRODUCT, "tests")
        for sentence in without_opening(path.read_text(), str(path.relative_to(TREE)))
    ]
    assert not wrong, "\n".join(wrong)


def test_no_module_is_called_after_nothing() -> None:
    wrong = [
        str(path.relative_to(TREE))
        for path in sources(*PRODUCT, "tests")
        if FORBIDDEN & set(path.relative_to(TREE).with_suffix("").as_posix().replace("_", "/").split("/"))
    ]
    assert not wrong, "\n".join(wrong)


def test_everything_is_caught_in_two_places_only() -> None:
    found = [
        f"{path.relative_to(TREE)}:{line}"
        for path in sources(*PRODUCT)
        for line in catch_alls(path.read_text())
    ]
    assert len(found) <= CATCH_ALLS, found


def test_no_task_is_started_outside_the_tree_of_tasks() -> None:
    wrong = [
        str(path.relative_to(TREE)) for path in sources(*PRODUCT) if "spawn_system_task" in path.read_text()
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("try:\n    f()\nexcept Exception:\n    log()", 1),
        ("try:\n    f()\nexcept:\n    log()", 1),
        ("try:\n    f()\nexcept (OSError, builtins.BaseException):\n    pass", 1),
        ("try:\n    f()\nexcept* Exception:\n    pass", 1),
        ("try:\n    f()\nexcept BaseException:\n    undo()\n    raise", 0),
        ("try:\n    f()\nexcept Exception as error:\n    raise Other from error", 1),
        ("try:\n    f()\nexcept OSError:\n    pass", 0),
    ],
)
def test_a_catch_all_is_seen(source: str, count: int) -> None:
    assert len(catch_alls(source)) == count


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("", 0),
        ('"""Rules."""\n', 0),
        ("import os\n", 1),
        ('"""Rules."""\n' + "x = 1\n" * LIMIT, 1),
        ('"""Rules.\n\nLonger than 400 lines\nbecause of the table."""\n' + "x = 1\n" * LIMIT, 0),
    ],
)
def test_a_missing_opening_is_seen(source: str, count: int) -> None:
    assert len(list(without_opening(source, "daemon/m.py"))) == count

"""The shapes that come over the wire: is it a map, is it a list of maps. No I/O and no imports.

Rules: nothing here raises: rendering shows what it can of a newer daemon's answer.
"""

from __future__ import annotations

TYPE_CHECKING = False  # importing `typing` would slow the start; type checkers know this name
if TYPE_CHECKING:
    from typing import TypeGuard


def is_map(value: object) -> TypeGuard[dict[str, object]]:
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[object]]:
    return isinstance(value, list)


def map_of(value: object) -> dict[str, object]:
    """A map; anything else counts as an empty one."""
    return value if is_map(value) else {}


def list_of(value: object) -> list[object]:
    """A list; anything else counts as an empty one."""
    return value if is_list(value) else []


def rows_of(value: object) -> list[dict[str, object]]:
    """The maps in a list."""
    return [item for item in list_of(value) if is_map(item)]


def ints_of(value: object) -> list[int]:
    """The whole numbers in a list."""
    return [item for item in list_of(value) if isinstance(item, int)]

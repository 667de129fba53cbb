"""The shapes that come over the wire: is it a map, is it a list of maps. No I/O and no imports.

Rules: `is_` and the lenient `_of` never raise (rendering shows what it can of a newer daemon's answer); `expect_` raise
Internal, because then daemon and client do not fit.
"""

from __future__ import annotations

from hostler.errors import HostlerError, Internal

TYPE_CHECKING = (
    False  # `typing` costs the command line a quarter of its start-up; type checkers know this name
)
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


def expect_map(result: object, method: str) -> dict[str, object]:
    """The result of `method`, a map. Raises Internal."""
    if not is_map(result):
        raise _misfit(method)
    return result


def expect_rows(result: object, method: str) -> list[dict[str, object]]:
    """The result of `method`, a list of maps, bare or under the method's name. Raises Internal."""
    found = result.get(method) if is_map(result) else result
    if not is_list(found):
        raise _misfit(method)
    return [expect_map(row, method) for row in found]


def _misfit(method: str) -> HostlerError:
    return Internal(
        f"the daemon's answer to `{method}` is not in the shape this client knows",
        remedy="daemon and client must be of one version: compare `hostler --version` and `hostlerd --version`",
    )

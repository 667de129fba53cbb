"""A TOML file as tables that complain well: what is wrong, in which file and line, and what was probably meant.

Rules: knows TOML and nothing of the policy. Every complaint is BadInput; its data has file, line, key and,
where one is close, nearest. A file without faults is not searched for lines.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NoReturn, TypeVar

from hostler.errors import BadInput
from hostlerd.toml_lines import Path, key_lines

T = TypeVar("T")

MAX_SIZE = 1 << 20
NOWHERE: Mapping[str, str] = MappingProxyType({})
_AT_LINE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)$")
_KIND: Mapping[type[Any], str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
    str: "text in quotes",
    list: "a list",
    dict: "a table",
}


def read_table(path: str) -> Table | None:
    """The whole file as one table; None where there is no such file."""
    text = _read(path)
    if text is None:
        return None
    try:
        return Table(file=path, source=text, path=(), values=tomllib.loads(text))
    except RecursionError as error:
        raise BadInput(f"{path}: nested too deeply", data={"file": path}) from error
    except ValueError as error:  # TOMLDecodeError, and a number of more digits than Python converts
        reason = str(error)
        line = text.count("\n") + 1
        if position := _AT_LINE.search(reason):
            line = int(position[1] or line)
            reason = reason[: position.start()]
        raise BadInput(
            f"{path}:{line}: {reason[:1].lower()}{reason[1:]}",
            remedy="this line is not valid TOML (https://toml.io)",
            data={"file": path, "line": line},
        ) from error


def _read(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_SIZE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read: {error.strerror}", data={"file": path}) from error
    if len(raw) > MAX_SIZE:
        raise BadInput(f"{path}: larger than {MAX_SIZE >> 20} MiB", data={"file": path})
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadInput(
            f"{path}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8, which TOML is written in",
            data={"file": path, "line": line},
        ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A key or a list element of a file."""

    file: str
    source: str
    path: Path

    @property
    def key(self) -> str:
        """The last key on the way: of a list element, the list's."""
        return next((part for part in reversed(self.path) if isinstance(part, str)), "")

    @property
    def dotted(self) -> str:
        """`device.match.vendor`: without the numbers of list elements."""
        return ".".join(part for part in self.path if isinstance(part, str))

    @property
    def line(self) -> int:
        lines, path = key_lines(self.source), self.path
        while path and path not in lines:
            path = path[:-1]
        return lines.get(path, 1)

    def under(self, *parts: str | int) -> Place:
        return Place(file=self.file, source=self.source, path=(*self.path, *parts))

    def fail(self, message: str, *, remedy: str = "", nearest: str | None = None) -> NoReturn:
        data: dict[str, object] = {"file": self.file, "line": self.line, "key": self.dotted}
        if nearest is not None:
            data["nearest"] = nearest
        raise BadInput(f"{self.file}:{data['line']}: {message}", remedy=remedy, data=data)

    def converted(self, value: object, convert: Callable[[str], T]) -> T:
        """What `convert` makes of a text; its ValueError is the complaint."""
        if not isinstance(value, str):
            self.fail(f"{self.key} is {kind_of(value)}, not {_KIND[str]}")
        try:
            return convert(value)
        except ValueError as error:
            self.fail(f"{self.key}: {error}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table(Place):
    """A table whose keys are asked for by name and type."""

    values: Mapping[str, Any]

    @property
    def title(self) -> str:
        return f"[[{self.dotted}]]" if self.path and isinstance(self.path[-1], int) else f"[{self.dotted}]"

    def allow(self, keys: Collection[str], elsewhere: Mapping[str, str] = NOWHERE) -> None:
        """Complain about the first key that is not one of these; `elsewhere`: where other keys belong."""
        for key in self.values:
            if key in keys:
                continue
            near = None if key in elsewhere else nearest(key, keys)
            if key in elsewhere:
                remedy = f"it belongs in {elsewhere[key]}"
            else:
                remedy = f'did you mean "{near}"?' if near else f"known here: {', '.join(keys)}"
            where = f"in {self.title}" if self.path else "at the top level"
            self.under(key).fail(f'unknown key "{key}" {where}', remedy=remedy, nearest=near)

    def get(self, key: str, kind: type[T]) -> T | None:
        """The value if it is there and of this very type (TOML's true is no number)."""
        value: T | None = self._of_kind(key, kind)
        return value

    def _of_kind(self, key: str, kind: type[Any]) -> Any:
        value = self.values.get(key)
        if value is not None and type(value) is not kind:
            self.under(key).fail(f"{key} is {kind_of(value)}, not {_KIND[kind]}")
        return value

    def text(self, key: str, convert: Callable[[str], T]) -> T | None:
        value = self.values.get(key)
        return None if value is None else self.under(key).converted(value, convert)

    def texts(self, key: str, convert: Callable[[str], str]) -> tuple[str, ...] | None:
        """A list of texts, each converted; none may occur twice."""
        values: list[object] | None = self._of_kind(key, list)
        if values is None:
            return None
        found: list[str] = []
        for number, value in enumerate(values):
            place = self.under(key, number)
            text = place.converted(value, convert)
            if text in found:
                place.fail(f'{key} names "{text}" twice')
            found.append(text)
        return tuple(found)

    def choice(self, key: str, allowed: Collection[str]) -> str | None:
        text = self.get(key, str)
        if text is not None and text not in allowed:
            self.under(key).fail(
                f'{key} cannot be "{text}"',
                remedy=f"allowed: {', '.join(allowed)}",
                nearest=nearest(text, allowed),
            )
        return text

    def table(self, key: str) -> Table | None:
        values: Mapping[str, Any] | None = self._of_kind(key, dict)
        return None if values is None else self._below(key, values=values)

    def tables(self, key: str) -> Iterator[Table]:
        """The members of an array of tables; nothing where there is none."""
        remedy = f"write [[{key}]], in double brackets"
        members: Any = self.values.get(key, [])
        if kind_of(members) != _KIND[list]:
            self.under(key).fail(f"{key} is {kind_of(members)}, not a list of tables", remedy=remedy)
        for number, member in enumerate(members):
            if kind_of(member) != _KIND[dict]:
                self.under(key, number).fail(f"{key} holds {kind_of(member)}, not tables", remedy=remedy)
            yield self._below(key, number, values=member)

    def _below(self, *parts: str | int, values: Mapping[str, Any]) -> Table:
        return Table(file=self.file, source=self.source, path=(*self.path, *parts), values=values)


def nearest(word: str, known: Collection[str]) -> str | None:
    close = difflib.get_close_matches(word.lower().replace("-", "_"), known, n=1, cutoff=0.5)
    return close[0] if close else None


def kind_of(value: object) -> str:
    return next((words for kind, words in _KIND.items() if type(value) is kind), "a date or time")

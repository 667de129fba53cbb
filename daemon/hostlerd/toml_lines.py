"""Where in a TOML text each key stands: tomllib tells values and no positions.

Rules: only for text that tomllib has accepted, so nothing is checked here twice; only the ends of keys and
values are looked for. A path is a tuple of keys and list indices, `("device", 1, "match", "address")`; lines
count from 1.
"""

from __future__ import annotations

import re
import tomllib
from typing import Any

Path = tuple[str | int, ...]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_QUOTED = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")'
    r"|'''.*?'{3,5}(?!')"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_KEY = re.compile(r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|[^"'=\]\n])+""")
_BARE = re.compile(r"[^,\]}#\n]*")


def key_lines(text: str) -> dict[Path, int]:
    """The line on which each table, key and list element of a valid TOML text first appears."""
    return _Scanner(text).scan()


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted = (0, 1)
        self._lines: dict[Path, int] = {}
        self._sizes: dict[Path, int] = {}
        """Arrays of tables, which `[[...]]` headers extend and dotted headers reach into the last member of."""

    def scan(self) -> dict[Path, int]:
        table: Path = ()
        while self._next():
            if self._text.startswith("[[", self._at):
                table = self._header(2)
            elif self._text.startswith("[", self._at):
                table = self._header(1)
            else:
                self._pair(table)
        return self._lines

    def _next(self) -> str:
        """The next character that is neither white space nor comment; empty at the end."""
        if blank := _BLANK.match(self._text, self._at):
            self._at = blank.end()
        return self._text[self._at : self._at + 1]

    def _record(self, path: Path) -> None:
        offset, line = self._counted
        line += self._text.count("\n", offset, self._at)
        self._counted = (self._at, line)
        self._lines.setdefault(path, line)

    def _keys(self) -> tuple[str, ...]:
        """A dotted key, left at the character after it; tomllib itself undoes quotes and escapes."""
        match = _KEY.match(self._text, self._at)
        raw = match[0] if match else '""'
        node: Any = tomllib.loads(f"{raw}=0")
        keys: list[str] = []
        while node:
            key, node = node.popitem()
            keys.append(key)
        self._at += len(raw)
        return tuple(keys)

    def _header(self, brackets: int) -> Path:
        start = self._at
        self._at += brackets
        keys = self._keys()
        end = self._at + brackets
        self._at = start
        path: Path = ()
        for number, key in enumerate(keys, 1):
            path = (*path, key)
            self._record(path)
            if number == len(keys) and brackets == 2:
                self._sizes[path] = self._sizes.get(path, 0) + 1
            if path in self._sizes:
                path = (*path, self._sizes[path] - 1)
                self._record(path)
        self._at = end
        return path

    def _pair(self, table: Path) -> None:
        start = self._at
        keys = self._keys()
        end = self._text.index("=", self._at) + 1
        self._at = start
        for number in range(len(keys)):
            self._record((*table, *keys[: number + 1]))
        self._at = end
        self._value((*table, *keys))

    def _value(self, path: Path) -> None:
        first = self._next()
        if first == "[":
            self._members(path, "]")
        elif first == "{":
            self._members(path, "}")
        elif match := (_QUOTED if first in "\"'" else _BARE).match(self._text, self._at):
            self._at = match.end()

    def _members(self, path: Path, close: str) -> None:
        """A list or an inline table; newlines and comments between members are let pass in both (TOML 1.1)."""
        self._at += 1
        number = 0
        while (char := self._next()) != close:
            if char == ",":
                self._at += 1
            elif close == "]":
                self._record((*path, number))
                self._value((*path, number))
                number += 1
            else:
                self._pair(path)
        self._at += 1

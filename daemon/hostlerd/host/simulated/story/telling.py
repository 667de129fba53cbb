"""How the story looks: scenes, commands with what they print, checks."""

from __future__ import annotations

import sys
import textwrap
import time
from dataclasses import dataclass, field

WIDTH = 110
MOST = 600
"""Characters of what was found instead."""


@dataclass(slots=True)
class Telling:
    """`failed`: what did not hold."""

    held: int = 0
    failed: list[str] = field(default_factory=list[str])
    began: float = field(default_factory=time.monotonic)
    scenes: int = 0

    def scene(self, title: str, words: str = "") -> None:
        self.scenes += 1
        self._line(f"\n{self.scenes}. {title}")
        for line in textwrap.wrap(words, WIDTH - 3):
            self._line(f"   {line}")

    def command(self, words: str, output: str, *, most: int = 12) -> None:
        """A command as one would type it, and what came."""
        self._line(f"\n   $ {words}")
        lines = output.rstrip().splitlines()
        for line in lines[:most]:
            for piece in textwrap.wrap(line, WIDTH - 7, subsequent_indent="  ", break_on_hyphens=False) or [
                ""
            ]:
                self._line(f"     {piece}")
        if len(lines) > most:
            self._line(f"     ... {len(lines) - most} more lines")

    def check(self, what: str, held: object, seen: object = "") -> bool:
        """`seen`: what was found instead, told when it did not hold."""
        found = str(seen) if len(str(seen)) <= MOST else f"{str(seen)[:MOST]} ..."
        if held:
            self.held += 1
        else:
            self.failed.append(what)
        self._line(f"   {self._mark('✓' if held else '✗')} {what}{'' if held else f': {found}'}")
        return bool(held)

    def end(self) -> int:
        """The last lines, and the exit status."""
        seconds = time.monotonic() - self.began
        if self.failed:
            self._line(
                f"\n{len(self.failed)} of {self.held + len(self.failed)} checks did not hold ({seconds:.1f} s):"
            )
            for what in self.failed:
                self._line(f"   {self._mark('✗')} {what}")
            return 1
        self._line(f"\nAll {self.held} checks held, in {seconds:.1f} s.")
        return 0

    def _mark(self, mark: str) -> str:
        try:
            mark.encode(sys.stdout.encoding or "ascii")
        except UnicodeEncodeError:
            return "ok" if mark == "✓" else "NOT"
        return mark

    def _line(self, text: str) -> None:
        encoding = sys.stdout.encoding or "ascii"
        print(text.encode(encoding, "replace").decode(encoding), flush=True)

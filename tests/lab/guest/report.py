"""Checks: named in a scenario's decorator, answered once each, written as JSON lines for the outside."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from .programs import holds

RESULTS = "/host/results.jsonl"


@dataclass(kw_only=True)
class Report:
    """Where one scenario writes its checks."""

    scenario: str
    names: tuple[str, ...]
    path: str = RESULTS
    started: float = field(default_factory=time.monotonic)

    def check(self, name: str, ok: object, detail: object = "") -> bool:
        """Answer the check. `detail` is what the reader of a failure needs.

        Raises:
            KeyError: the decorator does not name it.
        """
        if name not in self.names:
            raise KeyError(f"{self.scenario} does not name the check {name!r}")
        self._write({"check": name, "ok": bool(ok), "detail": str(detail)})
        return bool(ok)

    def equal(self, name: str, found: object, wanted: object) -> bool:
        return self.check(name, found == wanted, f"found {found!r}, wanted {wanted!r}")

    def within(
        self, name: str, limit: float, condition: Callable[[], bool], detail: Callable[[], object]
    ) -> bool:
        """The check holds when the condition comes true in time."""
        ok = holds(condition, limit)
        return self.check(name, ok, f"after {limit:.0f} s: {detail()}" if not ok else "")

    def end(self, error: str) -> None:
        """The scenario is over; `error` is a traceback or empty."""
        self._write({"ended": True, "error": error, "seconds": round(time.monotonic() - self.started, 1)})

    def note(self, text: str) -> None:
        self._write({"note": text})

    def _write(self, line: dict[str, object]) -> None:
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"scenario": self.scenario, **line}) + "\n")
        print(f"{time.monotonic():7.1f} {self.scenario}: {line}", flush=True)


class Scenario(Protocol):
    __name__: str
    checks: tuple[str, ...]
    phase: int
    keeps: bool

    def __call__(self, report: Report, /) -> None: ...


def scenario(
    *checks: str, phase: int = 1, keeps: bool = False
) -> Callable[[Callable[[Report], None]], Scenario]:
    """Mark a function as a scenario with these checks, to run in the group's boot number `phase`.

    `keeps`: what it leaves is for the next phase, and is not tidied away.
    """
    if len(set(checks)) != len(checks):
        raise ValueError(f"a check is named twice: {checks}")

    def mark(function: Callable[[Report], None]) -> Scenario:
        marked: Scenario = function  # type: ignore[assignment]
        marked.checks = checks
        marked.phase = phase
        marked.keeps = keeps
        return marked

    return mark

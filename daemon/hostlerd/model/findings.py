"""What doctor found, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["ok", "note", "warning", "broken"]
SEVERITIES: tuple[Severity, ...] = ("ok", "note", "warning", "broken")
"""From fine to worst. A note asks for nothing: it is for who wants to know, or an offer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """`id`: stable, `subject` or `subject.detail`, with the object after a colon where there are several.

    `what`: what is so, `why`: what follows from it, `do`: what a person can do; the last two may be empty. `evidence`:
    the files and values it was read from. `known` is False where it could not be told; then `why` says what is missing.
    """

    id: str
    severity: Severity
    what: str
    why: str = ""
    do: str = ""
    evidence: str = ""
    known: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class BootAdvice:
    """The kernel command line for this host. Nobody carries it out but a person.

    `now`: as it is, without what the loader adds; None if not known, and all others are what is to be added then.
    `line`: as it should be; the same where nothing is to change. `realtime`: `line` with what the profile realtime
    gains from, at a price (`costs`); empty where this host has no CPUs for it. `add`, `remove`: words between `now`
    and `line`. `loader`: name of the boot loader, empty if not known; `how`: how a person changes the line with it,
    one step each.
    """

    now: str | None = None
    line: str = ""
    realtime: str = ""
    costs: str = ""
    add: tuple[str, ...] = ()
    remove: tuple[str, ...] = ()
    loader: str = ""
    how: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    findings: tuple[Finding, ...]
    boot: BootAdvice

    @property
    def worst(self) -> Severity:
        found = frozenset(finding.severity for finding in self.findings)
        for severity in reversed(SEVERITIES):
            if severity in found:
                return severity
        return "ok"


def unknown(id_: str, what: str, missing: str) -> Finding:
    """What could not be told, and for lack of what: never a verdict."""
    return Finding(id=id_, severity="note", what=what, why=missing, known=False)

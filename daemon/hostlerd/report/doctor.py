"""Doctor's findings as the command line's JSON."""

from __future__ import annotations

from typing import Any

from hostlerd.model.findings import Diagnosis, Finding

Json = dict[str, Any]

STATES = {"ok": "fine", "note": "fine", "warning": "warnings", "broken": "broken"}
"""The worst severity to the word for the whole; the client's exit status is by that."""


def doctor_json(diagnosis: Diagnosis) -> Json:
    boot = diagnosis.boot
    return {
        "state": STATES[diagnosis.worst],
        "findings": [_finding(finding) for finding in diagnosis.findings],
        "command_line": {
            "now": boot.now,
            "line": boot.line,
            "realtime": boot.realtime,
            "costs": boot.costs,
            "add": list(boot.add),
            "remove": list(boot.remove),
            "loader": boot.loader,
            "how": list(boot.how),
        },
    }


def _finding(finding: Finding) -> Json:
    return {
        "id": finding.id,
        "severity": finding.severity,
        "what": finding.what,
        "why": finding.why,
        "do": finding.do,
        "evidence": finding.evidence,
        "known": finding.known,
    }

"""What the simulation says confirms it is there."""

from __future__ import annotations

import re
from pathlib import Path

import hostlerd.host.simulated

CODE = Path(hostlerd.host.simulated.__file__ or "").parent
LAB = Path(__file__).parents[4] / "lab" / "guest"


def test_every_lab_scenario_that_is_named_exists() -> None:
    scenarios = set(
        re.findall(r"^def (\w+)\(report", "".join(p.read_text() for p in LAB.glob("*.py")), re.MULTILINE)
    )
    named = set[str]()
    for path in CODE.rglob("*.py"):
        for sentence in re.findall(r"Lab: ([^.]*)", path.read_text()):
            named |= set(re.findall(r"`(\w+)`", sentence))
    assert len(named) > 5
    assert named <= scenarios

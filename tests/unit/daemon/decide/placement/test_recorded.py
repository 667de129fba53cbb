"""The recorded cases: hosts people have, with domains coming and going."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.bench import placement as bench

CASES = Path(__file__).parents[4] / "placement"
EXPECTED = json.loads((CASES / "expected.json").read_text())
CORE = 8


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_core_terms_are_the_best_there_are(name: str) -> None:
    """Compared with a proven optimum of each event, itself starting from the optimum before."""
    case = json.loads((CASES / "cases" / f"{name}.json").read_text())
    vectors = [played.vector for played in bench.play(case)]
    for number, (vector, best) in enumerate(zip(vectors, EXPECTED[name], strict=True)):
        assert vector is not None, f"event {number} has no valid answer"
        assert vector[:CORE] <= best[:CORE], f"event {number}"

"""Each check of each scenario, as the guest answered it."""

import pytest

from lab.conftest import Booted


def test_lab(booted: Booted, lab_check: tuple[str, str, str, str]) -> None:
    suite, group, scenario, check = lab_check
    outcome = booted.outcome(suite, group)
    if check == "ran to its end":
        error = outcome.errors.get(scenario, outcome.failure or "the scenario did not end")
        if error:
            pytest.fail(f"{error}\nlogs: {outcome.folder}", pytrace=False)
        return
    result = outcome.result(scenario, check)
    if not result.ok:
        pytest.fail(result.detail, pytrace=False)

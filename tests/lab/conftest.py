"""`pytest tests/lab --suite bookworm|trixie|all -m GROUP`: every check of every scenario is a test of its own.

Each group of scenarios is a marker. The tests of a group share its boot, which happens when the first of them asks for
its result.
"""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from lab import boots, recipe
from lab.guest.groups import GROUPS


def pytest_addoption(parser: pytest.Parser) -> None:
    options = parser.getgroup("lab")
    options.addoption("--suite", choices=[*recipe.SUITES, "all"], default="all", help="the guest's release")
    options.addoption("--scenario", default="", help="only this scenario, also inside the guest")


def pytest_configure(config: pytest.Config) -> None:
    for name in GROUPS:
        config.addinivalue_line("markers", f"{name}: scenarios of the lab that share a boot")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "lab_check" not in metafunc.fixturenames:
        return
    wanted = metafunc.config.getoption("--suite")
    suites = list(recipe.SUITES) if wanted == "all" else [wanted]
    only = metafunc.config.getoption("--scenario")
    metafunc.parametrize(
        "lab_check",
        [
            pytest.param(
                (suite, name, scenario.__name__, check),
                id=f"{suite}-{name}-{scenario.__name__}-{check}",
                marks=getattr(pytest.mark, name),
            )
            for suite in suites
            for name, group in GROUPS.items()
            for scenario in group.scenarios
            if only in ("", scenario.__name__)
            for check in (*scenario.checks, "ran to its end")
        ],
    )


class Booted:
    """The outcome of each group's boot, made when first asked for."""

    def __init__(self, only: str) -> None:
        self._only = only
        self._outcomes: dict[tuple[str, str], boots.Outcome] = {}

    def outcome(self, suite: str, group: str) -> boots.Outcome:
        key = suite, group
        if key not in self._outcomes:
            self._outcomes[key] = boots.boot(suite, group, only=self._only)
        return self._outcomes[key]

    def summary(self) -> list[str]:
        lines = []
        for (suite, group), outcome in self._outcomes.items():
            times = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in outcome.seconds.items())
            lines.append(f"{suite} {group}: {times}; logs in {outcome.folder}")
            lines += [f"  {scenario}: {note}" for scenario, notes in outcome.notes.items() for note in notes]
        return lines


KEY = pytest.StashKey[Booted]()


@pytest.fixture(scope="session")
def booted(request: pytest.FixtureRequest) -> Booted:
    found = Booted(request.config.getoption("--scenario"))
    request.config.stash[KEY] = found
    return found


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    found = config.stash.get(KEY, None)
    if found is not None:
        terminalreporter.section("lab")
        for line in found.summary():
            terminalreporter.line(line)

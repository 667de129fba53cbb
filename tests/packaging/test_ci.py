"""In CI a skipped test is a failure, whichever way it skips."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"
LIMIT = 60.0

TESTS = {
    "mark": "@pytest.mark.skip(reason='no GPU here')\ndef test_it() -> None: ...",
    "call": "def test_it() -> None:\n    pytest.skip('no GPU here')",
    "fixture": "@pytest.fixture\ndef gpu(): pytest.skip('no GPU here')\n\ndef test_it(gpu): ...",
    "module": "pytest.skip('no GPU here', allow_module_level=True)",
}


def outcome(folder: Path, source: str, ci: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, folder)
    (folder / "test_one.py").write_text(f"import pytest\n\n{source}\n")
    return subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            folder,
            "-c",
            os.devnull,
            folder,
        ],
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )


@pytest.mark.parametrize("how", TESTS)
def test_a_skip_fails_in_ci(tmp_path: Path, how: str) -> None:
    done = outcome(tmp_path, TESTS[how], "true")
    assert done.returncode != 0, done.stdout
    assert "a skipped test is a failure in CI: " in done.stdout
    assert "no GPU here" in done.stdout


@pytest.mark.parametrize("how", TESTS)
def test_a_skip_is_a_skip_elsewhere(tmp_path: Path, how: str) -> None:
    done = outcome(tmp_path, TESTS[how], "")
    assert "1 skipped" in done.stdout
    assert "failed" not in done.stdout


def test_an_expected_failure_is_no_skip(tmp_path: Path) -> None:
    source = "@pytest.mark.xfail(strict=True)\ndef test_it() -> None:\n    assert False"
    assert outcome(tmp_path, source, "true").returncode == 0

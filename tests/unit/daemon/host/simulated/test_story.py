"""The story is played to its end, and it is red when something does not hold."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hostlerd.host.simulated.story.stage import Stage
from hostlerd.host.simulated.story.telling import Telling


def test_the_story_holds() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "hostlerd.host.simulated.story"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout


def test_telling_counts_and_tells_what_was_seen(capsys: pytest.CaptureFixture[str]) -> None:
    tell = Telling()
    tell.scene("Title", "words " * 40)
    tell.command("hostler x", "line\n" * 20, most=3)
    assert tell.check("holds", held=True)
    assert not tell.check("does not", held=[], seen={"a": 1})
    assert tell.end() == 1
    text = capsys.readouterr().out
    assert "1. Title" in text
    assert "... 17 more lines" in text
    assert "✗ does not: {'a': 1}" in text
    assert max(len(line) for line in text.splitlines()) <= 110
    quiet = Telling()
    quiet.check("holds", held=True)
    assert quiet.end() == 0


def test_a_stage_waits_and_gives_up() -> None:
    answers = iter([False, False, True])
    assert Stage.until(lambda: next(answers), 5)
    assert not Stage.until(lambda: False, 0.05)

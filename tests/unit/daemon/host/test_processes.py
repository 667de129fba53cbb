"""Ending processes for real: asked first, killed then, and never one that only has the number of another."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from hostlerd.host.processes import LiveProcesses

STUBBORN = """\
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True)
time.sleep(60)
"""


def start_of(pid: int) -> int:
    with open(f"/proc/{pid}/stat", "rb") as file:
        return int(file.read().rpartition(b")")[2].split()[19])


@pytest.fixture
def stubborn() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process
        process.kill()


@pytest.fixture
def ended() -> int:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    return process.pid


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield process
        process.kill()


async def test_asked_to_end(sleeper: subprocess.Popen[bytes]) -> None:
    assert await LiveProcesses().terminate(sleeper.pid, start_of(sleeper.pid), limit=10.0)
    assert sleeper.wait(10) == -15


async def test_killed_when_it_does_not_end(stubborn: subprocess.Popen[bytes]) -> None:
    began = time.monotonic()
    assert await LiveProcesses().terminate(stubborn.pid, start_of(stubborn.pid), limit=0.3)
    assert time.monotonic() - began >= 0.3
    assert stubborn.wait(10) == -9


async def test_another_process_with_its_number_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    assert await LiveProcesses().terminate(sleeper.pid, start_of(sleeper.pid) - 1, limit=1.0)
    assert sleeper.poll() is None


async def test_one_that_has_ended_is_fine(ended: int) -> None:
    assert await LiveProcesses().terminate(ended, None, limit=1.0)

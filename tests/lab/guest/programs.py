"""Running programs and waiting for conditions, both with limits."""

import contextlib
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO

LIMIT = 120.0


class Failed(Exception):
    """A program that had to succeed did not, or a condition did not come true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    status: int
    out: str
    err: str

    @property
    def ok(self) -> bool:
        return self.status == 0

    def __str__(self) -> str:
        return f"status {self.status}; out: {self.out.strip()[-1500:]}; err: {self.err.strip()[-1500:]}"


def run(*command: str, limit: float = LIMIT, given: str = "") -> Done:
    """Run to the end, whatever the status, with `given` as its input.

    What is not done in time is killed, and left alone if it stays.
    """
    # Files and not pipes, which would be waited for as long as any process of those that it started has them.
    with tempfile.TemporaryFile() as into, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        into.write(given.encode())
        into.seek(0)
        started = subprocess.Popen(command, stdin=into, stdout=out, stderr=err)
        try:
            status = started.wait(limit)
        except subprocess.TimeoutExpired:
            started.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(2.0)
            return Done(status=-1, out="", err=f"{' '.join(command)} ran longer than {limit:.0f} s")
        return Done(status=status, out=_text(out), err=_text(err))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def need(*command: str, limit: float = LIMIT) -> str:
    """What a program that must succeed printed.

    Raises:
        Failed: its status is not 0.
    """
    done = run(*command, limit=limit)
    if not done.ok:
        raise Failed(f"{' '.join(command)}: {done}")
    return done.out


def virsh(*words: str, limit: float = LIMIT) -> Done:
    return run("virsh", "-c", "qemu:///system", *words, limit=limit)


def busctl(*words: str, limit: float = 30.0) -> Done:
    return run("busctl", "--system", *words, limit=limit)


def holds(condition: Callable[[], bool], limit: float, *, every: float = 0.25) -> bool:
    """Whether the condition came true in time. An OSError while looking counts as not yet."""
    deadline = time.monotonic() + limit
    while True:
        try:
            if condition():
                return True
        except OSError:
            pass
        if time.monotonic() > deadline:
            return False
        time.sleep(every)


def wait_until(condition: Callable[[], bool], limit: float, what: str) -> None:
    """Raises Failed when the condition is not true in time."""
    if not holds(condition, limit):
        raise Failed(f"not in {limit:.0f} s: {what}")

"""Programs that may never come back: the kernel can hold one where no signal reaches it.

`programs.run` waits for what it starts; here nothing does. An attempt that is stuck is left alone until it ends.
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from .programs import holds

SHORT = 5.0
"""Seconds after which what has not ended is called stuck; a write or read takes tens of milliseconds here."""

PRINTED = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    process: subprocess.Popen[bytes]
    output: int
    """A descriptor of what it printed. Nobody closes it: who knows when the last writer ends?"""
    began: float = field(default_factory=time.monotonic)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def status(self) -> int | None:
        """None while it runs."""
        return self.process.poll()

    @property
    def printed(self) -> str:
        return os.pread(self.output, PRINTED, 0).decode(errors="replace").strip()

    def ends(self, limit: float = SHORT) -> bool:
        return holds(lambda: self.status is not None, limit, every=0.02)

    def state(self) -> str:
        """As /proc says: `D` for a wait that no signal ends."""
        try:
            with open(f"/proc/{self.pid}/stat", encoding="utf-8") as file:
                return file.read().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return ""

    def place(self) -> str:
        """The functions of the kernel that it is in, innermost first."""
        try:
            with open(f"/proc/{self.pid}/stack", encoding="ascii") as file:
                lines = file.read().split("\n")
        except OSError:
            return ""
        return " < ".join(line.split()[-1].partition("+")[0] for line in lines if line)

    def kill(self) -> None:
        """SIGKILL, whatever comes of it."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)

    def __str__(self) -> str:
        return f"status {self.status}; state {self.state()}; in {self.place()}; printed {self.printed[-500:]}"


def start(*command: str) -> Attempt:
    output = os.memfd_create("attempt")
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
    return Attempt(process=process, output=output)


def write(path: str, text: str) -> Attempt:
    """Write to a file; its status is that of the write."""
    return start("sh", "-c", 'printf %s "$1" >"$2"', "sh", text, path)


def stuck(paths: Iterable[str], limit: float = SHORT) -> list[str]:
    """Which of the files cannot be read to their end in time. The readers end as soon as the kernel lets them."""
    reading = {path: start("cat", path) for path in paths}
    deadline = time.monotonic() + limit
    found = []
    for path, attempt in reading.items():
        if not attempt.ends(max(0.0, deadline - time.monotonic())):
            found.append(path)
            attempt.kill()
            attempt.ends(0.1)
    return found

"""The daemon as a systemd service: stopping, killing and configuring it, and watching its journal of steps.

The journal is used as a trigger only (kill at this step), never as evidence.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from threading import Event, Thread
from typing import Self

from .programs import Failed, need, run, wait_until

UNITS = ("hostler.socket", "hostlerd.service")
SERVICE = "hostlerd.service"
JOURNAL = "/run/hostler/journal"
POLICY = "/etc/hostler/hostler.d/lab.toml"
START_LIMIT = 90.0


def show(unit: str, what: str) -> str:
    return need("systemctl", "show", "--value", "-p", what, unit).strip()


def active() -> bool:
    return show(SERVICE, "ActiveState") == "active"


def pid() -> int:
    return int(show(SERVICE, "MainPID"))


def start() -> None:
    run("systemctl", "reset-failed", *UNITS)
    need("systemctl", "start", *UNITS, limit=START_LIMIT)


def stop() -> None:
    need("systemctl", "stop", *UNITS)


def kill() -> None:
    """SIGKILL; returns when systemd has started another."""
    old = pid()
    os.kill(old, signal.SIGKILL)
    wait_back(old)


def wait_back(old: int) -> None:
    wait_until(lambda: active() and pid() not in (0, old), START_LIMIT, f"a new hostlerd after {old}")


def policy(text: str) -> None:
    """Put this policy in force, beside the empty one that is installed; an empty text takes it away."""
    if text:
        os.makedirs(os.path.dirname(POLICY), exist_ok=True)
        with open(POLICY, "w", encoding="utf-8") as file:
            file.write(text)
    elif os.path.exists(POLICY):
        os.unlink(POLICY)
    else:
        return
    need("systemctl", "reload-or-restart", SERVICE, limit=START_LIMIT)


def log(*words: str) -> str:
    """What the service wrote to the journal in this boot."""
    return run("journalctl", "-b", "--no-pager", "-u", SERVICE, *words).out


class KillAt:
    """Kills the daemon, or does something else, the moment its journal says that it begins (or ended) a step of a kind.

    The file is read without a pause: under emulation a step takes tens of milliseconds, and a notification could
    come too late.
    """

    def __init__(
        self,
        kind: str,
        *,
        count: int = 1,
        at: str = "begin",
        limit: float = 120.0,
        do: Callable[[], object] | None = None,
    ) -> None:
        self._do = do or self._kill
        self._matches = _matcher(kind, at)
        self._count, self._limit = count, limit
        self._stop = Event()
        self._thread = Thread(target=self._watch, daemon=True)
        self.pid = self._offset = 0
        self.fired = False

    def __enter__(self) -> Self:
        self.pid = pid()
        # Before the thread: what is written from now on counts, however late the thread begins.
        self._offset = os.path.getsize(JOURNAL) if os.path.exists(JOURNAL) else 0
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        deadline = time.monotonic() + self._limit
        offset, seen = self._offset, 0
        while not self._stop.is_set() and time.monotonic() < deadline:
            try:
                with open(JOURNAL, "rb") as file:
                    size = os.fstat(file.fileno()).st_size
                    if size < offset:
                        offset = 0  # the daemon began a new journal
                    file.seek(offset)
                    text = file.read()
            except FileNotFoundError:
                offset = 0
                continue
            whole, _, _ = text.rpartition(b"\n")
            if not whole:
                time.sleep(0.002)
                continue
            offset += len(whole) + 1
            seen += sum(self._matches(line) for line in whole.splitlines())
            if seen >= self._count:
                self._do()
                self.fired = True
                return

    def _kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def _matcher(kind: str, at: str) -> Callable[[bytes], bool]:
    begun: set[object] = set()

    def matches(line: bytes) -> bool:
        try:
            record = json.loads(line)
        except ValueError:
            return False
        if not isinstance(record, dict):
            return False
        if "begin" in record and record.get("kind") == kind:
            begun.add(record["begin"])
            return at == "begin"
        return at == "end" and record.get("end") in begun

    return matches


def must_be_active() -> None:
    if not active():
        raise Failed(f"hostlerd is {show(SERVICE, 'ActiveState')}: {log('-n', '30')}")

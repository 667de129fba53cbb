"""Writes that may block for ever, each in a process that may be left behind.

Rules: `driver/unbind`, `remove`, `sriov_numvfs` and modprobe can hang in the kernel, where no signal reaches
them (kernel, vfio_unregister_group_dev: waits until the user lets go). So the daemon never writes; a
process does, which lives in a session and, through `adopt`, in a systemd scope of its own, so that a stuck
one neither delays `systemctl stop` nor dies with us. A process is kept for the next write until `aclose`; two
writes at once have two processes. What may be written is a short list here, a belt beside what `decide` and
`act` already know.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import posixpath
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import trio

from hostler.errors import HostlerError, Wedged
from hostlerd.host.threads import in_thread

log = logging.getLogger(__name__)

Adopt = Callable[[int], Awaitable[None]]
"""Moves the process with this id out of our unit."""

KERNEL_FILES = (
    "/sys/bus/",
    "/sys/class/",
    "/sys/devices/",
    "/sys/fs/cgroup/",
    "/sys/kernel/mm/",
    "/sys/module/",
    "/proc/irq/",
    "/proc/sys/",
)
FILES = ("/run/hostler/", "/run/udev/rules.d/", "/run/modprobe.d/", "/var/lib/hostler/")
PROGRAMS = ("/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/")

_Answer: TypeAlias = tuple[int, int, bytes]
"""errno, exit status, and what was read."""

ADOPTION_LIMIT = 5.0
END_LIMIT = 1.0
FILE_LIMIT = 10.0
_SCRIPT = str(Path(__file__).with_name("writing.py"))
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


class LiveWriter:
    """The host.Writer of the live host."""

    def __init__(
        self,
        *,
        adopt: Adopt | None = None,
        kernel_files: Sequence[str] = KERNEL_FILES,
        files: Sequence[str] = FILES,
        programs: Sequence[str] = PROGRAMS,
    ) -> None:
        self._adopt = adopt
        self._kernel_files = tuple(kernel_files)
        self._files = tuple(files)
        self._programs = tuple(programs)
        self._idle: list[_Process] = []
        self._left: dict[int, str] = {}

    async def write(self, path: str, text: str, *, limit: float) -> None:
        """See host.Writer. An empty text writes nothing: an attribute is cleared with a newline."""
        self._check(path, self._kernel_files)
        code, _, _ = await self._ask(("write", path, text), what=path, limit=limit)
        if code:
            raise OSError(code, os.strerror(code), path)

    async def read(self, path: str, *, size: int, limit: float) -> bytes:
        """See host.Writer."""
        self._check(path, self._kernel_files)
        code, _, data = await self._ask(("read", path, str(size)), what=path, limit=limit)
        if code:
            raise OSError(code, os.strerror(code), path)
        return data

    async def run(self, command: Sequence[str], *, limit: float) -> int:
        """See host.Writer. A program that a signal ended has the signal's negative number as its status."""
        self._check(command[0], self._programs)
        code, status, _ = await self._ask(("run", *command), what=" ".join(command), limit=limit)
        if code:
            raise OSError(code, os.strerror(code), command[0])
        return status

    async def start(self) -> int:
        """The process the next write will use; its number goes into the journal before the write."""
        process = await self._ready_process()
        self._idle.append(process)
        return process.pid

    async def wait_ended(self, pid: int) -> None:
        """See host.Writer. The number may be another process's by now: then it has ended."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return
        try:
            if _is_writer(pid):
                await trio.lowlevel.wait_readable(pidfd)
        finally:
            os.close(pidfd)
        self.stuck()

    async def replace_file(self, path: str, text: str | None) -> None:
        self._check(path, self._files)
        if text is None:
            await in_thread(_remove, path, limit=FILE_LIMIT, what=f"removing {path}")
        else:
            await in_thread(_replace, path, text.encode(), limit=FILE_LIMIT, what=f"writing {path}")

    def stuck(self) -> Mapping[int, str]:
        """Processes left behind that are still there, and what each was doing."""
        for pid in tuple(self._left):
            if _gone(pid):
                del self._left[pid]
        return dict(self._left)

    async def aclose(self) -> None:
        """End the processes that wait for work; those left behind stay behind."""
        ending, self._idle = self._idle, []
        for process in ending:
            self._leave(process, "ending")
        with trio.move_on_after(END_LIMIT):
            for process in ending:
                await process.wait_ended()
        self.stuck()

    def _check(self, path: str, allowed: tuple[str, ...]) -> None:
        if posixpath.normpath(path) != path or not path.startswith(allowed):
            raise PermissionError(errno.EPERM, "not among what hostler may touch", path)

    async def _ask(self, words: Sequence[str], *, what: str, limit: float) -> _Answer:
        process = await self._ready_process()
        answer: _Answer | None = None
        scope = trio.CancelScope(deadline=trio.current_time() + limit)
        try:
            with scope:
                answer = await process.ask(words)
        finally:
            if answer is not None:
                self._idle.append(process)
            else:
                # Cancelled, but not out of time: the kernel may still take the write; then the process ends by itself.
                self._leave(process, what)
        if answer is not None:
            return answer
        process.kill()
        raise Wedged(
            f"{what} did not return within {limit:g} s",
            remedy="it hangs in the kernel; as a rule only a restart of the host ends it",
            data={"object": what, "pid": process.pid},
        )

    async def _ready_process(self) -> _Process:
        self.stuck()
        while self._idle:
            process = self._idle.pop()
            if not _gone(process.pid):
                return process
            process.close()
        process = _Process()
        try:
            await self._adopted(process.pid)
        except BaseException:
            self._leave(process, "starting")
            raise
        return process

    async def _adopted(self, pid: int) -> None:
        if self._adopt is None:
            return
        try:
            with trio.fail_after(ADOPTION_LIMIT):
                await self._adopt(pid)
        except (HostlerError, OSError, trio.TooSlowError) as error:
            log.warning("the writer process stays in our own unit: %s", error or "systemd does not answer")

    def _leave(self, process: _Process, what: str) -> None:
        process.close()
        self._left[process.pid] = what


class _Process:
    """One writer process. Started with nothing of ours but standard error. `program`: what it runs now, or 0."""

    def __init__(self) -> None:
        self.program = 0
        theirs_in, ours_in = os.pipe()
        ours_out, theirs_out = os.pipe()
        try:
            self.pid = os.posix_spawn(
                sys.executable,
                [sys.executable, "-I", "-S", _SCRIPT],
                _ENVIRONMENT,
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs_in, 0), (os.POSIX_SPAWN_DUP2, theirs_out, 1)],
                setsid=True,
                setsigmask=[],
            )
        except OSError:
            os.close(ours_in)
            os.close(ours_out)
            raise
        finally:
            os.close(theirs_in)
            os.close(theirs_out)
        self._requests, self._answers = ours_in, ours_out
        os.set_blocking(ours_in, False)
        os.set_blocking(ours_out, False)

    async def ask(self, words: Sequence[str]) -> _Answer:
        """Raises OSError EPIPE when the process ends before it has answered: then nobody knows what was done."""
        verb, *rest = words
        request = " ".join([verb, *(word.encode().hex() for word in rest)]).encode() + b"\n"
        answer, self.program = b"", 0
        while request:
            await trio.lowlevel.wait_writable(self._requests)
            request = request[os.write(self._requests, request) :]
        while not answer.endswith(b"\n"):
            await trio.lowlevel.wait_readable(self._answers)
            more = os.read(self._answers, 16384)
            if not more:
                raise BrokenPipeError(errno.EPIPE, "the writer process ended before it had answered")
            answer += more
            if answer.startswith(b"program ") and b"\n" in answer:
                first, _, answer = answer.partition(b"\n")
                self.program = int(first.split()[1])
        self.program = 0
        code, status, *data = answer.split()
        return int(code), int(status), bytes.fromhex(data[0].decode()) if data else b""

    async def wait_ended(self) -> None:
        try:
            pidfd = os.pidfd_open(self.pid)
        except OSError:
            return
        try:
            await trio.lowlevel.wait_readable(pidfd)
        finally:
            os.close(pidfd)

    def kill(self) -> None:
        """What it runs, and it ends after that; else itself. Takes effect when the kernel call returns, if ever.

        Killed together with a program that hangs, it would be gone while that still does.
        """
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.program or self.pid, signal.SIGKILL)

    def close(self) -> None:
        """Once its input is closed it ends by itself, after the write it is at."""
        os.close(self._requests)
        os.close(self._answers)


def _is_writer(pid: int) -> bool:
    """One that has ended and was not waited for has no command line any more."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"writing" in file.read()
    except OSError:
        return False


def _gone(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        _sync_folder(path)


def _replace(path: str, text: bytes) -> None:
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    # No suffix: who reads *.rules does not take the half-written one for a rule.
    fd, temporary = tempfile.mkstemp(dir=folder, prefix=".hostler-")
    try:
        with open(fd, "wb") as file:
            file.write(text)
            os.fchmod(fd, 0o644)
            file.flush()
            os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_folder(path)


def _sync_folder(path: str) -> None:
    fd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

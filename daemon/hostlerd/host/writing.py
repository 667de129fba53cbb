"""The program of the writer process: one request a line on standard input, one answer a line on standard output.

Rules: imports os and sys alone and is started with -I -S, so that it is there in a few milliseconds. It decides
nothing: what may be written is checked by host.writer. Words of a request are hexadecimal: `write PATH TEXT`, `run
PROGRAM ARGUMENT...`, `read PATH SIZE`. The answer is `ERRNO STATUS` and, of what was read, the bytes as hexadecimal; a
line `program PID` comes before that of a program, which leads a process group of its own. It ends when its input does,
also when whoever asked is gone, but not before what it began.
"""

from __future__ import annotations

import os
import sys

QUIET = [
    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_DUP2, 2, 1),  # the answers are ours alone
]


def write(path: bytes, text: bytes) -> int:
    # Never created: a file that is not there is the kernel's answer. O_TRUNC as a shell's > has it.
    fd = os.open(path, os.O_WRONLY | os.O_TRUNC | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        # One write(2): the kernel takes the text of an attribute whole or not at all.
        if os.write(fd, text) != len(text):
            raise OSError(5, "written in part")
    finally:
        os.close(fd)
    return 0


def read(path: bytes, size: bytes) -> bytes:
    """One read(2) from the start: an attribute comes whole, and of `config` no more is looked at than is asked for."""
    fd = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        return os.read(fd, int(size))
    finally:
        os.close(fd)


def run(*command: bytes) -> int:
    pid = os.posix_spawn(command[0], command, os.environ, file_actions=QUIET, setpgroup=0)
    answer(f"program {pid}")
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def answer(text: str) -> bool:
    """False if nobody listens any more."""
    try:
        os.write(1, f"{text}\n".encode())
    except BrokenPipeError:
        return False
    return True


def main() -> None:
    for line in sys.stdin.buffer:
        verb, *words = line.split(b" ")
        arguments = [bytes.fromhex(word.decode()) for word in words]
        try:
            if verb == b"read":
                told = f"0 0 {read(*arguments).hex()}"
            else:
                told = f"0 {write(*arguments) if verb == b'write' else run(*arguments)}"
        except OSError as error:
            told = f"{error.errno} 0"
        if not answer(told):
            return


if __name__ == "__main__":
    main()

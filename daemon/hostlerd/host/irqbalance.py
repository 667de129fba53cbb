"""What irqbalance can be told: over its socket, one sentence a connection (irqbalance.c, sock_handle).

Rules: it believes root alone, by the credentials that come with the sentence. A list of CPUs to keep off takes the
place of what it found by itself, until it is told NULL or ends. It acts on it when it wakes up next. It looks at its
socket between other things and lets one connection wait: more are refused for the moment (EAGAIN, unix(7)).
"""

from __future__ import annotations

import os
import socket
import struct

import trio

from hostler.errors import HostFailed, TimedOut

LIMIT = 5.0
PAUSE = 0.1


async def tell(path: str, cpus: str | None) -> None:
    """`path`: of its socket, with an @ for an abstract one. `cpus`: a list, None: as it would by itself.

    Raises HostFailed, TimedOut.
    """
    address = "\0" + path[1:] if path.startswith("@") else path
    sentence = f"settings cpus {cpus if cpus is not None else 'NULL'}".encode()
    try:
        with trio.fail_after(LIMIT):
            while not _told(address, sentence):  # noqa: ASYNC110 - nothing tells that it has room again
                await trio.sleep(PAUSE)
    except trio.TooSlowError as error:
        raise TimedOut("irqbalance does not answer", data={"object": path}) from error
    except OSError as error:
        raise HostFailed(
            f"irqbalance cannot be told: {error.strerror or error}",
            remedy="is it running as root? `systemctl stop irqbalance` keeps it from moving interrupts",
            data={"object": path},
        ) from error


def _told(address: str, sentence: bytes) -> bool:
    """False while too many wait. Never blocks; what was sent stays there until it reads."""
    credentials = struct.pack("3i", os.getpid(), os.getuid(), os.getgid())
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        one.settimeout(0)
        try:
            one.connect(address)
            one.sendmsg([sentence], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])
        except BlockingIOError:
            return False
    return True

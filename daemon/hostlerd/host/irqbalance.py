"""What irqbalance can be told: over its socket, one sentence a connection (irqbalance.c, sock_handle).

Rules: it believes root alone, by the credentials that come with the sentence. A list of CPUs to keep off takes the
place of what it found by itself, until it is told NULL or ends. It acts on it when it wakes up next.
"""

from __future__ import annotations

import os
import socket
import struct

import trio

from hostler.errors import HostFailed, TimedOut

LIMIT = 3.0


async def tell(path: str, cpus: str | None) -> None:
    """`path`: of its socket, with an @ for an abstract one. `cpus`: a list, None: as it would by itself.

    Raises HostFailed, TimedOut.
    """
    address = "\0" + path[1:] if path.startswith("@") else path
    sentence = f"settings cpus {cpus if cpus is not None else 'NULL'}".encode()
    credentials = struct.pack("3i", os.getpid(), os.getuid(), os.getgid())
    try:
        with trio.fail_after(LIMIT), trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
            await one.connect(address)
            # Not waited for: it reads when it has time, and what was sent stays there until then.
            await one.sendmsg([sentence], [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)])
    except trio.TooSlowError as error:
        raise TimedOut("irqbalance does not answer", data={"object": path}) from error
    except OSError as error:
        raise HostFailed(
            f"irqbalance cannot be told: {error.strerror or error}",
            remedy="is it running as root? `systemctl stop irqbalance` keeps it from moving interrupts",
            data={"object": path},
        ) from error

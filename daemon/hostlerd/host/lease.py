"""A descriptor that others hold, and being told when nobody holds it any more: what a claim hangs on.

A pipe: whoever asked gets the writing end and may hand it on, to its children or anybody; when the last copy is closed,
however that came, the reading end says so (pipe(7), poll(2): POLLHUP). As logind does it for inhibitors
(systemd.io/INHIBITOR_LOCKS). What is written into it is thrown away.
"""

from __future__ import annotations

import contextlib
import os
from itertools import count

import trio

_CHUNK = 65536


FREE, PAUSE = 8, 1.0
"""Times that somebody may write into it, and seconds between two of them from then on."""


class Lease:
    """`theirs`: the end to be handed out; whoever does so closes it then. Raises OSError without descriptors left."""

    def __init__(self) -> None:
        self._ours, self.theirs = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    async def wait_ended(self) -> None:
        for number in count():
            await trio.lowlevel.wait_readable(self._ours)
            with contextlib.suppress(BlockingIOError):
                if not os.read(self._ours, _CHUNK):
                    return
            if number >= FREE:
                await trio.sleep(PAUSE)  # who writes into it is made to wait, and not we to read

    def close(self) -> None:
        """Our end. Those who hold the other one see that nobody listens, and nothing else."""
        os.close(self._ours)

"""The bytes of a connection cut into messages, without I/O.

Rules: nothing is decoded here but the sixteen fixed bytes of a header. A message above its limit is thrown away as it
comes, not kept and not an end of the connection: every local user can send us one.
"""

from __future__ import annotations

import struct

from hostlerd.host.bus.values import Kind

FIXED = 16
MOST_ASKED = 64 * 1024
"""Bytes of a call or a signal: no method here takes more than a name, and decoding 64 KiB takes 15 ms as it is."""
MOST_ANSWERED = 4 * 1024 * 1024
"""Bytes of an answer to a call of ours."""


class Framer:
    """Feed it what was received; it gives whole messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skip = 0
        self.dropped = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete now. Raises ValueError where the stream makes no sense any more."""
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        buffer = self._buffer
        buffer += data
        messages: list[bytes] = []
        while len(buffer) >= FIXED:
            size, most = _measure(buffer)
            if size > most:
                self.dropped += 1
                self._skip = max(0, size - len(buffer))
                del buffer[:size]
            elif size > len(buffer):
                break
            else:
                messages.append(bytes(buffer[:size]))
                del buffer[:size]
        return messages


def _measure(buffer: bytearray) -> tuple[int, int]:
    """Size of the message that begins here, and how large one of its kind may be."""
    order = {0x6C: "<", 0x42: ">"}.get(buffer[0])
    if order is None or buffer[3] != 1:
        raise ValueError("the bus sent something that is no D-Bus message")
    body, _, fields = struct.unpack_from(order + "III", buffer, 4)
    most = MOST_ANSWERED if buffer[1] in (Kind.RETURN, Kind.ERROR) else MOST_ASKED
    return FIXED + fields + (-fields & 7) + body, most

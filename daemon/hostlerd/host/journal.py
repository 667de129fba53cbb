"""systemd's journal as a place for log records.

Rules: used only where standard error is the journal already (systemd.exec(5), $JOURNAL_STREAM) and its socket is
there. A daemon in a terminal writes to the terminal. The native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL) is spoken
here and not by libsystemd, which waits where journald does not take a message. On Linux 6.1 it takes none while a card
that a guest has is being pulled out (lab: `unplugged_while_running`): it reads that card's uevent for the kernel's
message. What is not taken is lost, and told when more is taken.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket as sockets
import struct
from collections.abc import Callable, Mapping
from typing import Any

SOCKET = "/run/systemd/journal/socket"
BUFFER = 8 << 20
"""Bytes, as libsystemd asks for."""
LONGEST = 48 * 1024
"""Characters of a message; a datagram has an end."""


def goes_to_journal(fd: int = 2, *, socket: str = SOCKET) -> bool:
    """Whether what is written to this descriptor ends in the journal anyway."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    if not (device.isdecimal() and inode.isdecimal() and os.path.exists(socket)):
        return False
    try:
        status = os.fstat(fd)
    except OSError:
        return False
    return (status.st_dev, status.st_ino) == (int(device), int(inode))


class JournalHandler(logging.Handler):
    """Records with their fields; `fields_of` gives our own, in upper case (systemd.journal-fields(7)).

    Not systemd-python's handler: that one sends all of record.__dict__, and journald drops what is in lower case.
    """

    def __init__(self, fields_of: Callable[[logging.LogRecord], Mapping[str, str]], send: Any = None) -> None:
        super().__init__()
        self._fields_of = fields_of
        self._send = send or Sender()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._send(
                _sendable(self.format(record)),
                PRIORITY=str(priority(record.levelno)),
                SYSLOG_IDENTIFIER="hostlerd",
                LOGGER=record.name,
                CODE_FILE=_sendable(record.pathname),
                CODE_LINE=record.lineno,
                CODE_FUNC=record.funcName,
                **{key: _sendable(value) for key, value in self._fields_of(record).items()},
            )
        except OSError:
            self.handleError(record)

    def close(self) -> None:
        if isinstance(self._send, Sender):
            self._send.close()
        super().close()


def _sendable(text: str) -> str:
    """Names from sysfs and command lines may hold bytes that are no UTF-8 (surrogates, here)."""
    return text.encode(errors="replace").decode()


def priority(level: int) -> int:
    """syslog's, as sd-daemon(3) has them."""
    return next((number for floor, number in ((50, 2), (40, 3), (30, 4), (20, 6)) if level >= floor), 7)


class Sender:
    """Sends records to journald, or drops them: nobody waits."""

    def __init__(self, path: str = SOCKET) -> None:
        self._path = path
        self._lost = 0
        self._socket = sockets.socket(sockets.AF_UNIX, sockets.SOCK_DGRAM | sockets.SOCK_NONBLOCK)
        with contextlib.suppress(OSError):
            self._socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_SNDBUF, BUFFER)

    def __call__(self, message: str, **fields: object) -> None:
        """Raises OSError where journald is not there."""
        try:
            if self._lost:
                self._transmit(
                    {"MESSAGE": f"{self._lost} messages were lost: journald took none", "PRIORITY": "4"}
                )
                self._lost = 0
            self._transmit({"MESSAGE": message[:LONGEST], **fields})
        except BlockingIOError:
            self._lost += 1

    def close(self) -> None:
        self._socket.close()

    def _transmit(self, fields: Mapping[str, object]) -> None:
        self._socket.sendto(b"".join(_field(key, str(value)) for key, value in fields.items()), self._path)


def _field(key: str, value: str) -> bytes:
    data = value.encode()
    if b"\n" in data:
        return key.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n"
    return key.encode() + b"=" + data + b"\n"

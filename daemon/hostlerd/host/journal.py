"""systemd's journal as a place for log records.

Rules: used only where standard error is the journal already (systemd.exec(5), $JOURNAL_STREAM) and its socket
is there, because without journald systemd-python drops messages and says nothing. A daemon in a terminal
writes to the terminal.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

SOCKET = "/run/systemd/journal/socket"


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
        self._send = send or _send()

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


def _sendable(text: str) -> str:
    """Names from sysfs and command lines may hold bytes that are no UTF-8 (surrogates, here)."""
    return text.encode(errors="replace").decode()


def priority(level: int) -> int:
    """syslog's, as sd-daemon(3) has them."""
    return next((number for floor, number in ((50, 2), (40, 3), (30, 4), (20, 6)) if level >= floor), 7)


def _send() -> Any:
    from systemd.journal import send  # noqa: PLC0415 - 27 ms, and only where there is a journal

    return send

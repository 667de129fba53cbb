"""The journal handler: what is sent, and when it is used at all."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hostlerd.host.journal import LONGEST, JournalHandler, Sender, goes_to_journal, priority
from hostlerd.log import fields_of

from .private_libvirtd import unshare

DAEMON = Path(__file__).parents[4] / "daemon"
CLIENT = Path(__file__).parents[4] / "client"
RECEIVER = """
import json, logging, os, socket
from hostlerd import log
os.makedirs("/run/systemd/journal")
journal = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
journal.bind("/run/systemd/journal/socket")
journal.settimeout(5)
status = os.fstat(2)
os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
log.set_up(verbose=False)
with log.about(pass_=7):
    logging.getLogger("hostlerd.act").warning("unbinding %s", "x", extra={"device": "0000:01:00.0"})
print(json.dumps(dict(line.split("=", 1) for line in journal.recv(65536).decode().splitlines())))
"""


@pytest.fixture
def sent() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def handler(sent: list[dict[str, Any]]) -> JournalHandler:
    return JournalHandler(
        fields_of, send=lambda message, **fields: sent.append({"MESSAGE": message, **fields})
    )


def record(message: str, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
    return logging.getLogger().makeRecord("hostlerd.act", level, "act.py", 12, message, (), None, "f", extra)


def test_a_record_has_its_fields(handler: JournalHandler, sent: list[dict[str, Any]]) -> None:
    handler.emit(record("sentence", device="0000:01:00.0", pass_=3, other="not ours"))
    assert sent == [
        {
            "MESSAGE": "sentence",
            "PRIORITY": "6",
            "SYSLOG_IDENTIFIER": "hostlerd",
            "LOGGER": "hostlerd.act",
            "CODE_FILE": "act.py",
            "CODE_LINE": 12,
            "CODE_FUNC": "f",
            "DEVICE": "0000:01:00.0",
            "PASS": "3",
        }
    ]


def test_bytes_that_are_no_text_do_not_stop_a_record(
    handler: JournalHandler, sent: list[dict[str, Any]]
) -> None:
    handler.emit(record("holder \udcff", domain="\udcff"))
    assert (sent[0]["MESSAGE"], sent[0]["DOMAIN"]) == ("holder ?", "?")


@pytest.mark.parametrize(("level", "number"), [(10, 7), (20, 6), (30, 4), (40, 3), (50, 2), (5, 7)])
def test_levels_are_syslogs(level: int, number: int) -> None:
    assert priority(level) == number


def test_the_journal_is_used_only_where_the_descriptor_is_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "socket"
    with (tmp_path / "stream").open("w") as stream:
        fd, status = stream.fileno(), os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{status.st_dev}:{status.st_ino}")
        assert not goes_to_journal(fd, socket=str(path))
        path.touch()
        assert goes_to_journal(fd, socket=str(path))
        for other in (f"{status.st_dev}:{status.st_ino + 1}", "x:y", "", ":"):
            monkeypatch.setenv("JOURNAL_STREAM", other)
            assert not goes_to_journal(fd, socket=str(path))
        monkeypatch.delenv("JOURNAL_STREAM")
        assert not goes_to_journal(fd, socket=str(path))
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    assert not goes_to_journal(9999, socket=str(path))


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "socket"))
        listening.settimeout(5)
        yield listening


@pytest.fixture
def sender(journald: socket.socket) -> Iterator[Sender]:
    with contextlib.closing(Sender(journald.getsockname())) as sender:
        yield sender


def test_a_message_of_many_lines_is_one_record(journald: socket.socket, sender: Sender) -> None:
    sender("first\nsecond", DEVICE="0000:01:00.0")
    assert (
        journald.recv(65536)
        == b"MESSAGE\n" + (12).to_bytes(8, "little") + b"first\nsecond\nDEVICE=0000:01:00.0\n"
    )
    sender("x" * 1_000_000)
    assert len(journald.recv(1 << 20)) == len("MESSAGE=\n") + LONGEST


def test_a_journald_that_takes_nothing_is_not_waited_for(journald: socket.socket, sender: Sender) -> None:
    for number in range(2000):  # far more than a socket's queue holds
        sender(f"record {number}")
    journald.setblocking(False)
    taken = 0
    with contextlib.suppress(BlockingIOError):
        while journald.recv(65536):
            taken += 1
    sender("again")
    assert journald.recv(65536).startswith(f"MESSAGE={2000 - taken} messages were lost".encode())
    assert journald.recv(65536) == b"MESSAGE=again\n"


def test_a_journald_that_is_not_there_is_an_error_of_the_handlers(tmp_path: Path) -> None:
    with contextlib.closing(Sender(str(tmp_path / "none"))) as sender, pytest.raises(FileNotFoundError):
        sender("words")


def test_what_is_sent_arrives_at_the_journals_socket() -> None:
    """The socket's place is fixed: a mount namespace has one of its own."""
    script = 'mount -t tmpfs none /run && exec "$0" -c "$1"'
    done = subprocess.run(
        [*unshare(), "sh", "-c", script, sys.executable, RECEIVER],
        env={**os.environ, "PYTHONPATH": f"{DAEMON}:{CLIENT}"},
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
    fields = json.loads(done.stdout)
    assert fields["MESSAGE"] == "unbinding x"
    assert (fields["DEVICE"], fields["PASS"], fields["PRIORITY"]) == ("0000:01:00.0", "7", "4")

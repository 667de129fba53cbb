"""Log records: one line each in a terminal, with the fields of what they are about."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
import trio

from hostlerd.log import about, fields_of, set_up

log = logging.getLogger("hostlerd.act.handoff")


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    root.handlers = []
    stream = io.StringIO()
    yield stream
    root.handlers = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[str]:
    """Without the time of day."""
    return [line.partition(" ")[2] for line in stream.getvalue().splitlines()]


def test_without_a_journal_records_go_to_standard_error(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "1:1")
    set_up(verbose=False, stream=stream)
    log.info("bound")
    log.warning("%s is late", "udev", extra={"device": "0000:01:00.0", "pass_": 3})
    log.debug("not seen")
    assert lines(stream) == [
        "act.handoff: bound",
        "warning act.handoff: udev is late [DEVICE=0000:01:00.0 PASS=3]",
    ]


def test_verbose_shows_what_is_looked_at(stream: io.StringIO) -> None:
    set_up(verbose=True, stream=stream)
    log.debug("seen")
    assert lines(stream) == ["debug act.handoff: seen"]


def test_a_traceback_is_kept(stream: io.StringIO) -> None:
    set_up(verbose=False, stream=stream)
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        log.exception("pass failed")
    assert "ZeroDivisionError" in stream.getvalue()


def fields(**extra: object) -> dict[str, str]:
    return dict(fields_of(log.makeRecord("n", 20, "f", 1, "m", (), None, None, extra)))


async def test_fields_follow_the_task_and_the_nearest_counts() -> None:
    async def elsewhere() -> None:
        await trio.lowlevel.checkpoint()
        assert fields() == {"PASS": "7"}

    async with trio.open_nursery() as nursery:
        with about(pass_=7):
            nursery.start_soon(elsewhere)
            with about(device="a", domain="d"):
                assert fields(device="b") == {"PASS": "7", "DEVICE": "b", "DOMAIN": "d"}
            assert fields() == {"PASS": "7"}
        assert fields() == {}

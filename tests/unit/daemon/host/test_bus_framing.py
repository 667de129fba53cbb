"""Bytes to messages, whatever the pieces they come in."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hostlerd.host.bus.framing import MOST_ANSWERED, MOST_ASKED, Framer
from hostlerd.host.bus.values import Kind


def message(body: int, kind: int = Kind.CALL, fields: int = 13, order: str = "<") -> bytes:
    """The shape of a message: lengths are right, content is not looked at."""
    head = struct.pack(order + "BBBBIII", {"<": 0x6C, ">": 0x42}[order], kind, 0, 1, body, 1, fields)
    return head + b"f" * (fields + (-fields & 7)) + b"b" * body


@settings(deadline=None)
@given(
    messages=st.lists(
        st.builds(message, st.integers(0, 99), fields=st.integers(0, 40), order=st.sampled_from("<>"))
    ),
    cuts=st.lists(st.integers(1, 30), min_size=1),
)
def test_any_cut_gives_the_same_messages(messages: list[bytes], cuts: list[int]) -> None:
    stream, framer, found, turn = b"".join(messages), Framer(), [], 0
    while stream:
        size = cuts[turn % len(cuts)]
        found += framer.feed(stream[:size])
        stream, turn = stream[size:], turn + 1
    assert found == messages


@pytest.mark.parametrize("piece", [1000, 65536, 1 << 20])
def test_a_call_too_large_is_thrown_away_and_the_next_is_read(piece: int) -> None:
    framer, found = Framer(), []
    stream = (
        message(1)
        + message(MOST_ASKED + 1)
        + message(2)
        + message(MOST_ANSWERED + 1, Kind.RETURN)
        + message(3)
    )
    held = 0
    for at in range(0, len(stream), piece):
        found += framer.feed(stream[at : at + piece])
        held = max(held, len(framer._buffer))
    assert found == [message(1), message(2), message(3)]
    assert framer.dropped == 2
    assert held < 100


def test_an_answer_may_be_larger_than_a_call() -> None:
    answer = message(MOST_ASKED + 1, Kind.RETURN)
    assert Framer().feed(answer) == [answer]


def test_what_is_no_message_is_an_error() -> None:
    with pytest.raises(ValueError, match="no D-Bus message"):
        Framer().feed(b"HTTP/1.1 400 Bad Request\r\n")

"""Frames: what goes in comes out, and nothing else does."""

import struct

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler import frames
from hostler.errors import BadInput
from hostler.wire import MAX_FRAME

texts = st.text("aé窓\0", max_size=20)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=8,
)
messages = st.dictionaries(texts, values, max_size=4)


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def decode(data: bytes) -> dict[str, object] | None:
    decoder = frames.Decoder()
    decoder.feed(data)
    return decoder.take()


@given(st.lists(messages, max_size=4), st.integers(1, 40))
def test_messages_survive_any_cutting_of_the_stream(sent: list[dict[str, object]], size: int) -> None:
    stream = b"".join(map(frames.encode, sent))
    decoder, received = frames.Decoder(), []
    for start in range(0, len(stream), size):
        decoder.feed(stream[start : start + size])
        while (message := decoder.take()) is not None:
            received.append(message)
    assert received == sent
    assert decoder.buffered == 0


@given(st.binary(max_size=200))
def test_noise_is_bad_input_or_nothing(noise: bytes) -> None:
    try:
        message = decode(noise)
    except BadInput:
        return
    assert message is None or isinstance(message, dict)


@given(st.binary(min_size=1, max_size=200))
def test_noise_in_a_frame_is_bad_input_or_a_map(noise: bytes) -> None:
    try:
        message = decode(framed(noise))
    except BadInput:
        return
    assert message is not None
    assert all(isinstance(key, str) for key in message)


@pytest.mark.parametrize("size", [0, MAX_FRAME + 1, 2**32 - 1])
def test_the_length_is_judged_before_the_body_is_there(size: int) -> None:
    with pytest.raises(BadInput) as caught:
        decode(struct.pack(">I", size))
    assert str(size) in caught.value.message


def test_a_frame_may_be_as_large_as_the_limit() -> None:
    overhead = len(frames.encode({"t": "x" * 70000})) - 70000 - frames.HEADER
    frame = frames.encode({"t": "x" * (MAX_FRAME - overhead)})
    assert len(frame) == MAX_FRAME + frames.HEADER
    assert decode(frame) is not None
    with pytest.raises(BadInput) as caught:
        frames.encode({"t": "x" * (MAX_FRAME - overhead + 1)})
    assert caught.value.data == {"bytes": MAX_FRAME + 1, "limit": MAX_FRAME}


@pytest.mark.parametrize(
    "body",
    [
        b"\x90",  # an array
        b"\xc0",  # nil
        b"\xc1",  # never used
        b"\x80\x80",  # more than one value
        b"\x81\xa1a",  # less than one
        b"\x81\x01\x02",  # a number as key
        b"\x81\xc4\x01a\x02",  # bytes as key
        b"\x81\xa1a\xa1\xff",  # text that is not UTF-8
        b"\xdd\xff\xff\xff\xff",  # an array of four thousand million
        b"\x81\xa1a" + b"\x91" * 2000,  # deeper than the decoder goes
        msgpack.packb({"a": msgpack.ExtType(5, b"x")}),
    ],
)
def test_a_frame_holds_one_map_with_text_keys(body: bytes) -> None:
    with pytest.raises(BadInput):
        decode(framed(body))


@pytest.mark.parametrize("value", [{1}, object(), 2**70, "\udcff"])
def test_what_msgpack_cannot_carry_is_bad_input(value: object) -> None:
    with pytest.raises(BadInput):
        frames.encode({"v": value})


def test_incomplete_frames_stay() -> None:
    decoder = frames.Decoder()
    frame = frames.encode({"a": 1})
    decoder.feed(frame[:-1])
    assert decoder.take() is None
    assert decoder.buffered == len(frame) - 1
    decoder.feed(frame[-1:])
    assert decoder.take() == {"a": 1}

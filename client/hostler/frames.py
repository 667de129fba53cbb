"""Frames of the socket: four bytes of big-endian length, then one msgpack map. No I/O: bytes in, maps out.

Rules: the limit is checked on the length, before anything is buffered; whatever is not exactly one map with text keys
is `BadInput`, and after it the stream is of no more use. Client and daemon share this module, so it imports msgpack
alone. A length prefix rather than a streaming unpacker: that one buffers first and knows no end of a message.
"""

# msgpack has no type information; its two functions get their types here.
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import msgpack

from hostler.errors import BadInput
from hostler.shapes import is_map
from hostler.wire import MAX_FRAME

TYPE_CHECKING = False  # `typing` costs the command line a quarter of its start-up
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

HEADER = 4
_pack: Callable[..., bytes] = msgpack.packb  # pyright: ignore[reportAssignmentType]  says None too, for streams
_unpack: Callable[..., object] = msgpack.unpackb


def encode(message: Mapping[str, object]) -> bytes:
    """One frame. Raises BadInput where `message` is larger than a frame or holds what msgpack cannot carry."""
    try:
        body = _pack(message, use_bin_type=True)
    except UnicodeEncodeError as error:
        raise BadInput("a text in the message is not valid Unicode", remedy="use UTF-8") from error
    except (TypeError, ValueError, OverflowError) as error:
        raise BadInput(f"the message cannot be sent: {error}") from error
    if len(body) > MAX_FRAME:
        raise BadInput(
            f"the message has {len(body)} bytes, and a frame carries at most {MAX_FRAME}",
            data={"bytes": len(body), "limit": MAX_FRAME},
        )
    return len(body).to_bytes(HEADER, "big") + body


class Decoder:
    """Cuts a byte stream into frames: `feed` what arrived, then `take` until it says None."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        self._buffer += data

    @property
    def buffered(self) -> int:
        """Bytes that belong to frames not taken yet."""
        return len(self._buffer)

    def take(self) -> dict[str, object] | None:
        """The next message, or None where it has not arrived in full. Raises BadInput."""
        if len(self._buffer) < HEADER:
            return None
        size = int.from_bytes(self._buffer[:HEADER], "big")
        if not 0 < size <= MAX_FRAME:
            raise BadInput(f"a frame says it has {size} bytes; 1 to {MAX_FRAME} are possible")
        end = HEADER + size
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[HEADER:end])
        del self._buffer[:end]
        return _decode(body)


def _decode(body: bytes) -> dict[str, object]:
    try:
        # unpackb derives its limits from the size of `body`; its errors are ValueErrors, those of the text too.
        message = _unpack(body, raw=False, strict_map_key=True, ext_hook=_refuse_extension)
    except (ValueError, RecursionError) as error:
        reason = str(error) or type(error).__name__
        raise BadInput(f"a frame does not hold one msgpack value: {reason}") from error
    if not is_map(message):
        raise BadInput(f"a frame holds a {type(message).__name__}, not a map")
    if any(isinstance(key, bytes) for key in _keys(message)):  # they pass strict_map_key
        raise BadInput("a frame holds a map with keys that are not text")
    return message


def _keys(message: Iterable[object]) -> Iterable[object]:
    return message


def _refuse_extension(code: int, _data: bytes) -> object:
    raise ValueError(f"extension type {code}")

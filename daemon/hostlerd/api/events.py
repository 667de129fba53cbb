"""What happens, for whoever watches: a bounded queue a reader; a slow one loses the oldest, never holds anybody up."""

from __future__ import annotations

import time

import trio

from hostlerd.api import Json

QUEUE = 256


class Events:
    def __init__(self) -> None:
        self._readers: list[tuple[trio.MemorySendChannel[Json], trio.MemoryReceiveChannel[Json]]] = []

    def tell(self, kind: str, obj: str, text: str) -> None:
        event: Json = {"time": time.time(), "kind": kind, "object": obj, "text": text}
        for send, receive in tuple(self._readers):
            try:
                send.send_nowait(event)
            except trio.WouldBlock:
                receive.receive_nowait()
                send.send_nowait(event)
            except trio.BrokenResourceError:
                self._readers.remove((send, receive))

    def subscribe(self) -> trio.MemoryReceiveChannel[Json]:
        """Closing the channel ends the subscription."""
        send, receive = trio.open_memory_channel[Json](QUEUE)
        self._readers.append((send, receive))
        return receive

"""What goes over the bus, as values: no library's class leaves `codec`, so a caller depends on neither library.

Rules: a body is a tuple of plain values; where the signature says ``v`` it holds a `Variant` on the way out and the
bare value on the way in (no reader here cares how a variant was typed). Structs come in as lists.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

BUS = "org.freedesktop.DBus"
BUS_PATH = "/org/freedesktop/DBus"
PROPERTIES = "org.freedesktop.DBus.Properties"
STANDARD_ERROR = "org.freedesktop.DBus.Error."


class Kind(IntEnum):
    """Message types of the D-Bus specification."""

    CALL = 1
    RETURN = 2
    ERROR = 3
    SIGNAL = 4


@dataclass(frozen=True, slots=True)
class Variant:
    signature: str
    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message. Texts that do not apply to its kind are empty.

    `quiet`: the caller wants no answer. `interactive`: the caller may be asked for a password. `fds`: descriptors the
    body's ``h`` values are indexes of; lent for the time of sending. None are ever received.
    """

    kind: Kind
    serial: int = 0
    reply_to: int = 0
    sender: str = ""
    destination: str = ""
    path: str = ""
    interface: str = ""
    member: str = ""
    error: str = ""
    signature: str = ""
    body: tuple[Any, ...] = ()
    quiet: bool = False
    interactive: bool = False
    fds: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a method returns. `fds`: as of a Message; who sends it closes them, sent or not."""

    signature: str = ""
    body: tuple[Any, ...] = ()
    fds: tuple[int, ...] = ()


class CallFailed(Exception):
    """An error reply: received, or to be sent. `name` is the D-Bus error name, `message` its sentence."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(f"{name}: {message}")
        self.name = name
        self.message = message


Handler = Callable[[Message], "Reply | Awaitable[Reply]"]
"""Answers a method call, at once or in a task of its own. Raises CallFailed only, awaited or not."""

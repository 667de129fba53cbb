"""Messages to bytes and back, by dbus-fast where it is installed, else by dbus-next: one API, two makers.

Of either library only message, signature and marshalling are used. Its package module is not run: it would import
asyncio, GLib's bindings and a service layer that Python 3.15 cannot import (no_type_check_decorator is gone), 20 to
40 ms for nothing. Transport, dispatch and names are ours (`connection`, the faces), which leaves out, rather than
repairs, what is wrong in dbus-next 0.2.3: tracebacks sent to clients, leaked file descriptors and name owners, a
blocking connect, handlers without bound, children by string prefix, calls without an interface that nobody answers.
"""

from __future__ import annotations

import importlib
import importlib.util
import io
import struct
import sys
from types import ModuleType
from typing import Any

from hostlerd.host.bus.values import Kind, Message, Variant

LIBRARIES = ("dbus_fast", "dbus_next")
_QUIET, _INTERACTIVE = 0x1, 0x4
_MOST_SIGNATURES = 1024
_UNREADABLE = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    struct.error,
    RecursionError,
)
"""What the libraries raise on bytes that are no message: a message from the bus is checked by it, so this is rare."""


class Unreadable(Exception):
    """Bytes that the library makes no message of."""


def _load(library: str) -> dict[str, ModuleType]:
    """The parts that are used, in an order that works without the package module. Raises ImportError."""
    spec = importlib.util.find_spec(library)
    if spec is None:
        raise ImportError(f"{library} is not installed", name=library)
    shell = library not in sys.modules
    if shell:
        sys.modules[library] = importlib.util.module_from_spec(spec)
    try:
        return {
            part: importlib.import_module(f"{library}.{part}")
            for part in ("errors", "constants", "signature", "message", "_private.unmarshaller")
        }
    finally:
        if shell:
            del sys.modules[library]


class Codec:
    """One library's encoder and decoder."""

    def __init__(self, library: str | None = None) -> None:
        """Load `library`, or the first that is installed. Raises ImportError."""
        if library is None:
            library = next((name for name in LIBRARIES if importlib.util.find_spec(name)), LIBRARIES[-1])
        parts = _load(library)
        self.library = library
        self._message: Any = parts["message"].Message
        self._type: Any = parts["constants"].MessageType
        self._flag: Any = parts["constants"].MessageFlag
        self._variant: Any = parts["signature"].Variant
        self._unmarshaller: Any = parts["_private.unmarshaller"].Unmarshaller
        # dbus-next keeps every signature it ever saw, and a caller chooses the signatures; dbus-fast bounds it.
        self._signatures: Any = getattr(parts["signature"].SignatureTree, "_cache", None)

    def encode(self, message: Message) -> bytes:
        """The bytes of a message. Raises ValueError and kin where the body does not fit its signature: our mistake."""
        native = self._message(
            message_type=self._type(message.kind),
            serial=message.serial,
            reply_serial=message.reply_to or None,
            destination=message.destination or None,
            path=message.path or None,
            interface=message.interface or None,
            member=message.member or None,
            error_name=message.error or None,
            signature=message.signature,
            body=[self._out(value) for value in message.body],
            flags=self._flag(_QUIET * message.quiet | _INTERACTIVE * message.interactive),
            unix_fds=list(message.fds),
        )
        return bytes(native._marshall(bool(message.fds)))  # noqa: SLF001 - frozen upstream, the same in both

    def decode(self, data: bytes) -> Message:
        """The message in `data`, which is exactly one. Raises Unreadable."""
        try:
            native = self._unmarshaller(io.BytesIO(data)).unmarshall()
            kind = Kind(native.message_type.value)
        except _UNREADABLE as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from error
        finally:
            if self._signatures is not None and len(self._signatures) > _MOST_SIGNATURES:
                self._signatures.clear()
        flags = int(native.flags)
        return Message(
            kind=kind,
            serial=native.serial,
            reply_to=native.reply_serial or 0,
            sender=native.sender or "",
            destination=native.destination or "",
            path=native.path or "",
            interface=native.interface or "",
            member=native.member or "",
            error=native.error_name or "",
            signature=native.signature,
            body=tuple(self._in(value) for value in native.body),
            quiet=bool(flags & _QUIET),
            interactive=bool(flags & _INTERACTIVE),
        )

    def _out(self, value: Any) -> Any:
        """A plain value as the library wants it, with text that the bus would hang up on made harmless."""
        if isinstance(value, str):
            return value if value.isascii() and "\0" not in value else _clean(value)
        if isinstance(value, Variant):
            return self._variant(value.signature, self._out(value.value))
        if isinstance(value, (list, tuple)):
            return [self._out(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        if isinstance(value, dict):
            return {self._out(key): self._out(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
        return value

    def _in(self, value: Any) -> Any:
        if isinstance(value, self._variant):
            return self._in(value.value)
        if isinstance(value, (list, tuple)):  # a struct is a list in dbus-next and a tuple in dbus-fast
            return [self._in(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
        if isinstance(value, dict):
            return {key: self._in(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
        return value


def _clean(text: str) -> str:
    """D-Bus strings are UTF-8 without NUL; a bus ends the connection of who sends anything else."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()

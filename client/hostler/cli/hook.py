"""`hostler hook`: what libvirt's qemu hook calls (https://libvirt.org/hooks.html).

Rules: only `prepare begin` may fail, and it fails unless the daemon has prepared the domain or is not there at all; any
other operation that failed would hurt a domain that runs (`reconnect` kills it). Standard output stays empty: for
`migrate` and `restore` libvirt would take it for a new definition. Standard input is always read to its end. libvirt
waits for us while it holds the domain, so what only reports has a short limit.
"""

from __future__ import annotations

import sys
from time import monotonic

from hostler.cli import output
from hostler.cli.arguments import Arguments, Option, Spec, Usage
from hostler.connection import Connection, is_absent
from hostler.errors import BadInput, HostlerError, TimedOut
from hostler.wire import HOOK_DEADLINE, MAX_FRAME

SPEC = Spec(
    "hook",
    """
Called by libvirt as /etc/libvirt/hooks/qemu.d/hostler, with the domain's XML on standard input. `prepare begin` asks
the daemon to make the domain's devices ready, and fails where that cannot be done, so that the domain does not start;
where no daemon is running it does nothing. `release end` gives everything back. All else is reported and never fails.
""",
    words=("DOMAIN", "OPERATION", "SUB-OPERATION", "[EXTRA]"),
    options=(
        Option("--deadline", f"how long `prepare` may take (default {HOOK_DEADLINE:g})", value="SECONDS"),
    ),
    verbatim=True,
)
REPORT_LIMIT = 2.0
"""Seconds for a report that is not worth libvirt's waiting."""
RELEASE_LIMIT = HOOK_DEADLINE
"""Seconds for the end of a claim: by then the daemon has put everything back, or has given up waiting for it."""
FAILED = 1
_CHUNK = 65536


def run(arguments: Arguments) -> int:
    started = monotonic()
    name, operation, sub_operation = (_text(word) for word in arguments.words[:3])
    xml = _read_input()
    if (operation, sub_operation) == ("prepare", "begin"):
        return _prepare(arguments.socket, name, xml, started + _deadline(arguments))
    _report(arguments.socket, name, operation, sub_operation, xml)
    return 0


def _deadline(arguments: Arguments) -> float:
    given = arguments.value("--deadline")
    if given is None:
        return HOOK_DEADLINE
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 86400:
        raise Usage(f"`{given}` is no number of seconds", f"write `--deadline {HOOK_DEADLINE:g}`")
    return seconds


def _prepare(socket: str | None, name: str, xml: bytes, until: float) -> int:
    try:
        try:
            daemon = Connection(socket, limit=_left(until))
        except HostlerError as error:
            if is_absent(error):
                return 0
            raise
        with daemon:
            daemon.call("prepare", {"name": name, "xml": _decode(xml)}, limit=_left(until))
    except HostlerError as error:
        output.complain(f"domain {name} is not started: {error.sentence}")
        return FAILED
    return 0


def _left(until: float) -> float:
    left = until - monotonic()
    if left <= 0:
        raise TimedOut("the time for its preparation is over", remedy="see `journalctl -u hostlerd`")
    return left


def _report(socket: str | None, name: str, operation: str, sub_operation: str, xml: bytes) -> None:
    is_release = (operation, sub_operation) == ("release", "end")
    limit = RELEASE_LIMIT if is_release else REPORT_LIMIT
    until = monotonic() + limit
    try:
        with Connection(socket, limit=limit) as daemon:
            if is_release:
                daemon.call("release", {"name": name, "xml": _as_far_as_possible(xml)}, limit=_left(until))
            else:
                params = {"name": name, "operation": operation, "sub_operation": sub_operation}
                daemon.call("hook", params, limit=_left(until))
    except HostlerError as error:
        if not is_absent(error):
            output.complain(
                f"{operation} {sub_operation} of domain {name} was not reported: {error.sentence}"
            )


def _text(word: str) -> str:
    """An argument as text that can be sent, whatever its bytes were."""
    return word.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _read_input() -> bytes:
    """Standard input to its end; beyond what a frame carries it is read and forgotten."""
    kept = bytearray()
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]  None where descriptor 0 is closed
        return b""
    try:
        while chunk := sys.stdin.buffer.read(_CHUNK):
            if len(kept) <= MAX_FRAME:
                kept += chunk
    except OSError as error:  # a folder, say: then there is no XML, and the daemon says so
        output.complain(f"standard input cannot be read: {error.strerror}")
    return bytes(kept)


def _decode(xml: bytes) -> str:
    """The XML as text; whether it is a domain is the daemon's to say. Raises BadInput where it cannot be sent."""
    if len(xml) > MAX_FRAME:
        raise BadInput(
            f"its XML has more than {MAX_FRAME} bytes, more than the daemon takes",
            remedy="make it smaller: large metadata is the usual reason",
        )
    try:
        return xml.decode()
    except UnicodeDecodeError as error:
        raise BadInput(
            f"its XML is not UTF-8 (byte {error.start})", remedy="define the domain again in UTF-8"
        ) from error


def _as_far_as_possible(xml: bytes) -> str:
    """A release must not fail for its XML: the name is enough."""
    return "" if len(xml) > MAX_FRAME - 4096 else xml.decode("utf-8", "replace")

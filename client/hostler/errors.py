"""Everything that can go wrong, named by who must act.

Rules: an error carries what was wrong (`message`), what to do (`remedy`) and data for machines; it never carries a
traceback. `TABLE` is the only place where an error meets an exit status or a D-Bus name; the socket uses the D-Bus
name.
"""

from __future__ import annotations

DBUS_PREFIX = "org.hostler1.Error."


class HostlerError(Exception):
    """Base of all errors that are told to a caller."""

    def __init__(self, message: str, *, remedy: str = "", data: dict[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.data: dict[str, object] = data or {}

    @property
    def sentence(self) -> str:
        """What and what to do, in one line for a person."""
        return f"{self.message}; {self.remedy}" if self.remedy else self.message


class BadInput(HostlerError):
    """The caller's: a file, a name or a value that makes no sense."""


class Unreachable(HostlerError):
    """The administrator's: the daemon (or libvirt, or the bus) is not there."""


class Refused(HostlerError):
    """The caller's or the policy's: understood, possible, and not allowed here and now."""


class Claimed(Refused):
    """Wait or ask: somebody else has it. data: object, holder."""


class InUse(Refused):
    """Close what has the device open. data: object, holders."""


class NotAuthorised(HostlerError):
    """The caller lacks the right. data: action."""


class TimedOut(HostlerError):
    """It took longer than its limit; nothing is left half done."""


class HostFailed(HostlerError):
    """The kernel, libvirt or systemd said no. data: object, errno."""


class Unsupported(HostFailed):
    """This host cannot do it (no IOMMU, cgroup v1, ...)."""


class Degraded(HostFailed):
    """A person must look: putting it back failed, and it is touched no more until told to."""


class Wedged(Degraded):
    """A write to the kernel does not return; only a reboot ends it."""


class Internal(HostlerError):
    """A fault of hostler's own; the journal has the traceback. data: id."""


TABLE: dict[type[HostlerError], tuple[int, str]] = {
    BadInput: (1, "BadInput"),
    Unreachable: (3, "Unreachable"),
    Refused: (4, "Refused"),
    Claimed: (4, "Claimed"),
    InUse: (4, "InUse"),
    NotAuthorised: (5, "NotAuthorised"),
    TimedOut: (6, "TimedOut"),
    HostFailed: (7, "HostFailed"),
    Unsupported: (7, "Unsupported"),
    Degraded: (7, "Degraded"),
    Wedged: (7, "Wedged"),
    Internal: (7, "Internal"),
}
"""Error class to exit status and to the last part of its D-Bus name. Exit status 2 (usage) never leaves the client."""

_BY_NAME = {DBUS_PREFIX + name: cls for cls, (_, name) in TABLE.items()}


def exit_status(error: HostlerError) -> int:
    return TABLE[type(error)][0]


def dbus_name(error: HostlerError) -> str:
    return DBUS_PREFIX + TABLE[type(error)][1]


def to_wire(error: HostlerError) -> dict[str, object]:
    """The `error` member of a socket answer."""
    return {"name": dbus_name(error), "message": error.message, "remedy": error.remedy, "data": error.data}


def from_wire(answer: dict[str, object]) -> HostlerError:
    """The error a daemon of this or a newer version sent."""
    cls = _BY_NAME.get(str(answer.get("name")), Internal)
    data = answer.get("data")
    return cls(
        str(answer.get("message", "")),
        remedy=str(answer.get("remedy", "")),
        data=data if isinstance(data, dict) else None,
    )

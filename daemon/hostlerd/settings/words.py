"""Words that several sections of the policy have: each text to its value. All raise ValueError."""

from __future__ import annotations

import re
from uuid import UUID

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
_DRIVER = re.compile(r"[A-Za-z0-9_-]{1,64}")


def filled(text: str) -> str:
    if not text.strip():
        raise ValueError("cannot be empty")
    return text


def uuid(text: str) -> str:
    """As libvirt and mdevctl print it."""
    if not _UUID.fullmatch(text):
        raise ValueError(f'"{text}" is not a UUID (such as 4b20d080-1b54-4048-85b3-a6a62d165c01)')
    return str(UUID(text))


def domain(text: str) -> str:
    """A domain's name as written, or its UUID as libvirt prints it."""
    return str(UUID(text)) if _UUID.fullmatch(text) else filled(text)


def driver(text: str, *, such_as: str = "such as amdgpu") -> str:
    """A driver's name as /sys/bus/pci/drivers has it."""
    if not _DRIVER.fullmatch(text):
        raise ValueError(f'"{text}" is no driver ({such_as})')
    return text

"""What a card is, beyond the place where it is: what is remembered of it across restarts of the host."""

from __future__ import annotations

from dataclasses import dataclass

from hostlerd.model.devices import DISPLAY, Function


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """`identity`: see `identity`. `serial`: as its driver told it, None where none did."""

    identity: str
    serial: str | None = None

    @property
    def is_display(self) -> bool:
        return self.identity.rpartition(":")[2].startswith(f"{DISPLAY:02x}")


def identity(function: Function) -> str:
    """Vendor, device and class, so that another card in the same slot is not taken for it."""
    return f"{function.vendor:04x}:{function.device:04x}:{function.class_code:06x}"

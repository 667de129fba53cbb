"""How a card is reset while a domain has it: the methods that policy names, as far as the kernel offers them.

Pure. `reset_method` lists the methods that are in use, in the order in which they are tried. What it held before
anybody wrote to it is what the kernel offers, and anything else is EINVAL (drivers/pci/pci.c, reset_method_store). A
method that is not offered is left out and said; the domain starts all the same.
"""

from __future__ import annotations

from hostlerd.model.devices import DEVICES
from hostlerd.model.observed import Observed
from hostlerd.model.plan import Refusal
from hostlerd.model.settings import DevicePolicy


def reset_path(address: str) -> str:
    return f"{DEVICES}/{address}/reset_method"


def reset_value(observed: Observed, address: str, policy: DevicePolicy) -> str | None:
    """What is to be in the file; None for what there is."""
    offered = _offered(observed, address)
    wanted = policy.reset
    if policy.recover == "reset" and observed.alive.get(address) is False and "bus" in offered:
        wanted = ("bus",)  # of a card that does not answer nothing but its bus can be reset
    return " ".join(method for method in wanted if method in offered) or None


def refuse_resets(observed: Observed, address: str, policy: DevicePolicy) -> list[Refusal]:
    if reset_path(address) not in observed.attributes:
        return []
    offered = _offered(observed, address)
    missing = [method for method in policy.reset if method not in offered]
    if not missing:
        return []
    return [
        Refusal(
            object=address,
            reason=f"{address} cannot be reset by {' or '.join(missing)}: the kernel offers "
            f"{', '.join(offered) or 'no reset at all'}",
            remedy=f"change reset in policy {policy.name!r}"
            + (", or load vendor-reset before the card is used" if "device_specific" in missing else ""),
        )
    ]


def _offered(observed: Observed, address: str) -> list[str]:
    path = reset_path(address)
    record = observed.ledger.attributes.get(path)
    text = record.before if record is not None else observed.attributes.get(path)
    return (text or "").split()

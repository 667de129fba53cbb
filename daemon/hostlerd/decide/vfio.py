"""Which driver gives a function to VFIO: vfio-pci, a variant that knows the hardware, or the one that policy names.

Pure. A variant (model/devices, Variant) is taken by itself only where libvirt is known to be 10.0 or newer: an older
one knows vfio-pci by name and nothing else, and refuses a device that it does not manage itself ("must be manually
detached from the host"). What a driver is called is known once its module is in, so its loading is a plan of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hostlerd.decide.ownership import VFIO, Ownership
from hostlerd.model.devices import Function
from hostlerd.model.observed import Observed
from hostlerd.model.plan import LoadModule
from hostlerd.model.questions import Question
from hostlerd.model.settings import Settings

KNOWS_VARIANTS = 10_000_000
"""libvirt 10.0.0 (commit 82e2fac297, "automatically bind to a vfio variant driver")."""


@dataclass(slots=True, kw_only=True)
class VfioDrivers:
    """`of`: address to the driver that is to have it. `loads`: modules that have to be in before anything is moved."""

    of: dict[str, str] = field(default_factory=dict[str, str])
    loads: dict[str, LoadModule] = field(default_factory=dict[str, LoadModule])
    questions: list[Question] = field(default_factory=list[Question])


def decide_vfio(observed: Observed, settings: Settings, own: Ownership) -> VfioDrivers:
    found = VfioDrivers()
    for address, want in own.wants.items():
        function = observed.functions.get(address)
        if function is None or want.place != "vfio" or want.waits or function.on_vfio:
            continue
        wanted = settings.vfio_driver(function)
        if wanted == "auto":
            module = _variant(found, observed, function)
        else:
            module = None if _registered(observed, wanted) else wanted
            found.of[address] = _registered(observed, wanted) or wanted
        if module is not None and module != VFIO:
            found.loads[module] = LoadModule(
                object=module,
                before=None,
                after="loaded",
                why=f"it is the VFIO driver for {address}; {want.why}",
                claim=want.claim,
                driver="" if wanted == "auto" else wanted,
            )
    return found


def _variant(found: VfioDrivers, observed: Observed, function: Function) -> str | None:
    """The module that is to be loaded for the best driver, if it is not in."""
    found.of[function.address] = VFIO
    if (observed.snapshot.libvirt or 0) < KNOWS_VARIANTS:
        return None
    if function.address not in observed.variants:
        found.questions.append(Question(kind="variant", object=function.address))
        return None
    variant = observed.variants[function.address]
    if variant is None or observed.ledger.untouchable(variant.module):
        return None
    if variant.driver is None:
        return variant.module
    found.of[function.address] = variant.driver
    return None


def _registered(observed: Observed, name: str) -> str | None:
    """As the bus has it: a module's dashes and a driver's need not be the same."""
    alike = name.replace("-", "_")
    return next((driver for driver in observed.drivers if driver.replace("-", "_") == alike), None)

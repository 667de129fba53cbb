"""The steps that bring each PCI function to who should have it.

Pure. Order, over all devices of a plan: override all, unbind all, probe all. With the override first, nothing else can
grab a device between its unbind and its probe; unbinding all before probing any makes every group viable at once. On
the
way back the override is aimed at the home driver and cleared last, for the same reason.
"""

from __future__ import annotations

from dataclasses import replace

from hostlerd.decide.ownership import VFIO, Ownership, Want
from hostlerd.model.devices import Function
from hostlerd.model.ledger import DeviceRecord
from hostlerd.model.observed import Observed
from hostlerd.model.plan import LoadModule, Override, Probe, Step, Unbind

NO_DRIVER = "none"
"""No driver has this name, so no driver matches (Documentation/ABI/testing/sysfs-bus-pci, driver_override)."""


class _Phases:
    """Steps by phase, so that they come out in the order of the module's rule."""

    def __init__(self) -> None:
        self.override: list[Step] = []
        self.unbind: list[Step] = []
        self.probe: list[Step] = []
        self.clear: list[Step] = []

    def all(self) -> list[Step]:
        return [*self.override, *self.unbind, *self.probe, *self.clear]


def decide_handoff(observed: Observed, own: Ownership) -> tuple[list[Step], list[str]]:
    """Steps, and the addresses whose record can be closed."""
    back, there = _Phases(), _Phases()
    settled: list[str] = []
    for address, record in sorted(observed.ledger.devices.items()):
        if address in own.wants or address in own.holder or observed.ledger.untouchable(address):
            continue
        function = observed.functions.get(address)
        if function is None or identity(function) != record.identity:
            settled.append(
                address
            )  # it is gone, or the address is another card's now: nothing left to put back
        elif not _return(back, function, record):
            settled.append(address)
    for address, want in sorted(own.wants.items()):
        function = observed.functions.get(address)
        if function is not None and not observed.ledger.untouchable(address):
            _take(there, observed, function, want)
    steps = back.all()
    taking = there.all()
    if VFIO not in observed.drivers and any(isinstance(step, Probe) and step.to_vfio for step in taking):
        claim = next((step.claim for step in taking if step.claim), None)
        steps.append(
            LoadModule(object=VFIO, before=None, after="loaded", why="devices go to VFIO", claim=claim)
        )
    return steps + taking, settled


def identity(function: Function) -> str:
    """What a card is, so that another one in the same slot is not taken for it."""
    return f"{function.vendor:04x}:{function.device:04x}:{function.class_code:06x}"


def _take(phases: _Phases, observed: Observed, function: Function, want: Want) -> None:
    vfio = want.place == "vfio"
    if vfio and _took_by_rule(observed, function, want):
        phases.override.append(_adopt(function, want))
        return
    if function.on_vfio if vfio else (function.driver is None and function.override == NO_DRIVER):
        return
    target = VFIO if vfio else NO_DRIVER
    record = observed.ledger.devices.get(function.address)
    if function.on_vfio and (record is None or function.override not in record.ours.split()):
        return  # somebody else put it there, perhaps for a guest that libvirt is just giving it to
    if record is None:
        by_rule = function.override == target and observed.rule is not None
        record = DeviceRecord(
            address=function.address,
            driver=function.driver,
            override=None if by_rule else function.override,
            any_driver=by_rule,
            ours=target,
            identity=identity(function),
        )
    elif target not in record.ours.split():
        record = replace(record, ours=f"{record.ours} {target}")
    phases.override.append(
        Override(
            object=function.address,
            before=function.override,
            after=target,
            why=want.why,
            claim=want.claim,
            record=record,
        )
    )
    if function.driver is not None:
        phases.unbind.append(
            Unbind(
                object=function.address, before=function.driver, after=None, why=want.why, claim=want.claim
            )
        )
    if vfio:
        phases.probe.append(
            Probe(
                object=function.address, before=None, after=VFIO, why=want.why, claim=want.claim, to_vfio=True
            )
        )


def _took_by_rule(observed: Observed, function: Function, want: Want) -> bool:
    """Our udev rule won the race: it is where it belongs before we ever looked, and nothing says that it is ours."""
    unrecorded = function.address not in observed.ledger.devices
    return (
        unrecorded
        and want.claim is None
        and function.on_vfio
        and function.override == VFIO
        and bool(observed.rule)
    )


def _adopt(function: Function, want: Want) -> Override:
    """Writes what is there already; what counts is the record, so that the card can go back some day."""
    record = DeviceRecord(
        address=function.address,
        driver=None,
        override=None,
        any_driver=True,
        ours=VFIO,
        identity=identity(function),
    )
    return Override(object=function.address, before=VFIO, after=VFIO, why=want.why, record=record)


def _return(phases: _Phases, function: Function, record: DeviceRecord) -> bool:
    """Add the steps back; False where there is none to take, because it is as it was or no longer ours to change."""
    why = "nobody claims it any more"
    home, ours = record.driver, record.ours.split()
    held = function.on_vfio or (function.driver is None and (home is not None or record.any_driver))
    aim = home if home is not None else (None if record.any_driver else record.override)
    override = function.override
    if held and override in (*ours, home, record.override):
        if override != aim:
            phases.override.append(Override(object=function.address, before=override, after=aim, why=why))
            override = aim
        if function.driver is not None:
            phases.unbind.append(Unbind(object=function.address, before=function.driver, after=None, why=why))
        if home is not None:
            phases.probe.append(Probe(object=function.address, before=None, after=home, why=why))
        elif record.any_driver:
            # Probed once: whether anything wants it cannot be known, so no driver afterwards is an answer, too.
            done = replace(record, any_driver=False)
            phases.probe.append(Probe(object=function.address, before=None, after=None, why=why, record=done))
    elif held:
        return False  # somebody else aimed it elsewhere: theirs now
    if override != record.override and override in (*ours, home):
        phases.clear.append(
            Override(object=function.address, before=override, after=record.override, why=why)
        )
    elif not held:
        return False
    return True
